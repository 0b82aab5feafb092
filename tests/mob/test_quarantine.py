"""A mob with one damaged session: the other members work, and it is shown as what it is."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mob.app import open_mob, stored_mob
from mob.cli.probe import probe
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.view import live_view, mob_view
from runtime.errors import SessionError, SessionQuarantined
from runtime.ids import SessionId
from runtime.records import TurnEnded
from runtime.store import StoredSessions
from stores import Damaged, LmdbStore, open_lmdb, read_lmdb
from stores.codec import record_key, stream_prefix
from tests.mob.mobs import define, state_of
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
    fine, text = told(tmp_path)[f"store key {f'fold/t/s/{session}'.encode()!r}"]
    assert not fine
    assert "checksum" in text
    assert told(tmp_path)["mob t"][0]
    async with opened(tmp_path) as mob:  # the journal has what it says
        assert (await mob.ask("a", "three")).text == "three"
        await mob.realm.checkpoint()
    assert {name: said for name, said in told(tmp_path).items() if not said[0]} == {}


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
    session, seq = await worked(tmp_path)
    harm(tmp_path, STREAMS, record_key(stream_prefix(b"realm/t"), seq), flip)
    async with opened(tmp_path) as mob:
        with pytest.raises(SessionQuarantined):
            await mob.ask("a", "three")
        with pytest.raises(SessionError, match="retire it first"):
            await mob.sessions.delete(mob.session_of("a"))
        await mob.retire("a")
        await mob.spawn("a", profile="p")
        assert (await mob.ask("a", "hello")).text == "hello"
        assert mob.state is MobState.RUNNING
        assert list(mob.realm.state.quarantined) == [session]
        await mob.sessions.delete(SessionId(session))
        assert mob.realm.state.quarantined == {}
    async with opened(tmp_path) as mob:
        assert mob.realm.state.quarantined == {}
        assert (await mob.ask("a", "again")).text == "again"


async def test_a_member_is_rewound_to_before_the_damage_while_the_mob_runs(tmp_path: Path) -> None:
    session, _ = await worked(tmp_path)
    async with opened(tmp_path) as mob:
        newest = mob.realm.state.heads[SessionId(session)].head
    harm(tmp_path, STREAMS, record_key(stream_prefix(b"realm/t"), newest), flip)
    async with opened(tmp_path) as mob:
        with pytest.raises(SessionQuarantined):
            await mob.ask("a", "three")
        assert (await mob.sessions.rewind(SessionId(session), 0)).turns == 1
        assert (await mob.ask("a", "two again")).text == "two again"
        await mob.stop()
    async with opened(tmp_path) as mob:
        await mob.resume()
        assert mob.realm.state.head(SessionId(session)).turns == 2
        assert (await mob.ask("a", "three")).text == "three"


@pytest.mark.parametrize("how", [flip, lambda raw: raw[:3], lambda _: None])
async def test_a_damaged_newest_record_costs_its_session_and_the_mob_goes_on(
    path_of_killed: Path, how: Callable[[bytes], bytes | None]
) -> None:
    """CONTRACTS 2.2, 5.6: one session is quarantined, what comes behind it is kept."""
    path = path_of_killed
    with read_lmdb(path) as store:
        journal = stored_mob(store, "t").journal
        seq, record = journal.last, journal.get(journal.last)
    assert isinstance(record, TurnEnded)
    harm(path, STREAMS, record_key(stream_prefix(b"realm/t"), seq), how)
    async with opened(path) as mob:
        assert (await mob.ask("c", "hello")).text == "hello"
        assert list(mob.realm.state.lost) == [seq]
        if how is flip:  # of the others nothing says whose it was
            assert list(mob.realm.state.quarantined) == [record.session_id]
            with pytest.raises(SessionQuarantined):
                await mob.ask("b", "hello")
    async with opened(path) as mob:
        assert (await mob.ask("a", "more")).text == "more"
        history = await mob.realm.runner.get_messages(mob.session_of("c"))
        assert len(history) == 2


@pytest.fixture
async def path_of_killed(tmp_path: Path) -> Path:
    """A mob that did not end in order, whose journal ends with a turn of ``b``."""
    await worked(tmp_path / "before")
    async with opened(tmp_path / "before") as mob:
        await mob.ask("b", "last")
        shutil.copytree(tmp_path / "before", tmp_path / "killed")
    return tmp_path / "killed"


@pytest.mark.parametrize("name", [b"mob", b"member/a", b"member/gone"])
@pytest.mark.parametrize("how", [flip, lambda raw: raw[:3], lambda _: None])
async def test_a_damaged_row_of_the_roster_is_made_anew(
    tmp_path: Path, name: bytes, how: Callable[[bytes], bytes | None]
) -> None:
    """CONTRACTS 2.2, 6.9: the journal is the authority, a row no more than its checkpoint."""
    await worked(tmp_path)
    async with opened(tmp_path) as mob:
        await mob.spawn("gone", profile="p")
        await mob.retire("gone")
        await mob.realm.checkpoint()
        await mob.spawn("late", profile="p")
        before = state_of(mob)
        retired = dict(mob.roster.retired)
    harm(tmp_path, KEYS, b"fold/t/r/" + name, how)
    for _ in range(2):
        async with opened(tmp_path) as mob:
            assert state_of(mob) == before
            assert mob.roster.retired == retired
            assert mob.realm.state.quarantined == {}
            await mob.realm.checkpoint()
    faults = {name for name, said in told(tmp_path).items() if not said[0]}
    assert faults <= {"store the rows as a whole"}  # which knows that one was missing


async def test_a_roster_that_the_journal_has_lost_too_is_refused_by_name(tmp_path: Path) -> None:
    await worked(tmp_path)
    async with opened(tmp_path) as mob:
        await mob.realm.checkpoint()
    harm(tmp_path, KEYS, b"fold/t/r/member/a", flip)
    harm(tmp_path, STREAMS, record_key(stream_prefix(b"realm/t"), 5), flip)
    with pytest.raises(Damaged) as caught:
        async with opened(tmp_path):
            pass
    for word in ("member/a", "records 5", "restore a backup", "mob doctor --repair"):
        assert word in str(caught.value)


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
