"""What `runtime.retention` erases, and that nothing else changes, ever.

The machine is that of the manager with a collection at any moment: before and after it, every
history, branch, pending input, turn in flight, key and snapshot is the same, for the realm that is
open, for one that is opened from rows, and for one that folds what is left of the journal.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from runtime import retention
from runtime.compaction import beginning
from runtime.edits import split_turns
from runtime.errors import MobError
from runtime.ids import InputId, RunId, SessionId
from runtime.journal import Event, Journal
from runtime.manager import RealmSessions
from runtime.messages import NO_USAGE, AssistantMessage, Message, UserMessage
from runtime.models.sim import EchoModel
from runtime.realm import Realm
from runtime.records import (
    ERASED,
    RUNTIME_RECORDS,
    Erased,
    InputAccepted,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    TurnEnded,
    TurnProgressed,
)
from runtime.retention import BATCH, Freed, Retention
from runtime.state import RealmState
from runtime.store import StoredSessions
from stores import MemoryStore, Store, open_lmdb, verify_lmdb
from tests.runtime.fakes import REALM, counting_ports, make_realm, new_session
from tests.runtime.managers import OverMemory

ROOT = Path(__file__).parents[2]


def events(store: Store) -> list[Event]:
    return Journal(store, REALM, RUNTIME_RECORDS, lambda _seq, _record: None).read(0, 1_000_000)


def folded(store: Store) -> RealmState:
    """The state as the journal alone gives it."""
    state = RealmState()
    Journal(store, REALM, RUNTIME_RECORDS, state.apply).replay()
    return state


def truth(realm: Realm, keys: dict[str, SessionId]) -> dict[str, Any]:
    """Everything that anybody can learn of the realm."""
    heads = realm.state.heads
    read = realm.journal.messages
    histories: dict[SessionId, list[list[Message]]] = {
        session: [read(place) for place in (head.head, *[each.head for each in head.branches])]
        for session, head in heads.items()
    }
    standing = {
        session: [
            beginning(realm.journal, attrs.evolve(head, compaction=each.compaction))
            for each in (head, *head.branches)
        ]
        for session, head in heads.items()
    }
    joined = {}
    for key, session in keys.items():
        settled = realm.inputs.settled(session, key) if session in heads else None
        joined[key] = None if settled is None else realm.inputs.result(settled)
    return {
        "heads": copy.deepcopy(heads),
        "histories": histories,
        "joined": joined,
        "standing": standing,
        "spawned": dict(realm.state.spawned),
        "descendants": {root: n for root, n in realm.state.descendants.items() if any(n)},
    }


def progress(session: SessionId, run: str, *messages: Message) -> TurnProgressed:
    return TurnProgressed(session, RunId(run), (), messages, NO_USAGE, 1, 0)


class RetentionMachine(OverMemory):
    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, SessionId] = {}

    @precondition(lambda self: self.expected)
    @rule(which=st.integers(0, 10**6))
    def ask_with_a_key(self, which: int) -> None:
        session, model = self._pick(which)
        text = f"t{self._number()}"

        async def work() -> None:
            self.called, self.gate = trio.Event(), trio.Event()
            self.gate.set()
            await self.realm.runner.send_message(session, text, idempotency_key=text)
            model.turns = split_turns((await self.manager.resume(session)).messages)

        self.run(work)
        model.usage = self._row(session).usage
        self.keys[text] = session

    @rule(keep=st.sampled_from([0, 0, 3, 40]), late=st.booleans(), unfinished=st.booleans())
    def collect(self, keep: int, late: bool, unfinished: bool) -> None:
        async def check() -> None:
            busy = await self.leave_work() if unfinished else []
            if late:
                await self.save_a_snapshot_late()
            await self.check_collection(keep)
            for session in busy:
                if self.realm.state.head(session).partial is not None:
                    await self.realm.give_up(session, (), "enough")
                await self.manager.delete(session)

        self.run(check)

    async def leave_work(self) -> list[SessionId]:
        """One session with an input that waits, one with a turn in flight."""
        waits, flies = await new_session(self.realm), await new_session(self.realm)
        key = f"key {waits}"
        ticket = self.realm.inputs.accept(waits, "later", idempotency_key=key).ticket
        assert ticket is not None
        await ticket.wait()
        self.keys[key] = waits
        first = progress(flies, "first", UserMessage("q"), AssistantMessage("a"))
        await self.realm.append(first, progress(flies, "first", AssistantMessage("b"))).wait()
        return [waits, flies]

    async def save_a_snapshot_late(self) -> None:
        """A save in flight may write what a deletion has just removed."""
        gone = [e.record for e in events(self.memory) if isinstance(e.record, SessionDeleted)]
        if gone and self.expected:
            value = self.realm.snapshot(next(iter(self.expected)))
            value = attrs.evolve(value, session_id=gone[-1].session_id)
            await self.snapshots.save(value)

    async def check_collection(self, keep: int) -> None:
        before, whole = truth(self.realm, self.keys), events(self.memory)
        planned = Retention(self.realm, keep).plan()
        assert events(self.memory) == whole
        freed = await Retention(self.realm, keep).run()
        assert (planned.records, planned.snapshot_rows) == (freed.records, freed.snapshot_rows)
        after = events(self.memory)
        self.check_events(whole, after, keep)
        assert sum(e.record != w.record for e, w in zip(after, whole, strict=True)) == freed.records
        assert truth(self.realm, self.keys) == before
        assert folded(self.memory).heads == before["heads"]
        assert await Retention(self.realm, keep).run() == Freed()
        assert set(await self.snapshots.list()) <= set(before["heads"])
        assert truth(make_realm(self.memory, EchoModel()), self.keys) == before

    def check_events(self, whole: list[Event], after: list[Event], keep: int) -> None:
        assert [event.seq for event in after] == list(range(1, len(whole) + 1))
        newest = max(0, len(whole) - keep)
        assert after[newest:] == whole[newest:]
        for event, was in zip(after, whole, strict=True):
            assert event.record in (was.record, ERASED)
            if isinstance(was.record, SessionCreated | SessionForked | SessionDeleted):
                assert event == was


TestRetention = RetentionMachine.TestCase


async def test_a_deleted_session_of_which_only_the_end_is_left_folds_all_the_same() -> None:
    """The newest records stay whole: of a chain the beginning may be gone."""
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    for number in range(9):
        await realm.runner.send_message(session, str(number))
    await RealmSessions(realm).delete(session)
    for keep in range(16, 0, -1):
        await Retention(realm, keep).run()
        assert folded(store).heads == {}


def kinds(store: Store) -> list[str]:
    return [type(event.record).__name__ for event in events(store)]


async def test_what_was_consumed_ended_or_only_a_deleted_session_reached_goes() -> None:
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    manager = RealmSessions(realm, StoredSessions(store, REALM))
    kept, gone = await new_session(realm), await new_session(realm)
    for session in (kept, gone):
        await realm.runner.send_message(session, "a", idempotency_key=f"key {session}")
    fork = await manager.fork(gone)
    await realm.runner.send_message(gone, "b")
    await realm.runner.send_message(gone, "c", idempotency_key="gone")
    await manager.tag(gone, ["x"])
    await realm.checkpoint()
    await manager.delete(gone)
    await realm.checkpoint()
    planned = Retention(realm, keep_events=0).plan()
    freed = await Retention(realm, keep_events=0).run()
    assert attrs.evolve(freed, bytes=0) == Freed(inputs=4, turns=2, others=1, key_rows=2)
    assert freed.bytes > 0
    assert planned == freed
    left = [event.record for event in events(store) if type(event.record) is TurnEnded]
    assert [turn.session_id for turn in left] == [kept, gone]  # the fork reaches the second
    assert [m.text for m in realm.messages(fork.session_id) if isinstance(m, UserMessage)] == ["a"]
    assert InputAccepted not in [type(event.record) for event in events(store)]


async def test_progress_goes_when_its_turn_has_ended_and_not_before() -> None:
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    await realm.append(progress(session, "run", UserMessage("q"))).wait()
    await realm.append(progress(session, "run", AssistantMessage("a"))).wait()
    assert (await Retention(realm, 0).run()).progress == 0
    await realm.give_up(session, (), "enough")
    assert (await Retention(realm, 0).run()).progress == 2
    assert len(realm.messages(session)) == 2


async def test_progress_stays_that_alone_says_what_a_turn_has_spent() -> None:
    """CONTRACTS 6.15: of one that was cut off with its session."""
    realm = make_realm(MemoryStore(), EchoModel())
    session = await new_session(realm)
    await realm.append(progress(session, "run", UserMessage("q"))).wait()
    await realm.append(progress(session, "run", AssistantMessage("a"))).wait()
    await realm.archive(session, "over")
    cut = realm.state.heads[session].cut
    assert cut is not None
    assert cut.run_id == "run"
    assert (await Retention(realm, 0).run()).progress == 0


@pytest.mark.parametrize("keep", [0, 1, 5, 100])
async def test_the_newest_records_stay_whole(keep: int) -> None:
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    for number in range(10):
        await realm.runner.send_message(session, str(number))
    await Retention(realm, keep).run()
    names = kinds(store)
    assert "Erased" not in names[len(names) - keep :] or not keep
    assert names[: len(names) - keep].count("InputAccepted") == 0
    with pytest.raises(ValueError, match="-1"):
        Retention(realm, -1)


async def test_what_the_caller_keeps_stays() -> None:
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    for text in ("keep me", "not me"):
        await realm.runner.send_message(session, text)
    await Retention(realm, 0, lambda record: getattr(record, "text", "") == "keep me").run()
    left = [each.record.text for each in events(store) if isinstance(each.record, InputAccepted)]
    assert left == ["keep me"]


async def test_a_subscriber_reads_on_over_what_is_erased() -> None:
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    for number in range(3):
        await realm.runner.send_message(session, str(number))
    follower = realm.journal.follow(after=1)
    first = await anext(follower)
    assert isinstance(first.record, InputAccepted)
    await Retention(realm, 0).run()
    seen = [(event.seq, type(event.record)) for event in realm.journal.read(first.seq)]
    assert seen == [(3, TurnEnded), (4, Erased), (5, TurnEnded), (6, Erased), (7, TurnEnded)]
    await follower.aclose()


async def test_batches_are_bounded_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    for number in range(10):
        await realm.runner.send_message(session, str(number))
    told: list[int] = []
    freed = await Retention(realm, 0).run(lambda so_far: told.append(so_far.inputs))
    assert told == [4, 8, 10]
    assert freed.inputs == 10
    assert BATCH > 4


async def test_a_parent_whose_only_child_was_deleted_is_the_same_in_every_process() -> None:
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    parent = await new_session(realm)
    child = await new_session(realm, parent=parent)
    await RealmSessions(realm).delete(child)
    await realm.checkpoint()
    assert make_realm(store, EchoModel()).state.heads == realm.state.heads
    assert folded(store).heads == realm.state.heads


async def test_the_record_that_is_a_sessions_revision_stays() -> None:
    """What came too late changed nothing but that: a fold of the journal must find it too."""
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    await realm.archive(session, "over")
    late = [InputAccepted(session, InputId(f"late {n}"), "x", None, None, 0) for n in range(2)]
    await realm.append(*late).wait()
    assert (await Retention(realm, 0).run()).inputs == 1
    assert folded(store).heads == realm.state.heads


async def test_nothing_is_erased_while_something_is_damaged() -> None:
    """What a damaged session reaches nobody knows."""
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    session = await new_session(realm)
    await realm.runner.send_message(session, "x")
    realm.state.quarantine(session, "its row is damaged")
    with pytest.raises(MobError, match="1 sessions are quarantined"):
        await Retention(realm, 0).run()
    with pytest.raises(MobError, match="1 sessions are quarantined"):
        Retention(realm, 0).plan()
    assert "Erased" not in kinds(store)


PROGRAM = """
import sys
import trio
from runtime import retention
from runtime.edits import split_turns
from runtime.ids import RealmId
from runtime.realm import Realm
from stores import open_lmdb

retention.BATCH = 3

async def main():
    async with open_lmdb(sys.argv[1]) as store:
        realm = Realm(store, RealmId(sys.argv[2]))
        realm.recover()
        await retention.Retention(realm, 5).run(lambda freed: print(freed.records, flush=True))
        print("done", flush=True)

trio.run(main)
"""


async def fill(path: Path, keys: dict[str, SessionId]) -> None:
    """Sessions with histories, forks, branches, deletions and work that is unfinished."""
    async with open_lmdb(path) as store:
        realm = make_realm(store, EchoModel(), ports=counting_ports())
        manager = RealmSessions(realm, StoredSessions(store, REALM))
        for number in range(6):
            session = await new_session(realm, title=f"s{number}")
            for turn in range(4):
                key = f"{number}.{turn}"
                await realm.runner.send_message(session, key, idempotency_key=key)
                keys[key] = session
            fork = await manager.fork(session)
            await realm.runner.send_message(fork.session_id, "fork")
            await manager.rewind(session, 1)
            await realm.append(progress(session, f"run {number}", UserMessage("q"))).wait()
            await realm.give_up(session, (), "enough")
            if number % 2:
                await manager.delete(session)
        late = await new_session(realm)
        await realm.append(progress(late, "late", UserMessage("q"))).wait()
        ticket = realm.inputs.accept(late, "waits", idempotency_key="waits").ticket
        assert ticket is not None
        await ticket.wait()
        keys["waits"] = late


async def told_by(path: Path, keys: dict[str, SessionId]) -> dict[str, Any]:
    async with open_lmdb(path) as store:
        return truth(make_realm(store, EchoModel()), keys)


def collect_until(path: Path, lines: int) -> bool:
    """Run a collection in a process of its own, killed after so many lines; whether it ended."""
    command = [sys.executable, "-c", PROGRAM, str(path), REALM]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            if "done" in process.stdout.readline():
                break
        process.kill()
        rest = process.stdout.read()
    return "done" in rest or process.returncode == 0


async def test_killing_it_at_any_batch_changes_nothing_that_is_reached(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, keys = tmp_path / "store", dict[str, SessionId]()
    await fill(path, keys)
    before = await told_by(path, keys)
    for lines in range(40 if request.config.getoption("--long") else 5):
        await trio.to_thread.run_sync(collect_until, path, lines % 7)
        assert await told_by(path, keys) == before
        assert verify_lmdb(path).sound
    async with open_lmdb(path) as store:
        realm = make_realm(store, EchoModel())
        await Retention(realm, 5).run()
        assert await Retention(realm, 5).run() == Freed()
        assert folded(store).heads == before["heads"]
        assert kinds(store).count("Erased") > 40
    assert await told_by(path, keys) == before
    assert verify_lmdb(path).sound
