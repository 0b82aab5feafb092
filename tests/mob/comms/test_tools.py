"""The tools by which members talk to each other and change who there is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from mob.comms.records import RequestSent, RequestSettled
from mob.comms.settings import COMMS_TOOLS, MANAGING_TOOLS
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.records import MemberSpawned
from runtime.messages import SystemMessage, ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded
from stores import MemoryDisk, MemoryStore
from tests.mob.comms.clocks import wall
from tests.mob.mobs import Stuck, asked, check_inputs, define, member, opened, records, table

Clock = trio.testing.MockClock

ALL: dict[str, Any] = {"profile": {"comms": True, "mob": True}}


def _results(request: ModelRequest) -> list[ToolResult]:
    users = [i for i, each in enumerate(request.messages) if isinstance(each, UserMessage)]
    return [each for each in request.messages[users[-1] :] if isinstance(each, ToolResult)]


def _does(request: ModelRequest) -> str | ModelReply:
    """Make the call that the message is (``TOOL {...}``), then say what came of it."""
    if results := _results(request):
        return results[-1].text
    name, _, arguments = asked(request).partition(" ")
    if name in (*COMMS_TOOLS, *MANAGING_TOOLS):
        return calling((name, json.loads(arguments or "{}")))
    return f"{member(request)} heard {asked(request)}"


def _call(tool: str, **arguments: Any) -> str:
    return f"{tool} {json.dumps(arguments)}"


async def test_a_member_is_offered_what_its_profile_turns_on(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5, 6.6: nothing, all, or some; the rest is not there."""
    profiles = {
        "all": {"model": "m", "comms": True, "mob": True},
        "some": {"model": "m", "comms": ["send_message"]},
        "less": {"model": "m", "comms": True, "tools": {"deny": ["send_*"]}},
    }
    members = {name: {"profile": name} for name in ("p", *profiles)}
    offered: dict[str, set[str]] = {}

    def model(request: ModelRequest) -> str:
        offered[member(request)] = {spec.name for spec in request.tools}
        return "ok"

    definition = define("p", profiles=profiles, members=members, wiring={})
    async with opened(definition, model) as mob:
        await mob.broadcast("hello")
        await mob.wait_idle()
    assert offered == {
        "p": set(),
        "all": {*COMMS_TOOLS, *MANAGING_TOOLS},
        "some": {"send_message"},
        "less": {"peers", "reply"},
    }


async def test_members_talk_to_each_other(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5, 6.6."""
    store = MemoryStore()
    members = {"a": {"profile": "p"}, "b": {"profile": "p", "peer_description": "Knows bees."}}
    definition = define("a", "b", members=members, **ALL)
    async with opened(definition, _does, store=store) as mob:
        assert json.loads((await mob.ask("a", "peers")).text) == [
            {"name": "b", "description": "Knows bees."}
        ]
        sent = await mob.ask("a", _call("send_message", to="b", text="hi", intent="greeting"))
        assert sent.text == "sent"
        await mob.wait_idle()
        refused = await mob.ask("a", _call("send_message", to="x", text="hi"))
        assert refused.text.startswith("error: no member 'x'")
        await mob.unwire("a", "b")
        refused = await mob.ask("a", _call("send_message", to="b", text="hi"))
        assert "'a' may not send to 'b': they were unwired" in refused.text
    texts = [(r.text, r.sender) for r in records(store, InputAccepted)]
    assert ("[greeting] hi", "a") in texts
    assert ("hi", "a") not in texts


async def test_a_request_is_replied_to_with_a_tool(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6."""

    def model(request: ModelRequest) -> str | ModelReply:
        text = asked(request)
        if text.startswith("[request ") and not _results(request):
            request_id = text[len("[request ") :].partition("]")[0]
            return calling(("reply", {"request_id": request_id, "text": "42"}))
        return _does(request)

    store = MemoryStore()
    async with opened(define("a", "b", **ALL), model, store=store) as mob:
        assert (await mob.ask("a", _call("send_request", to="b", text="6x7?"))).text == "42"
        await mob.wait_idle()
        late = await mob.ask("b", _call("reply", request_id="r-1", text="x"))
        assert late.text == "error: request r-1 is not known here; nothing was replied"
    assert len(records(store, RequestSettled)) == 1


async def test_requests_in_a_circle_are_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: the turn that asks waits, and cannot reply."""

    def model(request: ModelRequest) -> str | ModelReply:
        text = asked(request)
        if text.startswith("[request ") and not _results(request):
            return calling(("send_request", {"to": "a", "text": "why?"}))
        return _does(request)

    async with opened(define("a", "b", **ALL), model, ports=wall()) as mob:
        text = _call("send_request", to="b", text="what?", deadline_s=5)
        assert "nobody replied before the deadline" in (await mob.ask("a", text)).text
        (turn,) = mob.realm.messages(mob.session_of("b"), 1)
        assert "'b' cannot wait for 'a'" in getattr(turn, "text", "")


async def test_a_tool_does_not_wait_for_room(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6."""
    stuck = Stuck()

    async def model(request: ModelRequest) -> Any:
        return await stuck(request) if member(request) == "b" else _does(request)

    async with opened(define("a", "b", mailbox={"max_messages": 1}, **ALL), model) as mob:
        await mob.send("b", "busy")
        for tool in ("send_message", "send_request"):
            refused = await mob.ask("a", _call(tool, to="b", text="hi"))
            assert "the mailbox of 'b' has no room" in refused.text
        stuck.gate.set()


async def test_a_member_may_change_who_there_is(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2, 6.3, 6.5."""
    async with opened(define("a", "b", wiring={}, **ALL), _does) as mob:

        async def call(tool: str, **arguments: Any) -> str:
            return (await mob.ask("a", _call(tool, **arguments))).text

        assert await call("mob_spawn_member", name="n", profile="p") == "n has joined"
        assert "there is a member named 'n'" in await call(
            "mob_spawn_member", name="n", profile="p"
        )
        assert "no profile 'q'" in await call("mob_spawn_member", name="o", profile="q")
        assert await call("mob_wire", a="a", b="n", directed=True) == "wired"
        assert await call("mob_wire", a="a", b="n", directed=True) == "they were wired already"
        assert mob.peers_of("a") == ("n",)
        listed = json.loads(await call("mob_list_members"))
        assert [(each["name"], each["at_work"], each["may_send_to"]) for each in listed] == [
            ("a", True, ["n"]),
            ("b", False, []),
            ("n", False, []),
        ]
        assert await call("mob_unwire", a="a", b="n") == "unwired"
        assert await call("mob_unwire", a="a", b="n") == "they were not wired"
        assert await call("mob_retire_member", name="n") == "n has left"
        assert "does not retire itself" in await call("mob_retire_member", name="a")
        assert mob.members == ("a", "b")


@pytest.mark.parametrize("tool", ["send_message", "mob_spawn_member", "send_request"])
async def test_a_call_that_is_repeated_after_a_crash_does_nothing_more(
    tool: str, autojump_clock: Clock
) -> None:
    """CONTRACTS 1.9, 6.7: its process ended behind the commit and before the call's result."""
    disk, done = MemoryDisk(), trio.Event()
    arguments = {
        "send_message": {"to": "b", "text": "once"},
        "send_request": {"to": "b", "text": "once", "deadline_s": 3000},
        "mob_spawn_member": {"name": "once", "profile": "p"},
    }[tool]
    definition = define("a", "b", **ALL)

    async def hangs(request: ModelRequest) -> str | ModelReply:
        if member(request) == "b":
            return "seen"
        return calling((tool, arguments), ("peers", {}))

    async with opened(definition, hangs, store=MemoryStore(disk), grace_s=0, ports=wall()) as mob:
        box = mob._harnesses.configure(mob, mob.realm.state.head(mob.session_of("a"))).toolbox
        peers = box._tools["peers"]

        async def never(*_: Any) -> str:
            done.set()
            return await trio.sleep_forever()

        object.__setattr__(peers, "does", never)
        object.__setattr__(box._tools[tool], "does", lambda _m, _n, g, c: _once(mob, tool, g, c))
        await mob.send("a", "go")
        await done.wait()
        await trio.testing.wait_all_tasks_blocked()

    def goes_on(request: ModelRequest) -> str | ModelReply:
        text = asked(request)
        if member(request) == "b":
            return "seen"
        return " | ".join(each.text for each in _results(request)) or text

    async with opened(definition, goes_on, store=MemoryStore(disk), ports=wall()) as mob:
        if tool == "send_request":
            await trio.testing.wait_all_tasks_blocked()
            (request,) = mob.requests
            await mob.reply(request.request_id, "yes")
        await mob.wait_idle()
        said = getattr(mob.realm.messages(mob.session_of("a"), 1)[0], "text", "")
    wanted = {"send_message": "sent", "send_request": "yes", "mob_spawn_member": "once has joined"}
    assert said.startswith(wanted[tool])
    store = MemoryStore(disk)
    counts = {
        "send_message": sum(r.text == "once" for r in records(store, InputAccepted)),
        "send_request": len(records(store, RequestSent)),
        "mob_spawn_member": sum(r.name == "once" for r in records(store, MemberSpawned)),
    }
    assert counts[tool] == 1
    check_inputs(store)


async def _once(mob: Any, tool: str, arguments: Any, context: Any) -> Any:
    """Do what the tool does, and hang before anybody hears of it."""
    from mob.comms.tools import _DOES

    await _DOES[tool](mob, "a", arguments, context)
    return await trio.sleep_forever()


async def test_who_joins_and_leaves_is_told_while_there_are_few(autojump_clock: Clock) -> None:
    """CONTRACTS 4.9: 50 by default, 0 never, -1 always; nobody is woken."""
    heard: dict[str, list[str]] = {}

    def model(request: ModelRequest) -> str:
        heard[member(request)] = [m.text for m in request.messages if isinstance(m, SystemMessage)]
        return "ok"

    profiles = {
        "two": {"model": "m", "max_inline_peer_notifications": 2, "peer_description": "Counts."},
        "never": {"model": "m", "comms": True, "max_inline_peer_notifications": 0},
        "always": {"model": "m", "max_inline_peer_notifications": -1},
    }
    members = {name: {"profile": name} for name in ("p", *profiles)}
    wiring = {"edges": [["two", "never"], ["always", "two"]]}
    definition = define("p", profiles=profiles, members=members, wiring=wiring)
    store = MemoryStore()
    async with opened(definition, model, store=store) as mob:
        await mob.wire("two", "p", directed=True)
        await mob.unwire("two", "p", directed=True)
        await mob.retire("never")
        await mob.wait_idle()
        assert records(store, TurnEnded) == []
        await mob.broadcast("hello")
        await mob.wait_idle()
    assert heard == {
        "p": [],
        "two": [
            "Your peers are: never; always.",
            "You may not send to peer p any more.",
            "Peer never has left.",
        ],
        "always": ["Your peers are: two (Counts.)."],
    }


async def test_a_member_that_joins_is_told_and_told_of(autojump_clock: Clock) -> None:
    """CONTRACTS 4.9: in the commit of its joining; one that is respawned hears it anew."""
    heard: dict[str, list[str]] = {}

    def model(request: ModelRequest) -> str:
        heard[member(request)] = [m.text for m in request.messages if isinstance(m, SystemMessage)]
        return "ok"

    async with opened(define("a", profile={"comms": True}), model) as mob:
        await mob.spawn("b", profile="p")
        await mob.respawn("b")
        await mob.broadcast("hello")
        await mob.wait_idle()
    assert heard == {"a": ["Peer b has joined."], "b": ["Your peers are: a."]}


def test_a_tool_of_ones_own_may_not_be_called_as_one_that_is_turned_on() -> None:
    own = {"tools": {"send_message": {"function": "x.py:y"}}}
    MobDefinition.from_table(table(**own))
    with pytest.raises(DefinitionInvalid, match="taken by a built-in tool"):
        MobDefinition.from_table(table(**own, profile={"comms": True}))
