"""Members that join with the first message for them: the table ``[spawn]``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from mob.errors import DefinitionInvalid, MailboxFull, MemberExists, MemberNotFound, NotWired
from mob.mob import Mob
from mob.receipts import Receipt
from mob.records import MemberExited, MemberSpawned
from runtime.errors import LimitExceeded, SessionError
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, SessionCreated, TurnEnded
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import asked, check_inputs, define, journal, member, opened, records, state_of

Clock = trio.testing.MockClock

SPAWNS: dict[str, Any] = {"on_unknown": "p"}

VERBS: dict[str, Callable[[Mob], Awaitable[Any]]] = {
    "ask": lambda mob: mob.ask("x", "hello"),
    "send": lambda mob: mob.send("x", "hello"),
    "broadcast": lambda mob: mob.broadcast("hello", to=["x"]),
    "silent": lambda mob: mob.send("x", "hello", intent="fyi"),
    "request": lambda mob: mob.request(None, "x", "hello", 5),
}


def _profile() -> dict[str, Any]:
    return {"silent_comms_intents": ["fyi"]}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_message_makes_its_member(autojump_clock: Clock, verb: str) -> None:
    """CONTRACTS 6.2: in one commit with it, whichever verb it was; the next finds it there."""
    store = HeldStore()
    async with opened(define("a", spawn=SPAWNS, profile=_profile()), store=store) as mob:
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tried, VERBS[verb], mob)
            await trio.testing.wait_all_tasks_blocked()
            assert len(store.held) == 1, "one batch"
            assert mob.members == ("a",)
            with pytest.raises(MemberExists):
                await mob.spawn("x", profile="p")
            nursery.start_soon(_tried, VERBS[verb], mob)
            await trio.testing.wait_all_tasks_blocked()
            store.release()
        await mob.wait_idle()
        assert mob.members == ("a", "x")
        folded = state_of(mob)
    events = [event.record for event in journal(store.inner)]
    (spawned,) = [e for e in events if isinstance(e, MemberSpawned) and e.name == "x"]
    place = events.index(spawned)
    assert isinstance(events[place - 1], SessionCreated)
    assert isinstance(events[place + 1], InputAccepted)
    assert len([e for e in events if isinstance(e, TurnEnded)]) == (0 if verb == "silent" else 2)
    assert not records(store.inner, MemberExited), "it begins when its session is there"
    check_inputs(store.inner)
    async with opened(define("a", spawn=SPAWNS, profile=_profile()), store=store.inner) as mob:
        assert state_of(mob) == folded


@pytest.mark.parametrize("verb", VERBS)
async def test_who_is_being_spawned_is_not_made_again(autojump_clock: Clock, verb: str) -> None:
    """CONTRACTS 6.2: a name joins once; until it has, nobody of it is there to be written to."""
    store = HeldStore()
    async with opened(define("a", spawn=SPAWNS, profile=_profile()), store=store) as mob:
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(mob.spawn, "x", profile="p"))
            await trio.testing.wait_all_tasks_blocked()
            if verb == "broadcast":
                found = await mob.broadcast("hello", to=["x"])
                assert isinstance(found["x"], MemberNotFound)
            else:
                with pytest.raises(MemberNotFound):
                    await VERBS[verb](mob)
            store.release()
        assert mob.members == ("a", "x")
    assert len([e for e in records(store.inner, MemberSpawned) if e.name == "x"]) == 1


async def _tried(verb: Callable[[Mob], Awaitable[Any]], mob: Mob) -> None:
    with trio.move_on_after(60):  # nobody replies to the request
        await verb(mob)


async def test_who_joins_is_what_the_rules_say(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2: the first pattern that fits, else `on_unknown`; a name must be one."""
    rules = {"r-*": "q", "r*": "refuse"}
    parts: dict[str, Any] = {"profiles": {"q": {"model": "m"}}}
    spawn = {"on_unknown": "p", "rules": rules}
    async with opened(define("a", spawn=spawn, **parts)) as mob:
        await mob.ask("r-1", "x")
        await mob.ask("s", "x")
        for refused in ("rest", "no name", "a~1", ""):
            with pytest.raises(MemberNotFound):
                await mob.ask(refused, "x")
        assert {name: row.profile for name, row in mob.roster.members.items()} == {
            "a": "p",
            "r-1": "q",
            "s": "p",
        }
    async with opened(define("a")) as mob:
        with pytest.raises(MemberNotFound):
            await mob.send("x", "hello")


async def test_a_message_that_is_refused_makes_nobody(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2: no edge, no room, no such skill, a key of somebody else's, a limit."""
    store = MemoryStore()
    definition = define(
        "a",
        "b",
        spawn=SPAWNS,
        wiring={"default": "deny"},
        limits={"members": 3},
        mailbox={"max_bytes": 10, "when_full": "raise"},
    )
    async with opened(definition, store=store) as mob:
        with pytest.raises(NotWired):
            await mob.send("x", "hi", sender="a")
        with pytest.raises(MailboxFull):
            await mob.send("x", "far too long a text")
        with pytest.raises(SessionError, match="skill"):
            await mob.ask("x", "hi", skills=["s"])
        await mob.send("a", "hi", idempotency_key="k")
        with pytest.raises(SessionError, match="was used"):
            await mob.send("x", "hi", idempotency_key="k")
        assert len(records(store, MemberSpawned)) == 2
        assert mob.members == ("a", "b")
        found = await mob.broadcast("hi", to=["x", "y", "a"])
        assert [type(each) for each in found.values()] == [Receipt, LimitExceeded, Receipt]
        with pytest.raises(LimitExceeded):
            await mob.ask("y", "hi")
        await mob.wait_idle()
        assert mob.members == ("a", "b", "x")
        await mob.retire("x")
        await mob.spawn("y", profile="p")
        assert mob.members == ("a", "b", "y")


async def test_a_model_makes_a_member_by_writing_to_it(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6: by the tools for peers, where it may send."""
    done: Counter[str] = Counter()

    def answer(request: ModelRequest) -> Any:
        done[member(request)] += 1
        if member(request) == "a" and done["a"] == 1:
            return calling(("send_message", {"to": "x", "text": "help"}))
        return asked(request)

    store = MemoryStore()
    definition = define("a", spawn=SPAWNS, profile={"comms": True})
    async with opened(definition, answer, store=store) as mob:
        await mob.ask("a", "go")
        await mob.wait_idle()
        assert mob.members == ("a", "x")
        assert done["x"] == 1
        told = [e.text for e in records(store, InputAccepted) if "x" in e.text.split()]
        assert told == ["Peer x has joined."]


async def test_who_is_retired_or_respawned_while_it_joins(autojump_clock: Clock) -> None:
    """CONTRACTS 6.3: it is there first."""
    store = HeldStore()
    async with opened(define("a", spawn=SPAWNS), store=store) as mob:
        for verb in (mob.respawn, mob.retire):
            store.hold()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mob.send, verb.__name__, "hello")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(verb, verb.__name__)
                await trio.testing.wait_all_tasks_blocked()
                store.release()
        await mob.wait_idle()
        assert mob.members == ("a", "respawn")
        assert mob.fence("respawn").generation == 2
    check_inputs(store.inner)


def test_a_profile_that_is_not_there_is_a_mistake() -> None:
    """CONTRACTS 6.2: with its path, and a hint."""
    with pytest.raises(DefinitionInvalid) as found:
        define("a", spawn={"on_unknown": "q", "rules": {"r-*": "pp"}, "more": 1})
    assert {each.path for each in found.value.mistakes} == {
        "spawn.on_unknown",
        "spawn.rules.r-*",
        "spawn.more",
    }


def test_what_a_stored_mob_remembers_is_the_same() -> None:
    """CONTRACTS 6.1: the table is no part of the blueprint."""
    assert define("a", spawn=SPAWNS).blueprint() == define("a").blueprint()
