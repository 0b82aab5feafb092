"""The suite for session services: CONTRACTS 4.1 to 4.11 as plain tests for pytest-trio.

Owns: what every `SessionService` does. Must not: know one, or import pytest.

    class TestMyService(SessionServiceConformance):
        def open_service(self):
            return open_my_service()

A service under test lets a session be served by the caller's own client (`llm_client_override`);
nothing else of it is taken for granted.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import trio

from runtime.errors import SessionError, SessionNotFound
from runtime.ids import SessionId
from runtime.messages import SystemMessage
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.service import (
    AppendSystemContext,
    ContextStatus,
    CreateSessionRequest,
    InitialTurnPolicy,
    SessionBuildOptions,
    SessionQuery,
    SessionService,
    StartTurnRequest,
)

#: Seconds that a test waits for what must come.
PATIENCE_S = 10.0

_NOBODY = SessionId("nobody")


class SessionServiceConformance:
    """Tests that hold for every `SessionService`. Override `open_service`."""

    def open_service(self) -> AbstractAsyncContextManager[SessionService]:
        """Open a service that has no sessions."""
        raise NotImplementedError("override `open_service` to open the service under test")

    # -- what the tests are made of ----------------------------------------------------------

    async def made(self, service: SessionService, model: ScriptedModel) -> SessionId:
        """A session on this model that has run nothing."""
        result = await service.create_session(request_for(model))
        assert (result.text, result.run_id) == ("", None), "a deferred session runs nothing"
        return result.session_id

    # -- the tests ---------------------------------------------------------------------------

    async def test_turns_are_committed_and_readable(self) -> None:
        """CONTRACTS 4.1, 4.4, 4.8."""
        async with self.open_service() as service:
            session = await self.made(service, echo())
            for text in ("a", "b"):
                result = await service.start_turn(session, StartTurnRequest(text))
                assert (result.text, result.session_id) == (f"re: {text}", session)
            told = [each.text for each in await service.read_history(session)]
            assert told == ["a", "re: a", "b", "re: b"]
            assert [each.text for each in await service.read_history(session, 1)] == ["re: b"]
            view = await service.read(session)
            assert (view.state.message_count, view.state.last_assistant_text) == (4, "re: b")
            assert view.billing.usage.model_calls == 2

    async def test_a_first_turn_that_fails_leaves_a_session_that_goes_on(self) -> None:
        """CONTRACTS 4.1, 4.7."""
        async with self.open_service() as service:
            model = ScriptedModel([ValueError("no"), "yes"])
            request = request_for(model, InitialTurnPolicy.RUN_IMMEDIATELY)
            error = await raised(service.create_session(request))
            assert error.code == "AGENT_ERROR"
            assert error.session_id is not None
            result = await service.start_turn(error.session_id, StartTurnRequest("again"))
            assert result.text == "yes"

    async def test_the_loser_of_a_race_is_told_and_not_queued(self) -> None:
        """CONTRACTS 4.2."""
        async with self.open_service() as service:
            go = trio.Event()
            session = await self.made(service, waiting(go))
            losers: list[str] = []

            async def start(text: str) -> None:
                try:
                    await service.start_turn(session, StartTurnRequest(text))
                except SessionError as error:
                    losers.append(error.code)
                    go.set()

            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    for text in ("a", "b"):
                        nursery.start_soon(start, text)
            assert losers == ["SESSION_BUSY"]
            assert len(await service.read_history(session)) == 2

    async def test_an_interrupt_ends_this_turn_and_no_other(self) -> None:
        """CONTRACTS 4.3."""
        async with self.open_service() as service:
            session = await self.made(service, waiting(trio.Event(), "stay"))
            error = await raised(service.interrupt(session))
            assert error.code == "SESSION_NOT_RUNNING"

            async def start() -> None:
                turn = service.start_turn(session, StartTurnRequest("stay"))
                assert (await raised(turn)).code == "AGENT_ERROR"

            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(start)
                    while not (await service.read(session)).state.is_active:
                        await trio.lowlevel.checkpoint()
                    await service.interrupt(session)
            error = await raised(service.interrupt(session))
            assert error.code == "SESSION_NOT_RUNNING"
            assert (await service.start_turn(session, StartTurnRequest("go"))).text == "re: go"

    async def test_reading_shows_committed_state_and_never_waits(self) -> None:
        """CONTRACTS 4.4."""
        async with self.open_service() as service:
            go = trio.Event()
            session = await self.made(service, waiting(go, "stay"))
            await service.start_turn(session, StartTurnRequest("a"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.start_turn, session, StartTurnRequest("stay"))
                with trio.fail_after(PATIENCE_S):
                    while not (await service.read(session)).state.is_active:
                        await trio.lowlevel.checkpoint()
                    assert (await service.read(session)).state.message_count == 2
                    assert len(await service.read_history(session)) == 2
                    (line,) = await service.list()
                    assert (line.message_count, line.is_active) == (2, True)
                go.set()

    async def test_the_list_is_cut_and_leaves_out_what_is_archived(self) -> None:
        """CONTRACTS 4.5."""
        async with self.open_service() as service:
            sessions = [await self.made(service, echo()) for _ in range(3)]
            await service.start_turn(sessions[0], StartTurnRequest("a"))
            order = [each.session_id for each in await service.list()]
            assert order[0] == sessions[0]
            cut = await service.list(SessionQuery(limit=1, offset=1))
            assert [each.session_id for each in cut] == order[1:2]
            await service.archive(sessions[0])
            await service.archive(sessions[0])
            assert [each.session_id for each in await service.list()] == order[1:]
            assert (await service.read(sessions[0])).state.is_archived
            assert len(await service.read_history(sessions[0])) == 2
            await raised(service.start_turn(sessions[0], StartTurnRequest("b")))

    async def test_events_cover_every_turn_and_can_be_had_again(self) -> None:
        """CONTRACTS 4.6."""
        async with self.open_service() as service:
            session = await self.made(service, echo())
            seen: list[Any] = []

            async def read() -> None:
                async with aclosing(service.subscribe_session_events(session)) as events:
                    async for event in events:
                        seen.append(event)
                        if type(event.record).__name__ == "SessionArchived":  # type: ignore[union-attr]
                            return

            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read)
                    for text in ("a", "b"):
                        await service.start_turn(session, StartTurnRequest(text))
                    await service.archive(session)
                kinds = [type(each.record).__name__ for each in seen]
                assert kinds.count("TurnEnded") == 2
                for place, event in enumerate(seen):
                    again: list[Any] = []
                    later = service.subscribe_session_events(session, event.seq)
                    async with aclosing(later) as events:
                        while len(again) < len(seen) - place - 1:
                            again.append(await anext(events))
                    assert again == seen[place + 1 :]

    async def test_an_unknown_session_is_not_found_to_every_verb(self) -> None:
        """CONTRACTS 4.7."""
        async with self.open_service() as service:
            for verb in (
                lambda: service.start_turn(_NOBODY, StartTurnRequest("a")),
                lambda: service.interrupt(_NOBODY),
                lambda: service.append_system_context(_NOBODY, AppendSystemContext("a")),
                lambda: service.read(_NOBODY),
                lambda: service.read_history(_NOBODY),
                lambda: service.set_external_id(_NOBODY, "a"),
                lambda: service.archive(_NOBODY),
                lambda: service.discard_live_session(_NOBODY),
                lambda: anext(service.subscribe_session_events(_NOBODY)),
            ):
                error = await raised(verb())
                assert (type(error), error.session_id) == (SessionNotFound, _NOBODY)

    async def test_an_appended_text_is_before_the_next_call_once(self) -> None:
        """CONTRACTS 4.11."""
        async with self.open_service() as service:
            model = echo()
            session = await self.made(service, model)
            rain = AppendSystemContext("it rains", "weather", "k")
            applied, duplicate = ContextStatus.APPLIED, ContextStatus.DUPLICATE
            assert await service.append_system_context(session, rain) is applied
            assert await service.append_system_context(session, rain) is duplicate
            for text in ("a", "b"):
                await service.start_turn(session, StartTurnRequest(text))
            told = SystemMessage("it rains", "weather")
            assert [list(each.messages).count(told) for each in model.requests] == [1, 1]
            assert (await service.read_history(session)).count(told) == 1
            other = AppendSystemContext("it is dry", "weather", "k")
            error = await raised(service.append_system_context(session, other))
            assert error.code == "SESSION_CONTEXT_CONFLICT"

    async def test_dropping_the_live_copy_loses_nothing(self) -> None:
        """CONTRACTS 5.2, 5.4."""
        async with self.open_service() as service:
            session = await self.made(service, echo())
            await service.start_turn(session, StartTurnRequest("a"))
            await service.set_external_id(session, "ticket-7")
            before = await service.read(session)
            whole = await service.load_persisted_session(session)
            await service.discard_live_session(session)
            assert await service.read(session) == before
            assert before.state.external_id == "ticket-7"
            if service.supports_persistent_sessions:
                assert whole is not None
                assert [each.text for each in whole.messages] == ["a", "re: a"]
            else:
                assert whole is None
            assert await service.load_persisted_session(_NOBODY) is None
            await service.start_turn(session, StartTurnRequest("b"))
            assert len(await service.read_history(session)) == 4


def request_for(
    model: ScriptedModel, initial: InitialTurnPolicy = InitialTurnPolicy.DEFER
) -> CreateSessionRequest:
    """A session on the caller's own client."""
    build = SessionBuildOptions(llm_client_override=model)
    return CreateSessionRequest("scripted:suite", "hello", build=build, initial_turn=initial)


def echo() -> ScriptedModel:
    """A model that says what it heard last from a person."""
    return ScriptedModel(_answer)


def waiting(go: trio.Event, on: str | None = None) -> ScriptedModel:
    """As `echo`, but it waits for `go` first; given `on`, only when that is what it hears."""

    async def answer(request: ModelRequest) -> str:
        if on is None or _answer(request) == f"re: {on}":
            await go.wait()
        return _answer(request)

    return ScriptedModel(answer)


def _answer(request: ModelRequest) -> str:
    last = [each for each in request.messages if not isinstance(each, SystemMessage)][-1]
    return f"re: {last.text}"


async def raised(verb: Any) -> SessionError:
    """The error that `verb` ends with."""
    try:
        value = await verb
    except SessionError as error:
        return error
    raise AssertionError(f"an error was to be raised, and there is {value!r}")
