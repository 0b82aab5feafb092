"""What the pages of the manual take for granted: a mob that is open, a file that is there.

Owns: the setting of each page. Must not: run a block, or repeat what a page shows.

Most pages show parts of a program. They are run inside an open mob with the names of `PRELUDE`; a
page that needs more has its own entry in `PLAYS`.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import trio
from hypothesis import settings

from mob import MobDefinition, open_mob, open_session_service
from mob.mob import Mob
from mob.server import serve
from mob.service import sessions_of
from mob.simulation import World, simulate
from mob.simulation.promises import Sent
from runtime.models.scripted import ScriptedModel, calling
from runtime.service import CreateSessionRequest, InitialTurnPolicy
from stores import open_lmdb, open_memory
from tests.docs.blocks import ROOT, Block, by_page
from tests.docs.playing import Names, laid_over, run_inside, run_plainly

Play: TypeAlias = Callable[[Sequence[Block], Path], None]

#: What the parts of programs have imported.
PRELUDE: Final = """
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import attrs
import trio

from mob import MobDefinition, open_mob, open_session_service
from mob.lifecycle import MobState
from runtime.records import TurnEnded
from runtime.ledger import RunApplyBoundary
from runtime.service import (
    CreateSessionRequest, SessionBuildOptions, StartTurnRequest
)
from runtime.session import CompactionPolicy
from stores import open_lmdb, open_memory
"""

#: The mob of most pages, and what parts of mob files are laid over.
FILE: Final[dict[str, Any]] = tomllib.loads("""
[mob]
id = "team"
lead = "lead"
[models]
small = { model = "sim:echo" }
main = { model = "sim:echo" }
[tools]
search = { function = "notes.py:search" }
read_notes = { function = "notes.py:search" }
read_mail = { function = "notes.py:search" }
[profiles.lead]
model = "main"
[profiles.researcher]
model = "main"
[members]
lead = { profile = "lead" }
writer = { profile = "lead" }
[wiring]
default = "allow"
""")

#: More for the files of a page.
UNDER: Final[dict[str, dict[str, Any]]] = {
    "docs/approval.md": {
        "profiles": {"clerk": {"shell": {}}},
        "mcp": {"bank": {"command": "bank"}},
    },
    "docs/supervision.md": {
        "members": {name: {"profile": "lead"} for name in ("reader", "writer", "lead")}
    },
    "docs/flows.md": {"members": {"r-1": {"profile": "researcher"}}},
    "docs/hooks.md": {
        "hooks": {
            "guard": {"on": ["run_completed"], "command": ["true"]},
            "audit": {"on": ["run_completed"], "command": ["true"], "enabled": False},
        }
    },
    "docs/howto.md": {
        "models": {"main": {"price": {"input": 1, "output": 1}}},
        "members": {"writer": {"profile": "lead"}},
    },
    "docs/tools.md": {"mcp": {"lights": {"command": "python"}}},
}

#: The mob file of commands.
TEAM: Final = """
[mob]
id = "team"
lead = "lead"
[models.main]
model = "sim:agent"
[profiles.lead]
model = "main"
[members.lead]
profile = "lead"
[flows.report]
params = ["topic"]
[flows.report.steps.write]
member = "lead"
message = "Write about {{params.topic}}."
"""

NOTES: Final = '''
def search(what: str) -> str:
    """Search the notes.

    Args:
        what: Words that must all be there.
    """
    return "Ants follow a trail."
'''


def completed(table: dict[str, Any]) -> dict[str, Any]:
    """`table` with a model for every profile that has none: parts of files leave that out."""
    for profile in table["profiles"].values():
        if "extends" not in profile:
            profile.setdefault("model", "main")
        table["models"].setdefault(profile.get("model", "main"), {"model": "sim:echo"})
    return table


def prepare(folder: Path) -> None:
    """Write what pages speak of into `folder`."""
    (folder / "notes.py").write_text(NOTES)
    (folder / "mob.toml").write_text(TEAM)
    (folder / "ticket.schema.json").write_text('{"type": "object"}')
    shutil.copytree(
        ROOT / "examples",
        folder / "examples",
        ignore=shutil.ignore_patterns("__pycache__", "*.log", ".mob"),
    )


def definition_with(more: Mapping[str, Any], folder: Path) -> MobDefinition:
    """The mob of most pages with more tables."""
    return MobDefinition.from_table(completed(laid_over(FILE, more)), folder=folder)


def prelude() -> Names:
    names: Names = {"__name__": __name__}
    exec(PRELUDE, names)
    return names


# Pages ------------------------------------------------------------------------------------------


def plainly(blocks: Sequence[Block], folder: Path) -> None:
    """As whole programs or modules, one after the other."""
    names = prelude()
    for block in blocks:
        run_plainly(block, names)


def as_program(blocks: Sequence[Block], folder: Path) -> None:
    """README's: the example's file, with a model that needs no weights."""
    file = folder / "examples/research/mob.toml"
    said = file.read_text()
    assert "local:smollm2-135m" in said
    file.write_text(said.replace("local:smollm2-135m", "sim:agent"))
    plainly(blocks, folder)


def in_a_mob(blocks: Sequence[Block], folder: Path) -> None:
    """Inside an open mob."""
    inside(blocks, folder, {})


def inside(
    blocks: Sequence[Block],
    folder: Path,
    more: Mapping[str, Any],
    setting: Callable[[Mob, Names], Any] | None = None,
    *,
    own_store: bool = False,
    **options: Any,
) -> None:
    """Inside an open mob with more tables, once `setting` has made what the page speaks of."""
    definition = definition_with(more, folder)

    async def main() -> None:
        async with (
            open_memory() as mine,
            open_lmdb(folder / "store") as store,
            open_mob(definition, store=mine, **options) as mob,
            open_session_service() as service,
        ):
            given: Names = {
                "definition": definition,
                "mob": mob,
                "store": mine if own_store else store,
                "service": service,
                "cursor": 0,
            }
            names = prelude()
            if setting is not None:
                await setting(mob, given)
            for block in blocks:
                names.update(given)  # what a block before calls so is another part's
                await run_inside(block, names)

    trio.run(main)


def members(*names: str) -> dict[str, Any]:
    """A table of members of one profile."""
    return {"members": {name: {"profile": "researcher"} for name in names}}


def play_approvals(blocks: Sequence[Block], folder: Path) -> None:
    """Three calls of one reply wait."""
    (folder / "orders.py").write_text(
        'def refund(amount: int) -> str:\n    """Refund."""\n    return "done"\n'
    )
    calls = [("refund", {"amount": each}) for each in (1, 2, 3)]
    more = {
        "tools": {"refund": {"function": "orders.py:refund", "approve": "ask"}},
        "profiles": {"lead": {"tools": ["refund"]}},
    }

    async def ask(mob: Mob, _names: Names) -> None:
        await mob.send("lead", "Refund them.")
        await mob.wait_blocked()

    model = ScriptedModel([calling(*calls), "done"])
    inside(blocks, folder, more, ask, models={"main": model})


def play_inputs(blocks: Sequence[Block], folder: Path) -> None:
    """A session with an input that no turn has taken."""

    async def accept(mob: Mob, names: Names) -> None:
        service = sessions_of(mob)
        made = await service.create_session(
            CreateSessionRequest("sim:echo", initial_turn=InitialTurnPolicy.DEFER)
        )
        admission = mob.realm.inputs.accept(made.session_id, "hello")
        if admission.ticket is not None:
            await admission.ticket.wait()
        assert admission.pending is not None
        names.update(
            service=service,
            session_id=made.session_id,
            run_id="r1",
            input_id=admission.pending.input_id,
        )

    inside(blocks, folder, {}, accept)


def play_skills(blocks: Sequence[Block], folder: Path) -> None:
    """Three skills in a folder, and a model that needs no key."""
    for name in ("house-style", "release-notes", "press"):
        (folder / "skills" / name).mkdir(parents=True)
        said = f"---\nname: {name}\ndescription: How it is done.\n---\nBriefly.\n"
        (folder / "skills" / name / "SKILL.md").write_text(said)
    in_a_mob(blocks, folder)


def play_flows(blocks: Sequence[Block], folder: Path) -> None:
    """The flow that the page shows, and models that answer its plan with a list."""
    [shown] = by_page("toml")["docs/flows.md"]
    more = laid_over(tomllib.loads(shown.text), members("lead", "r-1"))
    inside(blocks, folder, laid_over(more, UNDER["docs/flows.md"]))


def play_moving(blocks: Sequence[Block], folder: Path) -> None:
    """The flow that the page shows, in a mob that is open; the others open their own."""
    [shown] = by_page("toml")["docs/moving.md"]
    inside(blocks, folder, tomllib.loads(shown.text))


def play_export(blocks: Sequence[Block], folder: Path) -> None:
    """A store that has a mob."""

    async def make() -> None:
        file = definition_with({"mob": {"id": "research"}}, folder)
        async with open_lmdb(".mob") as store, open_mob(file, store=store) as mob:
            await mob.ask("lead", "hello")

    trio.run(make)
    in_a_mob(blocks, folder)


def play_quickstart(blocks: Sequence[Block], folder: Path) -> None:
    """The commands of the page have made a mob file."""
    (folder / "team").mkdir()
    shutil.copy(folder / "mob.toml", folder / "team")
    plainly(blocks, folder)


def play_events(blocks: Sequence[Block], folder: Path) -> None:
    """A mob that has had a turn."""
    inside(blocks, folder, {}, lambda mob, _names: mob.ask("lead", "hello"))


def play_server(blocks: Sequence[Block], folder: Path) -> None:
    """The first block serves a mob; then that of the others is served in the folder `state`."""
    in_a_mob(blocks[:1], folder)

    async def main() -> None:
        definition = definition_with({}, folder)
        async with open_lmdb("state") as store, open_mob(definition, store=store) as mob:
            async with serve(mob):
                for block in blocks[1:]:
                    await run_inside(block, prelude() | {"cursor": 0})

    trio.run(main)


def play_invariants(blocks: Sequence[Block], folder: Path) -> None:
    """Inside a simulated run; then what is called from outside."""
    definition = definition_with(members("a", "lead"), folder)

    async def scenario(world: World) -> None:
        await world.start(definition, models={"main": ScriptedModel(["hello"])})
        names = prelude() | {"world": world, "process": world.process, "Sent": Sent}
        await run_inside(blocks[0], names)

    simulate(scenario, seed=7)

    async def answered(world: World) -> None:
        process = await world.start(definition)
        for name in definition.member_names():
            await process.do(partial(process.mob.ask, name, f"hello, {name}"))

    run_plainly(blocks[1], prelude() | {"scenario": answered})


def play_simulation(blocks: Sequence[Block], folder: Path) -> None:
    """The blocks are the parts of one test file, whose tests are then run."""
    names = prelude() | {"DESK": definition_with({}, folder)}
    for block in blocks:
        run_plainly(block, names)
    names["TestDesk"].settings = settings(max_examples=2, stateful_step_count=5)
    names["TestDesk"]("runTest").runTest()


def play_time_travel(blocks: Sequence[Block], folder: Path) -> None:
    """A fork is in the store of the mob."""
    inside(blocks, folder, {}, own_store=True)


def play_howto(blocks: Sequence[Block], folder: Path) -> None:
    """A fork is in the store of the mob, whose lead has a tool; a thousand inputs are forty."""
    more = {"profiles": {"lead": {"tools": ["search"]}}}
    assert sum("range(1000)" in block.text for block in blocks) == 1
    fewer = [attrs.evolve(b, text=b.text.replace("range(1000)", "range(40)")) for b in blocks]
    inside(fewer, folder, more, own_store=True)


def of(*names: str, **more: Any) -> Play:
    """Inside a mob with these members."""
    return partial(inside, more=laid_over(members("lead", *names), more))


PLAYS: Final[dict[str, Play]] = {
    "docs/board.md": of("anna"),
    "docs/comms.md": of("a", "b", "chief", "r-7", wiring={"default": "deny"}),
    "docs/events.md": play_events,
    "docs/export.md": play_export,
    "docs/flows.md": play_flows,
    "docs/howto.md": play_howto,
    "docs/invariants.md": play_invariants,
    "docs/memory.md": of("editor"),
    "docs/moving.md": play_moving,
    "docs/quickstart.md": play_quickstart,
    "docs/server.md": play_server,
    "docs/simulation.md": play_simulation,
    "docs/telemetry.md": plainly,
    "docs/time-travel.md": play_time_travel,
    "README.md": as_program,
    "docs/conformance.md": plainly,
    "docs/models.md": plainly,
    "docs/approval.md": play_approvals,
    "docs/inputs.md": play_inputs,
    "docs/skills.md": play_skills,
}


def play(page: str, blocks: Sequence[Block], folder: Path) -> None:
    """Run the Python of a page."""
    prepare(folder)
    PLAYS.get(page, in_a_mob)(blocks, folder)


# Commands -----------------------------------------------------------------------------------------


@attrs.frozen
class Given:
    """For the commands of a page: what is done before and afterwards, and what is smaller here."""

    before: str = ""
    after: str = ""
    instead: Mapping[str, str] = attrs.field(factory=dict)


#: A store that has the mob `research`.
RESEARCH: Final = "mob run examples/research/mob.toml --model all=sim:agent --prompt bees"

#: The mob file that `mob init` writes has a model that takes its time, to be looked at.
AT_ONCE: Final = "mob init team && sed -i 's/latency_s = [0-9.]*/latency_s = 0/' team/mob.toml"

COMMANDS: Final[dict[str, Given]] = {
    "README.md": Given(instead={"--seeds 0..199": "--seeds 0..1", "mob init team": AT_ONCE}),
    "docs/benchmarks.md": Given(
        before="""
            cp -r $CHECKOUT/benchmarks .
            cp benchmarks/scenarios/vote.toml a.toml
            cp a.toml b.toml""",
        instead={
            "--scale 0.1": "--repeats 1 --scale 0.01",
            "--repeats 5": "--repeats 2 --scale 0.01",
            # Two runs on a busy machine may differ by more than the margin; and they take as long.
            "mob bench compare": "cp now.json before.json; mob bench compare",
        },
    ),
    "docs/export.md": Given(before=RESEARCH),
    "docs/report.md": Given(before=RESEARCH),
    "docs/flows.md": Given(
        instead={
            "show RUN": "show $(mob flow ls | cut -d' ' -f1)",
            "cancel RUN": "cancel $(mob flow ls | cut -d' ' -f1) || test $? = 7",
        }
    ),
    "docs/howto.md": Given(
        before="mkdir -m 700 r",
        after="mob stop team || true",
        instead={"--seeds 0..9": "--seeds 0..0"},
    ),
    "docs/quickstart.md": Given(
        before="mkdir -m 700 r",
        after="mob stop team || true",
        # README's block runs the demo; CI's stage `quickstart` runs this page as it is.
        instead={"mob demo": "mob demo --help", "mob init team": AT_ONCE},
    ),
    "docs/server.md": Given(
        before="cp mob.toml team.toml; mkdir -m 700 r",
        after="mob stop team || true",
        instead={
            "--detach --json": "--detach --json | tee up;"
            """ SOCKET=$(python -c 'import json; print(json.load(open("up"))["socket"])')""",
            "after=17&follow=1": "after=0&follow=0",  # the one that is shown has no end
        },
    ),
    "docs/simulation.md": Given(
        instead={
            "--seeds 0..999 --workers 2": "--seeds 0..1 --workers 1",
            # This mob does not fail, so there is nothing to shrink.
            "shrink mob.toml --seed 17 --faults light": "shrink mob.toml --seed 17 || test $? = 4",
        }
    ),
}
