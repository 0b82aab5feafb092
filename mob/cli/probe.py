"""The reading of a whole store, run by `mob doctor` in a process of its own.

Owns: reading every record and row, folding every mob. Must not: write to the store, print anything
but one line of JSON per check.

A process of its own, because a file that was cut short ends whoever reads it with SIGBUS, and
a zeroed page with SIGABRT: no `except` sees those, but a parent process does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from mob.app import StoredMob, stored_mob, stored_mobs
from mob.folds import MobFolds
from mob.records import MOB_RECORDS
from mob.runs import past
from runtime.errors import MobError
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.records import RUNTIME_RECORDS
from runtime.state import RealmState
from stores import Store, StoreError, read_lmdb, verify_lmdb

#: Faults told one by one; of more, their number.
_SHOWN = 20


def probe(path: str, tell: Callable[[str, bool, str], None]) -> None:
    """Check the store at `path`; `tell` hears of each check: its name, whether it is fine, what."""
    try:
        report = verify_lmdb(path)
        for finding in report.findings[:_SHOWN]:
            tell(f"store {finding.where}", finding.kind == "gap", finding.reason)
        if report.found > _SHOWN:
            tell("store", False, f"{report.found} faults in all")
        if report.sound:
            tell(
                "store", True, f"format {report.format}, {report.bytes} bytes,"
                f" {report.records} records and {report.rows} rows: every checksum and chain right"
            )  # fmt: skip
        if report.broken:
            return  # LMDB itself would stumble over the pages
        with read_lmdb(path) as store:
            for mob_id in stored_mobs(store):
                _mob(store, mob_id, tell)
    except StoreError as error:
        tell("store", False, str(error))


def _mob(store: Store, mob_id: str, tell: Callable[[str, bool, str], None]) -> None:
    """Fold a mob from its rows, and from all of its journal, and compare."""
    name = f"mob {mob_id}"
    try:
        stored = stored_mob(store, mob_id)
        if _damaged(stored, tell):
            return
        whole = RealmState()
        roster = MobFolds(whole).roster
        types = (*RUNTIME_RECORDS, *MOB_RECORDS)
        # No further than the rows reached, should the mob be at work meanwhile.
        journal = Journal(store, RealmId(mob_id), types, whole.apply)
        for event in takewhile(lambda event: event.seq <= stored.last, past(journal)):
            whole.apply(event.seq, event.record)
    except (MobError, StoreError) as error:
        tell(name, False, f"its state cannot be computed: {error}")
        return
    except Exception as error:  # noqa: BLE001 the journal is well-formed and makes no sense
        tell(name, False, f"its journal contradicts itself: {type(error).__name__}: {error}")
        return
    differing = [
        session_id
        for session_id in whole.heads.keys() | stored.state.heads.keys()
        if whole.heads.get(session_id) != stored.state.heads.get(session_id)
    ]
    if differing or roster.members != stored.roster.members:
        where = ", ".join(sorted(differing)[:3]) or "the roster"
        tell(name, False, f"its rows do not say what its journal does: {where}")
        return
    waiting = sum(bool(head.inputs) for head in whole.heads.values())
    work = f", {waiting} sessions with unfinished work" if waiting else ""
    state = roster.mob_state.value
    sizes = f"{len(roster.members)} members, {len(whole.heads)} sessions"
    tell(name, True, f"{state}, {sizes}{work}")


def _damaged(stored: StoredMob, tell: Callable[[str, bool, str], None]) -> bool:
    """Tell which sessions are quarantined, and which records are lost; whether there are any."""
    known: set[int] = set()
    for head in list(stored.state.heads.values()):
        try:
            if head.quarantined is None:
                stored.journal.check_chain(head.head, known)
        except (MobError, StoreError) as error:
            stored.state.quarantine(head.session_id, f"its history cannot be read: {error}")
    name = f"mob {stored.mob_id}"
    for session_id, reason in stored.state.quarantined.items():
        tell(f"{name} session {session_id}", False, f"quarantined: {reason}")
    for seq, reason in stored.state.lost.items():
        tell(f"{name} record {seq}", False, f"lost: {reason}")
    return bool(stored.state.quarantined or stored.state.lost)


def main() -> None:
    """Check the store that the command line names; one line of JSON per check."""

    def tell(name: str, fine: bool, text: str) -> None:
        row: dict[str, Any] = {"check": name, "ok": fine, "text": text}
        print(json.dumps(row), flush=True)

    probe(sys.argv[1], tell)


if __name__ == "__main__":
    main()
