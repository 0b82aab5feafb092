"""The pure scheduler: tables, and random graphs with random outcomes, cut off at every record."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mob.flows.asks import Place, place_of, wanted
from mob.flows.definition import FlowDefinition, StepDefinition, packed, unpacked
from mob.flows.records import (
    FlowEnded,
    FlowRunId,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
    RunState,
    StepState,
)
from mob.flows.scheduler import MAX_BACKOFF_S, Now, after_failure
from mob.flows.state import (
    RUN_TRANSITIONS,
    TRANSITIONS,
    RunMisuse,
    StepRun,
    apply,
    pack,
    started,
    unpack,
)
from runtime.heads import pack_row, unpack_row
from tests.mob.flows.graphs import Outcomes, Play, checked, flows

#: Said a second time, so that a change of the table is a decision.
MAY = {
    "pending": {"running", "skipped", "failed", "cancelled"},
    "ready": {"running", "failed", "cancelled"},
    "running": {"ready", "succeeded", "failed", "cancelled"},
    "succeeded": {"pending"},
    "failed": {"pending"},
    "skipped": {"pending"},
    "cancelled": set(),
}


def test_the_tables_are_the_ones_that_are_documented() -> None:
    """CONTRACTS 6.10."""
    assert {a.value: {b.value for b in to} for a, to in TRANSITIONS.items()} == MAY
    ends = {state for state in RunState if not RUN_TRANSITIONS[state]}
    assert ends == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


@pytest.mark.parametrize(("state", "to"), list(itertools.product(StepState, StepState)))
def test_what_the_table_does_not_list_is_an_error(state: StepState, to: StepState) -> None:
    """CONTRACTS 6.10: a step that has ended is never begun again by the same round."""
    flow = FlowDefinition({"s": StepDefinition("x", member="a")})
    run = started(FlowStarted(FlowRunId("r"), "f", packed(flow), "{}", None, 1))
    run = attrs.evolve(run, steps={"s": StepRun(state)})
    records: dict[StepState, Any] = {
        StepState.RUNNING: FlowStepStarted(run.run_id, "s", 1, 1, ("a",), None, 2),
        StepState.READY: FlowStepRetried(run.run_id, "s", 1, 1, "no", 3, 2),
    }
    record = records.get(to, FlowStepEnded(run.run_id, "s", 1, to, None, None, 2))
    if to in TRANSITIONS[state]:
        assert apply(run, record).steps["s"].state is to
    else:
        with pytest.raises(RunMisuse, match=f"is {state.value} in round 1 and cannot"):
            apply(run, record)
    with pytest.raises(RunMisuse, match="in round 2"):
        apply(run, attrs.evolve(record, round=2))


def told(table: dict[Any, int | None]) -> Any:
    return lambda place: table.get(place, 0)


def tables() -> st.SearchStrategy[dict[Any, int | None]]:
    places = st.tuples(
        st.sampled_from([f"s{index}" for index in range(8)]), st.integers(1, 3), st.integers(1, 3)
    )
    return st.dictionaries(places, Outcomes, max_size=40)


@given(flows(), tables(), st.lists(st.integers(0, 7), max_size=12))
def test_a_run_ends_once_however_its_steps_end_and_in_which_order(
    flow: FlowDefinition, outcomes: dict[Any, int | None], order: list[int]
) -> None:
    """CONTRACTS 6.10: no graph gets stuck, and each attempt begins once."""
    checked(flow)
    play = Play(flow)
    for index in order:
        if play.run.ended or not play.working:
            break
        work = play.working[index % len(play.working)]
        play.answer(index, outcomes.get((work.step, work.round, work.attempt), 0))
    play.finish(told(outcomes))
    assert sum(isinstance(record, FlowEnded) for record in play.records) == 1
    begun = [
        (record.step, record.round, record.attempt)
        for record in play.records
        if isinstance(record, FlowStepStarted)
    ]
    assert len(begun) == len(set(begun))
    for name, at in play.run.steps.items():
        definition = flow.steps[name]
        if at.attempt:  # it ran in its last round: what it needs had succeeded
            for need in (each for each in definition.needs if each in flow.steps):
                assert play.run.steps[need].state is StepState.SUCCEEDED
        assert at.ended
    for names in flow.branches().values():
        won = [n for n in names if play.run.steps[n].state is StepState.SUCCEEDED]
        assert len(won) <= 1


@given(flows(), tables(), st.data())
def test_a_run_that_is_cut_off_anywhere_goes_on_to_the_same_end(
    flow: FlowDefinition, outcomes: dict[Any, int | None], data: st.DataObject
) -> None:
    """CONTRACTS 6.9, 6.10: what has ended is never begun again; unfinished steps are."""
    play = Play(flow)
    whole = play.finish(told(outcomes))
    for length in range(1, len(play.records) + 1):
        prefix = play.records[:length]
        run = started(prefix[0])  # type: ignore[arg-type]
        for record in prefix[1:]:
            run = apply(run, record)
        assert unpack(unpack_row(pack_row(*pack(run)))) == run, "a row holds all of it"
        if run.ended:
            assert length == len(play.records)
            continue
        again = Play(flow, list(prefix))
        ended = again.finish(told(outcomes))
        assert (ended.state, ended.error) == (whole.state, whole.error)
        news = again.records[length:]
        for record in news:
            if isinstance(record, FlowStepStarted):
                at = run.steps[record.step]
                place = (record.round, record.attempt)
                assert not (at.ended and at.round == record.round)
                assert at.state is StepState.PENDING or place > (at.round, at.attempt)
        outputs = {name: (at.state, at.output) for name, at in again.run.steps.items()}
        assert outputs == {name: (at.state, at.output) for name, at in play.run.steps.items()}


@given(flows(), tables(), st.integers(0, 20))
def test_cancelling_ends_a_run_at_any_moment(
    flow: FlowDefinition, outcomes: dict[Any, int | None], after: int
) -> None:
    """CONTRACTS 6.10."""
    play = Play(flow)
    for _ in range(after):
        if play.run.ended or not play.working:
            break
        work = play.working[0]
        play.answer(0, outcomes.get((work.step, work.round, work.attempt), 0))
    if play.run.ended:
        with pytest.raises(RunMisuse):
            play.cancel()
        return
    play.cancel()
    assert play.run.state is RunState.CANCELLED
    assert all(at.ended for at in play.run.steps.values())


@given(flows())
def test_a_flow_as_json_is_the_flow(flow: FlowDefinition) -> None:
    """CONTRACTS 6.10: a run is pinned to what it was started with, branches in their order."""
    assert unpacked(packed(flow)) == flow
    assert list(unpacked(packed(flow)).steps) == list(flow.steps)


def test_the_backoff_doubles_and_is_bounded() -> None:
    """CONTRACTS 6.10: retries."""
    flow = FlowDefinition({"s": StepDefinition("x", member="a", retries=100, backoff_s=2)})
    run = started(FlowStarted(FlowRunId("r"), "f", packed(flow), "{}", None, 1))
    for attempt, delay_s in [(1, 2), (2, 4), (3, 8), (60, MAX_BACKOFF_S), (100, MAX_BACKOFF_S)]:
        at = StepRun(StepState.RUNNING, attempt=attempt)
        run = attrs.evolve(run, steps={"s": at})
        record = after_failure(run, "s", "no", Now(7, lambda _: ()), final=False)
        assert isinstance(record, FlowStepRetried)
        assert record.due_ns == 7 + delay_s * 1_000_000_000
        ended = after_failure(run, "s", "no", Now(7, lambda _: ()), final=True)
        assert isinstance(ended, FlowStepEnded)


def test_a_question_is_wanted_by_the_attempt_that_asks_it_and_by_no_other() -> None:
    """CONTRACTS 6.10: its key says whose it is."""
    flow = FlowDefinition({"a-b_c": StepDefinition("x", member="a")})
    run = started(FlowStarted(FlowRunId("r"), "f", packed(flow), "{}", None, 1))
    place = Place(run.run_id, "a-b_c", 2, 3, 4)
    assert place_of(place.key) == place
    for other in (None, "run:x:0", "flow:r:a:b:c:d", "flow:r:a:1:2"):
        assert place_of(other) is None
    at = StepRun(StepState.RUNNING, round=2, attempt=3)
    running = attrs.evolve(run, steps={"a-b_c": at})
    assert wanted(running, place)
    for change in ({"round": 1}, {"attempt": 2}, {"state": StepState.READY}):
        there = attrs.evolve(run, steps={"a-b_c": attrs.evolve(at, **change)})
        assert not wanted(there, place)
    assert not wanted(None, place)
    assert not wanted(attrs.evolve(running, state=RunState.FAILED), place)
    assert not wanted(running, attrs.evolve(place, step="gone"))
