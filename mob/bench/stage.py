"""What a run of a scenario is given: its mob, a folder, and somebody who measures.

Owns: opening the mob of a plan, what is measured of every run and between which moments. Must not:
know a shape.

What is measured is the work between opening a mob and leaving it: the processor time of this
process and of those that it waited for, the time that passed, turns, tokens and restarts. Latencies
are those of questions, from asking to the answer, on Trio's clock: of a scenario with a virtual
clock they are virtual seconds.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from mob.app import open_mob
from mob.bench.plan import Plan
from mob.definition import MobDefinition
from mob.mob import Mob
from runtime.messages import NO_USAGE
from runtime.tools.base import Tool
from stores import Store, open_lmdb, open_memory

#: Figures that every run has, and how each reads.
FIGURES: Final = {
    "wall_s": "seconds that passed while it worked (of a virtual clock: real ones)",
    "cpu_s": "processor seconds while it worked, those of its processes too",
    "opening_cpu_s": "processor seconds of opening the mob",
    "turns": "turns that ended",
    "turns_per_cpu_s": "turns per processor second",
    "questions": "questions asked one by one, of which latencies are known",
    "latency_p50_s": "half of the questions were answered in this, on the scenario's clock",
    "latency_p95_s": "95 of 100 were",
    "latency_p99_s": "99 of 100 were",
    "tokens": "tokens, read and written",
    "bytes_on_disk": "bytes of the store's folder in the end; 0 in memory",
    "peak_memory_bytes": "most memory that the process of the run ever had",
    "restarts": "restarts of members and of processes (of members the latest are known)",
}

MEMORY: Final = "memory"
LMDB: Final = "lmdb"


class Stage:
    """One run's surroundings. `tools` stand in for tables [tools.X] of the definition, `source` is
    the file of the scenario."""

    def __init__(self, plan: Plan, folder: Path, store: str, source: str) -> None:
        self.source = source
        self.plan = plan
        self.folder = folder
        self.store = store
        self.tools: dict[str, Tool] = {}
        self.latencies_s: list[float] = []
        self.restarts = 0
        self._counts = dict.fromkeys(("turns", "tokens"), 0)
        self._spent = dict.fromkeys(("wall_s", "cpu_s", "opening_cpu_s"), 0.0)

    # -- the mob -------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        """The store of this run: the one in its folder, or one in memory."""
        opened = open_memory() if self.store == MEMORY else open_lmdb(self.folder)
        async with opened as store:
            yield store

    @asynccontextmanager
    async def open(
        self, definition: MobDefinition | None = None, *, store: Store | None = None
    ) -> AsyncIterator[Mob]:
        """The mob of the plan (or of another definition), open; what happens inside is measured."""
        began_s = _cpu_s()
        async with self._store_or(store) as opened:
            mob_of = partial(open_mob, definition or self.plan.definition, tools=self.tools)
            async with mob_of(store=opened, grace_s=0) as mob:
                self._spent["opening_cpu_s"] += _cpu_s() - began_s
                before, exits = totals(mob), len(mob.exits())
                with self.measured():
                    yield mob
                for name, value in totals(mob).items():
                    self._counts[name] += value - before[name]
                self.restarts += sum(each.restart_in_s is not None for each in mob.exits()[exits:])

    @asynccontextmanager
    async def _store_or(self, store: Store | None) -> AsyncIterator[Store]:
        if store is not None:
            yield store
            return
        async with self.open_store() as opened:
            yield opened

    async def ask(self, mob: Mob, member: str, text: str) -> str:
        """The member's answer; how long it took is noted."""
        began_s = trio.current_time()
        result = await mob.ask(member, text)
        self.latencies_s.append(trio.current_time() - began_s)
        return result.text

    async def ask_all(self, mob: Mob, questions: Iterable[tuple[str, str]]) -> list[str]:
        """Everybody's answers, asked at the same time, in the order of the questions."""
        asked = list(questions)
        answers = [""] * len(asked)

        async def ask(index: int) -> None:
            answers[index] = await self.ask(mob, *asked[index])

        await every(len(asked), ask)
        return answers

    # -- measuring -----------------------------------------------------------------------------

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count what this block takes, as the body of `open` is; for work in other processes."""
        cpu_s, wall_s = _cpu_s(), time.perf_counter()
        try:
            yield
        finally:
            self._spent["cpu_s"] += _cpu_s() - cpu_s
            self._spent["wall_s"] += time.perf_counter() - wall_s

    def count(self, **more: int) -> None:
        """Add turns or tokens of another process."""
        for name, value in more.items():
            self._counts[name] += value

    def figures(self) -> dict[str, float]:
        """What was measured, by the names of `FIGURES`."""
        cpu_s = self._spent["cpu_s"]
        ordered = sorted(self.latencies_s)
        return {
            **self._spent,
            "turns": self._counts["turns"],
            "turns_per_cpu_s": self._counts["turns"] / cpu_s if cpu_s else 0.0,
            "questions": len(ordered),
            **{f"latency_p{each}_s": percentile(ordered, each) for each in (50, 95, 99)},
            "tokens": self._counts["tokens"],
            "bytes_on_disk": _bytes_in(self.folder) if self.store == LMDB else 0,
            "peak_memory_bytes": _peak_bytes(),
            "restarts": self.restarts,
        }


def names(definition: MobDefinition, group: str) -> list[str]:
    """The members that the table [members.GROUP] stands for."""
    return list(definition.members[group].names(group))


def totals(mob: Mob) -> dict[str, int]:
    """Turns and tokens of all sessions of a mob."""
    heads = mob.realm.state.heads.values()
    usage = sum((head.usage for head in heads), NO_USAGE)
    return {"turns": sum(head.turns for head in heads), "tokens": usage.total_tokens}


async def every(count: int, work: Callable[[int], Awaitable[Any]]) -> None:
    """Do `work` for each number below `count` at the same time."""
    async with trio.open_nursery() as nursery:
        for index in range(count):
            nursery.start_soon(work, index)


def percentile(ordered: list[float], percent: int) -> float:
    """The value that so many of a hundred do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _bytes_in(folder: Path) -> int:
    return sum(os.path.getsize(each) for each in folder.rglob("*") if each.is_file())


def _peak_bytes() -> int:
    """The most that was resident. A process begins with the maximum of the one that started it as
    `getrusage` counts, so Linux is asked about this program's own memory."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line)
