"""Compactions over restarts, rewinds, forks, gc, crashes and damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from runtime.compaction import SUMMARY
from runtime.contexts import ContextCompacted
from runtime.manager import RealmSessions
from runtime.messages import (
    Usage,
    UserMessage,
)
from runtime.models.scripted import ScriptedModel
from runtime.retention import Retention
from stores import MemoryStore, open_lmdb
from tests.runtime.fakes import make_realm, new_session
from tests.runtime.minutes import MINUTES, Minutes, hang, of_kind, realm_of, talk, texts_of


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_it_survives_the_process(checkpoint: bool) -> None:
    """Compaction: survives a restart, from the journal and from rows."""
    minutes, store = Minutes(), MemoryStore()
    realm = realm_of(minutes, store)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcd")
    if checkpoint:
        await realm.checkpoint()
    again = realm_of(minutes, store, start=1000)
    assert again.state.heads == realm.state.heads
    assert again.live(session_id).history == realm.messages(session_id, 4, "oldest")
    await talk(again, session_id, "e")
    assert texts_of(minutes.contexts[-1]) == [MINUTES, "c", "done", "d", "done", "e"]


async def test_a_rewind_to_before_it_undoes_it_and_a_restore_brings_it_back() -> None:
    """Compaction: rewind to before it and it is undone; to after it and it stays."""
    minutes = Minutes()
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    manager = RealmSessions(realm)
    await talk(realm, session_id, *"abcd")
    await manager.rewind(session_id, 2)
    assert realm.live(session_id).first == (UserMessage(MINUTES, SUMMARY),)
    await manager.rewind(session_id, 1)
    assert realm.live(session_id).first == ()
    await talk(realm, session_id, "x")
    assert texts_of(minutes.contexts[-1]) == ["a", "done", "b", "done", "x"]
    await manager.restore(session_id, 0)
    await talk(realm, session_id, "e")
    assert texts_of(minutes.contexts[-1]) == [MINUTES, "c", "done", "d", "done", "e"]


async def test_of_several_a_rewind_finds_the_one_that_was_in_force() -> None:
    """Compaction: the history after a rewind is that of back then."""
    minutes = Minutes(iter(f"minutes {n}" for n in range(9)).__next__)
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcdefghij")
    assert len(minutes.asked) == 4
    assert realm.live(session_id).first[0].text.endswith("minutes 3")
    await RealmSessions(realm).rewind(session_id, 5)
    assert realm.live(session_id).first[0].text.endswith("minutes 1")
    assert realm.live(session_id).skipped == 8


async def test_a_fork_takes_it_along_and_gc_keeps_it_for_the_fork() -> None:
    """Compaction: survives fork and gc, also without the session that made it."""
    minutes, store = Minutes(), MemoryStore()
    realm = realm_of(minutes, store)
    session_id = await new_session(realm)
    manager = RealmSessions(realm)
    await talk(realm, session_id, *"abcd")
    fork = await manager.fork(session_id)
    await manager.delete(session_id)
    await Retention(realm, 0).run()
    again = realm_of(minutes, store, start=1000)
    await talk(again, fork.session_id, "e")
    assert texts_of(minutes.contexts[-1]) == [MINUTES, "c", "done", "d", "done", "e"]
    assert fork.usage == Usage()
    await RealmSessions(again).delete(fork.session_id)
    await Retention(again, 0).run()
    assert of_kind(again, ContextCompacted) == []


async def test_a_crash_during_a_summary_costs_the_summary_only(autojump_clock: MockClock) -> None:
    """Compaction: a process that dies while a summary is made leaves the context as it was."""
    minutes, store = Minutes(hang), MemoryStore()
    realm = realm_of(minutes, store)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abc")
    with trio.move_on_after(1):
        await talk(realm, session_id, "d")
    minutes.summary = lambda: "the minutes"
    again = realm_of(minutes, store, start=1000)
    assert again.state.head(session_id).compaction is None
    await talk(again, session_id, "e")
    assert [texts_of(each)[0] for each in minutes.contexts[-2:]] == [MINUTES, MINUTES]


async def test_a_summary_that_is_damaged_is_not_in_force(tmp_path: Path) -> None:
    """Compaction: the history is whole without it, so its loss takes nothing away."""
    minutes = Minutes()
    async with open_lmdb(tmp_path / "store") as store:
        realm = realm_of(minutes, store)
        session_id = await new_session(realm)
        await talk(realm, session_id, *"abcd")
        head = realm.state.head(session_id)
        assert head.compaction is not None
        await store.commit([realm.journal.erasure(head.compaction.seq)])
        realm.discard_live(session_id)
        assert realm.live(session_id).first == ()
        await talk(realm, session_id, "e")
        assert texts_of(minutes.contexts[-1])[0] in (MINUTES, "a")
        assert realm.state.quarantined == {}


async def test_a_late_compaction_of_another_history_is_not_in_force() -> None:
    """Compaction: one that was made of a history that is not there any more changes nothing."""
    realm = make_realm(MemoryStore(), ScriptedModel(lambda _: "ok"))
    session_id = await new_session(realm)
    await talk(realm, session_id, "a", "b")
    head = realm.state.head(session_id)
    late = ContextCompacted(
        session_id, head.head - 1, 2, 1, 2, (), "s", None, Usage(1, 1, 1), None, 9
    )
    await realm.append(late).wait()
    assert head.compaction is None
    assert head.usage == Usage(1, 1, 3)


async def test_gc_keeps_every_compaction_that_a_rewind_may_come_back_to() -> None:
    """Compaction: gc keeps the ones before the one in force, and those of branches."""
    minutes, store = Minutes(iter(f"minutes {n}" for n in range(9)).__next__), MemoryStore()
    realm = realm_of(minutes, store)
    session_id = await new_session(realm)
    manager = RealmSessions(realm)
    await talk(realm, session_id, *"abcdefghij")
    fork = await manager.fork(session_id)
    await manager.delete(session_id)
    await Retention(realm, 0).run()
    await manager.rewind(fork.session_id, 5)
    assert realm.live(fork.session_id).first[0].text.endswith("minutes 1")
    await manager.rewind(fork.session_id, 1)
    await realm.checkpoint()
    await Retention(realm, 0).run()
    again = realm_of(minutes, store, start=1000)
    assert again.state.heads == realm.state.heads
    await RealmSessions(again).restore(fork.session_id, 0)
    assert again.live(fork.session_id).first[0].text.endswith("minutes 3")
