"""A mob that goes down with its nursery, because something in it failed for good."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import TurnProgressed
from tests.mob.held import HeldStore
from tests.mob.mobs import TOOLS, asked, define, opened, records, tool_file

Clock = trio.testing.MockClock


async def test_nothing_is_begun_in_a_nursery_that_is_being_cancelled(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 2.8, 6.9: found by simulation. A message that comes while the mob goes down began
    the member's turn again, from before what the first one had queued: the result of a call was
    journalled twice, and the next process found a turn that no model takes."""
    store = HeldStore()
    waiting = trio.Event()

    async def never(_: str) -> str:
        waiting.set()
        await trio.sleep_forever()
        raise AssertionError

    def answer(request: ModelRequest) -> str | ModelReply:
        if asked(request) == "go" and not isinstance(request.messages[-1], ToolResult):
            return calling(("once", {"text": "a"}), ("again", {"text": "b"}))
        return "done"

    monkeypatch.setitem(TOOLS, "once", never)
    monkeypatch.setitem(TOOLS, "again", never)
    tools = tool_file(tmp_path, once=False, again=True)
    profile = {"tools": ["once", "again"]}
    definition = define("a", folder=tmp_path, tools=tools, profile=profile)
    async with opened(definition, answer, store=store, grace_s=0) as mob:
        await mob.send("a", "go")
        await waiting.wait()
    waiting = trio.Event()

    async def fail() -> None:
        raise OSError("gone for good")

    async def go_down() -> None:
        async with opened(definition, answer, store=store, grace_s=0) as mob:
            await waiting.wait()
            store.hold()
            mob._nursery.start_soon(fail)
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                    with trio.move_on_after(1):
                        await mob.send("a", "more")
                    store.release()

    with pytest.raises(OSError, match="gone for good"):
        await go_down()
    told = [each for record in records(store, TurnProgressed) for each in record.messages]
    assert [type(each) for each in told].count(ToolResult) == 1
