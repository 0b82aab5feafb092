"""What the tests of session services share: scripted sessions, and services that are served.

Owns: openers and shorthands. Must not: assert anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from runtime.ids import SessionId
from runtime.models.scripted import ScriptedModel
from runtime.nursery import open_background
from runtime.service import (
    CreateSessionRequest,
    InitialTurnPolicy,
    RealmSessionService,
    SessionBuildOptions,
    StartTurnRequest,
)
from stores import MemoryStore


async def forever(_: Any) -> Any:
    """A line of a script, or a tool, that never comes to its end."""
    await trio.sleep_forever()


@asynccontextmanager
async def served(store: Any = None, **given: Any) -> AsyncIterator[RealmSessionService]:
    """A service whose hosted sessions and background children have a place to work in."""
    service = RealmSessionService(store or MemoryStore(), **given)
    async with open_background() as nursery:
        service.serve(nursery)
        yield service
    await service.aclose()


def scripted(*script: Any, **given: Any) -> CreateSessionRequest:
    """A request for a session on a scripted model that runs no turn yet. What is no field of the
    request is one of its build options."""
    lines: Any = script[0] if len(script) == 1 and not isinstance(script[0], str) else script
    model = lines if isinstance(lines, ScriptedModel) else _model(lines)
    own = {field.name for field in attrs.fields(CreateSessionRequest)}
    build = {name: value for name, value in given.items() if name not in own}
    build.setdefault("llm_client_override", model)
    request = {name: value for name, value in given.items() if name in own}
    request.setdefault("initial_turn", InitialTurnPolicy.DEFER)
    return CreateSessionRequest(
        request.pop("model", "scripted:x"), build=SessionBuildOptions(**build), **request
    )


def _model(lines: Any) -> ScriptedModel:
    whole = callable(lines) or isinstance(lines, tuple | list)
    return ScriptedModel(lines if whole else (lines,))


async def made(service: RealmSessionService, *script: Any, **given: Any) -> SessionId:
    return (await service.create_session(scripted(*script, **given))).session_id


async def say(service: RealmSessionService, session: SessionId, text: str) -> str:
    return (await service.start_turn(session, StartTurnRequest(text))).text


async def busy(service: RealmSessionService, session: SessionId) -> None:
    """Park until a turn of the session is in flight."""
    while not service.realm.busy(session):
        await trio.lowlevel.checkpoint()


def model_of(request: CreateSessionRequest) -> ScriptedModel:
    model = request.build.llm_client_override
    assert isinstance(model, ScriptedModel)
    return model
