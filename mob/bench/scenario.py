"""A scenario: a TOML file that names a mob, a shape, a size, and what must come out.

Owns: the definition of a scenario, reading it with every mistake at once, and the plan of one run
of it. Must not: run anything.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from mob.bench.plan import ORACLE, SIGMAS, Assertion, Plan
from mob.bench.registry import SHAPES
from mob.bench.shapes.base import Shape
from mob.bench.stage import FIGURES, LMDB, MEMORY
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, Mistake
from mob.modeldefs import ModelDefinition, read_model
from mob.tables import TableReader, nearest

REAL: Final = "real"
VIRTUAL: Final = "virtual"

#: What is shown of a run when the file does not say.
SHOWN: Final = ("turns", "cpu_s", "turns_per_cpu_s", "latency_p95_s", "peak_memory_bytes")


class ScenarioInvalid(DefinitionInvalid):
    """A scenario that cannot be run, with all mistakes that could be found and where they are."""

    def __init__(self, source: str, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(source, mistakes)
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        self.args = (f"{source} is not a valid scenario: {count}\n{lines}",)


@attrs.frozen
class Scenario:
    """A scenario as its file says. `replicas` gives groups of members the number of a key of `size`
    or `settings`; `seeds` are those of its repeats, which go on behind the last one."""

    name: str
    about: str
    shape_name: str
    definition: MobDefinition
    size: Mapping[str, int]
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    replicas: Mapping[str, str] = attrs.field(factory=dict)
    models: Mapping[str, ModelDefinition] = attrs.field(factory=dict)
    seeds: tuple[int, ...] = (1,)
    store: str = LMDB
    clock: str = REAL
    assertions: tuple[Assertion, ...] = ()
    metrics: tuple[str, ...] = SHOWN
    source: str = attrs.field(default="scenario", eq=False)

    @property
    def shape(self) -> Shape:
        return SHAPES[self.shape_name]

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """Read and check the scenario at `path`; a mob file that it names is beside it.

        Raises:
            FileNotFoundError: there is no such file.
            ScenarioInvalid: it is not TOML, or not a valid scenario; every mistake is listed.
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            mistake = Mistake("file", f"not valid TOML: {error}")
            raise ScenarioInvalid(str(path), (mistake,)) from None
        return cls.from_table(data, folder=path.parent, source=str(path), name=path.stem)

    @classmethod
    def from_table(
        cls,
        data: Mapping[str, Any],
        *,
        folder: Path | None = None,
        source: str = "scenario",
        name: str = "scenario",
    ) -> Scenario:
        """Build and check a scenario from parsed TOML. Raises `ScenarioInvalid`."""
        mistakes: list[Mistake] = []
        scenario = _read(TableReader("", data, mistakes), folder or Path(), source, name)
        told = {mistake.path for mistake in mistakes}
        if scenario is not None:
            mistakes.extend(each for each in _mistakes(scenario) if each.path not in told)
        if mistakes or scenario is None:
            raise ScenarioInvalid(source, tuple(mistakes))
        return scenario

    def seed(self, repeat: int) -> int:
        """The seed of the repeat, counted from 0."""
        known = self.seeds[min(repeat, len(self.seeds) - 1)]
        return known + max(0, repeat - len(self.seeds) + 1)

    def plan(self, *, scale: float = 1.0, seed: int | None = None) -> Plan:
        """One run: the size times `scale` (rounded, at least what the shape needs), the members
        that many, and every model with the seed."""
        seed = self.seed(0) if seed is None else seed
        least = self.shape.size
        size = {key: max(least[key], round(value * scale)) for key, value in self.size.items()}
        counts = {**self.settings, **size}
        members = {
            group: attrs.evolve(member, replicas=counts[self.replicas[group]])
            if group in self.replicas
            else member
            for group, member in self.definition.members.items()
        }
        models = {
            alias: attrs.evolve(each, options={**each.options, "seed": seed})
            for alias, each in {**self.definition.models, **self.models}.items()
        }
        definition = attrs.evolve(self.definition, members=members, models=models)
        plan = Plan(size, self.settings, seed, scale, definition)
        if self.shape.edges is not None:
            wiring = definition.wiring
            edges = (*wiring.edges, *self.shape.edges(plan))
            definition = attrs.evolve(definition, wiring=attrs.evolve(wiring, edges=edges))
        return attrs.evolve(plan, definition=definition)


# -- reading -------------------------------------------------------------------------------------


def _read(top: TableReader, folder: Path, source: str, name: str) -> Scenario | None:
    """The scenario, or None if what is wrong leaves nothing to go on with."""
    head = top.table("scenario")
    shape_name = head.required("shape", str, "")
    if shape_name and shape_name not in SHAPES:
        head.wrong("shape", f"there is no shape {shape_name!r}", nearest(shape_name, SHAPES))
    shape = SHAPES.get(shape_name)
    about = head.required("about", str, "")
    name = head.take("name", str, name)
    seeds = _read_seeds(head)
    store = head.choice("store", LMDB, (LMDB, MEMORY))
    clock = head.choice("clock", REAL, (REAL, VIRTUAL))
    mob_file = head.take("mob", str)
    metrics = head.texts("metrics")
    head.done()
    definition = _read_definition(top, mob_file, folder)
    models = {alias: read_model(table) for alias, table in top.tables("models").items()}
    size = _read_size(top.table("size"), shape)
    settings = _read_settings(top.table("settings"), shape)
    replicas = _read_replicas(top.table("replicas"), {**settings, **size}, definition)
    assertions = _read_assertions(top)
    top.done()
    if shape is None or definition is None:
        return None
    return Scenario(
        name,
        about,
        shape_name,
        definition,
        size,
        settings,
        replicas,
        models,
        seeds,
        store,
        clock,
        assertions,
        metrics or SHOWN,
        source,
    )


def _read_seeds(head: TableReader) -> tuple[int, ...]:
    given = head.raw("seeds")
    if given is None:
        return (1,)
    seeds = given if isinstance(given, list) else [given]
    if not seeds or not all(type(each) is int and each >= 0 for each in seeds):
        head.wrong("seeds", f"expected whole numbers from 0 on, found {given!r}")
        return (1,)
    return tuple(seeds)


def _read_definition(top: TableReader, mob_file: str | None, folder: Path) -> MobDefinition | None:
    """The mob that the scenario names, or the one that it holds. Its mistakes are the scenario's,
    below the path `definition`."""
    held = top.take("definition", dict)
    if (held is None) == (mob_file is None):
        top.wrong(
            "scenario.mob", "give a mob file, or the mob itself in [definition.*]; one of them"
        )
        return None
    try:
        if mob_file is not None:
            return MobDefinition.load(folder / mob_file)
        return MobDefinition.from_table(held or {}, folder=folder)
    except DefinitionInvalid as error:
        where = "definition" if mob_file is None else mob_file
        for each in error.mistakes:
            top.wrong(f"{where}.{each.path}", each.message, each.hint)
    except OSError as error:
        top.wrong("scenario.mob", f"cannot read {folder / str(mob_file)}: {error.strerror}")
    return None


def _read_size(table: TableReader, shape: Shape | None) -> dict[str, int]:
    if shape is None:
        return {}
    size = {}
    for key, least in shape.size.items():
        size[key] = table.required(key, int, least)
        if size[key] < least:
            table.wrong(key, f"must be at least {least} for this shape, found {size[key]}")
    table.done()
    return size


def _read_settings(table: TableReader, shape: Shape | None) -> dict[str, Any]:
    if shape is None:
        return {}
    settings = {}
    for key, default in shape.settings.items():
        if isinstance(default, tuple):
            settings[key] = table.texts(key) or default
        else:
            settings[key] = table.take(key, type(default), default)
    table.done()
    return settings


def _read_replicas(
    table: TableReader, counts: Mapping[str, Any], definition: MobDefinition | None
) -> dict[str, str]:
    replicas: dict[str, str] = {}
    for group in table.data:
        key = table.take(group, str, "")
        whole = [name for name, value in counts.items() if type(value) is int]
        if definition is not None and group not in definition.members:
            table.wrong(group, "there is no such member", nearest(group, definition.members))
        elif key not in whole:
            table.wrong(
                group, f"{key!r} is no whole number of [size] or [settings]", nearest(key, whole)
            )
        else:
            replicas[group] = key
    return replicas


def _read_assertions(top: TableReader) -> tuple[Assertion, ...]:
    given = top.take("assert", list, [])
    found = []
    for index, each in enumerate(given):
        path = f"assert[{index}]"
        if not isinstance(each, dict):
            top.wrong(path, f"expected a table, found {each!r}")
            continue
        found.append(_read_assertion(TableReader(path, each, top.mistakes)))
    return tuple(found)


def _read_assertion(table: TableReader) -> Assertion:
    equals = table.raw("equals")
    if equals is not None and equals != ORACLE and type(equals) not in (int, float):
        table.wrong("equals", f"expected a number or {ORACLE!r}, found {equals!r}")
        equals = None
    assertion = Assertion(
        table.required("metric", str, ""),
        equals,
        table.take("at_least", float),
        table.take("at_most", float),
        table.take("tolerance", float),
        table.take("sigmas", float, SIGMAS),
        table.take("from_scale", float, 0.0),
    )
    table.done()
    if not {"equals", "at_least", "at_most"} & set(table.data):
        table.wrong("", "says nothing: give equals, at_least or at_most")
    return assertion


# -- what does not fit together ------------------------------------------------------------------


def _mistakes(scenario: Scenario) -> Iterable[Mistake]:
    shape = scenario.shape
    if scenario.clock == VIRTUAL and scenario.store != MEMORY:
        yield Mistake(
            "scenario.clock", "a virtual clock does not wait for a disk", 'give store = "memory"'
        )
    if shape.needs_disk and scenario.store == MEMORY:
        yield Mistake("scenario.store", f"must be {LMDB!r}: {shape.needs_disk}")
    known = (*FIGURES, *shape.figures)
    for name in scenario.metrics:
        if name not in known:
            yield Mistake("scenario.metrics", f"there is no figure {name!r}", nearest(name, known))
    expected: tuple[str, ...] = ()
    try:
        expected = tuple(shape.expect(scenario.plan(scale=0.0)))
    except ValueError as error:
        yield Mistake("scenario.shape", f"has no closed form with these values: {error}")
    for index, each in enumerate(scenario.assertions):
        path = f"assert[{index}]"
        if each.metric not in known:
            hint = nearest(each.metric, known)
            yield Mistake(f"{path}.metric", f"there is no figure {each.metric!r}", hint)
        elif each.equals == ORACLE and each.metric not in expected:
            why = f"the shape {scenario.shape_name!r} has no closed form of {each.metric!r}"
            yield Mistake(f"{path}.equals", why, nearest(each.metric, expected))
