"""Every request does what the method of the handle does, and its reply can be read."""

from __future__ import annotations

import json
from typing import TypeVar

import attrs
import pytest
import trio

from mob.errors import FlowRunNotFound, MemberNotFound, RequestInvalid
from mob.mob import Mob
from mob.server import protocol
from mob.server.protocol import REQUESTS, Request, Wait, Waited, parse, read, to_json
from mob.server.verbs import perform
from runtime.errors import ApprovalNotFound
from stores import open_memory
from tests.mob.mobs import Stuck, define, opened

R = TypeVar("R")


async def over_the_wire(mob: Mob, request: Request[R]) -> R:
    """As `perform`, through the JSON of both ways."""
    body = json.dumps(to_json(request)).encode()
    reply = await perform(mob, parse(type(request), body))
    return read(request.reply, json.loads(json.dumps(to_json(reply))))


async def test_members_come_and_go(autojump_clock: object) -> None:
    async with open_memory() as store, opened(define("a", "b"), store=store) as mob:
        made = await over_the_wire(mob, protocol.Spawn("c", "p", "k"))
        assert made == await over_the_wire(mob, protocol.Spawn("c", "p", "k"))
        assert (made.name, made.session_id) == ("c", mob.session_of("c"))
        gone = await over_the_wire(mob, protocol.Unwire("a", "c", directed=True))
        assert (gone.changed, mob.may_send("a", "c").allows) == (True, False)
        assert mob.may_send("c", "a").allows
        back = await over_the_wire(mob, protocol.Wire("a", "c", directed=True))
        assert (back.changed, mob.may_send("a", "c").allows) == (True, True)
        handle = await over_the_wire(mob, protocol.Respawn("c", "anew"))
        assert handle == mob.fence("c")
        assert handle.generation == 2
        assert [
            (await over_the_wire(mob, protocol.Retire("c"))).changed,
            (await over_the_wire(mob, protocol.Retire("c"))).changed,
        ] == [True, False]
        assert mob.members == ("a", "b")


async def test_the_whole_mob_goes_there_and_back(autojump_clock: object) -> None:
    async with open_memory() as store, opened(define("a"), store=store) as mob:
        point = await over_the_wire(mob, protocol.Snapshot("start"))
        await mob.ask("a", "x")
        assert (await over_the_wire(mob, protocol.Fork("u", label="start"))).at == point.at
        assert (await over_the_wire(mob, protocol.Fork("v"))).at > point.at
        left = await over_the_wire(mob, protocol.Rewind(label="start"))
        assert (left.kept, mob.realm.state.heads[mob.session_of("a")].turns) == (True, 0)
        await over_the_wire(mob, protocol.Rewind(seq=left.at))
        assert mob.realm.state.heads[mob.session_of("a")].turns == 1
        with pytest.raises(RequestInvalid):
            await over_the_wire(mob, protocol.Rewind())
        await over_the_wire(mob, protocol.Stop(0.0))
        assert (await over_the_wire(mob, protocol.Resume())).changed


async def test_sessions_are_looked_after(autojump_clock: object) -> None:
    async with open_memory() as store, opened(define("a"), store=store) as mob:
        for text in ("one", "two"):
            await mob.ask("a", text)
        session = mob.session_of("a")
        head = mob.realm.state.heads
        await over_the_wire(mob, protocol.TagSession(session, ("x", "y")))
        await over_the_wire(mob, protocol.TagSession(session, (), ("x",)))
        await over_the_wire(mob, protocol.RenameSession(session, "best"))
        assert (head[session].tags, head[session].title) == (("y",), "best")
        await mob.sessions.rewind(session, 0)
        await over_the_wire(mob, protocol.RestoreSession(session))
        assert head[session].turns == 2
        forked = await mob.sessions.fork(session)
        await over_the_wire(mob, protocol.DeleteSession(forked.session_id))
        assert forked.session_id not in head


async def test_what_is_not_there_is_said(autojump_clock: object) -> None:
    async with open_memory() as store, opened(define("a"), store=store) as mob:
        assert (await over_the_wire(mob, protocol.Approvals())).calls == ()
        for request, error in (
            (protocol.Approve("x:y:z", "me"), ApprovalNotFound),
            (protocol.Deny("x:y:z", "me"), ApprovalNotFound),
            (protocol.CancelFlow("x"), FlowRunNotFound),
            (protocol.Interrupt("x"), MemberNotFound),
        ):
            with pytest.raises(error):
                await over_the_wire(mob, request)


async def test_waiting_ends_when_it_is_so(autojump_clock: object) -> None:
    stuck = Stuck()
    async with open_memory() as store, opened(define("a", "b"), stuck, store=store) as mob:
        found: dict[str, Waited] = {}

        async def wait(name: str, request: Wait) -> None:
            found[name] = await over_the_wire(mob, request)

        assert await over_the_wire(mob, Wait(("idle",))) == Waited(True, "idle")
        assert await over_the_wire(mob, Wait(("running",))) == Waited(True, "running")
        async with trio.open_nursery() as nursery:
            await mob.send("a", "x")
            await stuck.entered.wait()
            assert await over_the_wire(mob, Wait(("idle",), None, 5.0)) == Waited(False, "running")
            assert await over_the_wire(mob, Wait(("idle",), "b")) == Waited(True, "idle")
            nursery.start_soon(wait, "mob", Wait(("idle",)))
            nursery.start_soon(wait, "member", Wait(("failed", "idle"), "a"))
            nursery.start_soon(wait, "gone", Wait(("retired",), "b"))
            nursery.start_soon(wait, "stopped", Wait(("stopped",)))
            await trio.sleep(1)
            assert found == {}
            stuck.gate.set()
            await mob.wait_idle()
            await mob.retire("b")
            await mob.stop()
        assert found == {
            "mob": Waited(True, "idle"),
            "member": Waited(True, "idle"),
            "gone": Waited(True, "retired"),
            "stopped": Waited(True, "stopped"),
        }
        with pytest.raises(RequestInvalid, match="these can: idle, waiting, "):
            await over_the_wire(mob, Wait(("bored",)))
        with pytest.raises(MemberNotFound):
            await over_the_wire(mob, Wait(("idle",), "nobody"))


def test_every_reply_of_the_table_is_data() -> None:
    assert all(attrs.has(each.reply) and attrs.has(each) for each in REQUESTS.values())
    patient = {name for name, each in REQUESTS.items() if each.patient}
    assert patient == {"ask", "wait"}
