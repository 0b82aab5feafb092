"""Wiring that changes while the mob runs, and what the mob file says of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.comms.records import MembersUnwired, MembersWired
from mob.comms.routing import Rule
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, MemberNotFound
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from runtime.errors import MobError
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted
from stores import MemoryDisk, MemoryStore, StoreFailed
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, define, member, opened, records, table

Clock = trio.testing.MockClock

DENY: dict[str, Any] = {"wiring": {"default": "deny"}}


def _graph(mob: Mob) -> dict[str, tuple[str, ...]]:
    return {name: mob.peers_of(name) for name in mob.members}


async def test_wiring_is_undirected_or_directed_and_idempotent(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: a second time changes nothing and writes nothing."""
    store = MemoryStore()
    async with opened(define(**DENY), store=store) as mob:
        assert _graph(mob) == {"a": (), "b": (), "c": ()}
        assert await mob.wire("b", "a")
        assert not await mob.wire("a", "b")
        assert await mob.wire("c", "a", directed=True)
        assert not await mob.wire("c", "a", directed=True)
        assert _graph(mob) == {"a": ("b",), "b": ("a",), "c": ("a",)}
        assert mob.may_send("c", "a") is Rule.WIRED
        assert await mob.unwire("a", "b", directed=True)
        assert not await mob.unwire("a", "b", directed=True)
        assert _graph(mob) == {"a": (), "b": ("a",), "c": ("a",)}
        assert await mob.unwire("a", "b")
        assert not await mob.unwire("b", "a")
        assert _graph(mob) == {"a": (), "b": (), "c": ("a",)}
        assert await mob.wire("a", "c")
        assert _graph(mob) == {"a": ("c",), "b": (), "c": ("a",)}
    said = [record.pairs for record in records(store, MembersWired)]
    assert said == [(("b", "a"), ("a", "b")), (("c", "a"),), (("a", "c"),)]
    assert [record.pairs for record in records(store, MembersUnwired)] == [
        (("a", "b"),),
        (("b", "a"),),
    ]


async def test_a_wire_that_makes_no_sense_changes_nothing(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5."""
    store = MemoryStore()
    async with opened(define(**DENY), store=store) as mob:
        with pytest.raises(MobError, match="cannot be wired to itself"):
            await mob.wire("a", "a")
        with pytest.raises(MemberNotFound):
            await mob.wire("a", "nobody")
        with pytest.raises(MemberNotFound):
            await mob.unwire("nobody", "a")
    assert records(store, MembersWired) == []


async def test_the_wiring_is_there_again_after_a_restart(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9: from the journal, from rows, and from rows with a tail behind them."""
    disk = MemoryDisk()
    definition = define(wiring={"edges": [["a", "b"]]})
    async with opened(definition, store=MemoryStore(disk)) as mob:
        await mob.unwire("a", "b", directed=True)
        await mob.wire("b", "c")
        await mob.realm.checkpoint()
        await mob.wire("a", "c", directed=True)
        wanted = _graph(mob)
    assert wanted == {"a": ("c",), "b": ("a", "c"), "c": ("b",)}
    async with opened(definition, store=MemoryStore(disk)) as mob:
        assert _graph(mob) == wanted
        await mob.unwire("b", "c")
    async with opened(definition, store=MemoryStore(disk)) as mob:
        assert _graph(mob) == {"a": ("c",), "b": ("a",), "c": ()}


async def test_what_was_said_of_a_member_goes_with_it(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: one of the same name that joins begins from the mob file."""
    disk = MemoryDisk()
    definition = define(wiring={"edges": [["a", "b"]]})
    async with opened(definition, store=MemoryStore(disk)) as mob:
        await mob.unwire("b", "a", directed=True)
        await mob.wire("b", "c")
        await mob.retire("b")
        assert _graph(mob) == {"a": (), "c": ()}
        assert mob.may_send("a", "b") is Rule.NO_RECIPIENT
        await mob.spawn("b", profile="p")
        assert _graph(mob) == {"a": ("b",), "c": (), "b": ("a",)}
    async with opened(definition, store=MemoryStore(disk)) as mob:
        assert _graph(mob) == {"a": ("b",), "c": (), "b": ("a",)}
        assert mob.folds.graph.pairs() == {}


async def test_members_that_join_are_wired_by_rules_and_by_default(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5."""
    more = {"chief": {"model": "m"}, "spy": {"model": "m"}}
    rules = {"chief -> p": "allow", "p -> chief": "allow", "spy <-> chief": "deny"}
    definition = define("a", profiles=more, wiring={"rules": rules})
    async with opened(definition) as mob:
        await mob.spawn("boss", profile="chief")
        await mob.spawn("x", profile="spy")
        assert _graph(mob) == {"a": ("boss",), "boss": ("a",), "x": ()}
        assert mob.may_send("boss", "x") is Rule.ROLE_DENIES
        await mob.wire("boss", "x", directed=True)
        assert mob.peers_of("boss") == ("a", "x")
    open_ = define("a", profiles=more, wiring={"rules": rules, "default": "allow"})
    async with opened(open_) as mob:
        await mob.spawn("boss", profile="chief")
        await mob.spawn("x", profile="spy")
        assert _graph(mob) == {"a": ("boss", "x"), "boss": ("a",), "x": ("a",)}


async def test_nothing_is_accepted_behind_the_record_that_forbids_it(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.5: not even while that is on its way to the disk; if it does not arrive, the
    wiring is as it was."""
    held = HeldStore()
    async with opened(define(), store=held) as mob:
        held.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.unwire, "a", "b")
            await held.wait_held()
            assert mob.may_send("a", "b") is Rule.UNWIRED
            assert mob.may_send("a", "c").allows
            held.release()
        assert mob.may_send("a", "b") is Rule.UNWIRED
        assert not mob.wiring.closing


async def test_a_stopped_mob_is_wired_and_a_closed_one_is_not(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1."""
    async with opened(define(**DENY)) as mob:
        await mob.stop()
        assert await mob.wire("a", "b")
        await mob.resume()
        assert mob.peers_of("a") == ("b",)
        mob._changing = "stop"
        with pytest.raises(VerbRefused, match="'wire'"):
            await mob.wire("a", "c")
        mob._changing = None


def _asker(request: ModelRequest) -> str | ModelReply:
    last = request.messages[-1]
    if member(request) != "a":
        return f"{member(request)} heard {asked(request)}"
    text = getattr(last, "text", "")
    if type(last).__name__ == "ToolResult":
        return text
    return calling(("ask_p", {"message": "hm?"}))


async def test_a_member_is_offered_those_it_is_wired_to(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: from its next turn on."""
    store = MemoryStore()
    async with opened(define(**DENY), _asker, store=store) as mob:
        assert "no tool named 'ask_p'" in (await mob.ask("a", "go")).text
        await mob.wire("a", "b", directed=True)
        assert (await mob.ask("a", "go")).text == "b heard hm?"
        await mob.unwire("a", "b")
        assert "no tool named 'ask_p'" in (await mob.ask("a", "go")).text
    assert [r.sender for r in records(store, InputAccepted)].count("a") == 1


async def test_a_question_asked_after_its_edge_went_is_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: also in a turn that began before; one that was accepted is answered."""
    stuck = Stuck()

    async def model(request: ModelRequest) -> Any:
        if member(request) == "b":
            return await stuck(request)
        if request.messages[-1].text == "late":
            await mob.unwire("a", "b")
        return _asker(request)

    async with opened(define("a", "b"), model) as mob:
        async with trio.open_nursery() as nursery:
            answers: list[str] = []

            async def ask() -> None:
                answers.append((await mob.ask("a", "early")).text)

            nursery.start_soon(ask)
            await stuck.entered.wait()
            await mob.unwire("a", "b")
            stuck.gate.set()
        assert answers == ["done hm?"]
        await mob.wire("a", "b")
        assert (await mob.ask("a", "late")).text == (
            "error: 'a' may not send to 'b': they were unwired"
        )


@pytest.mark.parametrize(
    ("wiring", "path", "words"),
    [
        ({"rules": {"p to p": "allow"}}, "wiring.rules.p to p", "not of the form"),
        ({"rules": {"p -> q": "allow"}}, "wiring.rules.p -> q", "no profile 'q'"),
        ({"rules": {"p -> p": "maybe"}}, "wiring.rules.p -> p", "'maybe' is not possible"),
        (
            {"rules": {"p -> p": "deny", "p <-> p": "allow"}},
            "wiring.rules.p <-> p",
            "another rule says 'deny'",
        ),
        ({"rules": {"p -> p": 1}}, "wiring.rules.p -> p", "expected text"),
        ({"directed": [["a", "x"]]}, "wiring.directed[0]", "no member 'x'"),
        ({"edges": ["a to b"]}, "wiring.edges[0]", "expected a pair"),
        ({"directed": [["a"]]}, "wiring.directed[0]", "expected a pair"),
        ({"default": "maybe"}, "wiring.default", "'maybe' is not possible"),
    ],
)
def test_mistakes_in_the_wiring_are_told(wiring: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        MobDefinition.from_table(table(wiring=wiring))
    (mistake,) = refused.value.mistakes
    assert mistake.path == path
    assert words in mistake.message


def test_edges_are_written_as_pairs_or_with_an_arrow() -> None:
    written = {"edges": ["a <-> b", "b -> c"], "directed": [["c", "a"]]}
    assert define(wiring=written).peers() == {"a": ("b",), "b": ("a", "c"), "c": ("a",)}
    assert MobDefinition.from_table(table(wiring=written)).blueprint() != define().blueprint()


def test_what_is_not_given_is_in_no_blueprint() -> None:
    """CONTRACTS 6.9: a mob stored by an earlier version is not found changed."""
    plain = define(wiring={"edges": [["a", "b"]]}).blueprint()
    for word in ("directed", "rules", "comms", "mailbox"):
        assert f'"{word}"' not in plain


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_store_that_fails_leaves_the_wiring_as_it_was(
    leaves: bool, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.5: also if whoever unwires goes away before."""
    held = HeldStore()
    told: list[Exception] = []
    graphs: list[dict[str, tuple[str, ...]]] = []
    calling = trio.CancelScope()

    async def unwire(mob: Mob) -> None:
        with calling:
            try:
                await mob.unwire("a", "b")
            except StoreFailed as error:
                told.append(error)

    async def run(nursery: trio.Nursery) -> None:
        async with opened(define(), store=held) as mob:
            graphs.append(_graph(mob))
            held.hold()
            nursery.start_soon(unwire, mob)
            await held.wait_held()
            graphs.append(_graph(mob))
            if leaves:
                calling.cancel()
                await trio.testing.wait_all_tasks_blocked()
            held.fail(StoreFailed("the disk is gone", path="here"))
            await trio.testing.wait_all_tasks_blocked()
            graphs.append(_graph(mob))

    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreFailed, match="gone"):  # leaving says so, whatever was found before
            await run(nursery)
    before, meanwhile, after = graphs
    assert told
    assert meanwhile["a"] == ("c",)
    assert after == before
