"""Runs that a caller applies: receipts, recovery, bounded attempts (CONTRACTS 5.5 to 5.8)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.applying import CoreApplyOutput, RuntimeTurns
from runtime.errors import InputRefused, OutputInvalid, SessionBusy, TurnFailed
from runtime.ids import InputId, RunId, SessionId
from runtime.ledger import (
    MAX_ATTEMPTS,
    TRANSITIONS,
    InputMisuse,
    InputState,
    RunApplied,
    RunApplyBoundary,
    check,
)
from runtime.realm import Realm
from runtime.records import TurnEnded
from runtime.turn import TurnRules
from stores import MemoryDisk, MemoryStore, open_memory
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session, open_lagging

START = RunApplyBoundary.RUN_START
TERMINAL = {
    InputState.CONSUMED,
    InputState.SUPERSEDED,
    InputState.COALESCED,
    InputState.ABANDONED,
}


async def forever(_: Any) -> None:
    await trio.sleep_forever()


async def accept(realm: Realm, session_id: SessionId, text: str, key: str | None = None) -> InputId:
    admission = realm.inputs.accept(session_id, text, idempotency_key=key)
    assert admission.pending is not None
    if admission.ticket is not None:
        await admission.ticket.wait()
    return admission.pending.input_id


async def apply(realm: Realm, session_id: SessionId, run: str, *ids: InputId) -> CoreApplyOutput:
    return await RuntimeTurns(realm).apply(session_id, RunId(run), "", START, ids)


@pytest.mark.parametrize("state", InputState)
@pytest.mark.parametrize("wanted", InputState)
def test_the_table_says_what_may_follow(state: InputState, wanted: InputState) -> None:
    """CONTRACTS 5.6: terminal is final; what the table does not list is refused."""
    if wanted in TRANSITIONS[state]:
        check(InputId("i"), state, wanted)
        assert state not in TERMINAL
    else:
        with pytest.raises(InputMisuse, match=state.value):
            check(InputId("i"), state, wanted)


async def test_one_commit_holds_turn_receipt_and_inputs() -> None:
    """CONTRACTS 5.5."""
    async with open_memory(MemoryDisk()) as store:
        realm = make_realm(store, lambda request: f"re: {request.messages[-1].text}")
        session_id = await new_session(realm)
        one, two = [await accept(realm, session_id, text, text) for text in ("one", "two")]
        before = realm.journal.last
        output = await apply(realm, session_id, "r1", one, two)
        turn, receipt = [event.record for event in realm.journal.read(before)]
        assert isinstance(turn, TurnEnded)
        assert (turn.run_id, turn.input_ids) == ("r1", (one, two))
        assert output.receipt == receipt
        assert isinstance(receipt, RunApplied)
        assert (receipt.input_ids, receipt.messages, receipt.total, receipt.sequence) == (
            (one, two),
            3,
            3,
            1,
        )
        assert len(receipt.digest) == 64
        assert output.result.text == "re: two"
        turns = RuntimeTurns(realm)
        assert turns.inputs(session_id) == []
        view = turns.by_key(session_id, "one")
        assert view is not None
        assert view.state is InputState.CONSUMED


@pytest.mark.parametrize("cut_at", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
async def test_a_crash_at_any_point_leaves_all_or_nothing(
    cut_at: float, autojump_clock: Any
) -> None:
    """CONTRACTS 5.5, 5.7: what has a receipt is consumed, what has none is queued again, and the
    same run applied again is done once."""
    disk, work = MemoryStore(), Doing(lambda _: "worked")
    script = [asking(call("c1")), "done"]
    async with open_lagging(disk, delay_s=1.0) as store:
        realm = make_realm(store, list(script), [work])
        session_id = await new_session(realm)
        one = await accept(realm, session_id, "one")
        with trio.move_on_after(cut_at):
            await apply(realm, session_id, "r1", one)
    async with open_lagging(disk, delay_s=0.0) as store:
        left = script[1:] if work.begun else list(script)
        realm = make_realm(store, left, [work])
        receipt = realm.state.runs.receipt(RunId("r1"))
        views = RuntimeTurns(realm).inputs(session_id)
        assert (receipt is None) == bool(views)
        assert all(view.state is InputState.QUEUED for view in views)
        output = await apply(realm, session_id, "r1", one)
        again = await apply(realm, session_id, "r1", one)
        assert again == output
        assert realm.state.head(session_id).turns == 1
        assert len(work.begun) <= 1


async def test_a_receipt_answers_also_from_its_row() -> None:
    """CONTRACTS 5.7."""
    disk = MemoryDisk()
    async with open_memory(disk) as store:
        realm = make_realm(store, ["done"])
        session_id = await new_session(realm)
        one = await accept(realm, session_id, "one")
        first = await apply(realm, session_id, "r1", one)
        await realm.checkpoint()
    async with open_memory(disk) as store:
        realm = make_realm(store, [])
        assert (await apply(realm, session_id, "r1", one)).receipt == first.receipt
        with pytest.raises(InputRefused, match="was applied"):
            await apply(realm, session_id, "r1", InputId("other"))
        with pytest.raises(InputRefused, match="not queued"):
            await apply(realm, session_id, "r2", one)


async def test_an_input_is_tried_so_often_and_blocks_nothing() -> None:
    """CONTRACTS 5.8: bounded, across restarts; then abandoned with the reason."""
    disk = MemoryDisk()

    def says(request: Any) -> str:
        if request.messages[-1].text == "bad":
            raise RuntimeError("boom")
        return "good"

    async with open_memory(disk) as store:
        realm = make_realm(store, says)
        session_id = await new_session(realm)
        bad, good = [await accept(realm, session_id, text, text) for text in ("bad", "good")]
    for attempt in range(1, MAX_ATTEMPTS + 1):
        async with open_memory(disk) as store:
            realm = make_realm(store, says)
            with pytest.raises(TurnFailed, match="boom"):
                await apply(realm, session_id, f"r{attempt}", bad)
            await realm.checkpoint()
            views = {
                each.input_id: each.attempts for each in RuntimeTurns(realm).inputs(session_id)
            }
            assert views == ({good: 0} if attempt == MAX_ATTEMPTS else {bad: attempt, good: 0})
    async with open_memory(disk) as store:
        realm = make_realm(store, says)
        view = RuntimeTurns(realm).by_key(session_id, "bad")
        assert view is not None
        assert view.state is InputState.ABANDONED
        assert "failed 3 times" in (view.reason or "")
        assert (await apply(realm, session_id, "r9", good)).result.text == "good"
        assert realm.state.runs.attempts == {}


async def test_a_run_that_failed_is_not_run_again() -> None:
    """CONTRACTS 4.2, 5.8: a run ends once. Who applies it again, having missed its end, is told
    of the failure, by every later process too; the inputs go on as another run."""
    disk, asked = MemoryDisk(), []

    def says(request: Any) -> str:
        asked.append(request.messages[-1].text)
        if request.messages[-1].text.startswith("bad"):
            raise RuntimeError("boom")
        return "good"

    async with open_memory(disk) as store:
        realm = make_realm(store, says)
        session_id = await new_session(realm)
        texts = ("bad 1", "bad 2", "good")
        one, two, good = [await accept(realm, session_id, text) for text in texts]
        for run in ("r1", "r2"):
            with pytest.raises(TurnFailed, match="boom"):
                await apply(realm, session_id, run, one)
        with pytest.raises(TurnFailed, match="boom"):  # the first is given up, the other is not
            await apply(realm, session_id, "r3", one, two)
    for _ in range(3):  # from the tail of the journal, from memory, from a row
        async with open_memory(disk) as store:
            realm = make_realm(store, says)
            before = realm.journal.last, len(asked)
            for run, ids in (("r1", [one]), ("r3", [one, two])):
                with pytest.raises(TurnFailed, match="boom"):
                    await apply(realm, session_id, run, *ids)
            with pytest.raises(InputRefused, match="another id"):
                await apply(realm, session_id, "r3", good)
            assert (realm.journal.last, len(asked)) == before
            await realm.checkpoint()
    async with open_memory(disk) as store:
        realm = make_realm(store, says)
        assert (await apply(realm, session_id, "r4", good)).result.text == "good"


async def test_a_failed_run_is_known_by_all_its_inputs_and_says_how_it_failed() -> None:
    """CONTRACTS 4.2, 5.8."""
    async with open_memory(MemoryDisk()) as store:
        rules = TurnRules(output_schema={"type": "integer"}, output_retries=0)
        realm = make_realm(store, lambda _: "no number", rules=rules)
        session_id = await new_session(realm)
        one, two = [await accept(realm, session_id, text) for text in ("one", "two")]
        for _ in range(2):
            with pytest.raises(OutputInvalid, match="does not fit") as told:
                await apply(realm, session_id, "r1", one, two)
            assert told.value.text == "no number"
        for ids in ([one], [two]):
            with pytest.raises(InputRefused, match="another id"):
                await apply(realm, session_id, "r1", *ids)
        assert realm.state.head(session_id).turns == 1


async def test_a_run_whose_inputs_were_all_given_up_is_not_run_again_on_others() -> None:
    """CONTRACTS 4.2, 5.8."""
    async with open_memory(MemoryDisk()) as store:
        realm = make_realm(store, lambda _: 1 / 0)
        session_id = await new_session(realm)
        one, two = [await accept(realm, session_id, text) for text in ("one", "two")]
        for run in ("r1", "r2", "r3", "r3"):
            with pytest.raises(TurnFailed, match="division"):
                await apply(realm, session_id, run, one)
        turns = realm.state.head(session_id).turns
        with pytest.raises(TurnFailed, match="division"):
            await apply(realm, session_id, "r3", two)
        assert realm.state.head(session_id).turns == turns == MAX_ATTEMPTS


async def test_an_immediate_run_calls_no_model() -> None:
    async with open_memory(MemoryDisk()) as store:
        realm = make_realm(store, [])
        session_id = await new_session(realm)
        one = await accept(realm, session_id, "note this")
        boundary = RunApplyBoundary.IMMEDIATE
        output = await RuntimeTurns(realm).apply(session_id, RunId("r1"), "", boundary, [one])
        assert [each.text for each in output.session.messages] == ["note this"]
        assert output.receipt.boundary is boundary


@pytest.mark.parametrize("state", [s for s in InputState if s in TERMINAL - {InputState.CONSUMED}])
async def test_an_input_ends_for_a_reason_and_for_good(state: InputState) -> None:
    """CONTRACTS 5.6."""
    async with open_memory(MemoryDisk()) as store:
        realm = make_realm(store, [])
        session_id = await new_session(realm)
        one = await accept(realm, session_id, "one", "key")
        turns = RuntimeTurns(realm)
        await turns.end(session_id, one, state, "i-2")
        view = turns.by_key(session_id, "key")
        assert view is not None
        assert view.state is state
        with pytest.raises(InputRefused):
            await turns.end(session_id, one, InputState.ABANDONED, "again")
        with pytest.raises(InputRefused):
            await apply(realm, session_id, "r1", one)


async def test_a_run_in_flight_goes_before_another() -> None:
    """CONTRACTS 4.2."""
    disk = MemoryDisk()
    async with open_memory(disk) as store:
        work = Doing(forever)
        realm = make_realm(store, [asking(call("c1"))], [work])
        session_id = await new_session(realm)
        one, two = [await accept(realm, session_id, text) for text in ("one", "two")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(apply, realm, session_id, "r1", one)
            while not work.begun:
                await trio.lowlevel.checkpoint()
            views = RuntimeTurns(realm).inputs(session_id)
            assert [view.state for view in views] == [InputState.APPLIED, InputState.QUEUED]
            with pytest.raises(SessionBusy):
                await apply(realm, session_id, "r2", two)
            nursery.cancel_scope.cancel()
    async with open_memory(disk) as store:
        realm = make_realm(store, ["done", "done too"], [work])
        with pytest.raises(SessionBusy):
            await apply(realm, session_id, "r2", two)
        assert (await apply(realm, session_id, "r1", one)).result.text == "done"
        assert (await apply(realm, session_id, "r2", two)).result.text == "done too"
