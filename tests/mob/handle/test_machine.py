"""Any order of the verbs of the handle, with deaths in the middle of them, against a plain model;
on both engines."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mob.app import stored_mob
from mob.flows.records import FlowEnded
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from runtime.messages import UserMessage
from tests.mob.handle import plain as verbs
from tests.mob.handle.plain import Message, Plain, Verb
from tests.mob.handle.team import seen
from tests.mob.handle.world import Died, World
from tests.mob.mobs import journal

NAMES = st.sampled_from(["a", "b", "c", "t", "x", "y"])
PROFILES = st.sampled_from(["p", "q", "t"])
TASKS = st.sampled_from(["t1", "t2", "t3", "t4"])
SENDERS = st.one_of(st.none(), NAMES)
LABELS = st.sampled_from(["one", "two"])
PAIRS = st.lists(NAMES, min_size=2, max_size=2, unique=True)

#: Verbs that somebody may call at any time. Numbers are filled in by the machine.
CALLS: st.SearchStrategy[Callable[[int], Verb]] = st.one_of(
    st.lists(st.tuples(NAMES, PROFILES), min_size=1, max_size=3).map(
        lambda wanted: lambda _: verbs.spawn(wanted)
    ),
    NAMES.map(lambda name: lambda _: verbs.retire(name)),
    st.tuples(NAMES, st.one_of(st.none(), PROFILES)).map(
        lambda given: lambda _: verbs.respawn(*given)
    ),
    st.tuples(PAIRS, st.booleans(), st.booleans()).map(
        lambda given: lambda _: verbs.wire(*given[0], directed=given[1], opens=given[2])
    ),
    st.tuples(
        SENDERS, NAMES, st.sampled_from(["fast", "slow"]), st.sampled_from(["queue", "steer"])
    ).map(lambda given: lambda number: verbs.send(number, *given)),
    SENDERS.map(lambda sender: lambda number: verbs.broadcast(number, sender)),
    st.lists(TASKS, max_size=2, unique=True).map(lambda after: lambda _: verbs.add(after)),
    st.tuples(st.sampled_from(["claim", "release", "finish", "cancel"]), TASKS, NAMES).map(
        lambda given: lambda _: verbs.move(*given)
    ),
    st.tuples(TASKS, st.lists(TASKS, max_size=2, unique=True)).map(
        lambda given: lambda _: verbs.block(*given)
    ),
    st.just(verbs.run_flow),
    st.just(lambda _: verbs.stop()),
    st.just(lambda _: verbs.resume()),
    LABELS.map(lambda label: lambda _: verbs.snapshot(label)),
    st.tuples(st.sampled_from(["f", "g"]), st.one_of(st.none(), LABELS)).map(
        lambda given: lambda _: verbs.fork(*given)
    ),
    LABELS.map(lambda label: lambda _: verbs.rewind(label)),
)


class HandleMachine(RuleBasedStateMachine):
    """The mob, and the model of what must be true of it."""

    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        self.world = World(on_disk=self.on_disk)
        self.plain = Plain()
        self.count = 0

    @initialize()
    def begin(self) -> None:
        self.world.call(self.world.open)

    def teardown(self) -> None:
        try:
            if hasattr(self.world, "life"):
                if self.plain.state == "stopped":
                    self.do(verbs.resume())
                self.settle()
                self.reopen()
                self.world.call(self.world.close)
        finally:
            self.world.end()

    # -- rules -----------------------------------------------------------------------------

    @rule(call=CALLS)
    def verb(self, call: Callable[[int], Verb]) -> None:
        """Call a verb; it does what the model says, or is refused as the model says."""
        self.do(self.numbered(call))

    @rule(call=CALLS, commit=st.integers(1, 3), point=st.sampled_from(["before", "after"]))
    def crash_in(self, call: Callable[[int], Verb], commit: int, point: str) -> None:
        """CONTRACTS 6.9: the process dies at a commit of a verb, which is done or not done."""
        verb = self.numbered(call)
        if verb.refused(self.plain) is not None or not self.ready(verb):
            return
        done = copy.deepcopy(self.plain)
        verb.apply(done)
        life = self.world.life
        life.fate = (life.commits + commit, point)
        told = True
        try:
            self.world.call(lambda: self.world.within(lambda: verb.run(self.world.mob)))
        except Died:
            told = False
        self.world.call(self.world.crash)
        self.world.call(self.world.open)
        if told or self.world.call(lambda: self.fits(done)):
            self.plain = done
        self.plain.disturb()

    @rule(orderly=st.booleans())
    def reopen(self, orderly: bool = True) -> None:
        """Close the process, or kill it, and start another."""
        self.world.call(self.world.close if orderly else self.world.crash)
        self.world.call(self.world.open)

    @rule(name=NAMES, verb=st.sampled_from(["kill", "interrupt"]))
    def cut(self, name: str, verb: str) -> None:
        """Cut a turn off. One that is killed is continued, one that is interrupted has ended."""
        if self.plain.state != "running" or name not in self.plain.members:
            return

        async def run() -> None:
            getattr(self.world.mob, verb)(name)

        self.world.call(run)
        self.plain.disturb()

    @rule(seconds=st.sampled_from([0.001, 0.01, 10.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""

        async def run() -> None:
            await trio.sleep(seconds)

        self.world.call(run)

    @precondition(lambda self: self.plain.state == "running")
    @rule()
    def settle(self) -> None:
        """CONTRACTS 6.7, 6.10: let everything go; then every message was worked on once, and every
        run has ended once."""

        async def run() -> None:
            mob = self.world.mob
            self.world.life.models.gate.set()
            for each in mob.flow_runs():
                await each.result()
            await mob.wait_idle()
            self.world.life.models.gate = trio.Event()

        self.world.call(run)
        self.world.call(self.check_settled)

    # -- how -------------------------------------------------------------------------------

    def numbered(self, call: Callable[[int], Verb]) -> Verb:
        self.count += 1
        return call(self.count)

    def ready(self, verb: Verb) -> bool:
        """Have the mob rest if the verb wants that; False if it cannot."""
        if not verb.rests:
            return True
        if self.plain.state != "running":
            return False
        self.settle()
        return True

    def do(self, verb: Verb) -> None:
        refused = verb.refused(self.plain)
        if refused is not VerbRefused and not self.ready(verb):
            return
        call = lambda: self.world.within(lambda: verb.run(self.world.mob))  # noqa: E731
        if refused is None:
            self.world.call(call)
            verb.apply(self.plain)
            return
        before = self.world.call(self.look)
        with pytest.raises(refused) as told:
            self.world.call(call)
        assert told.type is refused
        assert self.world.call(self.look) == before

    async def look(self) -> dict[str, Any]:
        """What is public, as the model says it."""
        found = seen(self.world.mob)
        found["edges"] = set(found["edges"])
        found["forks"] = [each[0] for each in found["forks"]]
        return {name: found[name] for name in Plain().seen()}

    async def fits(self, plain: Plain) -> bool:
        """Whether the mob is what the model says, messages and runs included."""
        if await self.look() != plain.seen():
            return False
        keys = {run.now().params["topic"] for run in self.world.mob.flow_runs()}
        lost = {key for key, each in plain.messages.items() if each.lost}
        here = set(accepted(self.world.mob)) - lost
        return keys == set(plain.runs) and here == set(plain.messages) - lost

    async def check_settled(self) -> None:
        mob, plain = self.world.mob, self.plain
        counts = Counter(accepted(mob))
        for key, message in plain.messages.items():
            assert counts[key] == 1 or (message.lost and not counts[key]), (key, counts[key])
        assert set(counts) <= set(plain.messages)
        assert all(not head.inputs for head in mob.realm.state.heads.values() if quiet(head))
        for session in order(mob, plain.messages):
            assert session == sorted(session)
        ended = Counter(
            each.record.run_id
            for each in journal(self.world.store)
            if isinstance(each.record, FlowEnded)
        )
        for run in mob.flow_runs():
            found = run.now()
            key = found.params["topic"]
            if not plain.rewinds:
                assert ended[found.run_id] == 1
            if plain.runs[key] is None:
                plain.runs[key] = found.state.value
            assert found.state.value == plain.runs[key], (key, found)
            if found.state.value == "succeeded":
                assert found.output == f"done write done plan {key}"

    # -- what always holds -----------------------------------------------------------------

    @invariant()
    def the_handle_says_what_the_model_says(self) -> None:
        """CONTRACTS 6.1 to 6.5, 6.9, 6.11."""
        if hasattr(self.world, "life"):
            found, wanted = self.world.call(self.look), self.plain.seen()
            assert found == wanted, {
                name: (found[name], wanted[name]) for name in wanted if found[name] != wanted[name]
            }
            assert self.world.call(lambda: self.fits(self.plain))

    @invariant()
    def a_fork_is_what_the_mob_was(self) -> None:
        if not hasattr(self.world, "life"):
            return

        async def check() -> None:
            for name, plain in self.plain.forks.items():
                roster = stored_mob(self.world.store, name).roster
                rows = {row.name: (row.profile, row.generation) for row in roster.members.values()}
                assert list(rows.items()) == list(plain.members.items())

        self.world.call(check)


def quiet(head: Any) -> bool:
    """Whether nothing waits in the session but what wakes nobody."""
    return not head.archived and head.agent_id != "t" and head.harness_id != "t"


def words(mob: Mob, head: Any) -> list[str]:
    """What was said to a session: in its history, in the turn in flight, and what waits."""
    said = [*mob.realm.snapshot(head.session_id).messages]
    said += head.partial.messages if head.partial is not None else []
    begun = head.partial.input_ids if head.partial is not None else ()
    texts = [each.text for each in said if isinstance(each, UserMessage)]
    waiting = (head.inputs or {}).items()
    texts += [each.text for input_id, each in waiting if input_id not in begun]
    return [text for text in texts if re.fullmatch(r"(fast|slow|all) \d+", text)]


def accepted(mob: Mob) -> list[tuple[str, str]]:
    """Every message that a session has, as often as it has it."""
    heads = mob.realm.state.heads.values()
    return [(text, str(head.agent_id)) for head in heads for text in words(mob, head)]


def order(mob: Mob, messages: dict[tuple[str, str], Message]) -> list[list[int]]:
    """The messages of each sender to each recipient in the order in which they were worked on."""
    found: dict[tuple[str | None, str], list[int]] = {}
    for text, to in accepted(mob):
        message = messages[text, to]
        found.setdefault((message.sender, to), []).append(message.number)
    return list(found.values())


class HandleMachineOnDisk(HandleMachine):
    on_disk = True


@pytest.mark.parametrize(
    ("machine", "examples"),
    [(HandleMachine, 30), (HandleMachineOnDisk, 10)],
    ids=["memory", "lmdb"],
)
def test_any_order_of_verbs_and_deaths(
    machine: type[HandleMachine], examples: int, request: pytest.FixtureRequest
) -> None:
    """CONTRACTS 5.13, 6.1 to 6.5, 6.7, 6.9 to 6.11."""
    long = request.config.getoption("--long")
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=examples * (20 if long else 1),
            stateful_step_count=200 if long else 30,
            suppress_health_check=list(HealthCheck),
        ),
    )
