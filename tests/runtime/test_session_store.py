"""SessionStore over memory and LMDB: CONTRACTS 2.1 to 2.6, 2.10."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import MobError, SessionError, WrittenLater
from runtime.ids import HarnessId, RealmId, SessionId
from runtime.messages import AssistantMessage, Message, Usage, UserMessage
from runtime.realm import Realm
from runtime.session import Lineage, Session, SessionSpec, SessionStatus
from runtime.store import SessionStore, StoredSessions
from stores import Batch, Damaged, Delete, MemoryStore, Put, Store, open_lmdb
from tests.runtime import strategies
from tests.runtime.fakes import REALM, open_lagging

SESSION = Session(
    SessionId("s1"),
    HarnessId("plain"),
    None,
    "title",
    "en",
    Lineage(SessionId("p"), None, 0, SessionId("p"), 1),
    SessionSpec("sim:echo", "be brief", None, 2, {"seed": 7}),
    1,
    2,
    SessionStatus.IDLE,
    5,
    1,
    Usage(1, 2, 3, 4),
    (UserMessage("hi"), AssistantMessage("hello")),
)
ROW = b"snapshot/test/s1"
SEGMENT = b"snapshot-part/test/s1/\0\0\0\0"


@pytest.fixture(params=["memory", "lmdb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        async with open_lmdb(tmp_path) as opened:
            yield opened


def grown(session: Session, *messages: Message) -> Session:
    return attrs.evolve(
        session,
        messages=session.messages + messages,
        head=session.head + 1,
        turns=session.turns + 1,
    )


async def test_a_saved_session_loads_equal(store: Store) -> None:
    """CONTRACTS 2.1."""
    sessions: SessionStore = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    assert await sessions.load(SESSION.session_id) == SESSION


async def test_what_was_never_saved_loads_as_none(store: Store) -> None:
    """CONTRACTS 2.2."""
    assert await StoredSessions(store, REALM).load(SessionId("other")) is None


async def test_the_last_save_counts_whatever_became_of_the_history(store: Store) -> None:
    """CONTRACTS 2.3: continued, unchanged, rewound, and rewound then continued elsewhere."""
    sessions = StoredSessions(store, REALM)
    longer = grown(SESSION, UserMessage("and?"), AssistantMessage("that is all"))
    other = grown(SESSION, UserMessage("really?"), AssistantMessage("no"), UserMessage("x"))
    moved = attrs.evolve(other, head=99)
    empty = attrs.evolve(SESSION, messages=(), head=0)
    edited = attrs.evolve(SESSION, messages=(SESSION.messages[0], AssistantMessage("bye")))
    for version in (SESSION, longer, longer, SESSION, longer, other, moved, empty, edited, longer):
        await sessions.save(version)
        assert await sessions.load(SESSION.session_id) == version


async def test_changing_what_was_loaded_does_not_change_the_store(store: Store) -> None:
    """CONTRACTS 2.3."""
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    loaded = await sessions.load(SESSION.session_id)
    assert loaded is not None
    loaded.spec.options["seed"] = 8
    assert await sessions.load(SESSION.session_id) == SESSION


async def test_list_gives_every_id_of_the_realm_ascending(store: Store) -> None:
    """CONTRACTS 2.4."""
    sessions = StoredSessions(store, REALM)
    assert list(await sessions.list()) == []
    for name in ("b", "a", "ab"):
        await sessions.save(attrs.evolve(SESSION, session_id=SessionId(name)))
    await StoredSessions(store, RealmId("test2")).save(SESSION)
    assert list(await sessions.list()) == ["a", "ab", "b"]


async def test_delete_says_whether_something_was_there_and_leaves_nothing(store: Store) -> None:
    """CONTRACTS 2.5."""
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    await sessions.save(grown(SESSION, UserMessage("more")))
    assert await sessions.delete(SESSION.session_id) is True
    assert await sessions.delete(SESSION.session_id) is False
    assert await sessions.load(SESSION.session_id) is None
    assert store.scan(b"snapshot") == []


async def test_a_session_without_an_id_is_refused(store: Store) -> None:
    """CONTRACTS 2.6."""
    with pytest.raises(SessionError, match="without an id"):
        await StoredSessions(store, REALM).save(attrs.evolve(SESSION, session_id=SessionId("")))
    assert store.scan(b"") == []


def changed(row: bytes, **fields: Any) -> bytes:
    unpacked = msgpack.unpackb(row)
    unpacked.update(fields)
    packed: bytes = msgpack.packb(unpacked)
    return packed


async def test_damage_is_an_error_that_names_the_place_and_never_absence(store: Store) -> None:
    """CONTRACTS 2.2."""
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    row, segment = store.get(ROW), store.get(SEGMENT)
    assert row is not None
    assert segment is not None
    session = msgpack.unpackb(row)["session"]
    bad_rows = [
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        b"\x07",
        changed(row, extra=1),
        changed(row, segments=7),
        changed(row, segments=-1),
        changed(row, segments=["2"]),
        changed(row, segments=[2, 0]),
        changed(row, segments=None),
        changed(row, count=3),
        changed(row, count=None),
        changed(row, tail=None),
        changed(row, session=[]),
        changed(row, session={**session, "turns": "1"}),
        changed(row, session={**session, "status": "asleep"}),
        changed(row, session={**session, "colour": "red"}),
        changed(row, session={key: session[key] for key in sorted(session)[1:]}),
    ]
    for bad in bad_rows:
        await store.commit([Put(ROW, bad)])
        with pytest.raises(Damaged, match="s1"):
            await sessions.load(SESSION.session_id)
    for bad in (b"", b"\xc1", b"\x90", b"\x91\x90", b"\x91\x80", b"\x91\x07", segment[:-1]):
        await store.commit([Put(ROW, row), Put(SEGMENT, bad)])
        with pytest.raises(Damaged, match="s1"):
            await sessions.load(SESSION.session_id)
    await store.commit([Put(ROW, changed(row, segments=2))])
    await store.commit([Put(SEGMENT, segment)])
    with pytest.raises(Damaged, match="missing"):
        await sessions.load(SESSION.session_id)


async def test_a_snapshot_whose_segments_lie_beside_its_row_is_read_and_moved(store: Store) -> None:
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    row, segment = store.get(ROW), store.get(SEGMENT)
    assert row is not None
    assert segment is not None
    then = {**msgpack.unpackb(row), "segments": [2]}
    del then["count"]
    await store.commit(
        [Put(ROW, msgpack.packb(then)), Put(ROW + b"/\0\0\0\0", segment), Delete(SEGMENT)]
    )
    assert await sessions.list() == ["s1"]
    assert await sessions.load(SESSION.session_id) == SESSION
    longer = grown(SESSION, UserMessage("and?"))
    await sessions.save(longer)
    assert await sessions.load(SESSION.session_id) == longer
    assert [key for key, _ in store.scan(b"snapshot")] == [SEGMENT, ROW]


async def test_a_snapshot_from_a_later_version_is_neither_read_nor_overwritten(
    store: Store,
) -> None:
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    row = store.get(ROW)
    assert row is not None
    await store.commit([Put(ROW, changed(row, format=2, colour="red"))])
    before = store.scan(b"")
    for operation in (
        sessions.load(SESSION.session_id),
        sessions.save(SESSION),
        sessions.delete(SESSION.session_id),
    ):
        with pytest.raises(WrittenLater, match=r"session s1 .* upgrade trio-mob"):
            await operation
    assert store.scan(b"") == before


async def test_listing_reads_no_message(store: Store) -> None:
    """What a list costs does not grow with the histories."""
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    read: list[bytes] = []
    scan = store.scan

    def counted(prefix: bytes, **given: Any) -> list[tuple[bytes, bytes]]:
        found = scan(prefix, **given)
        read.extend(key for key, _ in found)
        return found

    store.scan = counted  # type: ignore[method-assign]
    assert await sessions.list() == ["s1"]
    assert read == [ROW]


async def test_an_unknown_status_is_an_error_and_not_a_default() -> None:
    """CONTRACTS 1.6."""
    store = MemoryStore()
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    row = store.get(ROW)
    assert row is not None
    session = msgpack.unpackb(row)["session"]
    await store.commit([Put(ROW, changed(row, session={**session, "status": "sleeping"}))])
    with pytest.raises(Damaged, match="sleeping"):
        await sessions.load(SESSION.session_id)


class Counting(MemoryStore):
    """Counts the bytes that are put."""

    def __init__(self) -> None:
        super().__init__()
        self.put = 0

    def submit(self, batch: Batch, committed: Any = None) -> Any:
        self.put += sum(len(item.value) for item in batch if isinstance(item, Put))
        return super().submit(batch, committed)


async def test_a_save_costs_what_is_new_and_not_the_length_of_the_history() -> None:
    store = Counting()
    sessions = StoredSessions(store, REALM)
    session, costs = SESSION, []
    for _ in range(200):
        session = grown(session, UserMessage("q" * 500), AssistantMessage("a" * 500))
        before = store.put
        await sessions.save(session)
        costs.append(store.put - before)
    # One number per earlier save is all that grows: a byte each.
    assert max(costs[2:]) - min(costs[2:]) < 250
    assert max(costs) < 3_000
    before = store.put
    await sessions.save(session)
    assert store.put - before < 1_000


async def test_two_saves_at_once_leave_one_of_them_whole(autojump_clock: object) -> None:
    """A rewound session saved while its longer self is being saved; either may win."""
    longer = grown(SESSION, UserMessage("and?"))
    longest = grown(longer, UserMessage("and then?"))
    for order in itertools.permutations((SESSION, longest, attrs.evolve(SESSION, head=1))):
        async with open_lagging() as store:
            sessions = StoredSessions(store, REALM)
            await sessions.save(longer)
            async with trio.open_nursery() as nursery:
                for version in order:
                    nursery.start_soon(sessions.save, version)
            assert await sessions.load(SESSION.session_id) in order


@given(st.lists(st.tuples(st.booleans(), strategies.many), max_size=5))
def test_any_course_of_saves_loads_what_was_saved_last(
    saves: list[tuple[bool, tuple[Message, ...]]],
) -> None:
    """CONTRACTS 2.1, 2.3, for histories that grow or are replaced, of any messages."""

    async def check() -> None:
        sessions = StoredSessions(MemoryStore(), REALM)
        session = attrs.evolve(SESSION, messages=())
        for rewound, messages in saves:
            kept = session.messages[: len(session.messages) // 2] if rewound else session.messages
            head = 1 if rewound else session.head + 1
            session = attrs.evolve(session, messages=kept + messages, head=head)
            await sessions.save(session)
            assert await sessions.load(session.session_id) == session

    trio.run(check)


SLASHED = [SessionId(name) for name in ("a", "a/b", "a/b/c", "a/\0\0\0\0", "/", "a/bcde")]


async def test_ids_with_a_slash_are_ids_like_others(store: Store) -> None:
    """CONTRACTS 2.1, 2.4, 2.5: none is taken for a part of another."""
    sessions = StoredSessions(store, REALM)
    versions = {name: attrs.evolve(SESSION, session_id=name, title=name) for name in SLASHED}
    for version in versions.values():
        await sessions.save(version)
    for name, version in versions.items():
        versions[name] = grown(version, UserMessage("more"), AssistantMessage(name))
        await sessions.save(versions[name])
    assert list(await sessions.list()) == sorted(SLASHED)
    for name, version in versions.items():
        assert await sessions.load(name) == version
    for name in SLASHED:
        assert await sessions.delete(name) is True
        assert await sessions.load(name) is None
    assert store.scan(b"snapshot") == []


async def test_ids_with_a_slash_that_were_saved_as_they_are_stay_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 2.2: a store of before is read, and its keys are put right by the next save."""
    sessions = StoredSessions(store, REALM)
    name = SessionId("a/b")
    session = attrs.evolve(SESSION, session_id=name)
    with monkeypatch.context() as patch:
        patch.setattr("runtime.store.name_of", lambda each: each.encode())
        await sessions.save(session)
    assert list(await sessions.list()) == [name]
    assert await sessions.load(name) == session
    longer = grown(session, UserMessage("more"), AssistantMessage("and more"))
    await sessions.save(longer)
    assert await sessions.load(name) == longer
    assert list(await sessions.list()) == [name]
    assert store.get(b"snapshot/test/a/b") is None
    assert await sessions.delete(name) is True
    assert store.scan(b"snapshot") == []


async def test_a_damaged_snapshot_can_be_deleted(store: Store) -> None:
    """CONTRACTS 2.5; also with its session, by `SessionManager.delete`."""
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    await sessions.save(grown(SESSION, UserMessage("more"), AssistantMessage("x")))
    await store.commit([Put(ROW, b"\xc1")])
    with pytest.raises(Damaged):
        await sessions.load(SESSION.session_id)
    assert await sessions.delete(SESSION.session_id) is True
    assert store.scan(b"snapshot") == []


async def test_a_damaged_snapshot_is_made_anew_by_the_next_save(store: Store) -> None:
    """CONTRACTS 2.2 and 5.11: the live session is the authority, and a mob must be able to stop."""
    sessions = StoredSessions(store, REALM)
    await sessions.save(SESSION)
    longer = grown(SESSION, UserMessage("more"), AssistantMessage("x"))
    await sessions.save(longer)
    await store.commit([Put(ROW, b"\xc1")])
    longest = grown(longer, UserMessage("again"), AssistantMessage("y"))
    await sessions.save(longest)
    assert await sessions.load(SESSION.session_id) == longest
    assert await sessions.delete(SESSION.session_id) is True
    assert store.scan(b"snapshot") == []


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_realm_is_named_without_a_slash(name: str) -> None:
    with pytest.raises(MobError, match="cannot name a realm"):
        Realm(MemoryStore(), RealmId(name))
