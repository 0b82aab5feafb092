"""A mob that is cut off after every one of its commits, and a process that is killed anywhere."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from mob.flows.records import FlowEnded, FlowStepEnded, FlowStepStarted, RunState
from runtime.models.base import ModelRequest
from runtime.records import InputAccepted, TurnEnded, TurnOutcome
from stores import Batch, Committed, MemoryDisk, MemoryStore, Store, Ticket, open_memory, read_lmdb
from tests.mob.flows.mobs import a_mob, flow
from tests.mob.mobs import asked, check_inputs, journal, member, records

ROOT = Path(__file__).parents[3]

LIST = {"type": "array", "items": {"type": "string"}}

#: Everything that a flow can do, and one way to its end.
FLOW = flow(
    params_=["topic"],
    plan={"member": "a", "message": "plan {{params.topic}}", "output_schema": LIST},
    find={"profile": "p", "for_each": "steps.plan.output", "message": "{{item}}", "needs": "plan"},
    shaky={"member": "b", "message": "shaky", "retries": 1, "needs": "plan"},
    bad={"member": "c", "message": "bad", "branch": "way"},
    good={"member": "a", "message": "good", "branch": "way"},
    vote={"profile": "p", "message": "vote", "quorum": 2, "needs": ["find", "way"]},
    never={"member": "a", "message": "never", "condition": "params.topic == 'x'"},
    draft={"member": "a", "message": "draft {{round}}", "needs": ["vote"]},
    check={"member": "b", "message": "check {{steps.draft.output}}", "needs": ["draft"]},
    repeat_={
        "loop": {
            "steps": ["draft", "check"],
            "until": "steps.check.output == 'check draft 2'",
            "max_rounds": 3,
        }
    },
    end={"member": "c", "message": "{{steps.loop.output}}", "needs": ["loop"], "after": ["shaky"]},
)


def answering(*, again: bool = False) -> Any:
    """Answers that depend on the question alone, but that what is shaky fails the first time."""
    shaky = 0

    def says(request: ModelRequest) -> str | Exception:
        nonlocal shaky
        text = asked(request)
        if text.startswith("plan"):
            return '["u", "v", "w", "x"]'
        shaky += text == "shaky"
        if text == "bad" or (text == "shaky" and shaky == 1 and not again):
            return ValueError("no")
        return text if text != "vote" else f"vote of {member(request)}"

    return says


class Copying(MemoryStore):
    """Keeps what is on disk after every commit."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self._from = disk
        self.copies: list[MemoryDisk] = []

    def submit(self, operations: Batch, committed: Committed | None = None) -> Ticket:
        ticket = super().submit(operations, committed)
        copy = MemoryDisk()
        copy.entries = {key: list(entries) for key, entries in self._from.entries.items()}
        copy.values = dict(self._from.values)
        copy.order = list(self._from.order)
        self.copies.append(copy)
        return ticket


def check_run(store: Store, mob_id: str = "t") -> None:
    """A run ended once, each step of each round once; nobody was asked twice."""
    assert len(records(store, FlowEnded, mob_id)) == 1
    ended = Counter((each.step, each.round) for each in records(store, FlowStepEnded, mob_id))
    assert set(ended.values()) == {1}
    begun = [
        (each.step, each.round, each.attempt) for each in records(store, FlowStepStarted, mob_id)
    ]
    assert len(begun) == len(set(begun))
    keys = [each.idempotency_key for each in records(store, InputAccepted, mob_id)]
    assert len(keys) == len(set(keys))
    check_inputs(store, mob_id)


async def test_a_run_that_is_cut_off_after_any_commit_goes_on_to_the_same_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.9, 6.10: asks nobody twice, begins no step again that has ended, ends once."""
    disk = MemoryDisk()
    store = Copying(disk)
    never = {"restart": {"policy": "never"}}
    async with a_mob(FLOW, answering(), store, parts=never) as mob:
        begun = len(store.copies)
        run = await mob.run_flow("f", {"topic": "bees"}, idempotency_key="k")
        whole = await run.result()
        assert whole.state is RunState.SUCCEEDED, whole.error
        assert whole.output == "check draft 2"
        await mob.wait_idle()
        copies = store.copies[begun:]
    assert len(copies) > 30
    says = answering(again=True)
    for copy in copies:
        async with open_memory(copy) as again, a_mob(FLOW, says, again, parts=never) as mob:
            before = Counter((e.step, e.round) for e in records(again, FlowStepEnded))
            mark = again.last(b"realm/t")
            run = await mob.run_flow("f", {"topic": "bees"}, idempotency_key="k")
            result = await run.result()
            await mob.wait_idle()
            outputs = {**result.outputs, "vote": None}
            assert outputs == {**whole.outputs, "vote": None}
            assert len(result.outputs["vote"]) == 2
            check_run(again)
            for event in journal(again)[mark:]:
                if isinstance(event.record, FlowStepStarted):
                    assert (event.record.step, event.record.round) not in before


async def test_nobody_is_asked_once_the_deadline_has_passed() -> None:
    """CONTRACTS 6.10: not even to be told at once that nobody waits."""
    flows = flow(late={"member": "a", "message": "late", "timeout_s": 0.05})
    store = Copying(MemoryDisk())
    async with a_mob(flows, answering(), store) as mob:
        begun = len(store.copies)
        run = await mob.run_flow("f")
        await run.result()
    await trio.sleep(0.06)
    before_asking = store.copies[begun + 1]
    async with open_memory(before_asking) as again, a_mob(flows, answering(), again) as mob:
        assert len(records(again, FlowStepStarted)) == 1
        assert (await mob.flow_run(run.id).result()).state is RunState.FAILED
        assert records(again, InputAccepted) == []


WORKER = """
import sys, trio
from mob import MobDefinition, open_mob
from stores import open_lmdb
from tests.mob.flows.test_crashes import KILLED

async def main():
    definition = MobDefinition.from_table(KILLED)
    async with open_lmdb(sys.argv[1]) as store, open_mob(definition, store=store, grace_s=0) as mob:
        run = await mob.run_flow("f", {"n": [1, 2, 3, 4, 5]}, idempotency_key="k")
        print("begun", flush=True)
        result = await run.result()
        print(result.state.value, flush=True)

trio.run(main)
"""

_AGENT: dict[str, Any] = {"model": "sim:agent", "options": {"latency_s": 0.02}}
KILLED: dict[str, Any] = {
    "mob": {"id": "k", "lead": "lead"},
    "models": {"m": _AGENT},
    "profiles": {"p": {"model": "m"}},
    "members": {"lead": {"profile": "p"}, "r": {"profile": "p", "replicas": 3}},
    "checkpoint": {"every_turns": 2, "max_tail": 20},
    "flows": flow(
        params_=["n"],
        each={"profile": "p", "for_each": "params.n", "message": "{{item}}"},
        vote={"profile": "p", "message": "vote", "quorum": 2, "needs": "each"},
        work={"member": "lead", "message": "{{round}} {{steps.vote.output}}", "needs": "vote"},
        repeat_={"loop": {"steps": ["work"], "until": "round == 6", "max_rounds": 9}},
        end={"member": "r-0", "message": "end {{steps.loop.output}}", "needs": "loop"},
    ),
}


def test_a_process_that_is_killed_at_any_moment_goes_on_with_its_run(tmp_path: Path) -> None:
    """CONTRACTS 6.9, 6.10: a real `kill -9`, again and again, on a real disk."""
    chance = random.Random(6)
    kills = 0
    for round_ in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "store")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        if round_ < 8 and said == "begun\n":
            try:
                process.wait(chance.random() * 0.1)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.stdout.close()
        assert process.wait() in (0, -signal.SIGKILL)
        kills += process.returncode != 0
        if rest == "succeeded\n":
            break
    assert kills > 2, json.dumps(rest)
    with read_lmdb(tmp_path / "store") as store:
        check_run(store, "k")
        outcomes = {turn.outcome for turn in records(store, TurnEnded, "k")}
        assert TurnOutcome.COMPLETED in outcomes
