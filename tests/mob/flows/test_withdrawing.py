"""Questions that nobody waits for any more, wherever they are; runs that wait for approval."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob import open_mob
from mob.flows.records import FlowEnded, FlowStepStarted, RunState, StepState
from mob.flows.verbs import FlowRun
from mob.mob import Mob
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import InputAccepted, TurnEnded, TurnOutcome
from stores import MemoryDisk, open_memory
from tests.mob.flows.mobs import a_mob, flow
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, journal, member, records
from tests.runtime.fakes import Doing, asking, call

VOTE = {"profile": "p", "message": "vote", "collect": "any"}


def paying(request: ModelRequest) -> str | ModelReply:
    """Member ``a`` pays, which somebody must approve; the others answer."""
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return last.text
    if member(request) == "a" and asked(request) == "vote":
        return asking(call(f"pay {request.key}", "pay"))
    return asked(request)


@asynccontextmanager
async def approving(
    disk: MemoryDisk, flows: dict[str, Any], says: Any = paying, **more: Any
) -> AsyncIterator[Mob]:
    table = {"pay": {"function": "x.py:pay", "approve": "ask"}}
    definition = define("a", "b", flows=flows, tools=table, profile={"tools": ["pay"]}, **more)
    tools = {"pay": Doing(lambda _: "paid", "pay")}
    async with open_memory(disk) as store:
        async with open_mob(
            definition, store=store, models={"m": ScriptedModel(says)}, tools=tools, grace_s=0.0
        ) as mob:
            yield mob


async def test_a_run_waits_for_an_approval_and_goes_on() -> None:
    """CONTRACTS 6.10, 6.13: `wait_blocked` knows that the run does nothing but wait."""
    flows = flow(
        one={"member": "a", "message": "vote"},
        two={"member": "b", "message": "{{steps.one.output}}", "needs": ["one"]},
    )
    disk = MemoryDisk()
    async with approving(disk, flows) as mob:
        run = await mob.run_flow("f")
        with trio.fail_after(5):
            await mob.wait_blocked()
        assert run.state is RunState.RUNNING
    async with approving(disk, flows) as mob:
        await mob.wait_blocked()
        (waits,) = mob.approvals()
        await mob.approve(waits.key, by="ada")
        assert (await mob.flow_run(run.id).result()).output == "paid"


async def test_the_answer_after_which_only_decisions_are_waited_for_is_noticed() -> None:
    """CONTRACTS 6.10, 6.13: also by those who looked when its member had rested and the step had
    not taken it in; of many in any order some do."""
    gate = trio.Event()

    async def says(request: ModelRequest) -> Any:
        if member(request) == "b":
            await gate.wait()
        return paying(request)

    async with approving(MemoryDisk(), flow(vote={**VOTE, "collect": "all"}), says) as mob:
        await mob.run_flow("f")
        with trio.fail_after(5):
            while not mob.approvals():
                await wait_all_tasks_blocked()
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(mob.wait_blocked)
                await wait_all_tasks_blocked()
                assert nursery.child_tasks
                gate.set()


async def test_a_question_in_line_before_a_member_that_waits_is_blocked_with_it() -> None:
    """CONTRACTS 6.10, 6.13: it waits for room that only the decision makes."""
    flows = flow(
        one={"member": "a", "message": "vote"},
        two={"member": "a", "message": "{{steps.one.output}}", "needs": ["one"]},
    )
    async with approving(MemoryDisk(), flows, mailbox={"max_messages": 1}) as mob:
        runs = [await mob.run_flow("f") for _ in range(2)]
        for _ in range(2):
            with trio.fail_after(5):
                await mob.wait_blocked()
            (waits,) = mob.approvals()
            await mob.approve(waits.key, by="ada")
        assert [(await run.result()).output for run in runs] == ["paid", "paid"]


async def test_a_run_that_has_something_else_to_do_is_not_blocked(
    autojump_clock: object,
) -> None:
    """CONTRACTS 6.10: a step that waits for its next attempt is something."""
    flows = flow(
        pay={"member": "a", "message": "vote"},
        shaky={"member": "b", "message": "shaky", "retries": 1, "backoff_s": 0.3},
    )
    shaky = 0

    def says(request: ModelRequest) -> Any:
        nonlocal shaky
        if asked(request) == "shaky":
            shaky += 1
            return ValueError("no") if shaky < 3 else "calm"
        return paying(request)

    async with approving(MemoryDisk(), flows, says) as mob:
        run = await mob.run_flow("f")
        await mob.wait_blocked()
        assert run.now().outputs == {"shaky": "calm"}


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_turn_that_waits_for_approval_is_given_up(stopped: bool) -> None:
    """CONTRACTS 6.10: it ends as interrupted, its member is free, and the next turn is not
    interrupted for it."""
    gate = trio.Event()

    async def says(request: ModelRequest) -> Any:
        if member(request) == "b" and asked(request) == "vote":
            await gate.wait()
        return paying(request)

    disk = MemoryDisk()
    async with approving(disk, flow(vote=VOTE), says) as mob:
        run = await mob.run_flow("f")
        while not mob.approvals():
            await wait_all_tasks_blocked()
        if stopped:
            await mob.stop(0.0)
            await run.cancel()
            await mob.resume()
        gate.set()
        result = await run.result()
        assert result.output == (None if stopped else "vote")
        await mob.wait_idle()
        assert mob.approvals() == ()
        assert (await mob.ask("a", "hello")).text == "hello"
        outcomes = [turn.outcome for turn in records(mob.realm.store, TurnEnded)]
        assert TurnOutcome.INTERRUPTED in outcomes
        assert TurnOutcome.FAILED not in outcomes
        check_inputs(mob.realm.store)


async def test_a_member_that_is_to_be_restarted_is_not(autojump_clock: object) -> None:
    """CONTRACTS 6.10: the turn that crashed is given up at once, and not after the backoff."""
    gate = trio.Event()
    calls: list[str] = []

    async def says(request: ModelRequest) -> Any:
        calls.append(member(request))
        if member(request) == "a":
            return ValueError("no")
        await gate.wait()
        return "yes"

    restart = {"backoff_s": 1000.0, "max_backoff_s": 1000.0}
    async with a_mob(flow(vote=VOTE), says, parts={"restart": restart}) as mob:
        run = await mob.run_flow("f")
        await trio.sleep(1)
        gate.set()
        assert (await run.result()).output == "yes"
        with trio.fail_after(10):
            await mob.wait_idle()
        assert calls.count("a") == 1


async def test_a_crash_between_the_end_of_a_step_and_the_interrupt_costs_nothing() -> None:
    """CONTRACTS 6.9, 6.10: the next process gives up what nobody waits for."""
    stuck, disk = Stuck(), MemoryDisk()
    flows = flow(vote=VOTE)
    async with open_memory(disk) as store, a_mob(flows, stuck, store, grace_s=0.0) as mob:
        run = await mob.run_flow("f")
        await stuck.entered.wait()
        await wait_all_tasks_blocked()
        mob._activations.cut_off = lambda *_: None  # type: ignore[method-assign]
        await run.cancel()
        mob._activations.halt()
    async with open_memory(disk) as store, a_mob(flows, stuck, store) as mob:
        await mob.wait_idle()
        assert len(stuck.calls) == 3, "nobody was asked again"
        assert not any(head.inputs for head in mob.realm.state.heads.values())
        stuck.gate.set()
        assert (await mob.ask("a", "free")).text == "done free"
        check_inputs(store)


async def test_who_waits_for_others_goes_on_no_sooner_for_a_question_that_is_taken_back() -> None:
    """CONTRACTS 6.8: found by simulation. What a run had taken back was given up as the next
    process opened, before it was known who waits for whom: the member went on with the rest."""
    stuck, disk = Stuck(), MemoryDisk()

    async def looking(request: ModelRequest) -> Any:
        if asked(request) == "vote" and not isinstance(request.messages[-1], ToolResult):
            return asking(call(f"look {request.key}", "look"))
        return await stuck(request)

    members = {name: {"profile": "p"} for name in "ab"}
    definition = define(
        "a",
        "b",
        flows=flow(vote={"member": "b", "message": "vote"}),
        members={**members, "b": {"profile": "p", "depends_on": ["a"]}},
        tools={"look": {"function": "x.py:look"}},
        profile={"tools": ["look"]},
    )

    @asynccontextmanager
    async def opened() -> AsyncIterator[Mob]:
        models = {"m": ScriptedModel(looking)}
        tools = {"look": Doing(lambda _: "seen", "look")}
        async with (
            open_memory(disk) as store,
            open_mob(definition, store=store, models=models, tools=tools, grace_s=0.0) as mob,
        ):
            yield mob

    async with opened() as mob:
        run = await mob.run_flow("f")
        await stuck.entered.wait()
        await mob.send("a", "first")
        await mob.send("b", "second")
        await wait_all_tasks_blocked()
        mob._activations.cut_off = lambda *_: None  # type: ignore[method-assign]
        await run.cancel()
        mob._activations.halt()
    stuck.calls.clear()
    async with opened() as mob:
        await wait_all_tasks_blocked()
        assert stuck.calls == ["first"], "and b, which depends on a, has not begun"
        stuck.gate.set()
        await mob.wait_idle()
        assert stuck.calls == ["first", "second"]


async def test_a_run_that_is_cancelled_as_a_step_begins_asks_nobody() -> None:
    """CONTRACTS 6.10: not even what it was about to ask when its end was written. Whether the step
    or the cancel is heard of first is chance; one way the question is asked and taken back."""
    store = HeldStore()
    begun: list[FlowRun] = []

    async def start(mob: Mob) -> None:
        begun.append(await mob.run_flow("f"))

    async with a_mob(flow(vote=VOTE), store=store) as mob:  # type: ignore[arg-type]
        for _ in range(20):
            store.hold()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(start, mob)
                await store.wait_held()
                store.release(1)  # the run is on disk, and its first step is on the way there
                await store.wait_held()
                await wait_all_tasks_blocked()
                nursery.start_soon(begun[-1].cancel)
                await wait_all_tasks_blocked()
                store.release()
        await mob.wait_idle()
        written = [event.record for event in journal(store.inner)]
        for run in begun:
            end = next(
                place
                for place, record in enumerate(written)
                if isinstance(record, FlowEnded) and record.run_id == run.id
            )
            assert run.state is RunState.CANCELLED
            assert any(isinstance(each, FlowStepStarted) for each in written[:end])
            late = [each for each in written[end:] if isinstance(each, InputAccepted)]
            assert not [each for each in late if run.id in (each.idempotency_key or "")]
        check_inputs(store.inner)


async def test_a_question_in_line_for_room_that_its_run_gives_back_is_not_asked() -> None:
    """CONTRACTS 6.9, 6.10: what a cancelled run withdraws makes room, and it has a question that
    stands in line for it."""
    stuck = Stuck()
    flows = flow(
        one={"member": "a", "message": "one"},
        two={"member": "a", "message": "two"},
    )
    async with a_mob(flows, stuck, grace_s=0.0, parts={"mailbox": {"max_messages": 2}}) as mob:
        await mob.send("a", "first")
        await stuck.entered.wait()
        run = await mob.run_flow("f")
        await wait_all_tasks_blocked()
        assert len(records(mob.realm.store, InputAccepted)) == 2
        assert await run.cancel()
        await wait_all_tasks_blocked()
        assert len(records(mob.realm.store, InputAccepted)) == 2
        stuck.gate.set()
        assert (await mob.ask("a", "free")).text == "done free"


async def test_a_mob_that_stops_as_a_step_begins_asks_nobody() -> None:
    """CONTRACTS 5.9, 6.10: the step has begun; its questions are put once the mob runs again."""
    async with a_mob(flow(vote=VOTE)) as mob:
        run = await mob.run_flow("f")
        await mob.stop(0.0)
        assert records(mob.realm.store, InputAccepted) == []
        await mob.resume()
        assert (await run.result()).output == "vote"


async def test_a_clock_that_is_set_back_prolongs_neither_a_backoff_nor_a_deadline(
    autojump_clock: object,
) -> None:
    """CONTRACTS 6.10: a wait in a process is no longer than it was to be."""
    flows = flow(
        one={"member": "a", "message": "x", "timeout_s": 5.0, "retries": 1, "backoff_s": 3.0},
        two={"member": "b", "message": "y"},
    )
    stuck = Stuck()
    async with a_mob(flows, stuck, grace_s=0.0) as mob:
        clock, set_back = mob.realm.ports.clock, 0
        now_ns = clock.now_ns
        clock.now_ns = lambda: now_ns() - set_back  # type: ignore[method-assign]
        run = await mob.run_flow("f")
        await stuck.entered.wait()
        await mob.stop(0.0)
        set_back = 864_000 * 10**9
        await mob.resume()
        with trio.fail_after(30):
            while run.now().steps["one"].state is StepState.RUNNING:  # noqa: ASYNC110 runs tell nobody of steps
                await trio.sleep(1)
            await mob.stop(0.0)
            set_back *= 2
            await mob.resume()
            while run.now().steps["one"].state is not StepState.FAILED:  # noqa: ASYNC110 runs tell nobody of steps
                await trio.sleep(1)
        await run.cancel()
