"""Time travel in any order of verbs, against what was there when each point was made."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from mob.app import stored_mob
from stores import MemoryDisk, open_lmdb, open_memory
from tests.mob.journeys import CHILDREN, of, prefix, stored, team, working
from tests.mob.mobs import opened

NUMBERS = st.integers(0, 5)
STEPS = st.one_of(
    *(
        st.tuples(st.just(verb), NUMBERS)
        for verb in (
            *("ask", "child", "keyed", "spawn", "retire", "respawn", "add", "claim", "wire"),
            *("point", "rewind", "rewind", "record", "fork", "checkpoint", "reopen", "stop"),
        )
    )
)


class Journey:
    """One mob, and what it was at each of its points."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.was: dict[str, Any] = {}
        self.forks: dict[str, Any] = {}
        self.asked = 0
        #: The last records of commits.
        self.ends: list[int] = []

    async def step(self, mob: Any, verb: str, number: int) -> None:
        self.ends.append(mob.realm.journal.last)
        members = mob.members
        name = members[number % len(members)] if members else None
        if verb in ("ask", "child", "keyed", "claim", "retire", "respawn") and name is None:
            return
        await getattr(self, verb)(mob, name, number)

    async def ask(self, mob: Any, name: str, _: int, verb: str = "ask") -> None:
        self.asked += 1
        await mob.ask(name, f"{verb} {self.asked}")

    async def child(self, mob: Any, name: str, number: int) -> None:
        await self.ask(mob, name, number, "child")

    async def keyed(self, mob: Any, name: str, number: int) -> None:
        await mob.ask(name, f"keyed {number}", idempotency_key=f"k{number}-{mob.session_of(name)}")

    async def spawn(self, mob: Any, _: Any, number: int) -> None:
        if f"m{number}" not in mob.members:
            await mob.spawn(f"m{number}", profile="p")

    async def retire(self, mob: Any, name: str, _: int) -> None:
        await mob.retire(name)

    async def respawn(self, mob: Any, name: str, _: int) -> None:
        await mob.respawn(name)

    async def add(self, mob: Any, _: Any, number: int) -> None:
        await mob.board.add(f"task {number}")

    async def claim(self, mob: Any, name: str, _: int) -> None:
        for task in mob.board.list("open")[:1]:
            await mob.board.claim(task.task_id, name)

    async def wire(self, mob: Any, _: Any, number: int) -> None:
        if len(mob.members) > 1:
            await (mob.unwire if number % 2 else mob.wire)(*mob.members[:2])

    async def point(self, mob: Any, _: Any, __: int) -> None:
        label = f"p{len(self.was)}"
        await mob.snapshot(label)
        self.was[label] = of(mob)

    async def rewind(self, mob: Any, _: Any, number: int) -> None:
        if self.was:
            await self.back(mob, list(self.was)[number % len(self.was)])

    async def record(self, mob: Any, _: Any, number: int) -> None:
        # In the middle of a commit of several records is no moment at all.
        at = self.ends[-1 - number % len(self.ends)]
        wanted, before = prefix(self.store, "t", at), of(mob)
        left = await mob.rewind(at)
        assert {**of(mob), "state": 0} == {**wanted, "state": 0}
        self.was[left.label] = before
        await mob.wait_idle()  # what was in flight then is done again

    async def fork(self, mob: Any, _: Any, number: int) -> None:
        at = list(self.was)[number % len(self.was)] if self.was and number else None
        name = f"f{len(self.forks)}"
        await mob.fork(name, at=at)
        self.forks[name] = of(mob) if at is None else self.was[at]

    async def checkpoint(self, mob: Any, _: Any, __: int) -> None:
        await mob.realm.checkpoint()

    async def stop(self, mob: Any, name: Any, number: int) -> None:
        await mob.stop()
        await self.rewind(mob, name, number)
        await mob.resume()

    async def back(self, mob: Any, label: str) -> None:
        before = of(mob)
        left = await mob.rewind(label)
        self.was[left.label] = {**before, "state": self.was[label]["state"]}
        assert {**of(mob), "state": 0} == {**self.was[label], "state": 0}

    async def whole(self, steps: list[tuple[str, int]]) -> None:
        definition = team(profile=CHILDREN)
        ahead = list(steps)
        while ahead:
            async with opened(definition, working, store=self.store) as mob:
                while ahead:
                    verb, number = ahead.pop(0)
                    if verb == "reopen":
                        break
                    await self.step(mob, verb, number)
                now = of(mob)
            assert stored(self.store, "t") == now
        assert prefix(self.store, "t", stored_mob(self.store, "t").last) == now
        for name, wanted in self.forks.items():
            assert {**stored(self.store, name), "state": 0} == {**wanted, "state": 0}


@pytest.mark.parametrize("on_disk", [False, True])
def test_any_order(on_disk: bool) -> None:
    """CONTRACTS 6.12, 3.5: what is gone back to is what was there, in this process, in the next,
    and in the fold of the whole journal; and forks are that too."""

    @settings(max_examples=12 if on_disk else 60, deadline=None)
    @given(steps=st.lists(STEPS, min_size=3, max_size=14))
    def run(steps: list[tuple[str, int]]) -> None:
        async def main() -> None:
            async with AsyncExitStack() as stack:
                if on_disk:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    store: Any = await stack.enter_async_context(open_lmdb(folder / "s"))
                else:
                    store = await stack.enter_async_context(open_memory(MemoryDisk()))
                await Journey(store).whole(steps)

        trio.run(main)

    run()
