"""Hosted sessions of a mob: they work by themselves, as long as the mob does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob import open_mob
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.service import MobSessions, sessions_of
from runtime.ids import RunId, SessionId
from runtime.ledger import RunApplyBoundary
from runtime.messages import ToolResult
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.nursery import open_background
from runtime.records import TurnEnded, TurnProgressed
from runtime.service import PeerMessage, StartTurnRequest
from runtime.session import Session
from stores import CommitUnknown, MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import define, records
from tests.runtime.fakes import Doing, asking, call
from tests.runtime.serving import made
from tests.runtime.tasking import Desk, spawn

BACKGROUND = {"background": True, "max_depth": 2, "max_children": 16}


class Gate:
    """A model that says when it is called, and waits until it is let go on."""

    def __init__(self) -> None:
        self.begun, self.go = trio.Event(), trio.Event()
        self.heard: list[str] = []
        self.model = ScriptedModel(self.answer)

    async def answer(self, request: ModelRequest) -> str:
        self.heard.append(request.messages[-1].text)
        self.begun.set()
        await self.go.wait()
        return f"re: {request.messages[-1].text}"


class Saved:
    """A checkpointer that counts, and fails so often before."""

    def __init__(self, fails: int = 0) -> None:
        self.turns: list[int] = []
        self.fails = fails

    async def checkpoint(self, session: Session) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise OSError("not now")
        self.turns.append(session.turns)


@asynccontextmanager
async def hosting(
    store: Any = None, definition: Any = None, models: Any = None
) -> AsyncIterator[tuple[Mob, MobSessions]]:
    given = models or {"m": ScriptedModel(lambda _: "ok")}
    async with open_mob(definition or define("a"), store=store, models=given) as mob:
        service = sessions_of(mob)
        async with open_background() as nursery:
            service.serve(nursery)
            yield mob, service
        await service.aclose()


async def hosted(service: MobSessions, gate: Gate, **given: Any) -> SessionId:
    return await made(service, gate.model, comms_name="host", host_mode=True, **given)


async def told(service: MobSessions, *texts: str) -> None:
    for text in texts:
        await service.send_peer_message(PeerMessage("host", text, "bob", key=text))


async def said(service: MobSessions, session: SessionId) -> list[str]:
    return [each.text for each in await service.read_history(session)]


async def test_a_stop_holds_for_hosted_sessions() -> None:
    """CONTRACTS 4.10, 5.11: a stop cuts their turns off, nothing of them is begun or saved until
    the mob runs, and then they go on with all that their peers sent, in order and once."""
    gate, saved = Gate(), Saved()
    async with hosting() as (mob, service):
        session = await hosted(service, gate, checkpointer=saved)
        await told(service, "one", "two")
        await gate.begun.wait()
        await mob.stop(0.0)
        last = mob.realm.journal.last
        with pytest.raises(VerbRefused):
            await told(service, "three")
        gate.go.set()
        await wait_all_tasks_blocked()
        assert (mob.state, mob.realm.journal.last) == (MobState.STOPPED, last)
        assert (gate.heard, saved.turns) == (["one"], [])
        assert not service.hosts.gate.open
        await mob.resume()
        await wait_all_tasks_blocked()
        assert await said(service, session) == ["one", "re: one", "two", "re: two"]
        assert saved.turns[-1] == 2
        assert saved.turns == sorted(saved.turns)


async def test_a_stop_lets_a_turn_of_theirs_finish_and_saves_it() -> None:
    """CONTRACTS 5.11: until its deadline; the next turn waits for the mob to run again."""
    gate, saved = Gate(), Saved(fails=1)
    async with hosting() as (mob, service):
        session = await hosted(service, gate, checkpointer=saved)
        await told(service, "one", "two")
        await gate.begun.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.stop, 60.0)
            await wait_all_tasks_blocked()
            assert mob.state.value == "running"
            gate.go.set()
        assert mob.state.value == "stopped"
        assert await said(service, session) == ["one", "re: one"]
        assert saved.turns == [1]


async def test_a_mob_is_complete_when_its_hosted_sessions_are_done() -> None:
    """CONTRACTS 4.10: what peers sent is worked off first."""
    gate = Gate()
    async with hosting() as (mob, service):
        session = await hosted(service, gate)
        for text in ("one", "two"):
            ticket = mob.realm.inputs.accept(session, text, sender="bob").ticket
            assert ticket is not None
            await ticket.wait()

        async def complete() -> None:
            service.hosts.wake(session)
            await mob.complete()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(complete)
            await wait_all_tasks_blocked()
            assert mob.state is MobState.RUNNING
            gate.go.set()
        assert await said(service, session) == ["one", "re: one", "two", "re: two"]


async def test_serving_begins_nothing_in_a_mob_that_is_stopped() -> None:
    """CONTRACTS 5.11: neither what was sent to hosted sessions nor children in the background."""
    desk, store, gate = Desk(), MemoryStore(), Gate()
    definition = define("a", profile={"subagents": BACKGROUND})
    models = {"m": ScriptedModel(desk)}
    async with hosting(store, definition, models) as (mob, service):
        session = await hosted(service, gate)
        await told(service, "one")
        await mob.ask("a", spawn("wait x"))
        await wait_all_tasks_blocked()
        assert mob.realm.background.running == 1
        await mob.stop(0.0)
    seen = list(desk.seen)
    async with hosting(store, definition, models) as (mob, service):
        await wait_all_tasks_blocked()
        assert mob.state is MobState.STOPPED
        assert (desk.seen, gate.heard) == (seen, ["one"])
        assert not mob.realm.background.running
        assert mob.realm.state.head(session).inputs
        assert not service.hosts.gate.open
        await mob.resume()
        await wait_all_tasks_blocked()
        assert desk.seen == [*seen, "wait x"]


async def test_what_arrives_while_somebody_else_is_in_is_begun_when_they_leave() -> None:
    """CONTRACTS 4.10: a run that is applied, a history that is rearranged."""
    gate = Gate()
    async with hosting() as (mob, service):
        session = await hosted(service, gate)
        queued = mob.realm.inputs.accept(session, "asked", idempotency_key="k")
        assert queued.pending is not None
        ids = (queued.pending.input_id,)

        async def run() -> None:
            request = StartTurnRequest("")
            start = RunApplyBoundary.RUN_START
            await service.apply_runtime_turn(session, RunId("r"), request, start, ids)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await gate.begun.wait()
            await told(service, "one")
            gate.go.set()
        await wait_all_tasks_blocked()
        assert await said(service, session) == ["asked", "re: asked", "one", "re: one"]
        with mob.realm.apart([session]):
            await told(service, "two")
            await wait_all_tasks_blocked()
            assert "two" not in gate.heard
        await wait_all_tasks_blocked()
        assert gate.heard[-1] == "two"


async def test_nothing_is_continued_on_a_store_that_has_failed() -> None:
    """CONTRACTS 1.9, 4.10: found by simulation. What a failed commit has left on the disk nobody
    knows, and a turn that is continued from what is known would run its finished calls again."""
    store = HeldStore()

    async def work(_: Any) -> str:
        store.hold()
        return "worked"

    tool = Doing(work, "work", idempotent=True)
    model = ScriptedModel(lambda request: asking(call("c", "work")))
    failed: list[Exception] = []

    async def turn(service: MobSessions, session: SessionId) -> None:
        try:
            await service.start_turn(session, StartTurnRequest("go"))
        except Exception as error:  # noqa: BLE001 what it is, the surface says
            failed.append(error)

    async def run() -> None:
        async with hosting(store) as (_, service), trio.open_nursery() as nursery:
            session = await made(service, model, host_mode=True, external_tools=(tool,))
            nursery.start_soon(turn, service, session)
            await wait_all_tasks_blocked()
            store.fail(CommitUnknown("nobody knows"))
            await wait_all_tasks_blocked()
            service.hosts.wake(session)
            await wait_all_tasks_blocked()

    with pytest.raises(CommitUnknown, match="nobody knows"):
        await run()
    assert len(failed) == 1
    assert len(tool.begun) == 1


@pytest.mark.parametrize("by", ["a turn", "a message"])
async def test_what_somebody_queued_who_went_away_is_worked_on(by: str) -> None:
    """CONTRACTS 4.10: found by simulation. Nobody waits any more when it is on disk."""
    store, gate = HeldStore(), Gate()
    gate.go.set()
    async with hosting(store) as (_, service):
        session = await hosted(service, gate)
        store.hold()
        with trio.move_on_after(1.0) as patience:
            if by == "a turn":
                await service.start_turn(session, StartTurnRequest("one"))
            else:
                await told(service, "one")
        assert patience.cancelled_caught
        await wait_all_tasks_blocked()
        store.release()
        await wait_all_tasks_blocked()
        assert await said(service, session) == ["one", "re: one"]
        assert not service.hosts._left


async def test_a_turn_that_was_cut_off_goes_on_from_what_it_had_queued() -> None:
    """CONTRACTS 4.2, 4.10: the next one waits until that is known, and is the same run."""
    store = HeldStore()
    tool = Doing(lambda _: "worked", "work")
    calls: list[str] = []

    def says(request: ModelRequest) -> Any:
        calls.append(request.key.rsplit("/", 1)[-1])
        if isinstance(request.messages[-1], ToolResult):
            return "done"
        store.hold()
        return asking(call("c", "work"))

    async with hosting(store) as (mob, service):
        session = await made(
            service,
            ScriptedModel(says),
            comms_name="host",
            host_mode=True,
            external_tools=(tool,),
        )
        await told(service, "go")
        await store.wait_held()  # what it is about to do is on its way to the disk
        assert mob.realm.abort(session, "cut off")
        await wait_all_tasks_blocked()
        service.hosts.wake(session)
        await wait_all_tasks_blocked()
        store.release()
        await wait_all_tasks_blocked()
        service.hosts.wake(session)
        await wait_all_tasks_blocked()
        assert (await said(service, session))[-1] == "done"
    assert calls == ["0.1", "0.2"]
    runs = {each.run_id for each in records(store.inner, TurnProgressed)}
    assert runs == {each.run_id for each in records(store.inner, TurnEnded)}
    assert len(runs) == 1
