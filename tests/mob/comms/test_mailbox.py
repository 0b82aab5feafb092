"""Mailboxes: bounded, fair, and with nothing lost or doubled."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.comms.mailbox import Mailboxes
from mob.comms.settings import MailboxDefinition
from mob.definition import MobDefinition
from mob.errors import AskCycle, DefinitionInvalid, MailboxFull, MemberNotFound, MobClosed, NotWired
from mob.jobs import Job, Jobs
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from mob.roster import Member
from runtime.ids import InputId, SessionId
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted
from runtime.session import PendingInput
from stores import MemoryDisk, MemoryStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, member, opened, records, table

Clock = trio.testing.MockClock


def _bounded(count: int, *, full: str = "wait", size: int = 1000, **more: Any) -> MobDefinition:
    box = {"max_messages": count, "max_bytes": size, "when_full": full}
    return define("a", "b", "c", mailbox=box, **more)


def _texts(store: Any) -> list[str]:
    return [record.text for record in records(store, InputAccepted)]


async def test_a_full_mailbox_refuses_and_says_how_full_it_is(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(_bounded(2, full="raise"), stuck, store=store) as mob:
        await mob.send("a", "one")
        await mob.send("a", "two")
        for verb in (mob.send, mob.ask):
            with pytest.raises(MailboxFull) as refused:
                await verb("a", "three")
            full = refused.value
            assert (full.member, full.depth, full.max_messages) == ("a", 2, 2)
            assert (full.depth_bytes, full.max_bytes, full.size) == (6, 1000, 5)
        await mob.send("b", "another's")
        stuck.gate.set()
        await mob.wait_idle()
        assert mob.mailboxes.depth("a") == (0, 0)
        await mob.send("a", "three")
    assert _texts(store) == ["one", "two", "another's", "three"]


async def test_bytes_are_bounded_too(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: of UTF-8; what fits no mailbox is refused by everybody."""
    stuck = Stuck()
    async with opened(_bounded(9, size=8), stuck) as mob:
        await mob.send("a", "ääa")
        assert mob.mailboxes.depth("a") == (1, 5)
        with pytest.raises(MailboxFull):
            await mob.send("a", "1234", when_full="raise")
        await mob.send("a", "123", when_full="raise")
        with pytest.raises(MailboxFull):
            await mob.send("b", "123456789", when_full="wait")
        stuck.gate.set()


async def test_who_was_given_room_and_has_not_used_it_is_refused_too(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: room that a mailbox had before its mob was rewound is nobody's."""
    jobs = Jobs()
    bounds = MailboxDefinition(max_messages=1, max_bytes=9)
    boxes = Mailboxes(lambda _: bounds, {"a": jobs}.get)
    row = Member("a", "p", SessionId("s"), 1)
    job = Job(PendingInput(InputId("i"), "one", None, None), nested=False)
    jobs.append(job)

    async def wait() -> None:
        with pytest.raises(ValueError, match="rewound"):
            await boxes.wait(row, 3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        jobs.remove(job)
        assert boxes.giving("a")
        boxes.refuse(ValueError("rewound"))
    assert not boxes.giving("a")
    boxes.check(row, 3)


async def test_senders_stand_in_line_and_get_room_in_their_order(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6, 6.7: no one is overtaken, also not by a message that would fit."""
    stuck, store = Stuck(), MemoryStore()
    order: list[str] = []

    async def send(mob: Mob, text: str) -> None:
        await mob.send("a", text)
        order.append(text)

    async with opened(_bounded(5, size=10), stuck, store=store) as mob:
        await mob.send("a", "12345678")
        async with trio.open_nursery() as nursery:
            for text in ("abcde", "fghij", "k"):
                nursery.start_soon(send, mob, text)
                await trio.testing.wait_all_tasks_blocked()
            assert order == []
            with pytest.raises(MailboxFull) as refused:
                await mob.send("a", "l", when_full="raise")
            assert refused.value.waiting == 3
            stuck.gate.set()
        await mob.wait_idle()
        assert (mob.mailboxes.depth("a"), mob.mailboxes._lines) == ((0, 0), {})
    assert _texts(store) == ["12345678", "abcde", "fghij", "k"]
    check_inputs(store)


async def test_a_cancelled_sender_leaves_the_line(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: nothing of it is sent, and its room goes to the next."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(_bounded(1), stuck, store=store) as mob:
        await mob.send("a", "one")
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def leave() -> None:
                with scope:
                    await mob.send("a", "two")

            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(mob.send, "a", "three")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            stuck.gate.set()
        await mob.wait_idle()
        assert mob.mailboxes._given == {}
    assert _texts(store) == ["one", "three"]


async def test_room_that_was_given_to_a_cancelled_sender_goes_on(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: whatever of the two comes first, nothing is lost and nothing doubled."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(_bounded(1), stuck, store=store) as mob:
        await mob.send("a", "one")
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def leave() -> None:
                with scope:
                    await mob.send("a", "two")

            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked()
            (place,) = mob.mailboxes._lines["a"]
            nursery.start_soon(mob.send, "a", "three")
            await trio.testing.wait_all_tasks_blocked()
            jobs = mob.mailboxes._queue("a")
            assert jobs is not None
            job = jobs.popleft()  # room, and the first is cancelled in the same instant
            assert place.granted
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            jobs.append(job)
            jobs.insert(0, jobs.pop())
            stuck.gate.set()
        await mob.wait_idle()
        assert mob.mailboxes._given == {}
        assert mob.mailboxes.depth("a") == (0, 0)
    assert _texts(store).count("three") == 1


async def test_the_counts_are_right_after_a_restart(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9."""
    disk, stuck = MemoryDisk(), Stuck()
    definition = _bounded(3)
    async with opened(definition, stuck, store=MemoryStore(disk), grace_s=0) as mob:
        for text in ("one", "two", "three"):
            await mob.send("a", text)
        await mob.realm.checkpoint()
    async with opened(definition, stuck, store=MemoryStore(disk), grace_s=0) as mob:
        assert mob.mailboxes.depth("a") == (3, 11)
        with pytest.raises(MailboxFull):
            await mob.send("a", "four", when_full="raise")
        stuck.gate.set()
        await mob.send("a", "four")
        await mob.wait_idle()
        assert mob.mailboxes.depth("a") == (0, 0)
    check_inputs(MemoryStore(disk))


async def test_a_profile_has_bounds_of_its_own(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6, 6.15."""
    stuck = Stuck()
    definition = _bounded(9, profile={"mailbox": {"max_messages": 1, "when_full": "raise"}})
    async with opened(definition, stuck) as mob:
        await mob.send("a", "one")
        with pytest.raises(MailboxFull) as refused:
            await mob.send("a", "two")
        assert (refused.value.max_messages, refused.value.max_bytes) == (1, 1000)
        stuck.gate.set()


async def test_whoever_waits_for_a_member_that_leaves_is_told(autojump_clock: Clock) -> None:
    """CONTRACTS 6.3, 6.6; so are those who wait when the mob is stopped or its handle is left."""
    told: list[type] = []

    async def send(mob: Mob) -> None:
        try:
            await mob.send("a", "two")
        except Exception as error:  # noqa: BLE001 it is looked at
            told.append(type(error))

    stuck, store = Stuck(), MemoryStore()
    async with trio.open_nursery() as nursery, opened(_bounded(1), stuck, store=store) as mob:
        await mob.send("a", "one")
        nursery.start_soon(send, mob)
        await trio.testing.wait_all_tasks_blocked()
        await mob.retire("a")
        await trio.testing.wait_all_tasks_blocked()
        assert told == [MemberNotFound]
        await mob.spawn("a", profile="p")
        await mob.send("a", "one")
        nursery.start_soon(send, mob)
        await trio.testing.wait_all_tasks_blocked()
        await mob.stop(0)
        await trio.testing.wait_all_tasks_blocked()
        assert told == [MemberNotFound, VerbRefused]
        await mob.resume()
        nursery.start_soon(send, mob)
        await trio.testing.wait_all_tasks_blocked()
    assert told == [MemberNotFound, VerbRefused, MobClosed]
    assert _texts(store) == ["one", "one"]


async def test_a_respawned_member_has_room_for_those_who_wait(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4, 6.6: the turn in flight goes with the old session."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(_bounded(1), stuck, store=store) as mob:
        await mob.send("a", "one")
        await stuck.entered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.send, "a", "two")
            await trio.testing.wait_all_tasks_blocked()
            assert _texts(store) == ["one"]
            await mob.respawn("a")
        assert _texts(store) == ["one", "two"]
        stuck.gate.set()


def _to_peer(request: ModelRequest) -> str | ModelReply:
    last = request.messages[-1]
    if type(last).__name__ == "ToolResult":
        return str(getattr(last, "text", ""))
    if asked(request) == "go":
        return calling(("ask_p", {"message": "x" * 20}))
    return "yes"


async def test_a_turn_never_waits_for_room(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: two that wait for each other's mailbox would wait for ever."""
    stuck = Stuck()
    definition = define("a", "b", mailbox={"max_messages": 1})

    async def model(request: ModelRequest) -> Any:
        return await stuck(request) if member(request) == "b" else _to_peer(request)

    async with opened(definition, model) as mob:
        await mob.send("b", "busy")
        await stuck.entered.wait()
        assert "the mailbox of 'b' has no room" in (await mob.ask("a", "go")).text
        stuck.gate.set()
        await mob.wait_idle()
        assert (await mob.ask("a", "go")).text == "done " + "x" * 20


async def test_a_circle_of_senders_that_wait_is_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: where code sends for a member whose turn is in flight."""
    stuck = Stuck()
    async with opened(define("a", "b", mailbox={"max_messages": 1}), stuck) as mob:
        await mob.send("a", "busy")
        await mob.send("b", "busy")
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await mob.send("b", "from a", sender="a")

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(AskCycle, match="'b' cannot wait for 'a', which waits for 'b'"):
                await mob.send("a", "from b", sender="b")
            stuck.gate.set()


def test_the_bounds_of_a_profile_are_laid_over_those_of_the_mob() -> None:
    base = MailboxDefinition(1, 2, "wait")
    assert MailboxDefinition(None, 3).over(base) == MailboxDefinition(1, 3, "wait")
    assert MailboxDefinition(4, None, "raise").over(base) == MailboxDefinition(4, 2, "raise")


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"mailbox": {"max_messages": 0}}, "mailbox.max_messages"),
        ({"mailbox": {"max_bytes": 0}}, "mailbox.max_bytes"),
        ({"mailbox": {"when_full": "drop"}}, "mailbox.when_full"),
        ({"profile": {"mailbox": {"when_full": "drop"}}}, "profiles.p.mailbox.when_full"),
        ({"profile": {"mailbox": {"max_messages": 0}}}, "profiles.p.mailbox.max_messages"),
        ({"profile": {"comms": ["peer"]}}, "profiles.p.comms"),
        (
            {"profile": {"max_inline_peer_notifications": -2}},
            "profiles.p.max_inline_peer_notifications",
        ),
    ],
)
def test_mistakes_about_mailboxes_and_peers_are_told(parts: dict[str, Any], path: str) -> None:
    """CONTRACTS 4.9, 6.15."""
    with pytest.raises(DefinitionInvalid) as refused:
        MobDefinition.from_table(table(**parts))
    assert [each.path for each in refused.value.mistakes] == [path]


async def test_a_step_of_a_flow_waits_for_room(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6, 6.10."""
    stuck = Stuck()
    flows = {"f": {"steps": {"one": {"member": "a", "message": "1"}}}}
    definition = define("a", mailbox={"max_messages": 1, "when_full": "raise"}, flows=flows)
    async with opened(definition, stuck) as mob:
        await mob.send("a", "busy")
        run = await mob.run_flow("f")
        await trio.testing.wait_all_tasks_blocked()
        stuck.gate.set()
        assert (await run.result()).outputs == {"one": "done 1"}


async def test_an_edge_that_goes_while_its_sender_waits_is_gone(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: nothing new is accepted along it."""
    stuck, store = Stuck(), MemoryStore()
    told: list[type] = []

    async def send(mob: Mob) -> None:
        try:
            await mob.send("a", "two", sender="b")
        except NotWired as error:
            told.append(type(error))

    async with opened(_bounded(1), stuck, store=store) as mob, trio.open_nursery() as nursery:
        await mob.send("a", "one")
        nursery.start_soon(send, mob)
        await trio.testing.wait_all_tasks_blocked()
        await mob.unwire("a", "b")
        stuck.gate.set()
    assert told == [NotWired]
    assert _texts(store) == ["one"]
