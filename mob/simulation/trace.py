"""What happened in a run, line by line, and the digest two runs are compared by.

Owns: `Trace`, which process is speaking, `digest`. Must not: write anything down that differs
between two runs of one seed (an `id()`, a memory address, a path, the order of a set).

A task that belongs to a simulated process carries its `Incarnation` in a context variable, or is
below one that does. (A task inherits the context of whoever started it, and that may be a caller
from outside; but it lies in the nursery of the process.) What a dead process still does while its
tasks unwind is nobody's business: it is not noted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from hashlib import blake2b
from typing import Final, final

import attrs
import trio

from mob.simulation.disk import SimDisk


@attrs.define(eq=False)
class Incarnation:
    """One life of the simulated process: `number` counts from 1; 0 stands for the world."""

    number: int
    alive: bool = True


#: The incarnation that the running task and those below it belong to; None: whatever is above says.
SPEAKING: Final[ContextVar[Incarnation | None]] = ContextVar(
    "mob.simulation.speaking", default=None
)


def speaker() -> Incarnation | None:
    """The incarnation whose task is running; None: one of the world's, or none at all."""
    task: trio.lowlevel.Task | None
    try:
        task = trio.lowlevel.current_task()
    except RuntimeError:
        return None
    while task is not None:
        found = task.context.get(SPEAKING)
        if found is not None:
            return found
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    return None


@attrs.frozen
class Line:
    """One thing that happened, `at_s` virtual seconds after the beginning."""

    at_s: float
    process: int
    kind: str
    text: str

    def __str__(self) -> str:
        who = f"p{self.process}" if self.process else "--"
        return f"{self.at_s:12.6f} {who:>4} {self.kind:<16} {self.text}"


@final
class Trace:
    """The lines of a run, in order."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.lines: list[Line] = []

    def note(self, kind: str, text: str, process: int | None = None) -> None:
        """Write one line down; of `process`, or of the one whose task this is."""
        if process is None:
            speaking = speaker()
            if speaking is not None and not speaking.alive:
                return
            process = 0 if speaking is None else speaking.number
        self.lines.append(Line(self._now(), process, kind, text))

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))


def digest(disk: SimDisk, trace: Trace) -> str:
    """32 hexadecimal digits over everything on `disk` and every line of `trace`."""
    hashed = blake2b(digest_size=16)
    for stream, entries in sorted(disk.memory.entries.items()):
        hashed.update(b"stream %d %d " % (len(stream), len(entries)) + stream)
        for entry in entries:
            head = b"%d %d %d " % (entry.kind, entry.version, len(entry.payload))
            hashed.update(head + entry.payload)
    for key in disk.memory.order:
        value = disk.memory.values[key]
        hashed.update(b"key %d %d " % (len(key), len(value)) + key + value)
    for line in trace.lines:
        text = line.text.encode("utf-8", "backslashreplace")
        hashed.update(f"{line.at_s!r} {line.process} {line.kind} {len(text)} ".encode() + text)
    return hashed.hexdigest()
