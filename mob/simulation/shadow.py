"""The shadow: a second disk, to which every commit is applied once more.

Owns: what the disk must hold after each commit, who may write to it, and the invariants of both.
Must not: know a record.

Two disks that are fed the same must be the same. So the numbers that a commit was given are checked
against numbers that were counted here, and what a process would recover now is read from here,
whatever the disk under test does.
"""

from __future__ import annotations

from collections import Counter
from typing import final

import attrs

from mob.simulation.disk import Commit
from stores import Append, Expect, MemoryStore


@attrs.frozen
class Opening:
    """A process has opened the store for writing."""

    process: int
    generation: int


@final
class Shadow:
    """What is on the disk, as the commits tell it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        #: The newest generation, and whose it is; 0 before the first.
        self.generation = 0
        self.process = 0
        #: Processes that have ended: nothing of theirs may land any more.
        self.ended: set[int] = set()

    def open(self, opening: Opening) -> None:
        """Note that the disk has another owner."""
        self.generation, self.process = opening.generation, opening.process

    def apply(self, commit: Commit) -> None:
        """Apply `commit`. An owner's generation rises when it opens its environment afresh."""
        self.generation = max(self.generation, commit.generation)
        self.store.submit(commit.operations)


def generations_only_rise(shadow: Shadow, opening: Opening) -> str | None:
    """CONTRACTS 6.9: whoever opens the store for writing gets a generation that nobody had."""
    if opening.generation > shadow.generation and opening.process not in shadow.ended:
        return None
    return (
        f"process {opening.process} opens generation {opening.generation}, and there was"
        f" generation {shadow.generation} of process {shadow.process}"
    )


def no_stale_write_lands(shadow: Shadow, commit: Commit) -> str | None:
    """CONTRACTS 6.4, 6.9: a process writes nothing after another took the store over, and nothing
    after its end."""
    if commit.process in shadow.ended:
        return f"process {commit.process} has ended and commits {commit.number}"
    if commit.process == shadow.process and commit.generation >= shadow.generation:
        return None
    return (
        f"commit {commit.number} is of process {commit.process}, generation {commit.generation};"
        f" the newest is process {shadow.process}, generation {shadow.generation}"
    )


def sequences_are_gap_free(shadow: Shadow, commit: Commit) -> str | None:
    """CONTRACTS 6.12: each stream counts from 1 without a gap."""
    grown: Counter[bytes] = Counter()
    counted = []
    for operation in commit.operations:
        if isinstance(operation, Append):
            grown[operation.stream] += 1
            counted.append(shadow.store.last(operation.stream) + grown[operation.stream])
    if list(commit.sequences) == counted:
        return None
    return f"the records of commit {commit.number} are {commit.sequences}, should be {counted}"


def expectations_hold(shadow: Shadow, commit: Commit) -> str | None:
    """CONTRACTS 3.3, 3.8: a batch is applied only if what it expects is there."""
    for operation in commit.operations:
        if isinstance(operation, Expect):
            found = shadow.store.get(operation.key)
            if found != operation.value:
                return (
                    f"commit {commit.number} expects {operation.value!r:.80} at {operation.key!r},"
                    f" and there is {found!r:.80}"
                )
    return None
