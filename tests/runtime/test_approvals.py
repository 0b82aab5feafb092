"""Calls that wait for approval: durably, each decided once, none run twice."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.approvals import ApprovalDecided, Verdict
from runtime.asking import TurnWaits
from runtime.driver import SessionConfig
from runtime.errors import ApprovalNotFound, ApprovalRefused, TurnInterrupted
from runtime.ids import SessionId
from runtime.messages import Message, ToolOutcome, ToolResult
from runtime.models.scripted import Line, ScriptedModel
from runtime.realm import Realm
from runtime.session import SessionStatus
from runtime.tools.base import Tool, Toolbox
from stores import MemoryDisk, Store
from tests.runtime.fakes import REALM, Doing, asking, call, counting_ports, new_session

NUMBER = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def realm_with(store: Store, script: list[Line], *tools: Tool, start: int = 1) -> Realm:
    model = ScriptedModel(script)
    box = Toolbox(tools, approve=("pay*",))
    realm = Realm(
        store,
        REALM,
        lambda _: SessionConfig(model, toolbox=box),
        ports=counting_ports(start),
    )
    realm.recover()
    return realm


def paying(**given: Any) -> Doing:
    return Doing(lambda arguments: f"paid {arguments.get('n')}", "pay", parameters=NUMBER, **given)


async def forever(_: Any) -> None:
    await trio.sleep_forever()


def results_of(messages: list[Message]) -> dict[str, ToolResult]:
    return {each.call_id: each for each in messages if isinstance(each, ToolResult)}


async def start(realm: Realm, session_id: SessionId, text: str = "go") -> None:
    """Run a turn until it waits."""
    admission = realm.inputs.accept(session_id, text)
    assert admission.pending is not None
    with pytest.raises(TurnWaits):
        await realm.driver(session_id, [admission.pending]).run([admission.pending])


async def go_on(realm: Realm, session_id: SessionId) -> str:
    inputs = tuple((realm.state.heads[session_id].inputs or {}).values())
    record = await realm.driver(session_id, inputs).run(inputs)
    return record.messages[-1].text


async def test_a_call_waits_durably_and_runs_once_when_it_is_approved() -> None:
    """Issue: approval waits across restarts. CONTRACTS 1.6: the status is WAITING."""
    disk = MemoryDisk()
    pay = paying()
    reply = asking(call("c1", "pay", '{"n": 1}'))
    async with _open(disk) as store:
        realm = realm_with(store, [reply], pay)
        session_id = await new_session(realm, title="clerk")
        await start(realm, session_id)
        head = realm.state.heads[session_id]
        assert (head.status, pay.begun) == (SessionStatus.WAITING, [])
        assert realm.running(session_id) is None, "nothing works on it"
        (waits,) = realm.decisions.waiting()
        assert (waits.tool, waits.arguments, waits.asker) == ("pay", '{"n": 1}', "clerk")
        with pytest.raises(TurnWaits):  # taken up without a decision it waits on
            await go_on(realm, session_id)
    for start_at in (1000, 2000):  # with and without rows of a checkpoint
        async with _open(disk) as store:
            realm = realm_with(store, ["done"], pay, start=start_at)
            assert realm.decisions.waiting() == (waits,)
            assert realm.state.heads[session_id].status is SessionStatus.WAITING
            assert realm.decisions.parked(session_id)
            await realm.checkpoint()
    async with _open(disk) as store:
        realm = realm_with(store, ["done"], pay, start=3000)
        approved = await realm.decisions.approve(waits.key, by="ada")
        assert (approved.verdict, approved.by) == (Verdict.APPROVED, "ada")
        assert realm.state.heads[session_id].status is SessionStatus.ACTIVE
        assert await go_on(realm, session_id) == "done"
        assert pay.finished == ["c1"]
        assert results_of(realm.messages(session_id))["c1"].text == "paid 1"
        assert not realm.decisions.waiting()
        with pytest.raises(ApprovalNotFound, match="its turn has ended"):
            await realm.decisions.approve(waits.key, by="ada")


def _open(disk: MemoryDisk) -> Any:
    from stores import open_memory

    return open_memory(disk)


async def test_a_denial_is_data_for_the_model_and_the_call_never_runs() -> None:
    async with _open(MemoryDisk()) as store:
        pay = paying()
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 1}')), "as you wish"], pay)
        session_id = await new_session(realm)
        await start(realm, session_id)
        key = realm.decisions.waiting()[0].key
        await realm.decisions.deny(key, by="ada", reason="too much")
        assert await go_on(realm, session_id) == "as you wish"
        result = results_of(realm.messages(session_id))["c1"]
        assert (result.outcome, pay.begun) == (ToolOutcome.DENIED, [])
        assert "ada denied this call: too much" in result.text


async def test_edited_arguments_are_checked_and_both_versions_are_kept() -> None:
    async with _open(MemoryDisk()) as store:
        pay = paying()
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 100}')), "done"], pay)
        session_id = await new_session(realm)
        await start(realm, session_id)
        key = realm.decisions.waiting()[0].key
        with pytest.raises(ApprovalRefused, match="do not fit"):
            await realm.decisions.approve(key, by="ada", arguments={"n": "many"})
        assert realm.decisions.waiting(), "nothing was decided"
        edited = await realm.decisions.approve(key, by="ada", arguments={"n": 5})
        assert (edited.arguments, edited.edited) == ('{"n": 100}', '{"n": 5}')
        await go_on(realm, session_id)
        text = results_of(realm.messages(session_id))["c1"].text
        assert text == '[it was approved with other arguments: {"n": 5}]\npaid 5'


async def test_the_first_decision_counts_and_the_same_again_is_answered_alike() -> None:
    async with _open(MemoryDisk()) as store:
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 1}'))], paying())
        session_id = await new_session(realm)
        await start(realm, session_id)
        key = realm.decisions.waiting()[0].key
        outcomes: list[Any] = []

        async def decide(verb: str, by: str) -> None:
            try:
                if verb == "approve":
                    outcomes.append(await realm.decisions.approve(key, by=by))
                else:
                    outcomes.append(await realm.decisions.deny(key, by=by, reason=""))
            except ApprovalRefused as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(decide, "approve", "ada")
            await wait_all_tasks_blocked()
            nursery.start_soon(decide, "approve", "ada")
            nursery.start_soon(decide, "deny", "bob")
        await decide("approve", "ada")
        await decide("deny", "bob")
        verdicts = [getattr(each, "verdict", None) for each in outcomes]
        assert verdicts.count(Verdict.APPROVED) == 3
        assert verdicts.count(None) == 2
        decided = [e for e in realm.journal.read() if isinstance(e.record, ApprovalDecided)]
        assert len(decided) == 1


@pytest.mark.parametrize("key", ["", "x", "a:b", "a:b:c"])
async def test_a_decision_about_an_unknown_call_is_refused(key: str) -> None:
    async with _open(MemoryDisk()) as store:
        realm = realm_with(store, [])
        with pytest.raises(ApprovalNotFound, match="nothing waits"):
            await realm.decisions.deny(key, by="ada", reason="")


async def test_calls_without_approval_run_at_once_and_no_finished_one_is_repeated() -> None:
    async with _open(MemoryDisk()) as store:
        pay, work = paying(), Doing(lambda _: "worked")
        batch = asking(
            call("c1", "pay", '{"n": 1}'), call("c2"), call("c3", "pay", '{"n": 3}'), call("c4")
        )
        realm = realm_with(store, [batch, "done"], pay, work)
        session_id = await new_session(realm)
        await start(realm, session_id)
        assert sorted(work.finished) == ["c2", "c4"]
        first, second = realm.decisions.waiting()
        await realm.decisions.approve(second.key, by="ada")
        assert not realm.decisions.parked(session_id)
        with pytest.raises(TurnWaits):
            await go_on(realm, session_id)
        assert pay.finished == ["c3"]
        assert realm.decisions.parked(session_id)
        assert realm.state.heads[session_id].status is SessionStatus.WAITING
        await realm.decisions.deny(first.key, by="ada", reason="no")
        assert await go_on(realm, session_id) == "done"
        assert sorted(work.finished) == ["c2", "c4"]
        assert pay.finished == ["c3"]
        texts = {key: each.text for key, each in results_of(realm.messages(session_id)).items()}
        assert texts["c3"] == "paid 3"


@pytest.mark.parametrize("idempotent", [False, True])
async def test_an_approved_call_that_was_cut_off_is_repeated_only_if_that_is_harmless(
    idempotent: bool,
) -> None:
    """Issue: a tool with an unknown outcome is repeated only if declared idempotent."""
    disk = MemoryDisk()
    async with _open(disk) as store:
        pay = Doing(forever, "pay", idempotent, parameters=NUMBER)
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 1}'))], pay)
        session_id = await new_session(realm)
        await start(realm, session_id)
        await realm.decisions.approve(realm.decisions.waiting()[0].key, by="ada")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on, realm, session_id)
            while not pay.begun:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    async with _open(disk) as store:
        again = paying(idempotent=idempotent)
        realm = realm_with(store, ["done"], again, start=1000)
        assert await go_on(realm, session_id) == "done"
        assert again.finished == (["c1"] if idempotent else [])
        outcome = results_of(realm.messages(session_id))["c1"].outcome
        assert outcome is (ToolOutcome.OK if idempotent else ToolOutcome.UNKNOWN)


async def test_an_interrupt_reaches_a_turn_that_waits() -> None:
    """CONTRACTS 4.3: an interrupt is prompt, is not lost, and leaks into no later turn."""
    async with _open(MemoryDisk()) as store:
        pay = paying()
        reply = asking(call("c1", "pay", '{"n": 1}'))
        realm = realm_with(store, [reply, "later"], pay)
        session_id = await new_session(realm)
        await start(realm, session_id)
        key = realm.decisions.waiting()[0].key
        assert realm.interrupt(session_id, "enough")
        assert not realm.decisions.parked(session_id)
        inputs = tuple((realm.state.heads[session_id].inputs or {}).values())
        record = await realm.driver(session_id, inputs).run(inputs)
        assert (record.outcome.name, record.error) == ("INTERRUPTED", "enough")
        assert results_of(list(record.messages))["c1"].outcome is ToolOutcome.INTERRUPTED
        with pytest.raises(ApprovalNotFound):
            await realm.decisions.approve(key, by="ada")
        assert not realm.interrupt(session_id)
        assert (await realm.runner.send_message(session_id, "again")).text == "later"
        assert pay.begun == []


@pytest.mark.parametrize("how", ["approve", "interrupt", "archive"])
async def test_a_caller_that_waits_for_its_turn_is_told_how_it_ends(how: str) -> None:
    async with _open(MemoryDisk()) as store:
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 1}')), "done"], paying())
        session_id = await new_session(realm)
        ended: list[str] = []

        async def caller() -> None:
            try:
                ended.append((await realm.runner.send_message(session_id, "go")).text)
            except TurnInterrupted as error:
                ended.append(type(error).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await wait_all_tasks_blocked()
            assert await realm.runner.get_session_status(session_id) is SessionStatus.WAITING
            if how == "approve":
                await realm.decisions.approve(realm.decisions.waiting()[0].key, by="ada")
            elif how == "interrupt":
                assert realm.interrupt(session_id)
            else:
                await realm.archive(session_id, "gone")
        assert ended == ["done" if how == "approve" else "TurnInterrupted"]


async def test_a_call_that_would_fail_anyway_is_not_asked_about() -> None:
    async with _open(MemoryDisk()) as store:
        pay = paying()
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": "x"}')), "done"], pay)
        session_id = await new_session(realm)
        assert (await realm.runner.send_message(session_id, "go")).text == "done"
        assert results_of(realm.messages(session_id))["c1"].outcome is ToolOutcome.ERROR


async def test_the_wait_is_no_time_of_the_turns() -> None:
    async with _open(MemoryDisk()) as store:
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 1}')), "done"], paying())
        session_id = await new_session(realm)
        await start(realm, session_id)
        for _ in range(1000):
            realm.ports.clock.now_ns()
        await realm.decisions.approve(realm.decisions.waiting()[0].key, by="ada")
        await go_on(realm, session_id)
        assert realm.state.heads[session_id].active_ns < 100


async def test_a_second_decision_in_the_journal_changes_nothing() -> None:
    """The first decision counts, whoever wrote the second one down."""
    async with _open(MemoryDisk()) as store:
        realm = realm_with(store, [asking(call("c1", "pay", '{"n": 1}'))], paying())
        session_id = await new_session(realm)
        await start(realm, session_id)
        (waits,) = realm.decisions.waiting()
        run_id, call_id = waits.run_id, waits.call_id
        for verdict in (Verdict.DENIED, Verdict.APPROVED):
            record = ApprovalDecided(session_id, run_id, call_id, verdict, "x", "", None, 9)
            await realm.append(record).wait()
        (known,) = realm.state.approvals
        assert known.verdict is Verdict.DENIED
