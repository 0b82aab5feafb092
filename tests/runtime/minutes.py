"""What the tests of compaction share: a model that keeps minutes, and realms that use it.

Owns: `Minutes`, `realm_of`, `talk`. Must not: assert anything about a compaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from runtime.compaction import Compacting
from runtime.driver import SessionConfig
from runtime.ids import SessionId
from runtime.messages import (
    Message,
    Usage,
)
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.models.scripted import ScriptedModel, calling
from runtime.realm import Realm
from runtime.session import CompactionPolicy, SessionHead
from runtime.tools.base import Tool, Toolbox
from stores import MemoryStore
from tests.runtime.fakes import counting_ports, make_realm

POLICY = CompactionPolicy(at_messages=6, keep_turns=1)


class Minutes:
    """A model that answers turns, and writes summaries or fails to."""

    def __init__(self, summary: Callable[[], Any] = lambda: "the minutes") -> None:
        self.summary = summary
        self.contexts: list[list[Message]] = []
        self.asked: list[str] = []
        self.model = ScriptedModel(self.answer)

    async def answer(self, request: ModelRequest) -> ModelReply | str | Exception:
        if ".summary." in request.key:
            assert (request.tools, len(request.messages)) == ((), 1)
            self.asked.append(request.messages[0].text)
            said = self.summary()
            said = await said if hasattr(said, "__await__") else said
            usage = Usage(50, 5, 1)
            return ModelReply(said, usage=usage) if isinstance(said, str) else said
        self.contexts.append(list(request.messages))
        if request.messages[-1].text == "work":
            return calling(("work", {}))
        return ModelReply("done", (), StopReason.END, Usage(10, 1, 1))


def realm_of(
    minutes: Minutes,
    store: Any = None,
    policy: CompactionPolicy | None = POLICY,
    tools: tuple[Tool, ...] = (),
    start: int = 1,
) -> Realm:
    realm = make_realm(store or MemoryStore(), minutes.model, ports=counting_ports(start))
    how = None if policy is None else Compacting(policy, minutes.model)

    def configure(_: SessionHead) -> SessionConfig:
        return SessionConfig(minutes.model, toolbox=Toolbox(tools), compacting=how)

    realm.configure = configure
    return realm


async def talk(realm: Realm, session_id: SessionId, *texts: str) -> None:
    for text in texts:
        await realm.runner.send_message(session_id, text)


def texts_of(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def of_kind(realm: Realm, kind: type) -> list[Any]:
    return [e.record for e in realm.journal.read(limit=10_000) if isinstance(e.record, kind)]


MINUTES = "What was said before, in short:\n\nthe minutes"


async def hang() -> str:
    await trio.sleep_forever()
    raise AssertionError
