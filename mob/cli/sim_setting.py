"""What a verb of `mob sim` is to play, and how: the options they share, checked.

Owns: the options' types, `Setting` and its reproduction line, reading plans. Must not: run
anything.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import attrs
from cyclopts import Parameter

from mob.cli import exits
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, Mistake
from mob.simulation.faults import Fault, FaultPlan, PlanInvalid
from mob.simulation.run import HEAL_S
from mob.simulation.seeds import Job
from mob.simulation.shrink import Shrunk
from mob.simulation.target import Target, TargetInvalid, load_target

#: Seeds of a run that is not told how many.
_SEEDS: Final = 100

File: TypeAlias = Annotated[
    str,
    Parameter(name="FILE", help="A mob file, or FILE.py:SCENARIO: an async function of a World."),
]
Seed: TypeAlias = Annotated[
    int | None,
    Parameter(name="--seed", show_default=False, help="The seed (that of [sim], or 0)."),
]
Plan: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--faults",
        show_default=False,
        help="The fault plan: none, light, heavy, a family such as store, KIND=RATE,"
        " crash=POINT:NTH, several with commas, or a .toml file (that of [sim], or light).",
    ),
]
Heal: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--heal", help="After the faults, everything accepted must finish without them."
    ),
]
Only: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--only",
        negative=(),
        show_default=False,
        help="KIND@SITE: exactly the faults named strike. May be repeated; 'none' is no fault.",
    ),
]
Keep: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--keep",
        show_default=False,
        help="Numbers of the steps that take part, with commas; 'none' is no step.",
    ),
]


@attrs.frozen
class Setting:
    """A target and how it is run, and the words of the command line that say so."""

    file: str
    target: Target
    job: Job
    #: The plan as it was given.
    faults: str
    heal: bool
    only: frozenset[Fault] | None = None

    def shrunk(self, best: Shrunk) -> Setting:
        """The setting in which exactly what is left takes part."""
        job = attrs.evolve(self.job, faults=best.plan, keep=best.keep)
        return attrs.evolve(self, job=job, faults=best.plan, only=best.faults)

    def reproduction(self, seed: int) -> str:
        """The command line that replays `seed` in the same way."""
        words = ["mob", "sim", "replay", self.file, "--seed", str(seed), "--faults", self.faults]
        if self.only is not None:
            for each in sorted(map(str, self.only)) or ["none"]:
                words += ["--only", each]
        if self.job.keep is not None:
            words += ["--keep", ",".join(map(str, sorted(self.job.keep))) or "none"]
        if not self.heal:
            words.append("--no-heal")
        return shlex.join(words)


def setting_of(
    file: str,
    faults: str | None,
    heal: bool,
    only: list[str] | None = None,
    keep: str | None = None,
) -> Setting:
    """What the options of the verbs say together, checked.

    Raises:
        UsageWrong, NothingThere, DefinitionInvalid: they say what cannot be.
    """
    try:
        target = load_target(file)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise exits.NothingThere(f"there is no mob file or scenario at {error.filename}") from None
    except TargetInvalid as error:
        raise exits.UsageWrong(str(error)) from None
    given = _plan_of(file, target) if faults is None else faults
    try:
        plan = read_plan(given)
        chosen = None if only is None else _only(only)
    except PlanInvalid as error:
        raise exits.UsageWrong(str(error)) from None
    job = Job(
        file,
        plan if "\n" in plan else str(FaultPlan.parse(plan)),
        HEAL_S if heal else 0.0,
        keep=_numbers(keep),
    )
    return Setting(file, target, job, given, heal, chosen)


def _plan_of(file: str, target: Target) -> str:
    """The plan of the target's own settings, as it is to be given on the command line."""
    given = target.settings.faults
    try:
        read_plan(given, Path(file).parent)
    except PlanInvalid as error:
        raise DefinitionInvalid(file, (Mistake("sim.faults", str(error)),)) from None
    return str(Path(file).parent / given) if given.endswith(".toml") else given


def check_settings(definition: MobDefinition) -> None:
    """Raise `DefinitionInvalid` if what the table [sim] says cannot be."""
    try:
        read_plan(definition.sim.faults, definition.folder)
    except PlanInvalid as error:
        mistake = Mistake("sim.faults", str(error))
        raise DefinitionInvalid(definition.source, (mistake,)) from None


def read_plan(given: str, folder: Path | None = None) -> str:
    """The text of the plan `given`, which may be the path of a TOML file, seen from `folder`.

    Raises:
        PlanInvalid: it is none, or there is no such file.
    """
    text = given
    if given.endswith(".toml"):
        try:
            # A file of one line is a file all the same.
            text = ((folder or Path()) / given).read_text(encoding="utf-8") + "\n"
        except OSError as error:
            raise PlanInvalid(f"cannot read the fault plan {given}: {error.strerror}") from None
    FaultPlan.parse(text)
    return text


def _only(given: list[str]) -> frozenset[Fault]:
    texts = [each for each in given if each != "none"]
    return FaultPlan.parse(",".join(f"only={each}" for each in texts)).only or frozenset()


def _numbers(given: str | None) -> frozenset[int] | None:
    if given is None:
        return None
    if given == "none":
        return frozenset()
    try:
        return frozenset(int(each) for each in given.split(","))
    except ValueError:
        raise exits.UsageWrong(f"--keep {given}: write the numbers of steps, as in 0,4,7") from None


def seeds_of(given: str | None, first: int) -> range:
    if given is None:
        return range(first, first + _SEEDS)
    low, dots, high = given.partition("..")
    try:
        seeds = range(int(low), int(high if dots else low) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0:
        raise exits.UsageWrong(f"--seeds {given}: write A..B, such as 0..999, or one seed")
    return seeds
