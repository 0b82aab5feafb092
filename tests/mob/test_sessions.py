"""`Mob.sessions`: CONTRACTS 3.1 to 3.8 for the sessions of a mob, whose members keep theirs."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mob import Mob
from mob.app import stored_mob
from runtime.errors import SessionBusy, SessionError, SessionNotFound
from runtime.messages import AssistantMessage, UserMessage
from runtime.store import StoredSessions
from stores import MemoryStore, open_lmdb
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, define, opened
from tests.mob.test_stop_resume import Snapshots


async def asked_texts(mob: Mob, member: str) -> list[str]:
    session = await mob.sessions.resume(mob.session_of(member))
    return [message.text for message in session.messages if isinstance(message, UserMessage)]


async def test_the_session_of_a_member_is_not_deleted_until_it_is_retired(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with opened(define("a", "b", checkpoint={"every_turns": 1}), store=store) as mob:
        await mob.ask("a", "x")
        session_id = mob.session_of("a")
        await wait_all_tasks_blocked()
        assert await StoredSessions(store, mob.realm.realm_id).load(session_id) is not None
        with pytest.raises(SessionError, match="member 'a': retire it first"):
            await mob.sessions.delete(session_id)
        assert (await mob.ask("a", "y")).text == "y"
        await mob.retire("a")
        await wait_all_tasks_blocked()
        await mob.sessions.delete(session_id)
        with pytest.raises(SessionNotFound):
            await mob.sessions.resume(session_id)
        assert await StoredSessions(store, mob.realm.realm_id).load(session_id) is None
        assert (await mob.ask("b", "z")).text == "z"
        await mob.stop()  # saves what is dirty: nothing of what was deleted
    assert session_id not in stored_mob(store, "t").state.heads


async def test_the_session_of_a_member_is_labelled_forked_and_rewound(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        for text in ("1", "2", "3"):
            await mob.ask("a", text)
        session_id = mob.session_of("a")
        await mob.sessions.tag(session_id, ["good"])
        await mob.sessions.rename(session_id, "first")
        copy = await mob.sessions.fork(session_id)
        assert copy.title == "first (fork)"
        await mob.sessions.rewind(session_id, 0)
        await mob.ask("a", "4")
        assert await asked_texts(mob, "a") == ["1", "4"]
        await mob.sessions.restore(session_id)
        assert await asked_texts(mob, "a") == ["1", "2", "3"]
        difference = await mob.sessions.diff(session_id, copy.session_id)
        assert difference.only_first == difference.only_second == ()
        await mob.sessions.delete(copy.session_id)  # no member's
    async with opened(define("a"), store=store) as mob:
        assert await asked_texts(mob, "a") == ["1", "2", "3"]
        (row,) = await mob.sessions.list()
        assert (row.session_id, row.title, row.tags) == (session_id, "first", ("good",))


async def test_a_session_called_like_a_member_is_none(autojump_clock: MockClock) -> None:
    """CONTRACTS 5.3: the roster says which sessions are members', and it is part of the journal."""
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        await mob.ask("a", "1")
        session_id = mob.session_of("a")
        copy = (await mob.sessions.fork(session_id)).session_id
        await mob.sessions.rename(session_id, "b")
        await mob.sessions.rename(copy, "a")
        await mob.sessions.rewind(copy, 0)
    async with opened(define("a"), store=store) as mob:
        assert (mob.members, mob.session_of("a")) == (("a",), session_id)
        await mob.ask("a", "2")
        assert await asked_texts(mob, "a") == ["1", "2"]
        await mob.sessions.delete(copy)


async def test_a_member_at_work_or_with_work_waiting_is_not_rewound(
    autojump_clock: MockClock,
) -> None:
    store, stuck = MemoryStore(), Stuck()
    stuck.gate.set()
    async with opened(define("a"), stuck, store=store) as mob:
        await mob.ask("a", "1")
        await mob.ask("a", "2")
        stuck.gate = trio.Event()
        await mob.send("a", "3")
        await mob.send("a", "4")
        with pytest.raises(SessionBusy):  # begun or not
            await mob.sessions.rewind(mob.session_of("a"), 0)
        await wait_all_tasks_blocked()
        with pytest.raises(SessionBusy):
            await mob.sessions.rewind(mob.session_of("a"), 0)
        await mob.stop(0)
        with pytest.raises(SessionBusy):  # what was cut off is to be continued as it was begun
            await mob.sessions.rewind(mob.session_of("a"), 0)
        stuck.gate.set()
        await mob.resume()
        await mob.wait_idle()
        await mob.sessions.rewind(mob.session_of("a"), 0)
        assert await asked_texts(mob, "a") == ["1"]


async def test_a_turn_asked_for_during_a_rewind_begins_after_it(
    autojump_clock: MockClock,
) -> None:
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        for text in ("1", "2", "3"):
            await mob.ask("a", text)
        session_id = mob.session_of("a")
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await mob.ask("a", "4")).text)

        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(mob.sessions.rewind, session_id, 0)
            await wait_all_tasks_blocked()
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            store.release()
        assert answers == ["4"]
        assert await asked_texts(mob, "a") == ["1", "4"]
        assert mob.realm.state.heads[session_id].turns == 2
        assert mob.roster.members["a"].restarts == 0


async def test_nothing_speaks_of_a_session_that_is_being_deleted(
    autojump_clock: MockClock,
) -> None:
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        await mob.ask("a", "1")
        copy = (await mob.sessions.fork(mob.session_of("a"), "copy")).session_id
        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(mob.sessions.delete, copy)
            await wait_all_tasks_blocked()
            with pytest.raises(SessionNotFound):
                await mob.sessions.tag(copy, ["x"])
            with pytest.raises(SessionNotFound):
                await mob.sessions.fork(copy)
            with pytest.raises(SessionNotFound):
                mob.realm.inputs.accept(copy, "too late")
            with pytest.raises(SessionNotFound):
                await mob.sessions.delete(copy)
            store.release()
        assert (await mob.ask("a", "2")).text == "2"


async def test_a_snapshot_whose_save_was_cancelled_is_deleted_too(
    autojump_clock: MockClock,
) -> None:
    """CONTRACTS 3.8: it may be on its way still, and a deletion would not know of it."""
    store = HeldStore()
    async with opened(define("a", checkpoint={"every_turns": 100}), store=store) as mob:
        await mob.ask("a", "1")
        session_id = (await mob.sessions.fork(mob.session_of("a"))).session_id
        copy = await mob.sessions.resume(session_id)
        said = (*copy.messages, UserMessage("more"), AssistantMessage("noted"))
        await mob.sessions.save(attrs.evolve(copy, messages=said))
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob._gate.flush)
            await wait_all_tasks_blocked()
            nursery.start_soon(mob._gate.cancel)  # as when the mob goes down
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert store.held
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.sessions.delete, session_id)
            await wait_all_tasks_blocked()
            store.release()
    assert session_id not in mob.realm.state.heads
    assert [key for key, _ in store.inner.scan(b"snapshot") if session_id.encode() in key] == []


async def test_snapshots_kept_elsewhere_are_deleted_too(autojump_clock: MockClock) -> None:
    snapshots = Snapshots()
    definition = define("a", "b", checkpoint={"every_turns": 1})
    async with opened(definition, sessions=snapshots) as mob:
        await mob.ask("a", "x")
        await wait_all_tasks_blocked()
        session_id = mob.session_of("a")
        assert session_id in snapshots.saved
        await mob.retire("a")
        await wait_all_tasks_blocked()
        await mob.sessions.delete(session_id)
        assert session_id not in snapshots.saved


async def test_on_disk_a_rewound_member_goes_on_from_there_in_the_next_process(
    tmp_path: Path,
) -> None:
    for first in (True, False):
        async with open_lmdb(tmp_path / "s") as store:
            async with opened(define("a"), store=store) as mob:
                if first:
                    for text in ("1", "2", "3"):
                        await mob.ask("a", text)
                    await mob.sessions.rewind(mob.session_of("a"), 1)
                    await mob.ask("a", "4")
                assert await asked_texts(mob, "a") == ["1", "2", "4"]
