"""What is damaged is made anew from the journal, and what the journal has lost can be let go of."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.damage import Rebuilt
from runtime.errors import SessionNotFound, SessionQuarantined
from runtime.ids import SessionId
from runtime.manager import RealmSessions, RewindOutOfRange
from runtime.realm import Realm
from runtime.store import StoredSessions
from stores import repair_lmdb
from stores.codec import encode_row
from tests.runtime.test_quarantine import (
    KEYS,
    REALM,
    STREAMS,
    Harm,
    Place,
    flip,
    harm,
    missing,
    record,
    row_key,
    stored,
)

ROWS: dict[str, Harm] = {
    "a bit": flip,
    "cut short": lambda raw: raw[:3],
    "its format": lambda raw: flip(raw, 0),
    "missing": missing,
}


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    return await Place(tmp_path / "store").make()


def manager_of(realm: Realm) -> RealmSessions:
    return RealmSessions(realm, StoredSessions(realm.store, REALM))


async def heads_of(place: Place) -> dict[SessionId, object]:
    async with place.open() as (realm, _):
        return dict(realm.state.heads)


async def assert_made_anew(
    place: Place, before: dict[SessionId, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were; and once that is written, without reading the whole journal again."""
    async with place.open() as (realm, _):
        assert (realm.state.quarantined, realm.state.lost) == ({}, {})
        assert realm.state.heads == before
        assert list(realm.state.heads) == sorted(before)
        await realm.checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(Rebuilt, "fold", lambda *_: pytest.fail("all was sound"))
        async with place.open(1000) as (realm, _):
            assert realm.state.heads == before
            for name in place.names:
                assert (await realm.runner.send_message(name, "on")).text == "on"


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("how", ROWS)
async def test_a_row_is_made_anew(
    place: Place, which: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 2.2: neither absent nor lost, while the journal has what it says."""
    before = await heads_of(place)
    harm(place.path, KEYS, row_key(place.names[which]), ROWS[how])
    await assert_made_anew(place, before, monkeypatch)


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x91\x01", b"\x80"])
async def test_a_row_that_is_intact_and_says_nothing(
    place: Place, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await heads_of(place)
    key = row_key(place.names[1])
    harm(place.path, KEYS, key, lambda _: encode_row(key, value))
    await assert_made_anew(place, before, monkeypatch)


async def test_all_rows_are_made_anew_with_a_parent_and_a_fork(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.open() as (realm, _):
        child = await realm.create(
            realm.state.heads[place.names[0]].harness_id, parent=place.names[0]
        )
        fork = await manager_of(realm).fork(place.names[1])
        await realm.runner.send_message(child.session_id, "hello")
        await realm.checkpoint()
    before = await heads_of(place)
    for name in (*place.names, child.session_id, fork.session_id):
        harm(place.path, KEYS, row_key(name), flip)
    await assert_made_anew(place, before, monkeypatch)


async def test_after_a_repair_that_lost_a_row_its_session_is_there(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 2.2."""
    before = await heads_of(place)
    for name in place.names[:2]:
        harm(place.path, KEYS, row_key(name), flip)
    repair_lmdb(place.path, tmp_path / "saved")
    place.path = tmp_path / "saved"
    assert stored(place.path, row_key(place.names[0])) is None
    await assert_made_anew(place, before, monkeypatch)


async def test_a_row_and_a_turn_of_it_lost_cost_the_session(place: Place, tmp_path: Path) -> None:
    """What is left is listed; also after a repair, which keeps what the gap was."""
    damaged = place.names[1]
    harm(place.path, KEYS, row_key(damaged), flip)
    harm(place.path, STREAMS, record(place.turns[damaged][1]), flip)
    repair_lmdb(place.path, tmp_path / "saved")
    for path in (place.path, tmp_path / "saved"):
        place.path = path
        async with place.open() as (realm, _):
            assert list(realm.state.quarantined) == [damaged]
            assert realm.state.heads[damaged].title == "b"
            assert realm.state.heads[damaged].turns == 1
            await realm.checkpoint()


async def quarantined(place: Place, number: int = 3) -> SessionId:
    """The second session, one of whose turns is damaged; written down as quarantined."""
    damaged = place.names[1]
    harm(place.path, STREAMS, record(place.turns[damaged][number]), flip)
    async with place.open() as (realm, _):
        with pytest.raises(SessionQuarantined):
            await manager_of(realm).resume(damaged)
        await realm.checkpoint()
    return damaged


@pytest.mark.parametrize("number", [0, 1, 3, 4])
async def test_a_quarantine_ends_with_its_damage(
    place: Place, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a turn that a row stands for, or in the tail; the newest of the session too."""
    before = await heads_of(place)
    damaged = await quarantined(place, number)
    with monkeypatch.context() as patch:
        patch.setattr(Rebuilt, "fold", lambda *_: pytest.fail("nothing changed"))
        async with place.open() as (realm, _):
            assert list(realm.state.quarantined) == [damaged]
    harm(place.path, STREAMS, record(place.turns[damaged][number]), flip)  # back again
    await assert_made_anew(place, before, monkeypatch)


@pytest.mark.parametrize("number", [1, 3, 4])
@pytest.mark.parametrize("repaired", [False, True])
async def test_a_quarantined_session_is_rewound_to_before_the_damage(
    place: Place, number: int, repaired: bool, tmp_path: Path
) -> None:
    """CONTRACTS 3.5, 3.8."""
    damaged = await quarantined(place, number)
    if repaired:
        repair_lmdb(place.path, tmp_path / "saved")
        place.path = tmp_path / "saved"
    async with place.open(600) as (realm, _):
        manager = manager_of(realm)
        with pytest.raises(RewindOutOfRange, match=f"0 to {number - 1}"):
            await manager.rewind(damaged, number)
        session = await manager.rewind(damaged, number - 1)
        assert session.turns == number
        assert realm.state.quarantined == {}
        assert (await realm.runner.send_message(damaged, "on")).text == "on"
        head = realm.state.head(damaged)
        await manager.tag(damaged, ["saved"])
    for start in (700, 800):
        async with place.open(start) as (realm, _):
            assert realm.state.quarantined == {}
            assert realm.state.head(damaged).turns == head.turns == number + 1
            assert realm.state.head(damaged).tags == ("saved",)
            assert len(await realm.runner.get_messages(damaged)) == 2 * number + 2
            await realm.checkpoint()
    harm(place.path, KEYS, row_key(damaged), flip)
    async with place.open(900) as (realm, _):
        assert realm.state.head(damaged).turns == number + 1


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("number", [0, 3])
async def test_a_quarantined_session_can_be_deleted(
    place: Place, number: int, checkpoint: bool
) -> None:
    """CONTRACTS 3.7."""
    damaged = await quarantined(place, number)
    harm(place.path, KEYS, row_key(damaged), flip)
    async with place.open(600) as (realm, _):
        if number == 0:
            with pytest.raises(RewindOutOfRange, match="no turns"):
                await manager_of(realm).rewind(damaged, 0)
        await manager_of(realm).delete(damaged)
        assert damaged not in realm.state.heads
        assert realm.state.quarantined == {}
        if checkpoint:
            await realm.checkpoint()
    for start in (700, 800):
        async with place.open(start) as (realm, _):
            assert realm.state.quarantined == {}
            assert sorted(realm.state.heads) == [place.names[0], place.names[2]]
            with pytest.raises(SessionNotFound):
                await realm.runner.get_messages(damaged)
            await realm.checkpoint()
    assert stored(place.path, row_key(damaged)) is None
    assert stored(place.path, f"fold/{REALM}/q/{damaged}".encode()) is None


@pytest.mark.parametrize("number", [2, 4])
async def test_a_fork_of_a_damaged_history_is_rewound_too(place: Place, number: int) -> None:
    source = place.names[1]
    async with place.open() as (realm, _):
        fork = (await manager_of(realm).fork(source)).session_id
        await realm.runner.send_message(fork, "mine")
        await realm.checkpoint()
    await quarantined(place, number)
    async with place.open(600) as (realm, _):
        with pytest.raises(SessionQuarantined):
            await manager_of(realm).resume(fork)
        await realm.checkpoint()
    harm(place.path, KEYS, f"fold/{REALM}/q/{fork}".encode(), flip)  # why, and which record
    async with place.open(700) as (realm, _):
        manager = manager_of(realm)
        assert set(realm.state.quarantined) == {source, fork}
        assert (await manager.rewind(fork, 1)).turns == 2
        assert (await realm.runner.send_message(fork, "on")).text == "on"
        with pytest.raises(SessionQuarantined):
            await manager.resume(source)


async def test_an_input_that_a_rewind_gave_up_is_told_as_given_up(place: Place) -> None:
    damaged = place.names[1]
    async with place.open() as (realm, _):
        ticket = realm.inputs.accept(damaged, "later", idempotency_key="k").ticket
        assert ticket is not None
        await ticket.wait()
        await realm.checkpoint()
    await quarantined(place, 2)
    async with place.open(600) as (realm, _):
        await manager_of(realm).rewind(damaged, 0)
        known = realm.inputs.settled(damaged, "k")
        assert known is not None
        assert known.abandoned == "its session was damaged"
