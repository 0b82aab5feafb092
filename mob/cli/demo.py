"""`mob demo`: a mob survives the killing of one of its members, on screen.

Owns: the verb and its story. Must not: cheat. The mob runs on the LMDB store like any other; only
its models are simulated, and what it says at the end is read back from the disk.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import attrs
import trio
from cyclopts import Parameter

from mob.app import open_mob, stored_mob
from mob.cli import exits
from mob.cli.display import Display, Kind, PlainLines, open_display
from mob.cli.output import age, bytes_text, narrate, one_line, plural, result
from mob.cli.run import Stopper, resume, save, stoppable
from mob.cli.tree import drawn
from mob.definition import MobDefinition
from mob.mob import Mob
from mob.records import MemberExited
from mob.runs import RunReport, past, read_run, run_key
from mob.view import live_view
from runtime.records import InputAccepted, SessionCreated, TurnEnded
from stores import Store, open_lmdb

EXAMPLES = """    mob demo
    mob demo --state demo-state && mob tree demo --state demo-state
"""

_PROMPT: Final = "Where should the swarm settle?"
_VICTIM: Final = "scout-1"
#: Seconds into the victim's work with its helper at which it is killed: time to see both at it.
_KILL_AFTER_S: Final = 0.7

_DEFINITION: Final = """
[mob]
id = "demo"
lead = "queen"

[models.sim]
model = "sim:agent"

[profiles.queen]
model = "sim"
instructions = "Ask the scouts, then choose."
tool_choice = ["ask_scout"]
options = { latency_s = 0.7 }
[profiles.queen.output_schema]
type = "object"
required = ["choice", "scouts_heard"]
additionalProperties = false
[profiles.queen.output_schema.properties]
choice = { enum = ["the hollow oak", "the old barn", "the south wall"] }
scouts_heard = { const = 3 }

[profiles.scout]
model = "sim"
instructions = "Look at a place with a helper, then report."
peer_description = "Looks at one place."
tool_choice = ["spawn_agent"]
options = { latency_s = 0.9 }
subagents = { profile = "helper", max_depth = 1 }
restart = { backoff_s = 1.2 }

[profiles.helper]
model = "sim"
instructions = "Measure the place."
options = { latency_s = 1.4 }

[members.queen]
profile = "queen"
[members.scout]
profile = "scout"
replicas = 3

[wiring]
edges = [["queen", "scout"]]
"""


async def demo(
    *,
    state: Annotated[
        Path | None,
        Parameter(name="--state", show_default=False, help="Keep the store here; else it is gone."),
    ] = None,
    display: Annotated[Kind | None, Parameter(show_default=False, help="As in `mob run`.")] = None,
) -> int:
    """Watch a mob survive the killing of one of its members; needs no key.

    A queen asks three scouts, each of which starts a helper. One scout is killed in
    the middle of its turn. Its supervisor restarts it, it goes on from what is on
    disk, and the answer comes all the same. Takes some seconds.
    """
    definition = MobDefinition.from_table(tomllib.loads(_DEFINITION), source="mob demo")
    shown = open_display(display)
    code = exits.INTERRUPTED
    async with stoppable(shown) as stopper:
        async with AsyncExitStack() as stack:
            folder = state
            if folder is None:
                made = stack.enter_context(tempfile.TemporaryDirectory(prefix="mob-demo-"))
                folder = Path(made)
            store = await stack.enter_async_context(open_lmdb(folder))
            mob = await stack.enter_async_context(open_mob(definition, store=store, grace_s=0.0))
            code = await _story(mob, store, shown, stopper, kept=state)
    return code


async def _story(
    mob: Mob, store: Store, display: Display, stopper: Stopper, *, kept: Path | None
) -> int:
    after = mob.realm.journal.last
    key = run_key(_PROMPT, mob.roster.reported)
    display.say("a queen and three scouts; models are simulated, everything else is real")
    display.say(f"every finished step is on disk in {store.location} before anyone hears of it")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(display.run, mob, after)
        await resume(mob, display, joined=mob.realm.state.find_key(key))
        stopper.work = trio.CancelScope()
        with stopper.work:
            async with trio.open_nursery() as story:
                story.start_soon(_assassin, mob, display, after)
                await mob.ask(mob.definition.lead, _PROMPT, idempotency_key=key)
                story.cancel_scope.cancel()
        if stopper.work.cancelled_caught:
            await save(mob, display)
        nursery.cancel_scope.cancel()
    display.finish(mob)
    if stopper.work.cancelled_caught:
        return exits.INTERRUPTED
    if isinstance(display, PlainLines):
        for line in drawn(live_view(mob)):
            narrate(line)
    report = read_run(mob.id, key, past(mob.realm.journal), mob.realm.state.heads)
    assert report is not None, "its turn has ended"
    _explain(mob, store, report, after, kept)
    await mob.report_run(key)
    return exits.DONE


async def _assassin(mob: Mob, display: Display, after: int) -> None:
    """Kill the victim while it waits for its helper, and say what becomes of it."""
    victim = mob.session_of(_VICTIM)
    async for event in mob.events(after):
        record = event.record
        if isinstance(record, SessionCreated) and record.lineage.parent == victim:
            await trio.sleep(_KILL_AFTER_S)
            if mob.kill(_VICTIM, "killed on purpose by the demo"):
                display.say(f"{_VICTIM} was just killed in the middle of its turn, helper and all")
        elif isinstance(record, MemberExited) and record.restart_in_s is not None:
            await trio.sleep(record.restart_in_s + 0.1)
            display.say(f"{record.name} was restarted: same session, same turn, same helper")


@attrs.define
class _Counts:
    """What the journal holds of this run."""

    records: int = 0
    asked: int = 0
    answered: int = 0
    children: Counter[str] = attrs.field(factory=Counter)
    crashes: list[MemberExited] = attrs.field(factory=list)


def _counted(store: Store, mob: Mob, after: int) -> _Counts:
    """Read the run back from disk, with none of the running mob's knowledge."""
    counts = _Counts()
    stored = stored_mob(store, mob.id)
    for event in past(stored.journal, after):
        record = event.record
        counts.records += 1
        counts.asked += isinstance(record, InputAccepted)
        counts.answered += isinstance(record, TurnEnded)
        if isinstance(record, SessionCreated) and record.lineage.parent is not None:
            counts.children[stored.state.heads[record.lineage.parent].agent_id or ""] += 1
        elif isinstance(record, MemberExited):
            counts.crashes.append(record)
    return counts


def _explain(mob: Mob, store: Store, report: RunReport, after: int, kept: Path | None) -> None:
    counts = _counted(store, mob, after)
    size = (Path(store.location) / "data.mdb").stat().st_size
    helpers = counts.children[_VICTIM]
    narrate("")
    narrate("What happened:")
    for crash in counts.crashes:
        again = "not restarted" if crash.restart_in_s is None else "restarted by its supervisor"
        narrate(f"  {crash.name} crashed ({crash.cause}) and was {again}.")
    narrate(f"  It continued the turn it was in: {plural(helpers, 'helper')} in all, none twice.")
    narrate(f"  The queen waited through it and answered after {age(report.seconds)}.")
    narrate("On disk, read back just now:")
    narrate(
        f"  {plural(counts.records, 'record')} in one journal: {plural(counts.asked, 'question')}"
        f" accepted, {plural(counts.answered, 'turn')} ended, {bytes_text(size)}."
    )
    if kept is None:
        narrate("  The store was a temporary one and is gone; --state DIR keeps it.")
    else:
        narrate(f"  Look at it: mob tree {mob.id} --state {kept}   mob doctor --state {kept}")
    narrate("The answer (its words are simulated):")
    result(one_line(report.text, 400))
