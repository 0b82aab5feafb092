"""Members that get another session, and who should be there."""

from __future__ import annotations

import pytest
import trio

from mob.definition import MemberDefinition
from mob.errors import MemberExists, MemberNotFound, StaleFence
from mob.mob import Mob
from mob.receipts import EnsureReport, MemberHandle
from mob.records import MemberExited, MemberRespawned, MemberRetired, MemberSpawned
from mob.service import sessions_of
from runtime.errors import MobError, SessionError, TurnInterrupted
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, SessionArchived, SessionCreated, TurnEnded, TurnOutcome
from runtime.session import SessionStatus
from stores import MemoryStore, StoreFailed
from tests.mob.held import HeldStore
from tests.mob.mobs import (
    TOOLS,
    Stuck,
    asked,
    check_inputs,
    define,
    echo,
    opened,
    records,
    state_of,
    tool_file,
)

Clock = trio.testing.MockClock


def _texts(store: MemoryStore, mob: Mob, name: str) -> list[str]:
    """What the member's present session was told, in order."""
    return [
        message.text
        for message in mob.realm.messages(mob.session_of(name), order="oldest")
        if type(message).__name__ == "UserMessage"
    ]


# -- many at once ------------------------------------------------------------------------------


async def test_many_join_in_one_commit_and_in_order(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        store.hold()
        made: list[str] = []

        async def spawn() -> None:
            made.extend(await mob.spawn_many([(f"m{n}", "p") for n in (3, 1, 2)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spawn)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            assert len(store.held) == 1
            with pytest.raises(MemberExists):
                await mob.spawn("m2", profile="p")
            store.release()
        assert mob.members == ("a", "m3", "m1", "m2")
        assert made == [mob.session_of(name) for name in ("m3", "m1", "m2")]
        assert await mob.spawn_many([]) == []


@pytest.mark.parametrize(
    "wanted",
    [
        [("x", "p"), ("a", "p")],
        [("x", "p"), ("x", "p")],
        [("x", "p"), ("y", "q")],
        [("x", "p"), ("no name", "p")],
    ],
)
async def test_one_bad_name_refuses_all(
    wanted: list[tuple[str, str]], autojump_clock: Clock
) -> None:
    """CONTRACTS 6.2: nothing is there of those that were good."""
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        with pytest.raises(MobError):
            await mob.spawn_many(wanted)
        assert mob.members == ("a",)
        await mob.spawn("x", profile="p")
    assert len(records(store, SessionCreated)) == 2


# -- respawn -----------------------------------------------------------------------------------


async def test_a_respawned_member_has_another_session_and_the_next_generation(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.4, 6.9: its name and place stay, its history does not go with it."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        await mob.ask("a", "before")
        old = mob.fence("a")
        new = await mob.respawn("a", "worn out")
        assert new == mob.fence("a") == MemberHandle("a", 2, mob.session_of("a"))
        assert old.generation == 1
        assert old.token != new.token
        assert mob.members == ("a", "b")
        assert (await mob.ask("a", "after")).session_id == new.token
        assert _texts(store, mob, "a") == ["after"]
        assert mob.realm.state.heads[old.token].status is SessionStatus.ARCHIVED  # type: ignore[index]
        assert sessions_of(mob).session_belongs_to_mob(old.token, "t")  # type: ignore[arg-type]
        before = state_of(mob)
    async with opened(define("a", "b"), store=store) as mob:
        assert state_of(mob) == before
        assert mob.members == ("a", "b")
        assert mob.fence("a") == new
        await mob.realm.checkpoint()
    async with opened(define("a", "b"), store=store) as mob:
        assert mob.members == ("a", "b")
        assert mob.roster.former == {old.token: "a"}
        assert mob.fence("a") == new


async def test_a_verb_with_an_old_fence_is_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4: and nothing is done."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        old = mob.fence("a")
        new = await mob.respawn("a", fence=old)
        for verb in (
            mob.ask("a", "x", fence=old),
            mob.send("a", "x", fence=old),
            mob.retire("a", fence=old),
            mob.respawn("a", fence=old),
        ):
            with pytest.raises(StaleFence, match="generation 1, and generation 2 is") as caught:
                await verb
            assert (caught.value.name, caught.value.held, caught.value.generation) == ("a", 1, 2)
        for call in (mob.interrupt, mob.kill):
            with pytest.raises(StaleFence):
                call("a", fence=old)  # type: ignore[operator]
        assert records(store, InputAccepted) == []
        assert (await mob.ask("a", "x", fence=new)).text == "x"
        await mob.retire("a", fence=new)
        await mob.spawn("a", profile="p")
        with pytest.raises(StaleFence):
            await mob.ask("a", "x", fence=new)


async def test_what_waits_goes_with_the_name_and_what_is_in_flight_ends(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.4, 6.7: in order, once each, also by key; whoever waits for the turn in flight
    is told that it was interrupted."""
    store = MemoryStore()
    stuck = Stuck()
    answers: dict[str, object] = {}
    async with opened(define("a", "b"), stuck, store=store) as mob:

        async def ask(text: str) -> None:
            try:
                answers[text] = (await mob.ask("a", text, idempotency_key=f"k{text}")).session_id
            except MobError as error:
                answers[text] = type(error)

        async with trio.open_nursery() as nursery:
            for text in ("1", "2", "3"):
                nursery.start_soon(ask, text)
                await trio.testing.wait_all_tasks_blocked()
            await mob.respawn("a")
            nursery.start_soon(ask, "2")
            stuck.gate.set()
        session = mob.session_of("a")
        assert answers == {"1": TurnInterrupted, "2": session, "3": session}
        assert _texts(store, mob, "a") == ["2", "3"]
        assert (await mob.ask("a", "3", idempotency_key="k3")).text == "done 3"
    assert stuck.calls == ["1", "2", "3"]
    outcomes = [record.outcome for record in records(store, TurnEnded)]
    assert outcomes[0] is TurnOutcome.INTERRUPTED
    check_inputs(store)


async def test_a_key_means_the_same_after_a_respawn(autojump_clock: Clock) -> None:
    """CONTRACTS 5.7, 6.4: the name stays, and so does what was asked of it under a key, in every
    process; of a member that is another one by the same name it does not."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        first = await mob.ask("a", "one", idempotency_key="k")
        for _ in range(2):
            await mob.respawn("a")
            assert await mob.ask("a", "one", idempotency_key="k") == first
            await mob.send("a", "one", idempotency_key="k")
            settled = mob.realm.inputs.settled(mob.session_of("a"), "k")
            assert settled is not None, "a step of a flow does not ask it again"
        with pytest.raises(SessionError, match="was used"):
            await mob.ask("b", "one", idempotency_key="k")
        await mob.wait_idle()
    async with opened(define("a", "b"), store=store) as mob:
        assert await mob.ask("a", "one", idempotency_key="k") == first
        await mob.realm.checkpoint()
    async with opened(define("a", "b"), store=store) as mob:
        assert await mob.ask("a", "one", idempotency_key="k") == first
        assert len(records(store, TurnEnded)) == 1
        await mob.retire("a")
        await mob.spawn("a", profile="p")
        with pytest.raises(SessionError, match="was used"):
            await mob.ask("a", "one", idempotency_key="k")
    check_inputs(store)


async def test_what_is_sent_while_a_respawn_is_on_its_way_is_for_the_new_session(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.4, 6.6: nobody is told that there is no such member meanwhile."""
    store = HeldStore()
    async with opened(define("a", "b"), store=store) as mob:
        old = mob.fence("a")
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.respawn, "a")
            await store.wait_held()
            nursery.start_soon(mob.send, "a", "meanwhile")
            await trio.testing.wait_all_tasks_blocked()
            assert mob.fence("a").generation == 2
            with pytest.raises(StaleFence):
                await mob.send("a", "x", fence=old)
            store.release()
        await mob.wait_idle()
        assert _texts(store.inner, mob, "a") == ["meanwhile"]
    assert records(store, MemberExited) == [], "nothing was begun before its session was there"
    check_inputs(store.inner)


async def test_the_process_may_die_before_or_after_the_commit_of_a_respawn(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.4, 6.9: it is one commit, with what waits in it."""
    for lands in (False, True):
        store = HeldStore()
        stuck = Stuck()
        with pytest.raises(BaseExceptionGroup):
            await _respawn_and_die(store, stuck, lands=lands)
        again = store.inner
        async with opened(define("a"), store=again) as mob:
            await mob.wait_idle()
            assert mob.fence("a").generation == (2 if lands else 1)
            assert _texts(again, mob, "a") == (["2"] if lands else ["1", "2"])
        check_inputs(again)


async def _respawn_and_die(store: HeldStore, stuck: Stuck, *, lands: bool) -> None:
    async with opened(define("a"), stuck, store=store) as mob:
        for text in ("1", "2"):
            await mob.send("a", text)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(mob.respawn, "a")
            await store.wait_held()
            store.release(1 if lands else 0)
            store.fail(StoreFailed("gone"))


async def test_a_late_write_of_an_old_generation_stays_with_its_session(
    autojump_clock: Clock, tmp_path: object
) -> None:
    """CONTRACTS 6.4: a tool that ignores being cancelled ends its turn after the respawn; that turn
    is in the archived session, and the new one has none of it."""
    release = trio.Event()

    async def stubborn(text: str) -> str:
        with trio.CancelScope(shield=True):
            await release.wait()
        return "late"

    TOOLS["stubborn"] = stubborn
    store = MemoryStore()

    def answer(request: ModelRequest) -> object:
        if asked(request) == "use" and len(request.messages) == 1:
            return calling(("stubborn", {"text": ""}))
        return echo(request)

    definition = define(
        "a",
        folder=tmp_path,  # type: ignore[arg-type]
        tools=tool_file(tmp_path, stubborn=False),  # type: ignore[arg-type]
        profile={"tools": ["stubborn"]},
    )
    told: list[MobError] = []
    async with opened(definition, answer, store=store) as mob:  # type: ignore[arg-type]

        async def ask() -> None:
            try:
                await mob.ask("a", "use")
            except MobError as error:
                told.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            old = mob.fence("a")
            await mob.respawn("a")
            assert (await mob.ask("a", "fresh")).text == "fresh"
            assert told == []
            release.set()
        assert isinstance(told[0], SessionError)
        assert _texts(store, mob, "a") == ["fresh"]
        assert mob.realm.state.heads[old.token].status is SessionStatus.ARCHIVED  # type: ignore[index]
        assert mob.realm.state.heads[mob.session_of("a")].turns == 1
    check_inputs(store)


async def test_nothing_is_begun_in_a_session_that_is_being_left(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.4: while its background children end, what waits goes on waiting; a respawn that
    is cancelled then leaves the member as it was."""
    stuck = Stuck()
    store = MemoryStore()
    async with opened(define("a"), stuck, store=store) as mob:

        async def slowly(_session: object) -> None:
            await trio.sleep(5)

        monkeypatch.setattr(mob.realm.background, "end", slowly)
        for text in ("1", "2"):
            await mob.send("a", text)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(2):
            await mob.respawn("a")
        await trio.testing.wait_all_tasks_blocked()
        assert stuck.calls == ["1", "2"]
        assert mob.fence("a").generation == 1
        await mob.send("a", "3")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.respawn, "a")
            await trio.sleep(2)
            assert stuck.calls == ["1", "2"]
        stuck.gate.set()
        await mob.wait_idle()
        assert _texts(store, mob, "a") == ["3"]
    check_inputs(store)


async def test_two_respawns_at_once_come_one_after_the_other(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4: and so does a retirement."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.respawn, "a")
            nursery.start_soon(mob.respawn, "a")
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            store.release()
        assert mob.fence("a").generation == 3
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.respawn, "a")
            await store.wait_held()
            nursery.start_soon(mob.retire, "a")
            await trio.testing.wait_all_tasks_blocked()
            assert "a" not in mob._leaving, "it waits for the respawn"
            store.release()
        with pytest.raises(MemberNotFound):
            mob.fence("a")
    assert [record.generation for record in records(store, MemberRespawned)] == [2, 3, 4]
    assert len(records(store, SessionArchived)) == len(records(store, SessionCreated)) == 4
    assert len(records(store, MemberRetired)) == 1


# -- who should be there -----------------------------------------------------------------------


async def test_ensure_makes_the_roster_what_is_declared_and_then_does_nothing(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.2 to 6.4."""
    store = MemoryStore()
    definition = define("a", "b", "c", profiles={"q": {"model": "m"}})
    async with opened(definition, store=store) as mob:
        await mob.ask("a", "kept")
        wanted = {"a": "p", "c": "q", "w": MemberDefinition("q", 2)}
        report = await mob.ensure(wanted)
        assert report == EnsureReport(("w-0", "w-1"), ("c",), ("b",), ("a",))
        assert report.changed
        assert {name: row.profile for name, row in mob.roster.members.items()} == {
            "a": "p",
            "c": "q",
            "w-0": "q",
            "w-1": "q",
        }
        assert mob.fence("c").generation == 2
        last = mob.realm.journal.last
        again = await mob.ensure(wanted)
        assert again == EnsureReport((), (), (), ("a", "c", "w-0", "w-1"))
        assert not again.changed
        assert mob.realm.journal.last == last
        assert _texts(store, mob, "a") == ["kept"]
        for bad in ({"a": "nothing"}, {"no name": "p"}):
            with pytest.raises(MobError):
                await mob.ensure(bad)
        assert mob.realm.journal.last == last
    assert len(records(store, MemberSpawned)) == 5


async def test_a_prompt_that_waits_goes_on_as_one(autojump_clock: object) -> None:
    """CONTRACTS 6.4, 6.8: which prompt in a row it is stands in its id, in the new session too."""
    store = MemoryStore()
    restart = {"policy": "always", "max": 1, "backoff_s": 50, "max_backoff_s": 50}
    alone = {"mode": "autonomous", "max_turns": 1}
    async with opened(define("a", restart=restart, profile=alone), store=store) as mob:
        await mob.ask("a", "go")
        await trio.sleep(10)  # it has come to rest, and waits to begin again
        await mob.respawn("a")
        await mob.wait_idle()
        assert mob.realm.state.head(mob.session_of("a")).turns > 0
        assert [each.cause for each in mob.exits() if "Error" in each.cause] == []
    check_inputs(store)
