"""Stopping and going on."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.receipts import StopReport
from mob.records import MobStateChanged
from runtime.errors import SessionError
from runtime.ids import SessionId
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded
from runtime.session import Session
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, opened, pair, records, state_of

Clock = trio.testing.MockClock


def _slow(seconds: float) -> Any:
    async def answer(request: ModelRequest) -> str:
        await trio.sleep(seconds)
        return f"done {asked(request)}"

    return answer


def _states(store: Any) -> list[str]:
    return [record.state for record in records(store, MobStateChanged)]


class Snapshots:
    """A `SessionStore` in a dictionary, which a test breaks or makes slow."""

    def __init__(self) -> None:
        self.saved: dict[SessionId, Session] = {}
        self.saves = 0
        self.error: Exception | None = None
        self.takes_s = 0.0

    async def save(self, session: Session) -> None:
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        self.saves += 1
        self.saved[session.session_id] = session

    async def load(self, session_id: SessionId) -> Session | None:
        return self.saved.get(session_id)

    async def list(self) -> list[SessionId]:
        return sorted(self.saved)

    async def delete(self, session_id: SessionId) -> bool:
        return self.saved.pop(session_id, None) is not None


async def test_stop_lets_turns_in_flight_finish(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11: what is queued behind them waits for `resume`."""
    store = MemoryStore()
    async with opened(define("a", "b"), _slow(3), store=store) as mob:
        for text in ("1", "2"):
            await mob.send("a", text)
        await trio.sleep(1)
        start = trio.current_time()
        assert await mob.stop(deadline_s=60) == StopReport(("a",), ())
        assert trio.current_time() - start == pytest.approx(2)
        assert mob.state is MobState.STOPPED
        assert len(records(store, TurnEnded)) == 1
        await trio.sleep(100)
        assert len(records(store, TurnEnded)) == 1
        await mob.resume()
        await mob.wait_idle()
        assert len(records(store, TurnEnded)) == 2
    assert _states(store) == ["running", "stopped", "running"]
    check_inputs(store)


async def test_stop_reports_only_members_whose_turns_had_begun(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11."""
    async with opened(define("a", "b"), _slow(1)) as mob:
        await mob.send("a", "1")
        await trio.sleep(0.5)
        mob._accept(mob._row("b"), "never begun", None, None, nested=False)
        assert await mob.stop() == StopReport(("a",), ())


async def test_stop_cancels_what_is_left_at_the_deadline(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11; at `resume` the turn goes on and its asker is told."""
    stuck = Stuck()
    answers: list[str] = []
    async with opened(define("a", "b"), stuck) as mob:

        async def ask() -> None:
            answers.append((await mob.ask("a", "1")).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            start = trio.current_time()
            assert await mob.stop(deadline_s=7) == StopReport((), ("a",))
            assert trio.current_time() - start == pytest.approx(7)
            assert mob.at_work == ()
            stuck.gate.set()
            await trio.sleep(100)
            assert answers == []
            await mob.resume()
        assert answers == ["done 1"]


async def test_a_stopped_or_stopping_mob_refuses_work(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11, 6.1: nothing is recorded, and the error says what is under way."""
    store = MemoryStore()
    async with opened(define("a", "b"), _slow(5), store=store) as mob:
        await mob.send("a", "1")
        await trio.testing.wait_all_tasks_blocked()

        async def refused(doing: str, *, retire: bool) -> None:
            verbs = {
                "ask": mob.ask("a", "x"),
                "send": mob.send("a", "x"),
                "spawn": mob.spawn("x", profile="p"),
                "stop": mob.stop(),
            }
            if retire:
                verbs["retire"] = mob.retire("b")
            for verb, call in verbs.items():
                with pytest.raises(VerbRefused, match=f"that is {doing} does not allow '{verb}'"):
                    await call
            for verb in ("interrupt", "kill"):
                with pytest.raises(VerbRefused) as caught:
                    getattr(mob, verb)("a")
                assert caught.value.verb == verb

        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.stop)
            await trio.testing.wait_all_tasks_blocked()
            await refused("being stopped", retire=True)
            with pytest.raises(VerbRefused, match="'resume'"):
                await mob.resume()
        await refused("stopped", retire=False)
        await mob.retire("b")  # a stopped mob may be tidied up
        assert mob.members == ("a",)
    assert len(records(store, InputAccepted)) == 1


async def test_questions_of_turns_in_flight_are_answered_while_draining(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.11: the turn that asked cannot end without the answer. What others had sent to
    the asked member stays in its queue, and is answered first after `resume`."""
    store = MemoryStore()

    async def first(request: ModelRequest) -> str | ModelReply:
        results = [each for each in request.messages if isinstance(each, ToolResult)]
        if results:
            return results[-1].text
        await trio.sleep(2)
        return calling(("ask_pb", {"message": "nested"}))

    async with opened(pair(), store=store, a=first, b=_slow(3)) as mob:
        await mob.send("a", "go")
        for text in ("1", "2"):
            await mob.send("b", text)
        await trio.sleep(1)
        assert await mob.stop(deadline_s=60) == StopReport(("a", "b"), ())
        texts = [turn.messages[0].text for turn in records(store, TurnEnded)]
        assert texts == ["1", "nested", "go"]
        await mob.resume()
        await mob.wait_idle()
    assert records(store, TurnEnded)[-1].messages[0].text == "2"
    check_inputs(store)


async def test_a_question_cut_off_while_draining_goes_on_before_what_was_sent_earlier(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.12: its turn is in flight on disk, and no other may be begun beside it."""
    store = MemoryStore()

    def asking(request: ModelRequest) -> str | ModelReply:
        results = [each for each in request.messages if isinstance(each, ToolResult)]
        return results[-1].text if results else calling(("ask_pb", {"message": "nested"}))

    async def second(request: ModelRequest) -> str | ModelReply:
        results = [each for each in request.messages if isinstance(each, ToolResult)]
        if asked(request) == "nested" and (not results or "nested" not in results[-1].text):
            return calling(("spawn_agent", {"name": "kid", "instructions": "kid of nested"}))
        await trio.sleep(3)
        return f"done {asked(request)}"

    definition = pair(profile={"subagents": {}})
    async with opened(definition, store=store, a=asking, b=second) as mob:
        await mob.send("b", "1")
        await mob.send("b", "2")
        await trio.sleep(1)
        await mob.send("a", "go")
        await trio.sleep(0.5)
        stopped = await mob.stop(deadline_s=4)
        kids = tuple(mob.realm.state.head(mob.session_of("b")).children or ())
        assert (len(kids), stopped) == (1, StopReport((), ("b", "a"), kids))
        await mob.resume()
        await mob.wait_idle()
        live = state_of(mob)
    turns = records(store, TurnEnded)
    of_b = [t for t in turns if t.session_id == mob.session_of("b")]
    assert [t.messages[0].text for t in of_b] == ["1", "nested", "2"]
    assert [t.messages[-1].text for t in of_b] == ["done 1", "done nested", "done 2"]
    check_inputs(store)
    async with opened(definition, store=store, a=asking, b=second) as mob:
        assert state_of(mob) == live


async def test_a_turn_that_crashes_while_draining_is_restarted_within_the_deadline(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.11, 6.8: a turn in flight that crashes is still in flight."""
    calls = 0

    async def answer(request: ModelRequest) -> str:
        nonlocal calls
        calls += 1
        await trio.sleep(2)
        if calls == 1:
            raise ValueError
        return "ok"

    async with opened(define("a"), answer) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "x")
            await trio.sleep(1)
            assert await mob.stop(deadline_s=60) == StopReport(("a",), ())
    assert calls == 2


async def test_a_member_waiting_for_its_restart_is_cut_off_at_the_deadline(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.11: the backoff does not hold `stop` up, and `resume` does not wait for it."""

    async def answer(request: ModelRequest) -> str:
        if trio.current_time() < 50:
            raise ValueError
        return "ok"

    policy = {"backoff_s": 1000.0, "max_backoff_s": 1000.0}
    async with opened(define("a", restart=policy), answer) as mob:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert (await mob.ask("a", "x")).text == "ok"

            nursery.start_soon(ask)
            await trio.sleep(1)
            assert await mob.stop(deadline_s=2) == StopReport((), ("a",))
            await trio.sleep(50)
            await mob.resume()
        assert trio.current_time() < 100


async def test_a_stopped_mob_stays_stopped_when_it_is_opened_again(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.13, and 5.12: the turn that was cut off and the input behind it are done then."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(define("a"), stuck, store=store) as mob:
        await mob.send("a", "1")
        await mob.send("a", "2")
        await stuck.entered.wait()
        await mob.stop(deadline_s=1)
    stuck.gate.set()
    for _ in range(2):
        async with opened(define("a"), stuck, store=store) as mob:
            assert mob.state is MobState.STOPPED
            await trio.sleep(100)
            assert mob.at_work == ()
            with pytest.raises(VerbRefused):
                await mob.ask("a", "3")
            with pytest.raises(VerbRefused):
                await mob.stop()
    assert records(store, TurnEnded) == []
    async with opened(define("a"), stuck, store=store) as mob:
        await mob.resume()
        await mob.wait_idle()
    assert stuck.calls == ["1", "1", "2"]
    assert _states(store) == ["running", "stopped", "running"]
    check_inputs(store)


async def test_resume_is_only_for_the_stopped(autojump_clock: Clock) -> None:
    """CONTRACTS 5.12, 6.1."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        with pytest.raises(VerbRefused) as caught:
            await mob.resume()
        assert (caught.value.state, caught.value.verb) == (MobState.RUNNING, "resume")
        await mob.stop()
        refused: list[VerbRefused] = []

        async def resume() -> None:
            try:
                await mob.resume()
            except VerbRefused as error:
                refused.append(error)

        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resume)
            nursery.start_soon(resume)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(VerbRefused):
                await mob.ask("a", "x")
            store.release()
        assert len(refused) == 1
        assert "being resumed" in str(refused[0])
    assert _states(store) == ["running", "stopped", "running"]


# -- checkpointer gates ----------------------------------------------------------------------


def _gate(mob: Mob) -> Any:
    return mob._gate


async def test_gates_close_with_stop_and_open_with_resume(autojump_clock: Clock) -> None:
    """CONTRACTS 5.9, 5.11, 5.12: what the turns left is saved before the gate closes."""
    store, snapshots = MemoryStore(), Snapshots()
    async with opened(define("a"), store=store, sessions=snapshots) as mob:
        session = mob.session_of("a")
        await mob.ask("a", "1")
        assert snapshots.saves == 0
        await mob.stop()
        assert (snapshots.saves, _gate(mob).open) == (1, False)
        assert len(snapshots.saved[session].messages) == 2
        await mob.resume()
        assert _gate(mob).open
        await mob.ask("a", "2")
        await mob.stop()
        assert len(snapshots.saved[session].messages) == 4
        await mob.resume()
        await mob.stop()
        assert snapshots.saves == 2  # nothing had changed
    async with opened(define("a"), store=store, sessions=snapshots) as mob:
        assert not _gate(mob).open


async def test_a_step_of_stop_that_fails_leaves_the_mob_running(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11: the gate is open again and cut-off turns go on."""
    store, snapshots, stuck = MemoryStore(), Snapshots(), Stuck()
    async with opened(define("a", "b"), stuck, store=store, sessions=snapshots) as mob:
        stuck.gate.set()
        await mob.ask("b", "1")
        stuck.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "2")
            await trio.testing.wait_all_tasks_blocked()
            snapshots.error = OSError("no room")
            with pytest.raises(Exception, match="no room") as caught:
                await mob.stop(deadline_s=1)
            assert not isinstance(caught.value, SessionError)
            assert mob.state is MobState.RUNNING
            assert _gate(mob).open
            assert mob.at_work == ("a",)
            stuck.gate.set()
        snapshots.error = None
        assert (await mob.ask("b", "3")).text == "done 3"
        await mob.stop()
        assert len(snapshots.saved) == 2
    assert _states(store) == ["running", "stopped"]
    check_inputs(store)


async def test_a_step_of_stop_that_fails_behind_the_closed_gate_opens_it_again(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 5.11."""
    store = HeldStore()

    def broken(*_: Any) -> None:
        assert not _gate(mob).open
        raise OSError("no disk")

    async with opened(define("a"), store=store) as mob:
        with monkeypatch.context() as patch:
            patch.setattr(store, "submit", broken)
            with pytest.raises(OSError, match="no disk"):
                await mob.stop()
        assert (mob.state, _gate(mob).open) == (MobState.RUNNING, True)
        await mob.ask("a", "x")


async def test_a_stop_that_is_cancelled_leaves_the_mob_running(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11."""
    store, stuck = MemoryStore(), Stuck()
    async with opened(define("a"), stuck, store=store) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "1")
            await stuck.entered.wait()
            with trio.move_on_after(2):
                await mob.stop(deadline_s=60)
            assert mob.state is MobState.RUNNING
            await mob.send("a", "2")
            stuck.gate.set()
    assert _states(store) == ["running"]
    check_inputs(store)


@pytest.mark.parametrize("verb", ["stop", "resume"])
async def test_a_change_that_is_cancelled_while_it_is_recorded_has_happened(
    verb: str, autojump_clock: Clock
) -> None:
    """CONTRACTS 5.11, 5.12: nothing takes the record back, so the mob is as the record says."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        if verb == "resume":
            await mob.stop()
        store.hold()
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                with trio.move_on_after(1):
                    await getattr(mob, verb)()

            nursery.start_soon(change)
            await trio.sleep(5)
            store.release()
        stopped = verb == "stop"
        assert mob.state is (MobState.STOPPED if stopped else MobState.RUNNING)
        assert _gate(mob).open is not stopped
        if not stopped:
            await mob.ask("a", "x")


async def test_a_save_that_fails_does_not_end_the_mob(autojump_clock: Clock) -> None:
    """CONTRACTS 2.7, 5.9: snapshots decide nothing; what failed is saved later."""
    snapshots = Snapshots()
    snapshots.error = OSError("no room")
    definition = define("a", checkpoint={"every_turns": 1})
    async with opened(definition, sessions=snapshots) as mob:
        for text in ("1", "2", "3"):
            assert (await mob.ask("a", text)).text == text
            await trio.testing.wait_all_tasks_blocked()
        snapshots.error = None
        await mob.ask("a", "4")
        await trio.testing.wait_all_tasks_blocked()
        assert len(snapshots.saved[mob.session_of("a")].messages) == 8


async def test_a_save_in_flight_finishes_before_the_gate_is_closed(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.9; and a slow one never slows a turn down."""
    snapshots = Snapshots()
    snapshots.takes_s = 10.0
    definition = define("a", checkpoint={"every_turns": 1})
    async with opened(definition, sessions=snapshots) as mob:
        await mob.ask("a", "1")
        await mob.ask("a", "2")
        assert trio.current_time() < 1
        await mob.stop()
        saves = snapshots.saves
        assert len(snapshots.saved[mob.session_of("a")].messages) == 4
        await trio.sleep(100)
        assert snapshots.saves == saves


async def test_stopping_one_mob_leaves_another_on_the_same_store_alone(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.10."""
    store, snapshots = MemoryStore(), Snapshots()
    one = define("a", checkpoint={"every_turns": 1})
    other = define("a", mob={"id": "u", "lead": "a"}, checkpoint={"every_turns": 1})
    async with opened(one, store=store) as first:
        async with opened(other, store=store, sessions=snapshots) as second:
            await first.stop()
            await second.ask("a", "x")
            await trio.testing.wait_all_tasks_blocked()
            assert snapshots.saves == 1
            assert second.state is MobState.RUNNING
