"""SessionService, ephemeral and persistent: CONTRACTS 4.1 to 4.9."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import (
    SURFACES,
    ModelUnavailable,
    PersistenceDisabled,
    SessionBusy,
    SessionError,
    SessionNotFound,
    SessionNotRunning,
    SessionStoreError,
    TurnFailed,
    TurnInterrupted,
)
from runtime.ids import SessionId
from runtime.messages import Usage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import InputAccepted, SessionArchived, SessionCreated, TurnEnded
from runtime.service import (
    CreateSessionRequest,
    EphemeralSessionService,
    InitialTurnPolicy,
    PersistentSessionService,
    RealmSessionService,
    SessionBuildOptions,
    SessionInfo,
    SessionQuery,
    SessionSummary,
    SessionUsage,
    StartTurnRequest,
)
from stores import MemoryStore, open_lmdb
from tests.runtime.fakes import Doing, asking, call

NOBODY = SessionId("nobody")
FOREVER = trio.sleep_forever


@asynccontextmanager
async def serving(kind: str, path: Path) -> AsyncIterator[RealmSessionService]:
    if kind == "ephemeral":
        yield EphemeralSessionService(MemoryStore())
    else:
        async with open_lmdb(path) as store:
            service = PersistentSessionService(store)
            yield service
            await service.aclose()


@pytest.fixture(params=["ephemeral", "persistent"])
async def service(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[RealmSessionService]:
    async with serving(request.param, tmp_path) as opened:
        yield opened


def deferred(*script: Any, **build: Any) -> CreateSessionRequest:
    """A request for a session on a scripted model that runs no turn yet."""
    lines: Any = script[0] if len(script) == 1 and callable(script[0]) else script
    options = SessionBuildOptions(llm_client_override=ScriptedModel(lines), **build)
    return CreateSessionRequest("scripted:x", build=options, initial_turn=InitialTurnPolicy.DEFER)


async def create(service: RealmSessionService, *script: Any, **build: Any) -> SessionId:
    return (await service.create_session(deferred(*script, **build))).session_id


async def say(service: RealmSessionService, session: SessionId, text: str) -> str:
    return (await service.start_turn(session, StartTurnRequest(text))).text


async def test_a_deferred_session_runs_nothing_and_returns_its_id(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.1."""
    result = await service.create_session(deferred("hello"))
    assert (result.text, result.run_id, result.output) == ("", None, None)
    view = await service.read(result.session_id)
    assert (view.state.message_count, view.billing.total_tokens) == (0, 0)
    assert await say(service, result.session_id, "hi") == "hello"


async def test_a_session_runs_its_first_turn_at_once(service: RealmSessionService) -> None:
    """CONTRACTS 4.1."""
    result = await service.create_session(CreateSessionRequest("sim:echo", "hello"))
    assert "hello" in result.text
    assert (await service.read(result.session_id)).state.last_assistant_text == result.text


async def test_a_failure_before_the_session_is_committed_leaves_nothing(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.1."""
    with pytest.raises(ModelUnavailable):
        await service.create_session(CreateSessionRequest("nobody:nothing", "hi"))
    bad = SessionBuildOptions(output_schema={"type": "nonsense"})
    with pytest.raises(SessionError, match="not a JSON Schema"):
        await service.create_session(CreateSessionRequest("sim:echo", "hi", build=bad))
    assert list(await service.list()) == []
    assert service.realm.journal.last == 0


async def test_a_first_turn_that_fails_leaves_a_session_that_goes_on(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.1."""
    options = SessionBuildOptions(llm_client_override=ScriptedModel([ValueError("no"), "yes"]))
    with pytest.raises(TurnFailed, match="no") as found:
        await service.create_session(CreateSessionRequest("x:y", "hi", build=options))
    session = found.value.session_id
    assert session is not None
    assert await say(service, session, "again") == "yes"


async def test_one_turn_at_a_time_and_the_loser_is_told(service: RealmSessionService) -> None:
    """CONTRACTS 4.2."""
    go = trio.Event()

    async def answer(request: ModelRequest) -> str:
        await go.wait()
        return f"re: {request.messages[-1].text}"

    session = await create(service, answer)
    told: list[str] = []

    async def start(text: str) -> None:
        try:
            told.append(await say(service, session, text))
        except SessionBusy as error:
            told.append(f"{error.code} {error.session_id == session}")
            go.set()

    async with trio.open_nursery() as nursery:
        for text in ("a", "b"):
            nursery.start_soon(start, text)
    assert told[0] == "SESSION_BUSY True"
    assert told[1] in ("re: a", "re: b")
    assert len(await service.read_history(session)) == 2
    assert not service.realm.state.head(session).inputs


async def test_an_interrupt_ends_the_turn_promptly_and_no_other(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.3, in a model call and in a tool."""
    tool = Doing(lambda _: FOREVER())
    lines = [lambda _: FOREVER(), asking(call("c")), "third"]
    session = await create(service, *lines, external_tools=(tool,))
    with pytest.raises(SessionNotRunning):
        await service.interrupt(session)

    async def start() -> None:
        with pytest.raises(TurnInterrupted) as found:
            await say(service, session, "hi")
        assert found.value.session_id == session

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            at_work = ("model", "tool")
            while service.realm.live(session).doing.value not in at_work:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked(0.01)
            await service.interrupt(session)
        with pytest.raises(SessionNotRunning):
            await service.interrupt(session)
    assert await say(service, session, "now") == "third"


@pytest.mark.parametrize("kind", ["ephemeral", "persistent"])
@pytest.mark.parametrize("steps", range(12))
async def test_an_interrupt_is_not_lost_however_early_it_comes(
    kind: str, steps: int, tmp_path: Path
) -> None:
    """CONTRACTS 4.3: from admission on, at any checkpoint; no later turn hears of it."""
    async with serving(kind, tmp_path) as service:

        async def answer(request: ModelRequest) -> str:
            if request.messages[-1].text == "one":
                await FOREVER()
            return "two"

        model = ScriptedModel(answer)
        options = SessionBuildOptions(llm_client_override=model)
        request = CreateSessionRequest("x:y", build=options, initial_turn=InitialTurnPolicy.DEFER)
        session = (await service.create_session(request)).session_id
        told: list[str] = []

        async def start() -> None:
            try:
                told.append(await say(service, session, "one"))
            except TurnInterrupted as error:
                told.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            while not service.realm.busy(session):
                await trio.lowlevel.checkpoint()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            await service.interrupt(session)
        assert told == ["AGENT_ERROR"]
        with pytest.raises(SessionNotRunning):
            await service.interrupt(session)
        assert await say(service, session, "two") == "two"


async def test_reading_never_waits_and_shows_committed_state_only(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.4: not even for a moment, in which a caller could be cancelled."""
    go = trio.Event()

    async def answer(request: ModelRequest) -> str:
        if request.messages[-1].text == "wait":
            await go.wait()
        return "ok"

    session = await create(service, answer)
    await say(service, session, "hi")
    committed = await service.read(session)
    assert committed.state.last_assistant_text == "ok"
    assert committed.billing.usage.model_calls == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, service, session, "wait")
        while not service.realm.busy(session):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope() as waiting:
            waiting.cancel()
            view = await service.read(session)
            history = await service.read_history(session)
            (summary,) = await service.list()
        assert not waiting.cancelled_caught
        assert view.state.is_active
        assert view.state.message_count == committed.state.message_count
        assert view.billing == committed.billing
        assert [message.text for message in history] == ["hi", "ok"]
        assert (summary.is_active, summary.message_count) == (True, 2)
        go.set()
    assert not (await service.read(session)).state.is_active
    assert [m.text for m in await service.read_history(session, 1)] == ["ok"]
    assert [m.text for m in await service.read_history(session, 3)] == ["ok", "wait", "ok"]


async def test_a_view_is_state_and_billing_and_a_summary_a_line_of_both(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.8."""

    def answer(request: ModelRequest) -> ModelReply:
        return ModelReply("ok", usage=Usage(20, 3, 1))

    request = attrs.evolve(deferred(answer), title="a title")
    session = (await service.create_session(request)).session_id
    for text in ("one", "two"):
        await say(service, session, text)
    view = await service.read(session)
    usage = Usage(40, 6, model_calls=2)
    assert view.billing == SessionUsage(46, usage)
    state = view.state
    assert 0 < state.created_at_ns < state.updated_at_ns
    assert state == SessionInfo(
        session, state.created_at_ns, state.updated_at_ns, 4, False, False, "ok"
    )
    (summary,) = await service.list()
    assert summary == SessionSummary(
        session, "a title", state.created_at_ns, state.updated_at_ns, 4, 46, False
    )
    await service.archive(session)
    archived = await service.read(session)
    assert archived.state.is_archived
    assert archived.billing == view.billing


async def test_the_list_is_cut_by_offset_and_limit_most_recent_first(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.5."""
    made = [await create(service, "a") for _ in range(4)]
    await say(service, made[0], "hi")

    async def listed(**query: Any) -> list[SessionId]:
        return [summary.session_id for summary in await service.list(SessionQuery(**query))]

    order = await listed()
    assert order[0] == made[0]
    assert sorted(order) == sorted(made)
    for offset in range(6):
        for limit in (None, 0, 1, 3, 9):
            end = None if limit is None else offset + limit
            assert await listed(offset=offset, limit=limit) == order[offset:end]


async def test_an_archived_session_is_readable_and_takes_nothing_more(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.5."""
    session = await create(service, "hello", "never")
    await say(service, session, "hi")
    await service.archive(session)
    await service.archive(session)
    assert list(await service.list()) == []
    view = await service.read(session)
    assert (view.state.is_archived, view.state.is_active) == (True, False)
    assert [m.text for m in await service.read_history(session)] == ["hi", "hello"]
    with pytest.raises(SessionError, match="archived"):
        await say(service, session, "hi")
    with pytest.raises(SessionNotRunning):
        await service.interrupt(session)


async def test_archiving_ends_the_turn_in_flight_and_stays_archived(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.5: no late record brings it back."""
    session = await create(service, lambda _: FOREVER())

    async def start() -> None:
        with pytest.raises(SessionError):
            await say(service, session, "hi")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        while not service.realm.busy(session):
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.01)
        await service.archive(session)
    assert (await service.read(session)).state.is_archived
    assert list(await service.list()) == []


async def test_events_cover_every_turn_from_before_the_first(
    service: RealmSessionService,
) -> None:
    """CONTRACTS 4.6: live, and from any cursor again the same."""
    session = await create(service, "one", "two")
    other = await create(service, "three")
    live: list[Any] = []

    async def subscribe() -> None:
        async with aclosing(service.subscribe_session_events(session)) as events:
            async for event in events:
                live.append(event)
                if isinstance(event.record, SessionArchived):
                    return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribe)
        await wait_all_tasks_blocked()
        await say(service, session, "a")
        await say(service, other, "b")
        await say(service, session, "c")
        await service.archive(session)
    assert [type(event.record) for event in live] == [
        SessionCreated,
        InputAccepted,
        TurnEnded,
        InputAccepted,
        TurnEnded,
        SessionArchived,
    ]
    for start in range(len(live)):
        again: list[Any] = []
        cursor = live[start].seq
        async with aclosing(service.subscribe_session_events(session, cursor)) as events:
            while len(again) < len(live) - start - 1:
                again.append(await anext(events))
        assert again == live[start + 1 :]


VERBS: list[Callable[[RealmSessionService], Any]] = [
    lambda service: service.start_turn(NOBODY, StartTurnRequest("hi")),
    lambda service: service.interrupt(NOBODY),
    lambda service: service.read(NOBODY),
    lambda service: service.read_history(NOBODY),
    lambda service: service.archive(NOBODY),
    lambda service: anext(service.subscribe_session_events(NOBODY)),  # type: ignore[call-overload]
]


@pytest.mark.parametrize("verb", VERBS)
async def test_an_unknown_session_is_not_found_to_every_verb(
    verb: Callable[[RealmSessionService], Any],
) -> None:
    """CONTRACTS 4.7."""
    with pytest.raises(SessionNotFound) as found:
        await verb(EphemeralSessionService(MemoryStore()))
    assert (found.value.code, found.value.session_id) == ("SESSION_NOT_FOUND", NOBODY)


async def test_a_store_that_fails_has_its_code() -> None:
    """CONTRACTS 4.7."""
    store = MemoryStore()
    service = EphemeralSessionService(store)
    session = await create(service, "one", "two")
    await say(service, session, "hi")
    store.close()
    for verb in (
        service.create_session(deferred("x")),
        service.start_turn(session, StartTurnRequest("hi")),
        service.read(session),
        service.read_history(session),
        service.archive(session),
    ):
        with pytest.raises(SessionStoreError) as found:
            await verb
        assert found.value.code == "SESSION_STORE_ERROR"


def test_one_table_maps_each_code_to_every_surface() -> None:
    """CONTRACTS 4.12."""
    assert {code: (at.http, at.jsonrpc, at.exit) for code, at in SURFACES.items()} == {
        "SESSION_NOT_FOUND": (404, -32001, 4),
        "SESSION_BUSY": (409, -32002, 7),
        "SESSION_PERSISTENCE_DISABLED": (501, -32003, 2),
        "SESSION_COMPACTION_DISABLED": (501, -32004, 2),
        "SESSION_NOT_RUNNING": (409, -32005, 7),
        "SESSION_STORE_ERROR": (500, -32006, 1),
        "AGENT_ERROR": (500, -32000, 1),
        "SESSION_CONTEXT_CONFLICT": (409, -32007, 7),
        "SESSION_NAME_TAKEN": (409, -32008, 7),
    }
    kinds = [SessionError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        assert kind.code in SURFACES


async def test_a_persistent_session_goes_on_in_the_next_process(tmp_path: Path) -> None:
    """CONTRACTS 5.1 and 1.2: every finished turn is on disk before it is reported."""
    async with serving("persistent", tmp_path) as service:
        assert service.supports_persistent_sessions
        session = (await service.create_session(CreateSessionRequest("sim:echo", "one"))).session_id
        before = await service.read(session)
    async with serving("persistent", tmp_path) as service:
        assert await service.read(session) == before
        assert "two" in await say(service, session, "two")
        assert len(await service.read_history(session)) == 4


def test_a_service_that_persists_refuses_a_store_that_does_not() -> None:
    """CONTRACTS 5.1."""
    with pytest.raises(PersistenceDisabled) as found:
        PersistentSessionService(MemoryStore())
    assert found.value.code == "SESSION_PERSISTENCE_DISABLED"
    assert not EphemeralSessionService(MemoryStore()).supports_persistent_sessions


async def test_a_turn_cut_off_by_its_caller_is_continued_before_the_next(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 5.7 for callers without keys: an answer is never that of an earlier prompt."""
    service = EphemeralSessionService(MemoryStore())
    session = await create(service, lambda _: FOREVER(), "one", "two")
    with trio.move_on_after(1):
        await say(service, session, "first")
    assert await say(service, session, "second") == "two"
    texts = [m.text for m in await service.read_history(session)]
    assert texts == ["first", "one", "second", "two"]
