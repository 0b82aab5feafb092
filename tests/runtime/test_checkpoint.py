"""Checkpointer gates: CONTRACTS 5.9 and 5.10."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from runtime.checkpoint import TOGETHER, CheckpointGate, CheckpointPolicy
from runtime.errors import SessionNotFound, SessionQuarantined
from runtime.ids import RunId, SessionId
from runtime.messages import NO_USAGE, UserMessage
from runtime.models.sim import EchoModel
from runtime.records import TurnEnded, TurnOutcome, turn_bytes
from runtime.session import Session, SessionStatus
from stores import MemoryStore
from tests.runtime.fakes import make_realm, new_session
from tests.runtime.test_session_store import SESSION

A, B = SessionId("a"), SessionId("b")


#: More than any test reaches.
MANY = 1000


def turn_record(session_id: SessionId, *texts: str) -> TurnEnded:
    messages = tuple(UserMessage(text, None) for text in texts)
    run = RunId("run")
    return TurnEnded(
        session_id, run, 0, TurnOutcome.COMPLETED, messages, NO_USAGE, (), None, None, 0, 0
    )


@attrs.define
class Saves:
    """A session store that notes each save when it is finished; `gate` holds saves up."""

    done: list[tuple[SessionId, int, SessionStatus]] = attrs.field(factory=list)
    begun: int = 0
    hold: trio.Event | None = None
    broken: Exception | None = None

    async def save(self, session: Session) -> None:
        self.begun += 1
        if self.hold is not None:
            await self.hold.wait()
        await trio.lowlevel.checkpoint()
        if self.broken is not None:
            raise self.broken
        self.done.append((session.session_id, session.turns, session.status))

    async def load(self, session_id: SessionId) -> Session | None:
        raise NotImplementedError

    async def list(self) -> Sequence[SessionId]:
        raise NotImplementedError

    async def delete(self, session_id: SessionId) -> bool:
        raise NotImplementedError

    @property
    def turns(self) -> list[tuple[SessionId, int]]:
        return [(session_id, turns) for session_id, turns, _ in self.done]


@attrs.define
class Bench:
    """One gate over sessions that are nothing but a turn count and a status."""

    every: int = 2
    policy: CheckpointPolicy | None = None
    saves: Saves = attrs.field(factory=Saves)
    turns: dict[SessionId, int] = attrs.field(factory=dict)
    ended: set[SessionId] = attrs.field(factory=set)
    gate: CheckpointGate = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        policy = self.policy or CheckpointPolicy(every_turns=self.every)
        self.gate = CheckpointGate(self.saves, self._snapshot, policy)

    def _snapshot(self, session_id: SessionId) -> Session:
        status = SessionStatus.ARCHIVED if session_id in self.ended else SessionStatus.IDLE
        turns = self.turns.get(session_id, 0)
        return attrs.evolve(SESSION, session_id=session_id, turns=turns, status=status)

    def turn(self, session_id: SessionId, *texts: str) -> None:
        self.turns[session_id] = self.turns.get(session_id, 0) + 1
        self.gate.turn_ended(turn_record(session_id, *texts))

    def archive(self, session_id: SessionId) -> None:
        self.ended.add(session_id)
        self.gate.archived(session_id)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.gate.run)
        yield
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_session_is_saved_every_so_many_turns_and_not_again_while_unchanged() -> None:
    """CONTRACTS 5.9: an unchanged session is not saved again."""
    bench = Bench()
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert bench.saves.done == []
        assert bench.gate.dirty == 1
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]
        assert bench.gate.dirty == 0
        await bench.gate.flush()
        bench.gate.rearm()
        bench.gate.checkpoint_all()
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]


async def test_a_closed_gate_saves_nothing_and_rearming_saves_what_it_turned_away() -> None:
    """CONTRACTS 5.9 and 5.10."""
    bench = Bench()
    async with running(bench):
        await bench.gate.cancel()
        assert not bench.gate.open
        for _ in range(3):
            bench.turn(A)
        bench.turn(B)
        bench.gate.checkpoint_all()
        await bench.gate.flush()
        bench.archive(B)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 0
        bench.gate.rearm()
        await wait_all_tasks_blocked()
        assert sorted(bench.saves.turns) == [(A, 3), (B, 1)]
        assert bench.gate.dirty == 0


async def test_closing_lets_the_save_in_flight_finish_and_begins_no_other() -> None:
    """CONTRACTS 5.9."""
    bench = Bench(every=1)
    bench.saves.hold = trio.Event()
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        bench.turn(B)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.gate.cancel)
            await wait_all_tasks_blocked()
            assert bench.saves.done == []
            bench.saves.hold.set()
        assert bench.saves.turns == [(A, 1)]
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        assert bench.gate.dirty == 1


async def test_gates_are_per_mob() -> None:
    """CONTRACTS 5.10: stopping one mob never silences another on the same store."""
    one, other = Bench(every=1), Bench(every=1)
    async with running(one), running(other):
        await one.gate.cancel()
        one.turn(A)
        other.turn(B)
        await wait_all_tasks_blocked()
        assert one.saves.done == []
        assert other.saves.turns == [(B, 1)]


async def test_an_archived_session_is_saved_once_more_and_never_again() -> None:
    """CONTRACTS 4.5, 5.9: an archived session's gate is gone for good."""
    bench = Bench(every=1)
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        bench.archive(A)
        await wait_all_tasks_blocked()
        assert bench.saves.done[-1] == (A, 1, SessionStatus.ARCHIVED)
        assert len(bench.saves.done) == 2
        bench.turn(A)
        bench.archive(A)
        bench.gate.checkpoint_all()
        await bench.gate.flush()
        await bench.gate.cancel()
        bench.gate.rearm()
        await wait_all_tasks_blocked()
        assert len(bench.saves.done) == 2
        assert bench.gate.dirty == 0


async def test_what_happens_during_a_save_is_saved_after_it() -> None:
    bench = Bench(every=1)
    bench.saves.hold = trio.Event()
    async with running(bench):
        bench.turn(A)
        bench.turn(B)
        await wait_all_tasks_blocked()
        bench.turn(A)
        bench.archive(B)
        bench.saves.hold.set()
    first, last = bench.saves.done[:2], bench.saves.done[2:]
    assert set(first) == {(A, 1, SessionStatus.IDLE), (B, 1, SessionStatus.IDLE)}
    assert set(last) == {(A, 2, SessionStatus.IDLE), (B, 1, SessionStatus.ARCHIVED)}
    assert bench.gate.dirty == 0


async def test_one_that_goes_while_it_is_saved_is_let_go() -> None:
    """Deleted, or quarantined by a reader; the task that saves the others must outlive it."""
    bench = Bench(every=1)
    bench.saves.hold = trio.Event()
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        bench.gate.deleted(A)
        bench.saves.hold.set()
        await wait_all_tasks_blocked()
        bench.turn(B)
    assert bench.saves.done[1:] == [(B, 1, SessionStatus.IDLE)]
    assert bench.gate.dirty == 0


@pytest.mark.parametrize("error", [SessionQuarantined(A, "a test"), SessionNotFound(A)])
async def test_one_that_cannot_be_saved_because_it_is_damaged_or_gone_fails_no_flush(
    error: Exception,
) -> None:
    """CONTRACTS 5.11: a damaged session must not keep a mob from stopping."""
    bench = Bench(every=1)
    bench.saves.broken = error
    bench.turn(A)
    await bench.gate.flush()
    assert (bench.gate.dirty, bench.gate.failures) == (0, {})


async def test_flush_returns_when_everything_is_saved_also_what_ended_during_a_save() -> None:
    bench = Bench(every=10)
    bench.saves.hold = trio.Event()
    async with running(bench):
        bench.turn(A)
        bench.gate.checkpoint_all()
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        bench.turn(A)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.gate.flush)
            await wait_all_tasks_blocked()
            bench.saves.hold.set()
        assert bench.saves.turns == [(A, 1), (A, 2)]
        assert bench.gate.dirty == 0


async def test_flush_works_without_the_saving_task_and_in_batches() -> None:
    bench = Bench(every=10)
    for number in range(TOGETHER + 1):
        bench.turn(SessionId(f"s{number}"))
    await bench.gate.flush()
    assert len(bench.saves.done) == TOGETHER + 1


async def test_a_save_that_fails_ends_nothing_and_stays_dirty() -> None:
    """CONTRACTS 2.7: the store takes no part in control flow."""
    bench = Bench(every=1)
    bench.saves.broken = OSError("disk")
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert bench.gate.dirty == 1
        assert bench.gate.failures == {A: bench.saves.broken}
        with pytest.raises(OSError, match="disk"):
            await bench.gate.flush()
        bench.saves.broken = None
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]
        assert bench.gate.dirty == 0
        assert bench.gate.failures == {}


async def test_rearming_tries_again_what_failed() -> None:
    bench = Bench(every=1)
    bench.saves.broken = OSError("disk")
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        await bench.gate.cancel()
        bench.saves.broken = None
        bench.gate.rearm()
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 1)]


async def test_a_cancelled_save_is_due_again() -> None:
    bench = Bench(every=1)
    bench.saves.hold = trio.Event()
    bench.turn(A)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.gate.flush)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        nursery.cancel_scope.cancel()
    bench.saves.hold = None
    assert bench.gate.dirty == 1
    async with running(bench):
        bench.gate.rearm()
    assert bench.saves.turns == [(A, 1)]


# -- the other limits ----------------------------------------------------------------------


async def test_a_session_is_saved_every_so_many_messages() -> None:
    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_messages=5))
    async with running(bench):
        bench.turn(A, "one", "two", "three", "four")
        bench.turn(B, "one")
        await wait_all_tasks_blocked()
        assert bench.saves.done == []
        bench.turn(A, "five")
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]
        bench.turn(A, "one", "two", "three", "four")  # counted anew
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]


async def test_a_session_is_saved_every_so_many_bytes() -> None:
    size = turn_bytes(turn_record(A, "x" * 100))
    assert size > 100
    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_bytes=2 * size))
    async with running(bench):
        bench.turn(A, "x" * 100)
        await wait_all_tasks_blocked()
        assert bench.saves.done == []
        bench.turn(A, "x" * 100)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]
        bench.turn(A, "x" * 99)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]
        bench.turn(B, "x" * 1000)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2), (B, 1)]


async def test_whichever_limit_is_reached_first_counts() -> None:
    bench = Bench(policy=CheckpointPolicy(2, 3, 1000, 10.0))
    async with running(bench):
        bench.turn(A)
        bench.turn(A)
        bench.turn(B, "1", "2", "3")
        bench.turn(SessionId("c"), "x" * 1000)
        await wait_all_tasks_blocked()
        assert sorted(bench.saves.turns) == [(A, 2), (B, 1), ("c", 1)]


async def test_a_session_is_saved_so_long_after_its_first_unsaved_turn(
    mock_clock: trio.testing.MockClock,
) -> None:
    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_s=10.0))
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        mock_clock.jump(6)
        bench.turn(B)
        bench.turn(A)  # the time of A began before
        await wait_all_tasks_blocked()
        mock_clock.jump(3.9)
        await wait_all_tasks_blocked()
        assert bench.saves.done == []
        mock_clock.jump(0.1)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]
        bench.turn(A)  # a new time begins
        mock_clock.jump(6)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2), (B, 1)]
        mock_clock.jump(4)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2), (B, 1), (A, 3)]
        assert bench.gate.dirty == 0


async def test_time_holds_a_timer_only_while_something_is_unsaved_and_the_gate_is_open(
    mock_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.13: idle costs nothing."""

    def timers() -> float:
        return trio.lowlevel.current_statistics().seconds_to_next_deadline

    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_s=10.0))
    async with running(bench):
        await wait_all_tasks_blocked()
        assert timers() == float("inf")
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert timers() == 10.0
        mock_clock.jump(4)
        await bench.gate.cancel()
        await wait_all_tasks_blocked()
        assert timers() == float("inf")
        bench.gate.rearm()
        await wait_all_tasks_blocked()
        assert timers() == 6.0
        mock_clock.jump(6)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 1)]
        assert timers() == float("inf")


async def test_a_time_that_came_while_the_gate_was_closed_is_kept(
    mock_clock: trio.testing.MockClock,
) -> None:
    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_s=10.0))
    async with running(bench):
        bench.turn(A)
        await bench.gate.cancel()
        mock_clock.jump(20)
        await wait_all_tasks_blocked()
        assert bench.saves.done == []
        bench.gate.rearm()
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 1)]


async def test_a_save_that_failed_at_its_time_is_tried_at_the_next_turn_and_not_in_a_loop(
    mock_clock: trio.testing.MockClock,
) -> None:
    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_s=10.0))
    bench.saves.broken = OSError("disk")
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        mock_clock.jump(100)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        bench.saves.broken = None
        bench.turn(A)
        await wait_all_tasks_blocked()
        assert bench.saves.turns == [(A, 2)]


async def test_a_turn_during_a_save_begins_the_time_of_the_next(
    mock_clock: trio.testing.MockClock,
) -> None:
    bench = Bench(policy=CheckpointPolicy(every_turns=MANY, every_s=10.0))
    bench.saves.hold = trio.Event()
    async with running(bench):
        bench.turn(A)
        await wait_all_tasks_blocked()
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 1
        bench.turn(A)
        mock_clock.jump(5)
        bench.saves.hold.set()
        await wait_all_tasks_blocked()
        assert bench.saves.done[-1][0] == A
        assert bench.gate.dirty == 1
        mock_clock.jump(5)
        await wait_all_tasks_blocked()
        assert bench.saves.begun == 2
        assert bench.gate.dirty == 0


async def test_a_step_writes_the_sessions_that_are_dirty_for_longest() -> None:
    """So each step shortens the tail that a reader must replay, however many are dirty."""
    realm = make_realm(MemoryStore(), EchoModel())
    sessions = [await new_session(realm) for _ in range(4)]
    for session in sessions:
        await realm.runner.send_message(session, "one")
    firsts = list(realm.state.dirty.items())
    assert [session for session, _ in firsts] == sessions
    for written in range(1, 4):
        assert await realm.recovery.write(most=1)
        assert realm.recovery.position == firsts[written][1] - 1
        assert list(realm.state.dirty) == sessions[written:]
