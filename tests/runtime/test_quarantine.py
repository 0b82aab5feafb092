"""One damaged session is quarantined and named, the others load: on real files, byte by byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import lmdb
import pytest

from runtime.errors import SessionNotFound, SessionQuarantined, WrittenLater
from runtime.heads import CUT
from runtime.ids import RunId, SessionId
from runtime.manager import RealmSessions
from runtime.messages import NO_USAGE, UserMessage
from runtime.models.sim import EchoModel
from runtime.realm import Realm
from runtime.records import TurnProgressed
from runtime.store import StoredSessions
from stores import Put, Store, open_lmdb
from stores.codec import record_key, stream_prefix
from tests.runtime.fakes import REALM, counting_ports, make_realm, new_session

KEYS, STREAMS = b"keys", b"streams"
Harm = Callable[[bytes], bytes | None]


def flip(raw: bytes, place: int = -1) -> bytes:
    """One bit, as a disk may lose it."""
    changed = bytearray(raw)
    changed[place] ^= 0x10
    return bytes(changed)


def missing(_: bytes) -> None:
    return None


def harm(path: Path, database: bytes, key: bytes, how: Harm) -> None:
    with lmdb.open(str(path), max_dbs=3) as env:
        db = env.open_db(database)
        with env.begin(db, write=True) as txn:
            old = txn.get(key)
            assert old is not None
            new = how(bytes(old))
            if new is None:
                txn.delete(key)
            else:
                txn.put(key, new)


def stored(path: Path, key: bytes) -> bytes | None:
    with lmdb.open(str(path), max_dbs=3) as env, env.begin(env.open_db(KEYS)) as txn:
        return txn.get(key)


def row_key(session: str) -> bytes:
    return f"fold/{REALM}/s/{session}".encode()


def record(seq: int) -> bytes:
    return record_key(stream_prefix(f"realm/{REALM}".encode()), seq)


@attrs.define
class Place:
    """A store with three sessions: three turns each in rows, two more in the tail."""

    path: Path
    names: list[SessionId] = attrs.Factory(list)
    #: The numbers of each session's turns.
    turns: dict[SessionId, list[int]] = attrs.Factory(dict)

    async def make(self) -> Place:
        async with self.open(100) as (realm, _):
            self.names = [await new_session(realm, title=name) for name in "abc"]
            await self.talk(realm, 3)
            await realm.checkpoint()
            await self.talk(realm, 2)
        return self

    async def talk(self, realm: Realm, count: int) -> None:
        for number in range(count):
            for name in self.names:
                await realm.runner.send_message(name, f"q{number}")
                self.turns.setdefault(name, []).append(realm.state.head(name).head)

    @asynccontextmanager
    async def open(self, start: int = 500) -> AsyncIterator[tuple[Realm, Store]]:
        async with open_lmdb(self.path) as store:
            yield make_realm(store, EchoModel(), ports=counting_ports(start)), store


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    return await Place(tmp_path / "store").make()


async def assert_set_apart(realm: Realm, damaged: SessionId, fine: list[SessionId]) -> None:
    """Every operation on the damaged one says so; the others are as they were, and go on."""
    manager = RealmSessions(realm, StoredSessions(realm.store, REALM))
    runner = realm.runner
    operations: list[Callable[[], Any]] = [
        lambda: manager.resume(damaged),
        lambda: manager.fork(damaged),
        lambda: manager.restore(damaged),
        lambda: manager.tag(damaged, ["a"]),
        lambda: manager.untag(damaged, ["a"]),
        lambda: manager.rename(damaged, "n"),
        lambda: manager.diff(fine[0], damaged),
        lambda: runner.send_message(damaged, "anybody there?"),
        lambda: runner.get_messages(damaged),
        lambda: runner.archive_session(damaged, "over"),
        lambda: runner.get_session_status(damaged),
        lambda: realm.create(realm.state.heads[fine[0]].harness_id, parent=damaged),
    ]
    for operation in operations:
        with pytest.raises(SessionQuarantined, match="mob doctor") as caught:
            await operation()
        assert caught.value.session_id == damaged
        assert caught.value.code == "SESSION_STORE_ERROR"
    listed = {row.session_id: row.quarantined for row in await manager.list()}
    assert listed[damaged] == realm.state.quarantined[damaged]
    assert [each for each, reason in listed.items() if reason is not None] == [damaged]
    found = await runner.get_session(damaged)
    assert found is not None
    assert found.quarantined
    for name in fine:
        before = len(await runner.get_messages(name))
        assert (await runner.send_message(name, "still here")).text == "still here"
        assert len(await runner.get_messages(name)) == before + 2


async def assert_stays_apart(place: Place, damaged: SessionId) -> None:
    """Also after checkpoints and reopenings, with the row as it was."""
    fine = [name for name in place.names if name != damaged]
    row = stored(place.path, row_key(damaged))
    async with place.open() as (realm, _):
        assert list(realm.state.quarantined) == [damaged], realm.state.quarantined
        reason = realm.state.quarantined[damaged]
        await assert_set_apart(realm, damaged, fine)
        await realm.checkpoint()
    for start in (1000, 2000):
        async with place.open(start) as (realm, _):
            assert realm.state.quarantined == {damaged: reason}
            await assert_set_apart(realm, damaged, fine)
            await realm.checkpoint()
    assert stored(place.path, row_key(damaged)) == row


@pytest.mark.parametrize("byte", [9, -1])
async def test_a_damaged_turn_in_the_tail(place: Place, byte: int) -> None:
    damaged = place.names[1]
    harm(place.path, STREAMS, record(place.turns[damaged][3]), lambda raw: flip(raw, byte))
    await assert_stays_apart(place, damaged)


async def test_a_turn_in_the_tail_that_is_missing(place: Place) -> None:
    """The record behind it is another session's, cannot be verified, and costs that one too if it
    matters to it: here it is the input of a turn, which is whole without it."""
    damaged = place.names[1]
    seq = place.turns[damaged][3]
    harm(place.path, STREAMS, record(seq), missing)
    async with place.open() as (realm, _):
        assert sorted(realm.state.lost) == [seq, seq + 1]
    await assert_stays_apart(place, damaged)


async def test_a_turn_that_does_not_say_whose_it_was(place: Place) -> None:
    """Its session's id is what was damaged; the next turn does not continue what is known."""
    damaged = place.names[1]
    seq = place.turns[damaged][3]

    def without_id(raw: bytes) -> bytes:
        at = raw.index(damaged.encode())
        return flip(raw, at + 4)

    harm(place.path, STREAMS, record(seq), without_id)
    async with place.open() as (realm, _):
        assert "between them is lost" in realm.state.quarantined[damaged]
        assert list(realm.state.lost) == [seq]
    await assert_stays_apart(place, damaged)


async def test_a_session_whose_making_is_lost_is_known_by_what_followed(place: Place) -> None:
    async with place.open() as (realm, _):
        late = await new_session(realm, title="late")
        made = realm.state.head(late).applied
        await realm.runner.send_message(late, "hi")
    harm(place.path, STREAMS, record(made), flip)
    place.names.append(late)
    await assert_stays_apart(place, late)


@pytest.mark.parametrize("how", [flip, missing], ids=["damaged", "missing"])
async def test_a_damaged_turn_in_a_history(place: Place, how: Harm) -> None:
    """Found when it is read; a fork that shares it is found too, the others are not touched."""
    damaged, other, third = place.names
    async with place.open() as (realm, _):
        fork = (await RealmSessions(realm).fork(damaged)).session_id
        await realm.checkpoint()
    harm(place.path, STREAMS, record(place.turns[damaged][1]), how)
    async with place.open(600) as (realm, _):
        assert realm.state.quarantined == {}
        for each in (damaged, fork):
            with pytest.raises(SessionQuarantined, match="cannot be read") as caught:
                await realm.runner.send_message(each, "hello")
            assert caught.value.session_id == each
        with pytest.raises(SessionQuarantined):
            await realm.runner.get_messages(damaged, limit=1)
        await realm.runner.send_message(other, "fine")
        await realm.checkpoint()
    async with place.open(700) as (realm, _):
        assert set(realm.state.quarantined) == {damaged, fork}
        await realm.runner.send_message(third, "fine")


async def test_a_live_copy_is_not_used_once_its_session_is_quarantined(place: Place) -> None:
    damaged = place.names[0]
    async with place.open() as (realm, _):
        await realm.runner.send_message(damaged, "so far")
        realm.state.quarantine(damaged, "as a test wants it")
        with pytest.raises(SessionQuarantined, match="as a test wants it"):
            realm.driver(damaged, ())


async def test_a_turn_in_flight_that_lost_its_beginning_is_not_continued(place: Place) -> None:
    damaged = place.names[1]
    async with place.open() as (realm, _):
        first = (UserMessage("q"),)
        for step, messages in ((1, first), (2, ())):
            progress = TurnProgressed(damaged, RunId("r"), (), messages, NO_USAGE, step, 1)
            await realm.append(progress).wait()
        seq = realm.state.applied - 1
    harm(place.path, STREAMS, record(seq), lambda raw: raw[:9] + b"\0" * (len(raw) - 9))
    async with place.open(600) as (realm, _):
        assert set(realm.state.quarantined) == {damaged}
        assert "turn in flight" in realm.state.quarantined[damaged]


async def test_a_damaged_position_costs_the_rows_and_no_session(place: Place) -> None:
    harm(place.path, KEYS, f"fold/{REALM}/position".encode(), flip)
    async with place.open() as (realm, _):
        assert realm.state.quarantined == {}
        heads = dict(realm.state.heads)
        assert [head.turns for head in heads.values()] == [5, 5, 5]
        await realm.checkpoint()
    async with place.open(600) as (realm, _):
        assert realm.state.heads == heads


@pytest.mark.parametrize("name", ["position", "s/", "q/someone", "l/12345678"])
async def test_a_row_from_a_later_version_is_refused_and_not_taken_for_damage(
    place: Place, name: str
) -> None:
    if name == "s/":
        name += place.names[1]
    key = f"fold/{REALM}/{name}".encode()
    later = CUT + 1 if name.startswith("s/") else 2
    row = b"\x92" + bytes([later]) + b"\xa1x"
    async with open_lmdb(place.path) as store:
        await store.commit([Put(key, row)])
    async with open_lmdb(place.path) as store:
        before = store.scan(b""), store.last(f"realm/{REALM}".encode())
        with pytest.raises(
            WrittenLater, match=f"layout {later} .* up to {later - 1}: .* upgrade trio-mob"
        ):
            make_realm(store, EchoModel())
        assert (store.scan(b""), store.last(f"realm/{REALM}".encode())) == before


async def test_a_damaged_reason_keeps_its_session_apart(place: Place) -> None:
    damaged = place.names[1]
    harm(place.path, STREAMS, record(place.turns[damaged][3]), flip)
    async with place.open() as (realm, _):
        await realm.checkpoint()
    harm(place.path, KEYS, f"fold/{REALM}/q/{damaged}".encode(), flip)
    async with place.open() as (realm, _):
        assert list(realm.state.quarantined) == [damaged]


async def test_without_damage_a_record_of_nobody_is_still_an_error(place: Place) -> None:
    async with place.open() as (realm, _):
        late = TurnProgressed(SessionId("nobody"), RunId("r"), (), (), NO_USAGE, 1, 1)
        with pytest.raises(SessionNotFound):
            realm.state.apply(realm.state.applied + 1, late)
