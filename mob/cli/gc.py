"""`mob gc`: free what the journals of a store no longer need.

Owns: the verb. Must not: decide what may go (`runtime.retention` does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from mob.app import stored_realm
from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, Only, State, existing_store
from mob.cli.output import bytes_text, narrate, plural, result, result_json
from mob.cli.stored import looking_into
from mob.cli.target import chosen_mobs
from mob.runs import needed_for_report
from mob.shapes import jsonable
from runtime.retention import KEEP_EVENTS, Freed, Retention
from stores import Store, open_lmdb

EXAMPLES = """    mob gc --dry-run
    mob gc research --keep-events 100000
    mob gc --state /var/lib/mob --json | jq .bytes
"""

#: Seconds between two lines about a mob that takes long.
_EVERY_S: Final = 2.0


async def gc(
    mob: Only = None,
    /,
    *,
    dry_run: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Only say what would be freed."),
    ] = False,
    keep_events: Annotated[
        int, Parameter(help="How many of a mob's newest records stay whole, needed or not.")
    ] = KEEP_EVENTS,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Free what the journals of a store no longer need.

    Inputs that were worked on, the progress of turns that have ended, and what only
    deleted sessions reached. Histories, branches, forks, unfinished work and answers
    to be joined are never touched; records keep their numbers. Needs the store for
    itself, except with --dry-run. Killing it does no harm.
    """
    if keep_events < 0:
        raise UsageWrong(f"--keep-events {keep_events}: give a number of records, 0 or more")
    existing_store(state)
    with looking_into(state) as store:
        wanted = chosen_mobs(store, mob, label)
    if dry_run:
        free = _planned(state, wanted, keep_events)
    else:
        free = await _run(state, wanted, keep_events)
    total = Freed()
    for mob_id, freed in free.items():
        total += freed
        if not json:
            result(_line(mob_id, freed, dry_run))
    if json:
        mobs = [{"id": mob_id, **jsonable(freed)} for mob_id, freed in free.items()]
        fields = {"dry_run": dry_run, "keep_events": keep_events, "state": str(state)}
        result_json({**fields, "bytes": total.bytes, "mobs": mobs})
    elif dry_run:
        narrate("mob: nothing was changed")
    elif total.bytes:
        narrate(
            "mob: the room is used again by what comes; the file itself does not shrink (`mob"
            " backup` makes a compact copy)"
        )
    return 0


def _planned(state: Path, mobs: Sequence[str], keep_events: int) -> dict[str, Freed]:
    with looking_into(state) as store:
        return {mob_id: _retention(store, mob_id, keep_events).plan() for mob_id in mobs}


async def _run(state: Path, mobs: Sequence[str], keep_events: int) -> dict[str, Freed]:
    free: dict[str, Freed] = {}
    async with open_lmdb(state) as store:
        for mob_id in mobs:
            retention = _retention(store, mob_id, keep_events)
            free[mob_id] = await retention.run(_teller(mob_id))
    return free


def _retention(store: Store, mob_id: str, keep_events: int) -> Retention:
    realm, roster = stored_realm(store, mob_id)
    return Retention(realm, keep_events, lambda record: needed_for_report(record, roster.reported))


def _teller(mob_id: str) -> Callable[[Freed], None]:
    last = trio.current_time()

    def told(freed: Freed) -> None:
        nonlocal last
        if trio.current_time() - last >= _EVERY_S:
            last = trio.current_time()
            narrate(f"mob: {mob_id}: {bytes_text(freed.bytes)} freed so far")

    return told


def _line(mob_id: str, freed: Freed, dry_run: bool) -> str:
    verb = "would free" if dry_run else "freed"
    if freed == Freed():
        return f"{mob_id}: nothing to free"
    parts = [
        plural(freed.inputs, "input") if freed.inputs else "",
        f"{freed.progress} of progress" if freed.progress else "",
        plural(freed.turns, "turn") if freed.turns else "",
        f"{freed.others} of deleted sessions" if freed.others else "",
        plural(freed.snapshot_rows + freed.key_rows, "row")
        if freed.snapshot_rows + freed.key_rows
        else "",
    ]
    return f"{mob_id}: {verb} {bytes_text(freed.bytes)}: {', '.join(filter(None, parts))}"
