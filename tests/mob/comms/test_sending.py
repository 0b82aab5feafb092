"""Sending along edges: queued or steered, to one or to many, loud or silent."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.errors import MailboxFull, MemberNotFound, NotWired
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from mob.receipts import Receipt
from runtime.errors import ContextConflict, MobError
from runtime.messages import SystemMessage, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded
from stores import MemoryDisk, MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, opened, records

Clock = trio.testing.MockClock


def _said(request: ModelRequest) -> list[str]:
    return [
        f"{type(each).__name__[0]} {each.text}"
        for each in request.messages
        if isinstance(each, (SystemMessage, UserMessage))
    ]


async def test_members_send_along_edges_only(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5, 6.6: callers need none."""
    store = MemoryStore()
    async with opened(define(wiring={"directed": [["a", "b"]]}), store=store) as mob:
        receipt = await mob.send("b", "hello", sender="a")
        assert (receipt.member, receipt.session_id) == ("b", mob.session_of("b"))
        with pytest.raises(NotWired) as refused:
            await mob.send("a", "hello", sender="b")
        assert (refused.value.sender, refused.value.to) == ("b", "a")
        assert refused.value.why == "there is no edge between them"
        with pytest.raises(NotWired, match="to itself"):
            await mob.send("a", "hello", sender="a")
        with pytest.raises(MemberNotFound):
            await mob.send("b", "hello", sender="x")
        await mob.send("a", "hello")
    assert [(r.text, r.sender) for r in records(store, InputAccepted)] == [
        ("hello", "a"),
        ("hello", None),
    ]


async def test_a_key_joins_what_was_sent_before_the_edge_went(autojump_clock: Clock) -> None:
    """CONTRACTS 5.7, 6.5."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        first = await mob.send("b", "hello", sender="a", idempotency_key="k")
        await mob.unwire("a", "b")
        assert await mob.send("b", "hello", sender="a", idempotency_key="k") == first
        with pytest.raises(NotWired):
            await mob.send("b", "hello", sender="a", idempotency_key="k2")
    assert len(records(store, InputAccepted)) == 1


class Steps:
    """A model that works in steps: a tool call each, until it is told to end."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.entered = trio.Event()
        self.gate = trio.Event()
        self.calls = 0

    async def __call__(self, request: ModelRequest) -> str | ModelReply:
        self.heard.append(_said(request))
        self.calls += 1
        if self.calls == 1:
            self.entered.set()
            await self.gate.wait()
            return calling(("nothing", {}))
        return "done"


async def test_a_steered_message_is_taken_in_at_the_next_boundary(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6, 6.7: once, in the turn in flight, which consumes it."""
    model, store = Steps(), MemoryStore()
    async with opened(define("a", "b"), model, store=store) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "work")
            await model.entered.wait()
            receipt = await mob.send("a", "turn left", sender="b", mode="steer")
            await mob.send("a", "later", sender="b")
            model.gate.set()
        await mob.wait_idle()
        assert mob.mailboxes.depth("a") == (0, 0)
    assert model.heard == [
        ["U work"],
        ["U work", "U turn left"],
        ["U work", "U turn left", "U later"],
    ]
    first, second = records(store, TurnEnded)
    assert first.input_ids[1] == receipt.input_id
    assert len(second.input_ids) == 1
    assert [m.sender for m in first.messages if isinstance(m, UserMessage)] == [None, "b"]
    check_inputs(store)


async def test_a_steered_message_begins_a_turn_where_none_takes_it(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: idle, or in a turn that makes no further call."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(define("a", "b"), stuck, store=store) as mob:
        await mob.send("a", "first", mode="steer")
        await stuck.entered.wait()
        await mob.send("a", "second", mode="steer")
        stuck.gate.set()
        await mob.wait_idle()
    assert stuck.calls == ["first", "second"]
    assert [len(turn.input_ids) for turn in records(store, TurnEnded)] == [1, 1]


async def test_steering_overtakes_nothing_of_the_same_sender(autojump_clock: Clock) -> None:
    """CONTRACTS 6.7."""
    model, store = Steps(), MemoryStore()
    async with opened(define("a", "b", "c"), model, store=store) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "work")
            await model.entered.wait()
            await mob.send("a", "b1", sender="b")
            await mob.send("a", "b2", sender="b", mode="steer")
            await mob.send("a", "c1", sender="c", mode="steer")
            await mob.send("a", "c2", sender="c", mode="steer")
            model.gate.set()
        await mob.wait_idle()
    first, second = records(store, TurnEnded)
    texts = [
        [m.text for m in turn.messages if isinstance(m, UserMessage)] for turn in (first, second)
    ]
    assert texts == [["work", "c1", "c2"], ["b1", "b2"]]


async def test_a_steered_message_is_applied_once_over_a_crash(autojump_clock: Clock) -> None:
    """CONTRACTS 6.7, 6.9: before and after the boundary that takes it in."""
    disk = MemoryDisk()
    heard: list[list[str]] = []
    gates = [trio.Event() for _ in range(5)]

    async def model(request: ModelRequest) -> str | ModelReply:
        heard.append(_said(request))
        if len(heard) in (1, 3):
            gates[len(heard)].set()
            await trio.sleep_forever()
        return calling(("nothing", {})) if len(heard) == 2 else "done"

    definition = define("a", "b")
    for number in (1, 3):
        async with opened(definition, model, store=MemoryStore(disk), grace_s=0) as mob:
            if number == 1:
                await mob.send("a", "work")
                await gates[1].wait()
                await mob.send("a", "left", sender="b", mode="steer")
            else:
                await gates[3].wait()
    async with opened(definition, model, store=MemoryStore(disk)) as mob:
        await mob.wait_idle()
        assert mob.mailboxes.depth("a") == (0, 0)
    assert heard == [["U work"], *[["U work", "U left"]] * 3]
    (turn,) = records(MemoryStore(disk), TurnEnded)
    assert [m.text for m in turn.messages if isinstance(m, UserMessage)] == ["work", "left"]
    check_inputs(MemoryStore(disk))


async def test_a_silent_intent_wakes_nobody(autojump_clock: Clock) -> None:
    """CONTRACTS 4.9: it is in the context of the next turn, once."""
    disk = MemoryDisk()
    heard: list[list[str]] = []

    def model(request: ModelRequest) -> str:
        heard.append(_said(request))
        return "ok"

    definition = define("a", "b", profile={"silent_comms_intents": ["fyi"]})
    async with opened(definition, model, store=MemoryStore(disk)) as mob:
        receipt = await mob.send("a", "lunch", sender="b", intent="fyi", idempotency_key="k")
        again = await mob.send("a", "lunch", sender="b", intent="fyi", idempotency_key="k")
        assert receipt == again
        with pytest.raises(ContextConflict):
            await mob.send("a", "dinner", sender="b", intent="fyi", idempotency_key="k")
        await mob.wait_idle()
        assert heard == []
    async with opened(definition, model, store=MemoryStore(disk)) as mob:
        await mob.wait_idle()
        assert heard == []
        await mob.send("a", "now", sender="b", intent="call")
        await mob.wait_idle()
        await mob.ask("a", "and?")
    assert heard[0] == ["U [call] now", "S b (fyi): lunch"]
    assert len(records(MemoryStore(disk), TurnEnded)) == 2


async def test_what_wakes_nobody_is_bounded_and_never_waits(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: it has bounds of its own, which are right after a restart."""
    disk = MemoryDisk()
    box = {"max_messages": 2}
    definition = define("a", "b", mailbox=box, profile={"silent_comms_intents": ["fyi"]})
    async with opened(definition, store=MemoryStore(disk)) as mob:
        await mob.send("a", "one", sender="b", intent="fyi")
        await mob.send("a", "two", sender="b", intent="fyi")
        with pytest.raises(MailboxFull):
            await mob.send("a", "three", sender="b", intent="fyi", when_full="wait")
    async with opened(definition, store=MemoryStore(disk)) as mob:
        with pytest.raises(MailboxFull):
            await mob.send("a", "three", sender="b", intent="fyi")
        await mob.ask("a", "a mailbox of its own")
        await mob.send("a", "three", sender="b", intent="fyi")


async def test_a_broadcast_says_what_became_of_each(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: in the order asked for; those that have room in one commit."""
    stuck, store = Stuck(), MemoryStore()
    definition = define(
        "a", "b", "c", "d", mailbox={"max_messages": 1, "when_full": "raise"},
        wiring={"default": "allow", "rules": {}},
    )  # fmt: skip
    async with opened(definition, stuck, store=store) as mob:
        await mob.send("c", "busy")
        await mob.unwire("a", "d")
        found = await mob.broadcast("all", sender="a", to=["d", "c", "x", "b", "a", "b"])
        kinds = [(name, type(each).__name__) for name, each in found.items()]
        assert kinds == [
            ("d", "NotWired"),
            ("c", "MailboxFull"),
            ("x", "MemberNotFound"),
            ("b", "Receipt"),
            ("a", "NotWired"),
        ]
        assert list(await mob.broadcast("peers", sender="a")) == ["b", "c"]
        assert list(await mob.broadcast("everybody")) == ["a", "b", "c", "d"]
        stuck.gate.set()
    with_texts = [(r.text, r.sender) for r in records(store, InputAccepted)]
    assert with_texts[:2] == [("busy", None), ("all", "a")]


async def test_a_broadcast_is_one_commit_and_its_key_is_one_for_each(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.6, 6.7."""
    store = MemoryStore()
    async with opened(define("a", "b", "c"), store=store) as mob:
        commits: list[int] = []
        submit = store.submit

        def counted(batch: Any, *more: Any) -> Any:
            commits.append(sum(getattr(each, "kind", 0) == 3 for each in batch))
            return submit(batch, *more)

        store.submit = counted  # type: ignore[method-assign]
        first = await mob.broadcast("hi", idempotency_key="k", to=["a", "b"])
        await mob.wait_idle()
        again = await mob.broadcast("hi", idempotency_key="k")
        assert [each for each in commits if each] == [2, 1]
        assert {**again, **first} == again
        assert all(isinstance(each, Receipt) for each in again.values())
    assert [r.text for r in records(store, InputAccepted)] == ["hi"] * 3


async def test_a_broadcast_waits_where_it_is_told_to(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(define("a", "b", mailbox={"max_messages": 1}), stuck, store=store) as mob:
        await mob.send("a", "busy")
        found: dict[str, Receipt | MobError] = {}

        async def everybody(mob: Mob) -> None:
            found.update(await mob.broadcast("all"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(everybody, mob)
            await trio.testing.wait_all_tasks_blocked()
            assert [r.text for r in records(store, InputAccepted)] == ["busy", "all"]
            stuck.gate.set()
        assert [type(each) for each in found.values()] == [Receipt, Receipt]


async def test_a_broadcast_sends_nothing_more_once_the_mob_stops(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11, 6.6: those who were not reached before that are said to be refused."""
    held = HeldStore()
    definition = define("a", "b", profile={"silent_comms_intents": ["fyi"]})
    async with opened(definition, store=held) as mob:
        found: dict[str, Receipt | MobError] = {}

        async def everybody() -> None:
            found.update(await mob.broadcast("all", intent="fyi"))

        held.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(everybody)
            await held.wait_held()
            nursery.start_soon(mob.stop)
            await trio.testing.wait_all_tasks_blocked()
            held.release()
        assert [type(each) for each in found.values()] == [Receipt, VerbRefused]
    assert len(records(held.inner, InputAccepted)) == 1


async def test_what_is_no_mode_is_refused(autojump_clock: Clock) -> None:
    async with opened(define("a")) as mob:
        with pytest.raises(MobError, match="no mode"):
            await mob.send("a", "x", mode="shout")
        with pytest.raises(MobError, match="mailbox is full"):
            await mob.send("a", "x", when_full="drop")


async def test_order_holds_for_each_pair_whatever_the_verb(autojump_clock: Clock) -> None:
    """CONTRACTS 6.7."""
    store = MemoryStore()
    async with opened(define("a", "b", "c", mailbox={"max_messages": 2}), store=store) as mob:

        async def talk(sender: str) -> None:
            for number in range(10):
                if number % 3:
                    await mob.send("a", f"{sender}{number}", sender=sender)
                else:
                    await mob.broadcast(f"{sender}{number}", sender=sender, to=["a"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, "b")
            nursery.start_soon(talk, "c")
        await mob.wait_idle()
    users = [
        m for turn in records(store, TurnEnded) for m in turn.messages if isinstance(m, UserMessage)
    ]
    for sender in "bc":
        assert [m.text for m in users if m.sender == sender] == [f"{sender}{n}" for n in range(10)]
    assert asked is not None


async def test_a_message_to_steer_stays_one(autojump_clock: Clock) -> None:
    """CONTRACTS 5.6, 6.4: in the journal, and when its member is respawned."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(define("a"), stuck, store=store) as mob:
        await mob.send("a", "one")
        await stuck.entered.wait()
        await mob.send("a", "two", mode="steer")
        await mob.respawn("a")
        stuck.gate.set()
        await mob.wait_idle()
    assert [(r.text, r.steer) for r in records(store, InputAccepted)] == [
        ("one", False),
        ("two", True),
        ("two", True),
    ]
