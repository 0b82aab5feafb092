"""The floor: Trio and LMDB with no framework. What is left of a turn when nothing is on top."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import lmdb
import trio
from protocol import Heard, Peer, Turns, serve, text, trio_loop


class Records:
    """One LMDB record a turn. All turns that end while one commit runs are in the next one; who is
    `alone` has nobody to share it with and needs no thread."""

    def __init__(self, folder: str, *, alone: bool = False) -> None:
        self._alone = alone
        self._environment = lmdb.open(folder, map_size=4 << 30)
        self._waiting: list[tuple[bytes, bytes]] = []
        self._filled, self._synced = trio.Event(), trio.Event()

    async def put(self, key: bytes, value: bytes) -> None:
        """Returns when it is synced."""
        if self._alone:
            self._commit([(key, value)])
            return
        self._waiting.append((key, value))
        synced = self._synced
        self._filled.set()
        await synced.wait()

    def _commit(self, batch: list[tuple[bytes, bytes]]) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(batch)

    async def write(self) -> None:
        """Runs for as long as there is something to put."""
        while True:
            await self._filled.wait()
            synced = self._synced
            self._filled, self._synced = trio.Event(), trio.Event()
            batch, self._waiting = self._waiting, []
            await trio.to_thread.run_sync(self._commit, batch)
            synced.set()

    def read(self, member: int) -> list[list[str]]:
        """The turns of a member, oldest first."""
        prefix = b"%08d/" % member
        found = []
        with self._environment.begin() as transaction:
            cursor = transaction.cursor()
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        break
                    found.append(json.loads(value))
        return found

    def close(self) -> None:
        self._environment.close()


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    histories: list[list[str]] = [[] for _ in range(members)]
    records = Records(folder, alone=members == 1) if folder else None

    async def call_model(question: str) -> str:
        await trio.sleep(pause_s)
        return question[:-1] + "!"  # another object, as an answer is

    async def turns(member: int, count: int, heard: Heard | None = None) -> None:
        history = histories[member]
        for _ in range(count):
            question = text(len(history))
            history += (question, await call_model(question))
            if records is not None:
                key = b"%08d/%08d" % (member, len(history))
                await records.put(key, json.dumps(history[-2:]).encode())
            if heard is not None:
                heard(member)

    async with trio.open_nursery() as nursery:
        if records is not None:
            nursery.start_soon(records.write)
        yield turns
        nursery.cancel_scope.cancel()
    if records is not None:
        records.close()


async def stored(folder: str, members: int) -> list[int]:
    records = Records(folder)
    found = [len(records.read(member)) for member in range(members)]
    records.close()
    return found


@asynccontextmanager
async def pair(count: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A message there, one back."""
    to_b, b_hears = trio.open_memory_channel[str](16)
    to_a, a_hears = trio.open_memory_channel[str](16)

    async def answer() -> None:
        async for message in b_hears:
            await to_a.send(message)

    async def passing() -> None:
        for number in range(count // 2):
            await to_b.send(text(number))
            await a_hears.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        yield passing
        nursery.cancel_scope.cancel()


PEER = Peer(trio_loop(), team, stored, pair)

if __name__ == "__main__":
    serve(PEER)
