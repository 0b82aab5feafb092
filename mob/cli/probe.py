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
from typing import Any

from mob.app import stored_mob, stored_mobs
from runtime.errors import MobError
from stores import Store, StoreError, read_lmdb

#: Entries read in one transaction.
_PAGE = 512


def probe(path: str, tell: Callable[[str, bool, str], None]) -> None:
    """Check the store at `path`; `tell` hears of each check: its name, whether it is fine, what."""
    try:
        with read_lmdb(path) as store:
            tell("store", True, f"{path} opens, format known")
            _streams(store, tell)
            _keys(store, tell)
            _mobs(store, tell)
    except StoreError as error:
        tell("store", False, str(error))


def _streams(store: Store, tell: Callable[[str, bool, str], None]) -> None:
    for stream in store.streams():
        name = f"stream {stream.decode('utf-8', 'replace')}"
        after = 0
        try:
            while entries := store.read(stream, after=after, limit=_PAGE):
                after = entries[-1].seq
            last = store.last(stream)
            if last < after:
                tell(name, False, f"ends at record {last}, after {after} were read")
            else:
                tell(name, True, f"{after} records, every checksum and the chain are right")
        except StoreError as error:
            tell(name, False, f"{error} (the {after} records before it are right)")


def _keys(store: Store, tell: Callable[[str, bool, str], None]) -> None:
    rows = 0
    last: bytes | None = None
    try:
        while page := store.scan(b"", after=last, limit=_PAGE):
            rows += len(page)
            last = page[-1][0]
    except StoreError as error:
        tell("keys", False, str(error))
    else:
        tell("keys", True, f"{rows} rows (snapshots and the like), every checksum is right")


def _mobs(store: Store, tell: Callable[[str, bool, str], None]) -> None:
    for mob_id in stored_mobs(store):
        name = f"mob {mob_id}"
        try:
            stored = stored_mob(store, mob_id)
        except (MobError, StoreError) as error:
            tell(name, False, f"its state cannot be computed: {error}")
        except Exception as error:  # noqa: BLE001 the journal is well-formed and makes no sense
            tell(name, False, f"its journal contradicts itself: {type(error).__name__}: {error}")
        else:
            waiting = sum(bool(head.inputs) for head in stored.state.heads.values())
            work = f", {waiting} sessions with unfinished work" if waiting else ""
            state = stored.roster.mob_state.value
            tell(
                name, True, f"{state}, {len(stored.roster.members)} members,"
                f" {len(stored.state.heads)} sessions{work}"
            )  # fmt: skip


def main() -> None:
    """Check the store that the command line names; one line of JSON per check."""

    def tell(name: str, fine: bool, text: str) -> None:
        row: dict[str, Any] = {"check": name, "ok": fine, "text": text}
        print(json.dumps(row), flush=True)

    probe(sys.argv[1], tell)


if __name__ == "__main__":
    main()
