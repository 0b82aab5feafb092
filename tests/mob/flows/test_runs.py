"""Runs of flows in a mob: asking members, collecting, waiting, stopping, going on.

Both engines where the disk counts; the clock is virtual.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.errors import FlowKeyUsed, FlowNotFound, FlowParamsInvalid, FlowRunNotFound
from mob.flows.records import FlowEnded, RunState, StepState
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from runtime.models.base import ModelRequest
from runtime.records import InputAbandoned, InputAccepted, TurnEnded, TurnOutcome
from stores import MemoryDisk, open_memory
from tests.mob.flows.mobs import TITLE, a_mob, flow
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, member, records


async def test_a_run_hands_outputs_on() -> None:
    """CONTRACTS 6.10: what a step needs has ended before it begins, and it may say its output."""
    flows = flow(
        params_=["topic"],
        draft={"member": "a", "message": "on {{params.topic}}"},
        edit={"member": "b", "message": "edit: {{steps.draft.output}}", "needs": ["draft"]},
    )
    async with a_mob(flows) as mob:
        run = await mob.run_flow("f", {"topic": "bees"})
        result = await run.result()
        assert result.state is RunState.SUCCEEDED
        assert result.outputs == {"draft": "on bees", "edit": "edit: on bees"}
        assert result.output == "edit: on bees"
        assert [each.id for each in mob.flow_runs()] == [run.id]
        assert mob.flow_run(run.id).state is RunState.SUCCEEDED
        assert (await run.result()) == result


async def test_independent_steps_run_at_the_same_time() -> None:
    """CONTRACTS 6.10."""
    stuck = Stuck()
    flows = flow(
        one={"member": "a", "message": "1"},
        two={"member": "b", "message": "2"},
        three={"member": "c", "message": "3", "needs": ["one", "two"]},
    )
    async with a_mob(flows, stuck) as mob:
        run = await mob.run_flow("f")
        await wait_all_tasks_blocked()
        assert sorted(stuck.calls) == ["1", "2"]
        stuck.gate.set()
        assert (await run.result()).outputs["three"] == "done 3"


async def test_a_typed_output_is_asked_for_and_read() -> None:
    """CONTRACTS 6.10: the schema reaches the model, and templates reach into the answer."""
    schemas: list[Any] = []

    def says(request: ModelRequest) -> str:
        schemas.append(request.output_schema)
        return '{"title": "Bees"}' if member(request) == "a" else asked(request)

    flows = flow(
        draft={"member": "a", "message": "draft", "output_schema": TITLE},
        edit={"member": "b", "message": "{{steps.draft.output.title}}!", "needs": ["draft"]},
    )
    async with a_mob(flows, says) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.outputs == {"draft": {"title": "Bees"}, "edit": "Bees!"}
        assert schemas == [TITLE, None]
        assert (await mob.ask("a", "x")).output is None, "other turns have no schema"


async def test_a_profile_asks_all_its_members() -> None:
    """CONTRACTS 6.10: fan-out and fan-in, answers in the order of the members."""
    flows = flow(
        review={"profile": "p", "message": "{{member}} {{index}}"},
        sum={"member": "a", "message": "{{steps.review.output.1}}", "needs": ["review"]},
    )
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.outputs == {"review": ["a 0", "b 1", "c 2"], "sum": "b 1"}


async def test_for_each_asks_about_every_item_by_turns() -> None:
    """CONTRACTS 6.10: dispatch over the members of a profile."""
    flows = flow(
        params_={"words": {"schema": {"type": "array"}}},
        each={
            "profile": "p",
            "for_each": "params.words",
            "message": "{{member}}: {{item}}",
        },
    )
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f", {"words": ["u", "v", "w", "x"]})).result()
        assert result.output == ["a: u", "b: v", "c: w", "a: x"]
        empty = await (await mob.run_flow("f", {"words": []})).result()
        assert (empty.state, empty.output) == (RunState.SUCCEEDED, [])
        wrong = await (await mob.run_flow("f", {"words": ["ok"]})).result()
        assert wrong.output == ["a: ok"]


@pytest.mark.parametrize(
    ("how", "answered", "output"),
    [
        ({"collect": "any"}, 1, "done b"),
        ({"quorum": 2}, 2, ["done b", "done c"]),
    ],
)
async def test_the_rest_is_cancelled_once_there_is_enough(
    how: dict[str, Any], answered: int, output: Any
) -> None:
    """CONTRACTS 6.10: turns that run for nobody are interrupted, what is queued is abandoned."""
    gates = {name: trio.Event() for name in "abc"}

    async def says(request: ModelRequest) -> str:
        await gates[member(request)].wait()
        return f"done {asked(request)}"

    flows = flow(vote={"profile": "p", "message": "{{member}}", **how})
    async with open_memory() as store, a_mob(flows, says, store) as mob:
        run = await mob.run_flow("f")
        await wait_all_tasks_blocked()
        for name in "bca"[:answered]:
            gates[name].set()
        result = await run.result()
        assert result.output == output
        await mob.wait_idle()
        outcomes = [turn.outcome for turn in records(store, TurnEnded)]
        assert outcomes.count(TurnOutcome.COMPLETED) == answered
        assert outcomes.count(TurnOutcome.INTERRUPTED) == 3 - answered
        gates["a"].set()
        assert (await mob.ask("a", "free")).text == "done free"


async def test_a_cancelled_question_in_a_queue_is_never_worked_on() -> None:
    """CONTRACTS 6.10: it is abandoned in the commit with which the step ends."""
    gate = trio.Event()

    async def says(request: ModelRequest) -> str:
        if asked(request) == "busy":
            await gate.wait()
        return asked(request)

    flows = flow(vote={"profile": "p", "message": "{{member}}", "collect": "any"})
    async with open_memory() as store, a_mob(flows, says, store) as mob:
        await mob.send("a", "busy")
        result = await (await mob.run_flow("f")).result()
        assert result.output == "b"
        (abandoned,) = records(store, InputAbandoned)
        assert abandoned.session_id == mob.session_of("a")
        gate.set()
        await mob.wait_idle()
        texts = [m.text for m in mob.realm.messages(mob.session_of("a"))]
        assert texts == ["busy", "busy"]
        check_inputs(store)


async def test_a_step_that_fails_is_tried_again_after_a_backoff(
    autojump_clock: object,
) -> None:
    """CONTRACTS 6.10: retries, and only of what has failed."""
    calls: list[str] = []

    def says(request: ModelRequest) -> str | Exception:
        calls.append(member(request))
        return ValueError("no") if calls.count("b") < 3 and member(request) == "b" else "yes"

    flows = flow(vote={"profile": "p", "message": "{{member}}", "retries": 2, "backoff_s": 4})
    never = {"restart": {"policy": "never"}}
    async with a_mob(flows, says, parts=never) as mob:
        begun = trio.current_time()
        result = await (await mob.run_flow("f")).result()
        assert (result.state, result.output) == (RunState.SUCCEEDED, ["yes"] * 3)
        assert result.steps["vote"].attempts == 3
        assert sorted(calls) == ["a", "b", "b", "b", "c"]
        assert trio.current_time() - begun == pytest.approx(4 + 8, abs=1)


async def test_when_nothing_is_left_to_try_the_run_fails(
    autojump_clock: object,
) -> None:
    """CONTRACTS 6.10: what needs the step is skipped, what only comes after it goes on."""
    flows = flow(
        work={"member": "a", "message": "x", "retries": 1},
        use={"member": "b", "message": "{{steps.work.output}}", "needs": ["work"]},
        tell={
            "member": "c",
            "message": "{{steps.work.error}}",
            "after": ["work"],
            "condition": "steps.work.state == 'failed'",
        },
        alone={"member": "b", "message": "alone"},
    )

    def says(request: ModelRequest) -> str | Exception:
        return ValueError("broken") if member(request) == "a" else asked(request)

    async with a_mob(flows, says, parts={"restart": {"policy": "never"}}) as mob:
        result = await (await mob.run_flow("f")).result()
        states = {name: step.state for name, step in result.steps.items()}
        assert states == {
            "work": StepState.FAILED,
            "use": StepState.SKIPPED,
            "tell": StepState.SUCCEEDED,
            "alone": StepState.SUCCEEDED,
        }
        assert "broken" in result.outputs["tell"]
        assert result.state is RunState.FAILED
        assert "step 'work' failed" in str(result.error)


async def test_a_timeout_ends_an_attempt_and_withdraws_its_question(
    autojump_clock: object,
) -> None:
    """CONTRACTS 6.10: per-step timeout."""
    stuck = Stuck()
    flows = flow(
        slow={"member": "a", "message": "slow", "timeout_s": 30, "branch": "way"},
        fast={"member": "b", "message": "fast", "branch": "way"},
    )

    async def says(request: ModelRequest) -> Any:
        return await stuck(request) if member(request) == "a" else asked(request)

    async with a_mob(flows, says) as mob:
        begun = trio.current_time()
        result = await (await mob.run_flow("f")).result()
        assert trio.current_time() - begun == pytest.approx(30, abs=1)
        assert result.steps["slow"].error == "timed out after 30 s"
        assert (result.state, result.output) == (RunState.SUCCEEDED, "fast")
        await mob.wait_idle()


async def test_the_first_success_of_a_branch_wins() -> None:
    """CONTRACTS 6.10: in order, and the rest is skipped."""
    flows = flow(
        first={"member": "a", "message": "1", "branch": "way"},
        second={"member": "b", "message": "2", "branch": "way"},
        third={"member": "c", "message": "3", "branch": "way"},
        last={"member": "c", "message": "got {{steps.way.output}}", "needs": ["way"]},
    )

    def says(request: ModelRequest) -> str | Exception:
        return ValueError("no") if member(request) == "a" else asked(request)

    async with a_mob(flows, says, parts={"restart": {"policy": "never"}}) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState.SUCCEEDED
        assert result.outputs == {"second": "2", "last": "got 2"}
        assert result.steps["third"].error == "branch 'way' was won by 'second'"


async def test_a_loop_goes_round_until_its_condition_holds() -> None:
    """CONTRACTS 6.10: bounded loops; a step sees the round before."""
    flows = flow(
        draft={"member": "a", "message": "{{round}}:{{steps.review.output}}"},
        review={"member": "b", "message": "{{steps.draft.output}}", "needs": ["draft"]},
        end={"member": "c", "message": "{{steps.polish.output}}", "needs": ["polish"]},
        repeat_={
            "polish": {
                "steps": ["draft", "review"],
                "until": "steps.review.output == '3:2:1:'",
                "max_rounds": 5,
            }
        },
    )
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState.SUCCEEDED
        assert result.steps["draft"].round == 3
        assert result.output == "3:2:1:"


@pytest.mark.parametrize(("at_limit", "state"), [("fail", "failed"), ("continue", "succeeded")])
async def test_a_loop_has_a_last_round(at_limit: str, state: str) -> None:
    """CONTRACTS 6.10."""
    loop = {"steps": ["a"], "until": "false", "max_rounds": 2, "at_limit": at_limit}
    flows = flow(a={"member": "a", "message": "{{round}}"}, repeat_={"z": loop})
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState(state)
        assert result.steps["a"].output == "2"


async def test_what_needs_a_skipped_step_is_skipped_and_what_only_follows_it_is_not() -> None:
    """CONTRACTS 6.10: needs must have succeeded, a loop of skipped steps goes round once."""
    flows = flow(
        maybe={"member": "a", "message": "1", "condition": "false"},
        use={"member": "b", "message": "2", "needs": ["maybe"]},
        follow={"member": "b", "message": "3{{steps.maybe.output}}", "after": ["maybe"]},
        inside={"member": "c", "message": "4", "needs": ["maybe"]},
        behind={"member": "c", "message": "5", "needs": ["z"]},
        repeat_={"z": {"steps": ["inside"], "until": "false", "max_rounds": 3}},
    )
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState.SUCCEEDED, result.error
        assert result.outputs == {"follow": "3"}
        assert result.steps["use"].error == "it needs 'maybe', which was skipped"
        assert result.steps["behind"].error == "it needs 'z', which was skipped"
        assert result.steps["inside"].round == 1


async def test_a_used_up_budget_is_not_tried_again() -> None:
    """CONTRACTS 6.10, 6.15."""
    flows = flow(a={"member": "a", "message": "x", "retries": 3})
    async with a_mob(flows, parts={"profile": {"budget": {"tool_calls": 5, "tokens": 0}}}) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState.FAILED
        assert result.steps["a"].attempts == 1


async def test_half_a_character_in_an_answer_ends_nothing() -> None:
    """CONTRACTS 6.10: what cannot be written down is replaced, as in turns."""
    flows = flow(
        a={"member": "a", "message": "x", "output_schema": TITLE},
        b={"member": "b", "message": "{{steps.a.output.title}}", "needs": ["a"]},
    )

    def says(request: ModelRequest) -> str:
        return r'{"title": "half \ud83d"}' if member(request) == "a" else asked(request)

    async with a_mob(flows, says) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState.SUCCEEDED, result.error
        assert result.output.startswith("half ")


async def test_any_of_nothing_is_nothing() -> None:
    """CONTRACTS 6.10: an empty list has no first answer, though all of none have answered."""
    flows = flow(
        params_=["x"],
        a={"member": "a", "for_each": "params.x", "message": "{{item}}", "collect": "any"},
    )
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f", {"x": []})).result()
        assert result.steps["a"].error == "1 of 0 answers were wanted"


async def test_a_step_whose_answer_does_not_fit_fails() -> None:
    """CONTRACTS 6.10: typed outputs."""
    flows = flow(draft={"member": "a", "message": "x", "output_schema": TITLE})
    async with a_mob(flows, parts={"profile": {"output_retries": 0}}) as mob:
        result = await (await mob.run_flow("f")).result()
        assert result.state is RunState.FAILED
        assert "does not fit its schema" in str(result.steps["draft"].error)


async def test_what_only_the_run_can_find_out_fails_the_step() -> None:
    """CONTRACTS 6.10: a path that leads nowhere is a failure with a reason."""
    flows = flow(
        params_=["x"],
        a={"member": "a", "message": "{{params.x.deep}}"},
        b={"member": "b", "message": "b", "condition": "params.x < 3"},
        c={"member": "c", "for_each": "params.x", "message": "{{item}}"},
    )
    async with a_mob(flows) as mob:
        result = await (await mob.run_flow("f", {"x": "text"})).result()
        assert result.state is RunState.FAILED
        assert result.steps["a"].error == "params.x has no 'deep': it is text"
        assert "cannot say whether text < a number" in str(result.steps["b"].error)
        assert result.steps["c"].error == "for_each: params.x is text and not a list"


async def test_cancel_ends_a_run_once_and_withdraws_everything() -> None:
    """CONTRACTS 6.10: a run ends exactly once."""
    stuck = Stuck()
    flows = flow(
        vote={"profile": "p", "message": "{{member}}"},
        then={"member": "a", "message": "then", "needs": ["vote"]},
    )
    async with open_memory() as store, a_mob(flows, stuck, store) as mob:
        run = await mob.run_flow("f")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(run.cancel, "not needed")
        assert not await run.cancel()
        result = await run.result()
        assert (result.state, result.error) == (RunState.CANCELLED, "not needed")
        assert {step.state for step in result.steps.values()} == {StepState.CANCELLED}
        await mob.wait_idle()
        assert len(records(store, FlowEnded)) == 1
        assert len(stuck.calls) == 3


async def test_a_key_joins_the_run_that_it_began() -> None:
    """CONTRACTS 6.10: also when it has ended, and across restarts."""
    disk = MemoryDisk()
    flows = flow(params_=["x"], a={"member": "a", "message": "{{params.x}}"})
    async with open_memory(disk) as store, a_mob(flows, store=store) as mob:
        ids: list[str] = []

        async def begin() -> None:
            ids.append((await mob.run_flow("f", {"x": 1}, idempotency_key="k")).id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            nursery.start_soon(begin)
        await mob.flow_run(ids[0]).result()
        await begin()
        assert len(set(ids)) == 1
        with pytest.raises(FlowKeyUsed, match="of another flow or with other"):
            await mob.run_flow("f", {"x": 2}, idempotency_key="k")
    async with open_memory(disk) as store, a_mob(flows, store=store) as mob:
        again = await mob.run_flow("f", {"x": 1}, idempotency_key="k")
        assert (again.id, (await again.result()).output) == (ids[0], "1")
        assert [each.id for each in mob.flow_runs()] == [ids[0]]
        assert len(records(store, InputAccepted)) == 1


async def test_what_cannot_be_run_is_refused() -> None:
    """CONTRACTS 6.10."""
    flows = flow(
        params_={"n": {"schema": {"type": "integer"}}, "x": {"default": 3}},
        a={"member": "a", "message": "{{params.n}}{{params.x}}"},
    )
    async with a_mob(flows) as mob:
        with pytest.raises(FlowNotFound, match="no flow 'g'; the flows are: f"):
            await mob.run_flow("g")
        with pytest.raises(FlowParamsInvalid, match="n is missing"):
            await mob.run_flow("f")
        with pytest.raises(FlowParamsInvalid, match="did you mean 'n'"):
            await mob.run_flow("f", {"nn": 1, "n": 1})
        with pytest.raises(FlowParamsInvalid, match="n: The JSON does not fit"):
            await mob.run_flow("f", {"n": "one"})
        with pytest.raises(FlowParamsInvalid, match="cannot be written as JSON"):
            await mob.run_flow("f", {"n": object()})
        with pytest.raises(FlowRunNotFound):
            mob.flow_run("nothing")
        assert (await (await mob.run_flow("f", {"n": 1})).result()).output == "13"
        await mob.stop()
        with pytest.raises(VerbRefused):
            await mob.run_flow("f", {"n": 1})


async def test_a_mob_is_not_idle_between_two_steps(autojump_clock: object) -> None:
    """CONTRACTS 6.10: nobody is at work, and the run is; also while it waits to try again."""
    store = HeldStore()
    flows = flow(
        one={"member": "a", "message": "1"},
        two={"member": "b", "message": "2", "needs": ["one"], "retries": 1, "backoff_s": 50.0},
    )
    failed: list[str] = []

    def says(request: ModelRequest) -> Any:
        if asked(request) == "2" and not failed:
            failed.append("2")
            return ValueError("no")
        return "yes"

    found: list[RunState] = []

    async def idle(mob: Mob) -> None:
        await mob.wait_idle()
        found.append(run.state)

    once = {"max": 0}
    async with a_mob(flows, says, store=store, parts={"restart": once}) as mob:  # type: ignore[arg-type]
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.run_flow, "f")
            await wait_all_tasks_blocked()
            while not mob.at_work:  # the run, its step and its question go to the disk
                store.release(1)
                await wait_all_tasks_blocked()
            while mob.at_work:  # and then the turn
                store.release(1)
                await wait_all_tasks_blocked()
            (run,) = mob.flow_runs()
            between = len(store.held)
            nursery.start_soon(idle, mob)
            await wait_all_tasks_blocked()
            store.release()
        assert between, "what the step has come to is on its way"
        assert found == [RunState.SUCCEEDED]
        assert run.now().steps["two"].attempts == 2
        await mob.wait_idle()
