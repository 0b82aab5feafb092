"""Watching live text: whole, bounded, and never in the way of a turn."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import ModelError
from runtime.ids import SessionId
from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.realm import Realm
from runtime.watching import Gap, Seen, TextDelta, Watch
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session


class Talker:
    """Says the numbers from 0 below `pieces`, one a second; notes whether anybody listens."""

    name = "talker:x"
    supports_tools = True

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.listened: list[bool] = []

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        self.listened.append(emit is not None)
        said = [f"{number} " for number in range(self.pieces)]
        for piece in said:
            await trio.sleep(1)
            if emit is not None:
                emit(piece)
        return ModelReply("".join(said))

    async def aclose(self) -> None:
        pass


async def read(watch: Watch, into: list[Seen]) -> None:
    async for seen in watch:
        into.append(seen)  # noqa: PERF401 it never ends, and is read meanwhile


async def turn(realm: Realm, session: SessionId) -> str:
    return (await realm.runner.send_message(session, "go")).text


async def test_a_watcher_sees_the_text_as_it_comes(autojump_clock: Any) -> None:
    realm = make_realm(MemoryStore(), Talker(3))  # type: ignore[arg-type]
    session = await new_session(realm)
    seen: list[Seen] = []
    with realm.watches.open(session) as watch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, watch, seen)
            nursery.start_soon(turn, realm, session)
            await trio.sleep(1.5)
            assert [each.text for each in seen if isinstance(each, TextDelta)] == ["0 "]
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
    assert seen == [TextDelta(session, seen[0].call, f"{n} ") for n in range(3)]  # type: ignore[union-attr]


async def test_one_session_or_all_of_them_and_nobody_is_called_back_for_nothing(
    autojump_clock: Any,
) -> None:
    talker = Talker(1)
    realm = make_realm(MemoryStore(), talker)  # type: ignore[arg-type]
    one, other = await new_session(realm), await new_session(realm)
    await turn(realm, one)
    with realm.watches.open(one) as watch, realm.watches.open() as every:
        await turn(realm, one)
        await turn(realm, other)
        assert [(await anext(every)).session_id for _ in range(2)] == [one, other]  # type: ignore[union-attr]
        assert (await anext(watch)).session_id == one  # type: ignore[union-attr]
        with trio.move_on_after(1) as nothing_more:
            await anext(watch)
        assert nothing_more.cancelled_caught
    await turn(realm, one)
    assert talker.listened == [False, True, True, False]


async def test_a_watcher_that_falls_behind_finds_a_gap_and_slows_nobody(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 4.6: a typed marker with the number dropped; the turn is never slowed."""
    realm = make_realm(MemoryStore(), Talker(10))  # type: ignore[arg-type]
    session = await new_session(realm)
    with realm.watches.open(session, pieces=3) as watch:
        began = trio.current_time()
        assert (await turn(realm, session)).startswith("0 1 2")
        assert trio.current_time() - began == 10
        seen = [await anext(watch) for _ in range(4)]
    assert seen[0] == Gap(7)
    assert [each.text for each in seen[1:] if isinstance(each, TextDelta)] == ["7 ", "8 ", "9 "]


async def test_each_attempt_at_each_call_is_told_from_the_others(autojump_clock: Any) -> None:
    """Text of an attempt that failed is not part of the answer."""
    attempts = iter([asking(call("c"), text="look"), "half", "done"])

    class Model:
        name = "m:x"
        supports_tools = True

        async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
            line = next(attempts)
            text = line.text if isinstance(line, ModelReply) else line
            assert emit is not None
            emit(text)
            emit("")
            if line == "half":
                raise ModelError("broke off", provider="m", retryable=True)
            return line if isinstance(line, ModelReply) else ModelReply(text)

        async def aclose(self) -> None:
            pass

    realm = make_realm(MemoryStore(), Model(), [Doing(lambda _: "ok")])  # type: ignore[arg-type]
    session = await new_session(realm)
    seen: list[Seen] = []
    with realm.watches.open(session) as watch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, watch, seen)
            await turn(realm, session)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert [each.text for each in seen if isinstance(each, TextDelta)] == ["look", "half", "done"]
    assert len({each.call for each in seen if isinstance(each, TextDelta)}) == 3
