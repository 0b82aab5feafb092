"""System context: what an application says to a session's model. CONTRACTS 4.11."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.errors import ContextConflict, SessionError, SessionNotFound
from runtime.ids import SessionId
from runtime.messages import AssistantMessage, SystemMessage, ToolResult, UserMessage
from runtime.models.scripted import ScriptedModel
from runtime.service import AppendSystemContext, ContextStatus, RealmSessionService
from runtime.service.requests import SessionBuildOptions
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call
from tests.runtime.serving import forever, made, model_of, say, scripted

APPLIED, STAGED, DUPLICATE = ContextStatus.APPLIED, ContextStatus.STAGED, ContextStatus.DUPLICATE


def the_weather(key: str | None = None, text: str = "it rains") -> AppendSystemContext:
    return AppendSystemContext(text, "weather", key)


RAIN = SystemMessage("it rains", "weather")


async def history(service: RealmSessionService, session: SessionId) -> list[Any]:
    return [
        message.text if isinstance(message, AssistantMessage) else message
        for message in await service.read_history(session)
    ]


async def test_what_is_said_to_an_idle_session_is_before_its_next_model_call_once() -> None:
    """CONTRACTS 4.11."""
    service = RealmSessionService(MemoryStore())
    request = scripted("one", "two")
    session = (await service.create_session(request)).session_id
    assert await service.append_system_context(session, the_weather()) is APPLIED
    assert (await service.read(session)).state.staged_context == 1
    await say(service, session, "a")
    assert (await service.read(session)).state.staged_context == 0
    await say(service, session, "b")
    first, second = model_of(request).requests
    assert list(first.messages) == [UserMessage("a"), RAIN]
    assert list(second.messages).count(RAIN) == 1
    told = await history(service, session)
    assert told == [UserMessage("a"), RAIN, "one", UserMessage("b"), "two"]


async def test_what_is_said_in_a_turn_is_staged_for_its_next_model_call() -> None:
    """CONTRACTS 4.11: in the same turn if it calls the model again, else in the next."""
    service = RealmSessionService(MemoryStore())

    async def look(_: Any) -> str:
        assert await service.append_system_context(session, the_weather()) is STAGED
        return "seen"

    async def last(_: Any) -> str:
        sunny = AppendSystemContext("sun")
        assert await service.append_system_context(session, sunny) is STAGED
        return "done"

    request = scripted(asking(call("c")), last, "next", external_tools=(Doing(look),))
    session = (await service.create_session(request)).session_id
    assert await say(service, session, "go") == "done"
    second = list(model_of(request).requests[1].messages)
    assert isinstance(second[-2], ToolResult)
    assert second[-1] == RAIN
    assert await say(service, session, "more") == "next"
    third = list(model_of(request).requests[2].messages)
    assert third[-2:] == [UserMessage("more"), SystemMessage("sun")]
    assert third.count(RAIN) == 1


async def test_a_key_says_one_thing_once() -> None:
    """CONTRACTS 4.11: before and after it is applied, and after a checkpoint and a restart."""
    store = MemoryStore()
    service = RealmSessionService(store)
    session = await made(service, "one")
    assert await service.append_system_context(session, the_weather("k")) is APPLIED
    for _ in range(3):
        assert await service.append_system_context(session, the_weather("k")) is DUPLICATE
        with pytest.raises(ContextConflict) as found:
            await service.append_system_context(session, the_weather("k", "it is dry"))
        assert (found.value.code, found.value.key) == ("SESSION_CONTEXT_CONFLICT", "k")
        assert found.value.session_id == session
        if not service.realm.state.head(session).turns:
            await say(service, session, "a")
        else:
            await service.realm.checkpoint()
            service = RealmSessionService(store)
    assert (await history(service, session)).count(RAIN) == 1
    other = await made(service, "one")
    assert await service.append_system_context(other, the_weather("k", "it is dry")) is APPLIED


async def test_what_is_staged_is_applied_once_whatever_ends_the_process(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.11: the process ends before the call, in the call, behind a journalled one."""
    store = MemoryStore()
    service = RealmSessionService(store)
    tool = Doing(forever, idempotent=True)

    def again() -> RealmSessionService:
        service = RealmSessionService(store)
        service._builder.options[session] = SessionBuildOptions(
            llm_client_override=model, external_tools=(tool,)
        )
        return service

    model = ScriptedModel([forever, asking(call("c")), "done", "x", "y"])
    session = await made(service, llm_client_override=model, external_tools=(tool,))
    await service.append_system_context(session, the_weather())
    service = again()
    for _ in range(2):
        with trio.move_on_after(1):
            await say(service, session, "go")
        service = again()
    tool.does = lambda _: "ok"
    assert await say(service, session, "more") == "y"
    told = await history(service, session)
    assert told.count(RAIN) == 1
    assert told[:2] == [UserMessage("go"), RAIN]
    assert told[4] == "done"


async def test_what_was_told_in_the_middle_of_a_turn_is_not_told_again_when_it_is_continued(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.11: the record of the turn's progress that has the text takes it off the list."""
    store = MemoryStore()
    calls = 0

    async def work(_: Any) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await service.append_system_context(session, the_weather())
        elif calls == 2:
            await trio.sleep_forever()
        return "ok"

    tool = Doing(work, idempotent=True)
    model = ScriptedModel([asking(call("c")), asking(call("d")), "done", "more"])
    service = RealmSessionService(store)
    session = await made(service, llm_client_override=model, external_tools=(tool,))
    with trio.move_on_after(1):
        await say(service, session, "go")
    service = RealmSessionService(store)
    service._builder.options[session] = SessionBuildOptions(
        llm_client_override=model, external_tools=(tool,)
    )
    assert await say(service, session, "then") == "more"
    assert list(model.requests[2].messages).count(RAIN) == 1
    assert (await history(service, session)).count(RAIN) == 1
    assert (await service.read(session)).state.staged_context == 0


async def test_an_interrupted_turn_keeps_what_it_was_told_and_no_other_hears_it() -> None:
    """CONTRACTS 4.11 and 4.3."""
    service = RealmSessionService(MemoryStore())
    request = scripted(forever, "two")
    session = (await service.create_session(request)).session_id
    await service.append_system_context(session, the_weather())
    async with trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(SessionError, match="interrupted"):
                await say(service, session, "a")

        nursery.start_soon(start)
        while not model_of(request).requests:
            await trio.lowlevel.checkpoint()
        await service.interrupt(session)
    await say(service, session, "b")
    assert (await history(service, session)).count(RAIN) == 1


async def test_a_session_that_is_not_there_or_archived_is_told_nothing() -> None:
    """CONTRACTS 4.11 and 4.7."""
    service = RealmSessionService(MemoryStore())
    with pytest.raises(SessionNotFound):
        await service.append_system_context(SessionId("nobody"), the_weather())
    session = await made(service, "one")
    await service.archive(session)
    with pytest.raises(SessionError, match="archived"):
        await service.append_system_context(session, the_weather())
