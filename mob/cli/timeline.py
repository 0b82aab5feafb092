"""One simulated run as lines that people read: what happened when, in which process, to whom.

Owns: the order of what the trace says and what the journal says, and the shape of a line. Must not:
run anything but the scenario it is put around.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

import attrs

from mob.cli.output import one_line
from mob.console.narrator import Narrator, path_of
from mob.records import MOB_RECORDS
from mob.simulation import Commit, Run, World
from mob.simulation.stage import Scenario
from runtime.ids import SessionId
from runtime.journal import Event
from runtime.records import RUNTIME_RECORDS
from runtime.state import RealmState
from stores import Append

_STREAM: Final = b"realm/"
_TYPES: Final = {each.kind: each for each in (*RUNTIME_RECORDS, *MOB_RECORDS)}
_RUNTIME: Final = tuple(each.cls for each in RUNTIME_RECORDS)

#: Characters of a line that are shown.
_WIDE: Final = 240


@attrs.frozen
class Entry:
    """One thing that happened. `seq` is its record's number in the journal, None if it has none;
    `who` the member it happened to, or what kind of happening it was."""

    at_s: float
    process: int
    seq: int | None
    who: str
    what: str

    def __str__(self) -> str:
        process = f"p{self.process}" if self.process else "--"
        seq = "" if self.seq is None else f"#{self.seq}"
        what = one_line(self.what, _WIDE)
        return f"{self.at_s:12.6f} {process:>4} {seq:>6} {self.who:<22} {what}".rstrip()


@final
class Recorder:
    """A scenario that remembers at which line of the trace each commit came."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._commits: list[tuple[int, Commit]] = []

    async def __call__(self, world: World) -> None:
        """Play the scenario."""

        def committed(commit: Commit) -> None:
            self._commits.append((len(world.trace.lines), commit))

        world.disk.listeners.append(committed)
        await self._scenario(world)

    def timeline(self, run: Run) -> Iterator[Entry]:
        """Everything that happened in `run`, in order."""
        teller = _Teller()
        told = 0
        for position, commit in (*self._commits, (len(run.trace.lines), None)):
            for line in run.trace.lines[told:position]:
                yield Entry(line.at_s, line.process, None, line.kind, line.text)
            told = position
            if commit is not None:
                yield from teller.tell(commit)


class _Teller:
    """Folds the journals as they are told, to know who is who."""

    def __init__(self) -> None:
        self._states: dict[bytes, RealmState] = {}

    def tell(self, commit: Commit) -> Iterator[Entry]:
        sequences = iter(commit.sequences)
        for operation in commit.operations:
            if not isinstance(operation, Append):
                continue
            seq = next(sequences)
            if operation.stream.startswith(_STREAM):
                record = _TYPES[operation.kind].unpack(operation.payload)
                who, what = self._told(operation.stream, Event(seq, record))
                yield Entry(commit.at_s, commit.process, seq, who, what)

    def _told(self, stream: bytes, event: Event) -> tuple[str, str]:
        state = self._states.setdefault(stream, RealmState())
        record = event.record
        try:
            if isinstance(record, _RUNTIME):
                state.apply(event.seq, record)
            told = Narrator(state).tell(event)
        except Exception:  # noqa: BLE001 the journal of a failed run may be beyond folding
            told = None
        if told is not None:
            return told
        session_id = getattr(record, "session_id", None)
        who = path_of(state, SessionId(session_id)) if session_id else "mob"
        return who, f"({type(record).__name__})"
