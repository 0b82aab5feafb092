"""A mob with one damaged session: the other members work, and it is shown as what it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mob.app import open_mob, stored_mob
from mob.cli.probe import probe
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.view import live_view, mob_view
from runtime.errors import SessionQuarantined
from runtime.store import StoredSessions
from stores import LmdbStore, open_lmdb, read_lmdb
from stores.codec import record_key, stream_prefix
from tests.mob.mobs import define
from tests.runtime.test_quarantine import KEYS, STREAMS, flip, harm


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Mob]:
    definition = define("a", "b", "c")
    async with open_lmdb(path) as store, open_mob(definition, store=store) as mob:
        yield mob


async def worked(path: Path) -> tuple[str, int]:
    """The session of ``a`` and its first turn, in a mob whose members have both worked."""
    async with opened(path) as mob:
        for text in ("one", "two"):
            await mob.ask("a", text)
            await mob.ask("b", text)
        session = mob.session_of("a")
        return session, mob.realm.journal.chain(mob.realm.state.head(session).head)[0]


async def assert_the_rest_works(path: Path, session: str) -> None:
    async with opened(path) as mob:
        with trio.fail_after(5):
            with pytest.raises(SessionQuarantined, match=session):
                await mob.ask("a", "three")
            with pytest.raises(SessionQuarantined, match=session):
                await mob.send("a", "three")
            assert (await mob.ask("b", "three")).text == "three"
            nodes = {node.name: node for node in live_view(mob).members}
            assert (nodes["a"].state, nodes["b"].state) == ("quarantined", "idle")
            assert nodes["a"].detail == mob.realm.state.quarantined[mob.session_of("a")]
            rows = {row.session_id: row.quarantined for row in await mob.sessions.list()}
            assert rows.pop(mob.session_of("a")) is not None
            assert set(rows.values()) == {None}
            await mob.realm.checkpoint()
            await mob.stop()
            await mob.resume()
    with read_lmdb(path) as store:
        found = stored_mob(store, "t")
        assert list(found.state.quarantined) == [session]
        states = [node.state for node in mob_view("t", found.state, found.roster).members]
        assert states == ["quarantined", "idle", "idle"]


def told(path: Path) -> dict[str, tuple[bool, str]]:
    """What the doctor says of the store at `path`."""
    checks: dict[str, tuple[bool, str]] = {}
    probe(str(path), lambda name, fine, text: checks.update({name: (fine, text)}))
    return checks


async def test_a_damaged_row_of_a_members_session(tmp_path: Path) -> None:
    session, _ = await worked(tmp_path)
    async with opened(tmp_path) as mob:
        await mob.realm.checkpoint()
    harm(tmp_path, KEYS, f"fold/t/s/{session}".encode(), flip)
    fine, text = told(tmp_path)[f"mob t session {session}"]
    assert not fine
    assert "its row is damaged" in text
    await assert_the_rest_works(tmp_path, session)


async def test_a_damaged_turn_of_a_members_history(tmp_path: Path) -> None:
    session, seq = await worked(tmp_path)
    async with opened(tmp_path) as mob:
        await mob.realm.checkpoint()
    harm(tmp_path, STREAMS, record_key(stream_prefix(b"realm/t"), seq), flip)
    fine, text = told(tmp_path)[f"mob t session {session}"]
    assert not fine
    assert "its history cannot be read" in text
    await assert_the_rest_works(tmp_path, session)


async def test_a_damaged_member_can_be_retired_and_replaced(tmp_path: Path) -> None:
    session, _ = await worked(tmp_path)
    async with opened(tmp_path) as mob:
        await mob.realm.checkpoint()
    harm(tmp_path, KEYS, f"fold/t/s/{session}".encode(), flip)
    async with opened(tmp_path) as mob:
        await mob.retire("a")
        await mob.spawn("a", profile="p")
        assert (await mob.ask("a", "hello")).text == "hello"
        assert mob.state is MobState.RUNNING
        assert list(mob.realm.state.quarantined) == [session]


def harm_open(mob: Mob, seq: int) -> None:
    """One bit of record `seq`, while the mob runs."""
    store = mob.realm.store
    assert isinstance(store, LmdbStore)
    key = record_key(stream_prefix(b"realm/t"), seq)
    files = store._files
    with files.env.begin(files.streams, write=True) as txn:
        txn.put(key, flip(bytes(txn.get(key) or b"")))


async def test_one_quarantined_while_the_mob_runs_is_nothing_to_save_any_more(
    tmp_path: Path,
) -> None:
    """CONTRACTS 5.9, 5.11: its checkpointer is told, and stopping saves all the others."""
    async with opened(tmp_path) as mob:
        damaged, fine = mob.session_of("a"), mob.session_of("b")
        for name in "ab":
            await mob.ask(name, "one")
        await mob.ask("c", "one")
        assert mob._gate.dirty == 3
        harm_open(mob, mob.realm.state.head(damaged).head)
        mob.realm.discard_live(damaged)
        with pytest.raises(SessionQuarantined):
            await mob.ask("a", "two")
        assert mob._gate.dirty == 2
        await mob.ask("b", "two")
        with trio.fail_after(5):
            await mob.stop()
        assert (mob._gate.dirty, mob._gate.failures) == (0, {})
        snapshots = StoredSessions(mob.realm.store, mob.realm.realm_id)
        assert await snapshots.list() == [fine, mob.session_of("c")]
        assert await snapshots.load(fine) == mob.realm.snapshot(fine)
    async with opened(tmp_path) as mob:
        await mob.resume()
        assert (await mob.ask("b", "three")).text == "three"


async def test_one_that_is_found_damaged_by_the_save_itself_does_not_keep_the_mob_from_stopping(
    tmp_path: Path,
) -> None:
    """CONTRACTS 5.11."""
    async with opened(tmp_path) as mob:
        damaged = mob.session_of("a")
        for name in "ab":
            await mob.ask(name, "one")
        harm_open(mob, mob.realm.state.head(damaged).head)
        mob.realm.discard_live(damaged)
        with trio.fail_after(5):
            await mob.stop()
        assert mob.state is MobState.STOPPED
        assert list(mob.realm.state.quarantined) == [damaged]
        assert (mob._gate.dirty, mob._gate.failures) == (0, {})
        snapshots = StoredSessions(mob.realm.store, mob.realm.realm_id)
        assert await snapshots.list() == [mob.session_of("b")]
