"""What the tests of background children share: realms that serve them, models by the word.

Owns: `open_tasks`, `Desk` (a model that does what the message it is given says). Must not: assert.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from runtime.driver import SessionConfig
from runtime.errors import TurnInterrupted
from runtime.ids import SessionId
from runtime.messages import TASKS, ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from runtime.nursery import open_background
from runtime.ports import Ports
from runtime.realm import Realm
from runtime.runner import InProcessRunner
from runtime.session import Lifetime, SessionHead
from runtime.spawning import SpawnLimits
from runtime.tasks import NewTask, TaskView
from runtime.tools.agents import SPAWN_AGENT, SpawnAgent
from runtime.tools.base import Tool, Toolbox
from runtime.tools.tasks import task_tools
from runtime.turn import TurnRules
from stores import Store
from tests.runtime.fakes import HARNESS, REALM

#: Limits that no test reaches.
MANY = SpawnLimits(max_depth=4, max_active=2_000, max_total=4_000)
TOOLS: tuple[Tool, ...] = (SpawnAgent(background=True), *task_tools())


@attrs.define
class Desk:
    """Answers by the first word of the turn's message.

    ``wait`` parks until `gate` is set and then answers; ``fail`` raises; ``call X {...}`` calls the
    tool X once and answers with its result; anything else is said again. Notices are kept apart.
    """

    gate: trio.Event = attrs.field(factory=trio.Event)
    seen: list[str] = attrs.field(factory=list)
    notices: list[str] = attrs.field(factory=list)
    #: Calls that ended by cancellation, in order.
    cut: list[str] = attrs.field(factory=list)

    async def __call__(self, request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            return last.text
        said = [m for m in request.messages if isinstance(m, UserMessage)]
        self.notices += [m.text for m in said if m.sender == TASKS]
        text = said[-1].text
        self.seen.append(text)
        word, _, rest = text.partition(" ")
        if word == "wait":
            try:
                await self.gate.wait()
            except trio.Cancelled:
                self.cut.append(text)
                raise
            return f"done {rest}"
        if word == "fail":
            raise ValueError(rest)
        if word == "call":
            return calling(*[(name, json.loads(given)) for name, given in _calls(rest)])
        return f"said {text}"


def _calls(text: str) -> Iterable[tuple[str, str]]:
    for each in text.split(" ;; "):
        name, _, given = each.partition(" ")
        yield name, given or "{}"


def spawn(told: str, name: str = "helper", **given: Any) -> str:
    """A message on which a `Desk` starts a child in the background."""
    arguments = {"name": name, "instructions": told, "mode": "background", **given}
    return f"call {SPAWN_AGENT} {json.dumps(arguments)}"


def config(model: Any) -> Any:
    """Sessions of this model with all the tools; a schema asked for binds."""
    box = Toolbox(TOOLS)

    def configure(head: SessionHead) -> SessionConfig:
        schema = head.spec.output_schema
        rules = TurnRules(None if schema is None else json.loads(schema), output_retries=1)
        return SessionConfig(model, toolbox=box, rules=rules)

    return configure


@asynccontextmanager
async def open_tasks(
    store: Store,
    desk: Any,
    *,
    limits: SpawnLimits | None = None,
    serve: bool = True,
    ports: Ports | None = None,
) -> AsyncIterator[Realm]:
    """A recovered realm that serves background children, and takes up those that run."""
    model = desk if hasattr(desk, "generate") else ScriptedModel(desk)
    realm = Realm(store, REALM, config(model), limits=limits, ports=ports)
    realm.recover()
    async with open_background() as nursery:
        if serve:
            realm.background.serve(nursery)
            realm.background.resume()
        try:
            yield realm
        finally:
            realm.background.halt()
            with trio.CancelScope(shield=True):
                await realm.background.quiet()


async def begin(
    realm: Realm,
    parent: SessionId,
    told: str,
    *,
    name: str = "helper",
    lifetime: Lifetime = Lifetime.LINKED,
    **given: Any,
) -> TaskView:
    """Start a child over the seam."""
    runner = realm.runner
    assert isinstance(runner, InProcessRunner)
    return await runner.start_task(parent, HARNESS, name, NewTask(lifetime, told), **given)


def records(realm: Realm, kind: type) -> list[Any]:
    return [e.record for e in realm.journal.read(0, 100_000) if type(e.record) is kind]


def last_result(realm: Realm, session: SessionId) -> ToolResult:
    found = realm.messages(session)
    return next(message for message in found if isinstance(message, ToolResult))


async def interrupted_turn(realm: Realm, session: SessionId) -> None:
    with pytest.raises(TurnInterrupted):
        await realm.runner.send_message(session, "wait for ever")
