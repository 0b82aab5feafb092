"""The runs of a mob as a fold of its journal. Pure.

Owns: the runs under way, and what ended runs and used keys are read from. Must not: run anything.

Runs under way are in memory, ended ones only until the next checkpoint; after that they are rows
that are read when somebody asks, so a mob that has done a million runs remembers none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from mob.flows.records import (
    FlowEnded,
    FlowRecord,
    FlowRoundEnded,
    FlowRunId,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
)
from mob.flows.state import Run, apply, pack, started, unpack
from mob.folding import fold_on
from runtime.heads import pack_row, unpack_row
from runtime.points import marked
from runtime.state import RealmState

#: Prefixes of rows: runs under way, ended ones, and the runs of idempotency keys.
RUNNING: Final = b"f/r/"
ENDED: Final = b"f/e/"
KEYS: Final = b"f/k/"


class FlowBook:
    """The runs by id, in order of starting."""

    def __init__(self, state: RealmState) -> None:
        self.running: dict[FlowRunId, Run] = {}
        #: Ended since the last checkpoint, and those whose rows are on their way to the disk.
        self._ended: dict[FlowRunId, Run] = {}
        self._writing: dict[FlowRunId, Run] = {}
        #: The run of each key, and the record that it is used by.
        self._keys: dict[str, tuple[FlowRunId, int]] = {}
        self._writing_keys: dict[str, tuple[FlowRunId, int]] = {}
        #: The record that ended each of those that are not rows yet.
        self._ended_at: dict[FlowRunId, int] = {}
        self._changed: set[FlowRunId] = set()
        #: Reads a row by prefix and name; set by whoever has the store.
        self.lookup: Callable[[bytes, bytes], bytes | None] = lambda _prefix, _name: None
        #: Reads the rows of a prefix by name: those after a name, at most so many.
        self.scan: Callable[[bytes, bytes | None, int], list[bytes]] = lambda _p, _a, _l: []
        fold_on(state, FlowStarted, self._started)
        for kind in (FlowStepStarted, FlowStepRetried, FlowStepEnded, FlowRoundEnded, FlowEnded):
            fold_on(state, kind, self._changed_by)

    def find(self, run_id: FlowRunId) -> Run | None:
        """A run, ended or not."""
        known = self.running.get(run_id) or self._ended.get(run_id) or self._writing.get(run_id)
        if known is None:
            row = self.lookup(ENDED, run_id.encode())
            known = None if row is None else run_of(row)
        return known

    def by_key(self, key: str) -> FlowRunId | None:
        """The run that was started with this idempotency key."""
        known = self._keys.get(key) or self._writing_keys.get(key)
        if known is not None:
            return known[0]
        row = self.lookup(KEYS, key_name(key))
        return None if row is None else FlowRunId(unpack_row(row)[0])

    def page(self, after: FlowRunId | None, limit: int) -> list[Run]:
        """At most `limit` runs in the order of their ids, which is that of their starting: those
        behind `after`."""
        name = None if after is None else after.encode()
        found = {run.run_id: run for run in map(run_of, self.scan(ENDED, name, limit))}
        for run in (*self._writing.values(), *self._ended.values(), *self.running.values()):
            if after is None or run.run_id > after:
                found[run.run_id] = run
        return [found[run_id] for run_id in sorted(found)][:limit]

    # -- transitions -----------------------------------------------------------------------

    def _started(self, seq: int, record: FlowStarted) -> None:
        self.running[record.run_id] = started(record)
        if record.idempotency_key is not None:
            self._keys[record.idempotency_key] = record.run_id, seq
        self._changed.add(record.run_id)

    def _changed_by(self, seq: int, record: FlowRecord) -> None:
        run = apply(self.running[record.run_id], record)
        self._changed.add(record.run_id)
        if run.ended:
            del self.running[record.run_id]
            self._ended[record.run_id] = run
            self._ended_at[record.run_id] = seq
        else:
            self.running[record.run_id] = run

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows of runs under way that changed, for `runtime.recovery.WholeRows`."""
        changed, self._changed = self._changed, set()
        for run_id in sorted(changed):
            run = self.running.get(run_id)
            yield run_id.encode(), None if run is None else pack_row(*pack(run))

    def ended(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows of runs that ended. The ones handed out before are on disk by now."""
        self._writing, self._ended = self._ended, {}
        ended_at, self._ended_at = self._ended_at, {}
        for run_id, run in self._writing.items():
            yield run_id.encode(), marked(pack_row(*pack(run)), ended_at[run_id])

    def keys(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows of idempotency keys, likewise."""
        self._writing_keys, self._keys = self._keys, {}
        for key, (run_id, seq) in self._writing_keys.items():
            yield key_name(key), marked(pack_row(run_id), seq)

    def load(self, name: bytes, row: bytes) -> None:
        """Take the row of a run under way back. Raises `ValueError`, `TypeError` if it is none."""
        self.running[FlowRunId(name.decode())] = run_of(row)

    def loaded(self) -> None:
        """Call once after all rows: put the runs in the order of starting."""
        self.running = dict(sorted(self.running.items()))

    def clear(self) -> None:
        """Forget the runs: other rows are loaded next, also of ended ones and of keys."""
        for known in (self.running, self._ended, self._writing, self._changed):
            known.clear()
        self._ended_at.clear()
        self._keys.clear()
        self._writing_keys.clear()

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(FlowRunId(name.decode()))


def run_of(row: bytes) -> Run:
    """The run that a row holds."""
    return unpack(unpack_row(row))


def key_name(key: str) -> bytes:
    """The name of a key's row: keys are of any length, names are not."""
    return hashlib.sha256(key.encode()).digest()
