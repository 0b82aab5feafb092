"""The disk of the simulated machine: what is left when a process dies.

Owns: the stored bytes, the generation, who holds the owner's lock, the list of commits and
telling listeners of each. Must not: fail or take time (`mob.simulation.store` does both), know a
record.

A *transaction* is what the group-commit writer makes durable in one go: several batches, each of
which becomes a `Commit`. All of them are on the disk before the first listener is told of any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import attrs

from stores import Append, Batch, Operation, StoreInUse, StoreLost
from stores.memory import MemoryDisk, MemoryStore
from stores.writer import Outcome

#: Where it lies, for messages to people.
LOCATION: Final = "simulation"


@attrs.frozen
class Commit:
    """One batch that reached the disk; `number` counts all of them from 1.

    `transaction` counts the transactions that reached the disk. `sequences` are the numbers of the
    `Append`s among `operations`, in order.
    """

    number: int
    transaction: int
    at_s: float
    process: int
    generation: int
    operations: tuple[Operation, ...]
    sequences: tuple[int, ...]


@final
class SimDisk:
    """Give it to one process after the other."""

    def __init__(self) -> None:
        self.memory = MemoryDisk()
        #: The bytes, for reading; whoever reads asks `check` first.
        self.platter = MemoryStore(self.memory)
        #: How often it has been opened for writing. Only that generation may write.
        self.generation = 0
        #: The number of the process that holds the owner's lock; None: nobody does.
        self.owner: int | None = None
        self.commits: list[Commit] = []
        self.transactions = 0
        #: Transactions and reads that were attempted: the names of the sites where faults strike.
        self.attempts = 0
        self.reads = 0
        #: Told of every commit, in order, on the Trio thread, once it is on the disk.
        self.listeners: list[Callable[[Commit], None]] = []

    def open(self, process: int, *, take_over: bool = False) -> int:
        """Take the owner's lock and begin a generation, which is returned.

        Raises:
            StoreInUse: a process that lives has it, and `take_over` is false.
        """
        if self.owner is not None and not take_over:
            raise StoreInUse(
                f"process {self.owner} has the simulated store; take it over, or end that one",
                path=LOCATION,
                pid=self.owner,
            )
        self.owner = process
        self.generation += 1
        return self.generation

    def release(self, process: int) -> None:
        """Give the lock back, as the operating system does for a process that ends."""
        if self.owner == process:
            self.owner = None

    def apply(
        self, process: int, generation: int, batches: Sequence[Batch], at_s: float
    ) -> tuple[list[Outcome], list[bytes]]:
        """Make `batches` durable in one transaction of `generation`.

        Returns the outcome of each, and the streams that grew.

        Raises:
            StoreLost: the disk is of a later generation; nothing was written.
        """
        self.check(generation)
        outcomes: list[Outcome] = []
        grown: list[bytes] = []
        told = len(self.commits)
        self.transactions += 1
        for batch in batches:
            outcome = self.platter.submit(batch).outcome
            outcomes.append(outcome)
            if isinstance(outcome, tuple):
                grown += [each.stream for each in batch if isinstance(each, Append)]
                self.commits.append(
                    Commit(
                        len(self.commits) + 1,
                        self.transactions,
                        at_s,
                        process,
                        generation,
                        tuple(batch),
                        outcome,
                    )
                )
        for commit in self.commits[told:]:
            for listener in self.listeners:
                listener(commit)
        return outcomes, grown

    def check(self, generation: int) -> None:
        """Raise `StoreLost` unless `generation` is the newest."""
        if generation != self.generation:
            raise StoreLost(
                f"another process took the simulated store over at generation"
                f" {self.generation}, this handle is of generation {generation}: nothing"
                " was written",
                path=LOCATION,
                generation=self.generation,
            )
