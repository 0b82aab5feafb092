"""A store that fails under a tool is no answer for the model."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.tools.agents import SpawnAgent
from stores import MemoryStore, StoreFailed
from tests.runtime.fakes import make_realm, new_session


class Flaky(MemoryStore):
    """Fails to read once, when it is told to."""

    failing = False

    def get(self, key: bytes) -> bytes | None:
        if self.failing:
            self.failing = False
            raise StoreFailed("a read failed", path="here")
        return super().get(key)


async def test_a_child_whose_store_failed_is_continued_and_no_result(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 1.9, 1.10: found by simulation. The failure became a result that said so, the
    parent's turn went on, and the child waited for ever."""
    store = Flaky()
    asked: list[str] = []

    def answer(request: ModelRequest) -> ModelReply | str:
        asked.append(request.messages[-1].text)
        if asked == ["go"]:
            store.failing = True
        if request.messages[-1].text == "go":
            return calling(("spawn_agent", {"name": "c", "instructions": "help"}))
        return f"done {request.messages[-1].text}"

    realm = make_realm(store, answer, [SpawnAgent()])
    session = await new_session(realm)
    with pytest.raises(StoreFailed):
        await realm.runner.send_message(session, "go", idempotency_key="k")
    assert asked == ["go"]
    again = make_realm(store, answer, [SpawnAgent()])
    result = await again.runner.send_message(session, "go", idempotency_key="k")
    assert (result.text, asked) == ("done done help", ["go", "help", "done help"])
    assert [head.turns for head in again.state.heads.values()] == [1, 1]
