"""Requests and replies: durable, with deadlines that outlive the process."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.comms.records import RequestSent, RequestSettled
from mob.errors import (
    DeadlinePassed,
    MailboxFull,
    MobClosed,
    NotWired,
    RequestFailed,
    RequestNotOpen,
)
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from runtime.errors import MobError
from runtime.records import InputAccepted
from stores import MemoryDisk, MemoryStore
from tests.mob.comms.clocks import wall
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, define, opened, records

Clock = trio.testing.MockClock


class Asker:
    """Asks in the background and keeps what came of it."""

    def __init__(self, mob: Mob, nursery: trio.Nursery) -> None:
        self.mob = mob
        self.nursery = nursery
        self.told: list[Any] = []

    async def ask(self, sender: str | None = "a", deadline_s: float = 60, **more: Any) -> None:
        async def run() -> None:
            try:
                reply = await self.mob.request(sender, "b", "what?", deadline_s, **more)
                self.told.append(reply)
            except MobError as error:
                self.told.append(error)

        self.nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()


async def test_a_request_waits_for_the_reply_to_its_id(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: the answer of the turn is none; request and message are one commit."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask()
        await mob.wait_idle()
        (request,) = mob.requests
        assert (request.sender, request.to, asker.told) == ("a", "b", [])
        await mob.reply(request.request_id, "that", sender="b")
        await trio.testing.wait_all_tasks_blocked()
        assert asker.told == ["that"]
        assert mob.requests == ()
        await mob.reply(request.request_id, "that")
        with pytest.raises(RequestNotOpen, match="replied"):
            await mob.reply(request.request_id, "something else")
    (message,) = records(store, InputAccepted)
    assert message.text == f"[request {request.request_id}] what?"
    assert len(records(store, RequestSettled)) == 1


async def test_only_whoever_was_asked_replies(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6."""
    async with opened(define("a", "b", "c")) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask(None)
        (request,) = mob.requests
        with pytest.raises(RequestNotOpen, match="sent to 'b', not to 'c'"):
            await mob.reply(request.request_id, "x", sender="c")
        with pytest.raises(RequestNotOpen, match="not known"):
            await mob.reply("r-0", "x")
        await mob.reply(request.request_id, "y", sender="b")
    assert asker.told == ["y"]


async def test_a_deadline_passes(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: the first stands, a reply that comes later is refused; no task is left."""
    store = MemoryStore()
    ports = wall()
    async with opened(define("a", "b"), store=store, ports=ports) as mob:
        async with trio.open_nursery() as nursery:
            asker = Asker(mob, nursery)
            await asker.ask(deadline_s=30)
            await asker.ask(deadline_s=10)
            first, second = mob.requests
            await trio.sleep(11)
            assert [type(each) for each in asker.told] == [DeadlinePassed]
            assert asker.told[0].request_id == second.request_id
            with pytest.raises(RequestNotOpen, match="passed"):
                await mob.reply(second.request_id, "late")
            await mob.reply(first.request_id, "in time")
        assert asker.told[1] == "in time"
        await trio.testing.wait_all_tasks_blocked()
        assert not mob._awaiting._deadlines._running
    assert len(records(store, RequestSettled)) == 2


async def test_a_deadline_outlives_the_process(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6, 6.9: one that passed while none ran is found when the mob is opened."""
    disk = MemoryDisk()
    definition = define("a", "b")
    told: list[Any] = []

    async def ask(mob: Mob, key: str, deadline_s: float) -> None:
        try:
            told.append(await mob.request("a", "b", "what?", deadline_s, idempotency_key=key))
        except (MobClosed, RequestFailed) as error:
            told.append(type(error))

    async with trio.open_nursery() as nursery:
        async with opened(definition, store=MemoryStore(disk), ports=wall()) as mob:
            nursery.start_soon(ask, mob, "long", 100)
            nursery.start_soon(ask, mob, "short", 20)
            await trio.testing.wait_all_tasks_blocked()
            await mob.realm.checkpoint()
    assert told == [MobClosed, MobClosed]
    async with opened(definition, store=MemoryStore(disk), ports=wall(50)) as mob:
        await trio.testing.wait_all_tasks_blocked()
        (request,) = mob.requests
        await ask(mob, "short", 999)
        assert told[2:] == [DeadlinePassed]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, mob, "long", 999)
            await trio.testing.wait_all_tasks_blocked()
            await mob.reply(request.request_id, "still there")
        assert told[3:] == ["still there"]
        await mob.realm.checkpoint()
    async with opened(definition, store=MemoryStore(disk), ports=wall(50)) as mob:
        await ask(mob, "long", 999)
        await ask(mob, "short", 999)
    assert told[4:] == ["still there", DeadlinePassed]
    assert len(records(MemoryStore(disk), RequestSent)) == 2


async def test_a_request_along_an_edge_that_goes_is_told(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: in the same commit; the other direction does not matter."""
    async with opened(define("a", "b")) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask()
        await mob.unwire("b", "a", directed=True)
        await trio.testing.wait_all_tasks_blocked()
        assert asker.told == []
        await mob.unwire("a", "b", directed=True)
        await trio.testing.wait_all_tasks_blocked()
        assert [str(each).partition(": ")[2] for each in asker.told] == [
            "the edge from 'a' to 'b' was removed"
        ]
        await asker.ask()
        assert [type(each) for each in asker.told] == [RequestFailed, NotWired]


async def test_requests_along_other_edges_go_on(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5."""
    async with opened(define("a", "b", "c")) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask("a")
        await asker.ask("c")
        await mob.unwire("a", "b")
        await mob.unwire("a", "c")
        await trio.testing.wait_all_tasks_blocked()
        assert [(each.sender, each.to) for each in mob.requests] == [("c", "b")]
        assert len(asker.told) == 1
        await mob.reply(mob.requests[0].request_id, "yes")


@pytest.mark.parametrize("leaves", ["a", "b"])
async def test_a_request_of_or_to_a_member_that_leaves_is_told(
    leaves: str, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.3."""
    async with opened(define("a", "b", "c")) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask()
        await mob.retire("c")
        await trio.testing.wait_all_tasks_blocked()
        assert asker.told == []
        await mob.retire(leaves)
        await trio.testing.wait_all_tasks_blocked()
        assert f"{leaves!r} has left" in str(asker.told[0])


async def test_a_respawned_member_can_still_reply(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4: a request is for a name."""
    stuck = Stuck()
    async with opened(define("a", "b"), stuck) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await mob.send("b", "busy")
        await asker.ask()
        await mob.respawn("b")
        await mob.reply(mob.requests[0].request_id, "yes", sender="b")
        await trio.testing.wait_all_tasks_blocked()
        assert asker.told == ["yes"]
        stuck.gate.set()


async def test_whoever_waits_is_told_that_the_mob_is_destroyed(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1."""
    async with opened(define("a", "b")) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask()
        await mob.stop()
        with pytest.raises(VerbRefused):
            await mob.reply(mob.requests[0].request_id, "x")
        with pytest.raises(VerbRefused):
            await mob.request(None, "b", "x", 1)
        await mob.destroy()
        await trio.testing.wait_all_tasks_blocked()
        assert "destroyed" in str(asker.told[0])


async def test_a_request_needs_room_like_any_message(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: nothing is left of one that was refused."""
    stuck, store = Stuck(), MemoryStore()
    definition = define("a", "b", mailbox={"max_messages": 1})
    async with opened(definition, stuck, store=store) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await mob.send("b", "busy")
        await asker.ask(when_full="raise")
        assert [type(each) for each in asker.told] == [MailboxFull]
        await asker.ask(idempotency_key="k")
        await asker.ask(idempotency_key="k")
        assert mob.requests == ()
        stuck.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        (request,) = mob.requests
        await mob.reply(request.request_id, "yes")
        await trio.testing.wait_all_tasks_blocked()
        assert asker.told[1:] == ["yes", "yes"]
        assert not mob._awaiting._unsent
    assert len(records(store, RequestSent)) == 1


@pytest.mark.parametrize("deadline_s", [0, -1, float("inf"), float("nan"), 1e12])
async def test_a_deadline_that_makes_no_sense_is_refused(
    deadline_s: float, autojump_clock: Clock
) -> None:
    async with opened(define("a", "b")) as mob:
        with pytest.raises(MobError, match="deadline"):
            await mob.request(None, "b", "x", deadline_s)
        assert mob.requests == ()


async def test_many_requests_that_ended_keep_no_alarm(autojump_clock: Clock) -> None:
    async with opened(define("a", "b")) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask(deadline_s=1000)
        stays = mob.requests[0]
        for _ in range(200):
            await asker.ask(deadline_s=900)
            await mob.reply(mob.requests[1].request_id, "x")
        assert len(mob._awaiting._deadlines._heap) <= 2 + 64
        await mob.reply(stays.request_id, "x")
        assert mob._awaiting._deadlines._heap == []


async def test_what_is_on_its_way_to_the_disk_counts(autojump_clock: Clock) -> None:
    """CONTRACTS 5.7, 6.6: a second request with the key joins it, and a deadline that passes behind
    a reply changes nothing."""
    held = HeldStore()
    async with opened(define("a", "b"), store=held, ports=wall()) as mob:
        async with trio.open_nursery() as nursery:
            asker = Asker(mob, nursery)
            held.hold()
            await asker.ask(idempotency_key="k", deadline_s=10)
            await asker.ask(idempotency_key="k", deadline_s=10)
            held.release()
            await trio.testing.wait_all_tasks_blocked()
            (request,) = mob.requests
            held.hold()
            nursery.start_soon(mob.reply, request.request_id, "in time")
            await trio.sleep(20)
            with pytest.raises(RequestNotOpen, match="replied"):
                await mob.reply(request.request_id, "other")
            held.release()
        assert asker.told == ["in time", "in time"]
    assert len(records(held.inner, RequestSent)) == 1
    assert len(records(held.inner, RequestSettled)) == 1


async def test_a_reply_behind_the_end_of_its_edge_is_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: also one that was written behind it, because that was on its way."""
    held = HeldStore()
    async with opened(define("a", "b"), store=held) as mob, trio.open_nursery() as nursery:
        asker = Asker(mob, nursery)
        await asker.ask()
        await mob.wait_idle()
        (request,) = mob.requests
        held.hold()
        nursery.start_soon(mob.unwire, "a", "b")
        await held.wait_held()
        refused: list[str] = []

        async def reply() -> None:
            with pytest.raises(RequestNotOpen, match="unwired"):
                await mob.reply(request.request_id, "that")
            refused.append("that")

        for _ in range(2):
            nursery.start_soon(reply)
        await trio.testing.wait_all_tasks_blocked()
        held.release()
    assert refused == ["that"] * 2
    assert [type(each) for each in asker.told] == [RequestFailed]
