"""Processes that do a verb on a real disk and are killed at a commit of it.

Owns: what runs in such a process, the points at which it dies, starting it. Must not: look at what
is left (`test_killed` does, from a process that lives).

They are forked from a server that has imported everything, so one takes some ten milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from stores import Batch, LmdbStore, open_lmdb
from tests.mob.handle.team import Models, open_team
from tests.mob.handle.verbs import CASES

T = TypeVar("T")

#: When the process dies, of the n-th commit after the verb was called: as soon as its first batch
#: is in the queue; when the writer has taken the group; in the middle of writing it; when it is on
#: disk and nobody knows. ``called`` and ``told`` are before the verb and when it has returned.
POINTS: Final = ("queued", "before", "in", "after")

#: Seconds after which one that dies in the middle of a commit does so: a commit takes about that.
_WITHIN_S: Final = 0.000_3

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.mob.handle.victim"])


class Killer:
    """Ends this process at a commit. It is the `stores.writer.Offload` of the store."""

    def __init__(self, point: str, number: int) -> None:
        self._point = point
        self._number = number
        self.armed = False
        self.commits = 0

    def watch(self, store: LmdbStore) -> None:
        """Be asked at each batch and each commit of the store."""
        submit = store.writer.submit

        def submitted(*batch: Any) -> Any:
            ticket = submit(*batch)
            # The next commit takes what is in the queue.
            if self.armed and self._point == "queued" and self.commits + 1 == self._number:
                die()
            return ticket

        store.writer.submit = submitted  # type: ignore[method-assign]
        store.writer._offload = self

    async def __call__(self, work: Callable[[Sequence[Batch]], T], batches: Sequence[Batch]) -> T:
        """Do the work here: a thread would only make the moments vary."""
        await trio.lowlevel.checkpoint()
        if not self.armed:
            return work(batches)
        self.commits += 1
        due = self._point if self.commits == self._number else ""
        if due == "before":
            die()
        if due == "in":
            signal.setitimer(signal.ITIMER_REAL, _WITHIN_S)  # its signal ends the process
        result = work(batches)
        if due == "after":
            die()
        return result


def die() -> None:
    """End this process as nothing but the system can."""
    os.kill(os.getpid(), signal.SIGKILL)


async def _live(directory: str, name: str, point: str, number: int, tell: Connection) -> None:
    case = next(each for each in CASES if each.name == name)
    killer, models = Killer(point, number), Models()
    async with open_lmdb(directory) as store:
        killer.watch(store)
        if case.creates:
            if point in ("arrange", "called"):
                return
            killer.armed = True
        async with open_team(store, models) as mob:
            if point == "arrange":
                await case.arrange(mob, models)
                return
            await case.begin(mob, models)
            await store.barrier()
            if point == "called":
                die()
            killer.armed = True
            with trio.fail_after(20):
                await case.act(mob, models)
            tell.send(killer.commits)
            die()


def _main(*arguments: Any) -> None:
    trio.run(_live, *arguments)


def run(directory: Path, name: str, point: str, number: int = 0) -> int | None:
    """A process that does the case up to the point, to its end. How many commits the verb took, if
    it came to its end."""
    hear, tell = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_main, args=(str(directory), name, point, number, tell))
    process.start()
    tell.close()
    process.join(60)
    ends = (0,) if point in ("arrange", "called") else ()
    ends = (*ends, -signal.SIGKILL, -signal.SIGALRM)
    assert process.exitcode in ends, f"{name} at {point} {number} ended with {process.exitcode}"
    try:
        told: int = hear.recv()
    except EOFError:
        return None
    finally:
        hear.close()
        process.close()
    return told
