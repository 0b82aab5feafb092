"""MobSessionService, ephemeral and persistent. CONTRACTS 5.1 to 5.4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mob import open_mob
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.service import EphemeralMobSessions, PersistentMobSessions, sessions_of
from runtime.errors import PersistenceDisabled, SessionBusy, SessionNotFound, TurnInterrupted
from runtime.ids import RunId, SessionId
from runtime.ledger import RunApplyBoundary
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from runtime.service import (
    AppendSystemContext,
    CreateSessionRequest,
    InitialTurnPolicy,
    PeerMessage,
    SessionBuildOptions,
    StartTurnRequest,
)
from stores import MemoryStore, open_lmdb
from tests.mob.mobs import define

NOBODY = SessionId("nobody")
SPAWNS = {"profile": {"subagents": {"profile": "p"}}}


def answer(request: ModelRequest) -> Any:
    last = request.messages[-1].text
    if last == "spawn":
        return calling(("spawn_agent", {"name": "kid", "instructions": "dig"}))
    return f"re: {last}"


def models() -> dict[str, Any]:
    return {"m": ScriptedModel(answer)}


async def say(service: Any, session: SessionId, text: str) -> str:
    return (await service.start_turn(session, StartTurnRequest(text))).text  # type: ignore[no-any-return]


async def test_there_are_two_and_each_says_what_it_is(tmp_path: Path) -> None:
    """CONTRACTS 5.1."""
    async with open_mob(define("a"), models=models()) as mob:
        service = sessions_of(mob)
        assert type(service) is EphemeralMobSessions
        assert not service.supports_persistent_sessions
        assert await service.load_persisted_session(mob.session_of("a")) is None
        with pytest.raises(PersistenceDisabled, match="keeps none: open it with a durable store"):
            PersistentMobSessions(mob)
    async with open_lmdb(tmp_path) as store, open_mob(define("a"), store=store) as mob:
        assert type(sessions_of(mob)) is PersistentMobSessions
        assert sessions_of(mob).supports_persistent_sessions


async def test_a_mob_that_asks_for_durability_refuses_what_ends_with_the_process(
    tmp_path: Path,
) -> None:
    """CONTRACTS 5.1."""
    for store in (None, MemoryStore()):
        with pytest.raises(PersistenceDisabled, match="mob 't' asks for sessions that survive"):
            async with open_mob(define("a"), store=store, durable=True):
                raise AssertionError
    async with open_lmdb(tmp_path) as disk, open_mob(define("a"), store=disk, durable=True) as mob:
        assert mob.members == ("a",)


async def test_what_is_persisted_is_what_was_committed_last(tmp_path: Path) -> None:
    """CONTRACTS 5.2: without the turn in flight, and without a live copy; None if there is none."""
    go = trio.Event()

    async def slow(request: ModelRequest) -> str:
        if request.messages[-1].text == "wait":
            await go.wait()
        return "ok"

    async with (
        open_lmdb(tmp_path) as store,
        open_mob(define("a"), store=store, models={"m": ScriptedModel(slow)}) as mob,
        trio.open_nursery() as nursery,
    ):
        service = sessions_of(mob)
        session = mob.session_of("a")
        empty = await service.load_persisted_session(session)
        assert empty is not None
        assert list(empty.messages) == []
        assert await service.load_persisted_session(NOBODY) is None
        await mob.ask("a", "one")
        nursery.start_soon(mob.ask, "a", "wait")
        while not mob.realm.busy(session):
            await trio.lowlevel.checkpoint()
        whole = await service.load_persisted_session(session)
        assert whole is not None
        assert [each.text for each in whole.messages] == ["one", "ok"]
        assert whole == mob.realm.snapshot(session)
        go.set()


async def test_a_session_belongs_to_a_mob_by_its_records_and_by_no_name() -> None:
    """CONTRACTS 5.3."""
    async with open_mob(define("a", "b", **SPAWNS), models=models()) as mob:
        service = sessions_of(mob)
        a, b = mob.session_of("a"), mob.session_of("b")
        await mob.ask("a", "spawn")
        (kid,) = mob.realm.state.head(a).children or ()
        build = SessionBuildOptions(llm_client_override=ScriptedModel(["x"]), comms_name="a")
        named = CreateSessionRequest("m:x", "hi", title="a", build=build)
        stranger = (await service.create_session(named)).session_id
        fork = (await mob.sessions.fork(a, "a")).session_id
        await mob.retire("b")
        theirs = {each: service.session_belongs_to_mob(each, "t") for each in mob.realm.state.heads}
        assert theirs == {a: True, b: True, kid: True, stranger: False, fork: False}
        assert not service.session_belongs_to_mob(a, "another")
        assert not service.session_belongs_to_mob(NOBODY, "t")


async def test_the_live_copy_goes_and_nothing_else(tmp_path: Path) -> None:
    """CONTRACTS 5.4."""
    async with (
        open_lmdb(tmp_path) as store,
        open_mob(define("a"), store=store, models=models()) as mob,
    ):
        service = sessions_of(mob)
        session = mob.session_of("a")
        await mob.ask("a", "one")
        before = mob.realm.journal.last
        live = mob.realm.live(session)
        whole = await service.load_persisted_session(session)
        await service.discard_live_session(session)
        assert mob.realm.live(session) is not live
        await service.discard_live_session(session)
        assert mob.realm.journal.last == before
        assert await service.load_persisted_session(session) == whole
        assert await say(service, session, "two") == "re: two"
        assert len(await service.read_history(session)) == 4
        with pytest.raises(SessionNotFound):
            await service.discard_live_session(NOBODY)
        with mob.realm.hold(session), pytest.raises(SessionBusy):
            await service.discard_live_session(session)


async def test_what_is_asked_of_a_members_session_goes_through_its_queue() -> None:
    """CONTRACTS 4.2, 5.1: at most one turn in flight, and the loser is told."""
    go = trio.Event()

    async def slow(request: ModelRequest) -> str:
        await go.wait()
        return "ok"

    async with (
        open_mob(define("a"), models={"m": ScriptedModel(slow)}) as mob,
        trio.open_nursery() as nursery,
    ):
        service = sessions_of(mob)
        session = mob.session_of("a")
        nursery.start_soon(say, service, session, "one")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(SessionBusy):
            await say(service, session, "two")
        go.set()
        await mob.wait_idle()
        await service.archive(session)
        assert mob.members == ()


async def test_checkpointers_are_closed_and_armed_for_this_mob(tmp_path: Path) -> None:
    """CONTRACTS 5.9, 5.10."""
    async with (
        open_lmdb(tmp_path) as store,
        open_mob(define("a"), store=store, models=models()) as mob,
    ):
        service = sessions_of(mob)
        gate = gate_of(mob)
        await service.cancel_all_checkpointers()
        assert not gate.open
        await mob.ask("a", "one")
        assert gate.dirty == 1
        await service.rearm_all_checkpointers()
        assert gate.open


def gate_of(mob: Mob) -> Any:
    return mob.realm.checkpoints


async def test_a_stop_holds_for_sessions_that_are_no_members() -> None:
    """CONTRACTS 5.11: a mob that stops refuses new work, drains turns in flight and cancels the
    rest; those of sessions beside the members too. They stay in flight and go on when it runs."""
    begun, go = trio.Event(), trio.Event()

    async def slow(request: ModelRequest) -> str:
        begun.set()
        await go.wait()
        return f"re: {request.messages[-1].text}"

    ended: list[Exception] = []
    async with open_mob(define("a"), models=models()) as mob, trio.open_nursery() as nursery:
        service = sessions_of(mob)
        build = SessionBuildOptions(llm_client_override=ScriptedModel(slow), comms_name="guest")
        request = CreateSessionRequest("m:x", initial_turn=InitialTurnPolicy.DEFER, build=build)
        session = (await service.create_session(request)).session_id

        async def one() -> None:
            try:
                await say(service, session, "one")
            except TurnInterrupted as error:
                ended.append(error)

        nursery.start_soon(one)
        await begun.wait()
        await mob.stop(0.0)
        assert [str(error) for error in ended] == ["the mob stops; the turn stays in flight"]
        assert mob.realm.state.head(session).partial is None, "its model had said nothing"
        last = mob.realm.journal.last
        message = PeerMessage("guest", "hello", "somebody")
        for verb in (
            lambda: service.create_session(request),
            lambda: say(service, session, "two"),
            lambda: service.append_system_context(session, AppendSystemContext("it rains")),
            lambda: service.send_peer_message(message),
            lambda: service.apply_runtime_turn(
                session, RunId("r"), StartTurnRequest(""), RunApplyBoundary.RUN_START, ()
            ),
        ):
            with pytest.raises(VerbRefused, match="stopped"):
                await verb()
        assert mob.realm.journal.last == last
        await mob.resume()
        go.set()
        assert await say(service, session, "two") == "re: two"
        texts = [each.text for each in await service.read_history(session)]
        assert texts == ["one", "re: one", "two", "re: two"]


async def test_a_stop_waits_for_sessions_that_are_no_members_until_its_deadline() -> None:
    """CONTRACTS 5.11."""
    begun, go = trio.Event(), trio.Event()

    async def slow(request: ModelRequest) -> str:
        begun.set()
        await go.wait()
        return "done"

    said: list[str] = []
    async with open_mob(define("a"), models=models()) as mob:
        service = sessions_of(mob)
        build = SessionBuildOptions(llm_client_override=ScriptedModel(slow))
        request = CreateSessionRequest("m:x", initial_turn=InitialTurnPolicy.DEFER, build=build)
        session = (await service.create_session(request)).session_id

        async def one() -> None:
            said.append(await say(service, session, "one"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await begun.wait()
            nursery.start_soon(mob.stop, 60.0)
            await trio.testing.wait_all_tasks_blocked()
            assert mob.state is MobState.RUNNING
            go.set()
        assert (said, mob.state) == (["done"], MobState.STOPPED)
