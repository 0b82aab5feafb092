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
from hypothesis import HealthCheck, Phase, settings
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
from runtime.records import InputAccepted
from tests.mob.handle import plain as verbs
from tests.mob.handle.plain import Message, Plain, Verb
from tests.mob.handle.team import seen
from tests.mob.handle.world import Died, World
from tests.mob.mobs import journal

NAMES = st.sampled_from(["a", "b", "a", "b", "x", "x", "c", "t"])
PROFILES = st.sampled_from(["p", "q", "t"])
TASKS = st.sampled_from(["t1", "t2", "t1", "t2", "t3"])
SENDERS = st.one_of(st.none(), NAMES)
LABELS = st.sampled_from(["one", "two"])
PAIRS = st.lists(NAMES, min_size=2, max_size=2, unique=True)

#: Seconds for making an example that failed smaller.
SHRINKS_S = 60

#: A verb that somebody may call at any time; it is given a number of its own.
Call = Callable[[int], Verb]


def told(verb: Callable[..., Verb], *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    """Calls of a verb that needs no number, with these arguments."""
    return st.tuples(*given).map(lambda arguments: lambda _: verb(*arguments))


def sent(verb: Callable[..., Verb], *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    """Calls of a verb that is given its number, and these arguments."""
    return st.tuples(*given).map(lambda arguments: lambda number: verb(number, *arguments))


#: By what they are about: Hypothesis leaves some of these out of an example, so that the others
#: come often enough to meet.
MEMBERS = st.one_of(
    told(verbs.spawn, st.lists(st.tuples(NAMES, PROFILES), min_size=1, max_size=3)),
    told(verbs.retire, NAMES),
    told(verbs.respawn, NAMES, st.one_of(st.none(), PROFILES)),
    told(verbs.ensure, st.dictionaries(NAMES, PROFILES, min_size=2, max_size=5)),
)
WIRING = told(
    lambda pair, directed, opens: verbs.wire(*pair, directed=directed, opens=opens),
    PAIRS,
    st.booleans(),
    st.booleans(),
)
MESSAGES = st.one_of(
    sent(
        verbs.send,
        SENDERS,
        NAMES,
        st.sampled_from(["fast", "slow"]),
        st.sampled_from(["queue", "steer"]),
    ),
    sent(verbs.broadcast, SENDERS),
)
REQUESTS = st.one_of(
    sent(lambda number, pair: verbs.request(number, *pair), PAIRS), sent(verbs.reply)
)
BOARD = st.one_of(
    told(verbs.add, st.just([])),
    told(verbs.add, st.lists(TASKS, max_size=2, unique=True)),
    told(verbs.move, st.just("claim"), TASKS, NAMES),
    told(verbs.move, st.sampled_from(["claim", "release", "finish", "cancel"]), TASKS, NAMES),
    told(verbs.block, TASKS, st.lists(TASKS, max_size=2, unique=True)),
)
FLOWS = st.one_of(sent(verbs.run_flow), sent(verbs.run_flow), told(verbs.cancel_runs))
LIFE = st.one_of(told(verbs.stop), told(verbs.resume), told(verbs.resume))
TRAVEL = st.one_of(
    told(verbs.snapshot, LABELS),
    told(verbs.fork, st.sampled_from(["f", "g"]), st.one_of(st.none(), LABELS)),
    told(verbs.rewind, LABELS),
)
#: At which commit of a verb the process dies, and whether before or after that is on disk.
DEATHS = st.one_of(
    *[st.none()] * 4, st.tuples(st.integers(1, 3), st.sampled_from(["before", "after"]))
)


def called(name: str, calls: st.SearchStrategy[Call]) -> Any:
    """A rule that calls one of these verbs, and may have the process die in it."""

    def play(self: HandleMachine, call: Call, death: tuple[int, str] | None) -> None:
        self.count += 1
        if death is None:
            self.do(call(self.count))
        else:
            self.die_in(call(self.count), death)

    play.__name__ = name
    return rule(call=calls, death=DEATHS)(play)


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

    members = called("members", MEMBERS)
    wiring = called("wiring", WIRING)
    messages = called("messages", MESSAGES)
    requests = called("requests", REQUESTS)
    board = called("board", BOARD)
    flows = called("flows", FLOWS)
    life = called("life", LIFE)
    travel = called("travel", TRAVEL)

    def die_in(self, verb: Verb, death: tuple[int, str]) -> None:
        """CONTRACTS 6.9: the process dies at a commit of a verb, which is done or not done."""
        if verb.refused(self.plain) is not None or not self.ready(verb):
            return
        done = copy.deepcopy(self.plain)
        verb.apply(done)
        life = self.world.life
        life.fate = (life.commits + death[0], death[1])
        told = True
        try:
            self.world.call(lambda: self.world.within(lambda: verb.run(self.world.mob)))
        except Died:
            told = False
        self.world.call(self.world.crash)
        self.world.call(self.world.open)
        if verb.parts and not told and verb.refused(self.plain) is None:
            self.world.call(lambda: verb.run(self.world.mob))
            told = True
        if told or (
            self.world.call(self.look) == done.seen() and self.world.call(lambda: self.fits(done))
        ):
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
        return {name: found[name] for name in Plain().seen()}

    async def fits(self, plain: Plain) -> bool:
        """Whether it has the messages and the runs that the model says."""
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
        for name, past in plain.forks.items():
            roster = stored_mob(self.world.store, name).roster
            rows = {row.name: (row.profile, row.generation) for row in roster.members.values()}
            assert list(rows.items()) == list(past.members.items())
        for run in mob.flow_runs():
            found = run.now()
            key = found.params["topic"]
            if not plain.rewinds:
                assert ended[found.run_id] == 1
            if plain.runs[key] is None:
                plain.runs[key] = found.state.value
            assert found.state.value == plain.runs[key], (key, found)
            if found.state.value == "succeeded":
                assert found.output in outputs(self.world.store, f"plan {key}"), found.output

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


def outputs(store: Any, plan: str) -> set[str]:
    """What a run may answer: each of its two turns answers what it was asked, or the last that was
    said to steer it."""
    steered = {
        each.record.text
        for each in journal(store)
        if isinstance(each.record, InputAccepted) and each.record.steer
    }
    planned = {f"done {text}" for text in (plan, *steered)}
    return {f"done write {each}" for each in planned} | {f"done {text}" for text in steered}


class HandleMachineOnDisk(HandleMachine):
    on_disk = True


@pytest.mark.parametrize(
    ("machine", "examples"),
    [(HandleMachine, 80), (HandleMachineOnDisk, 20)],
    ids=["memory", "lmdb"],
)
def test_any_order_of_verbs_and_deaths(
    machine: type[HandleMachine],
    examples: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONTRACTS 5.13, 6.1 to 6.5, 6.7, 6.9 to 6.11."""
    # Hypothesis has no setting for this, and by itself goes on for as long as a test may take here,
    # which then ends without its example.
    monkeypatch.setattr("hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS", SHRINKS_S)
    long = request.config.getoption("--long")
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=examples * (20 if long else 1),
            stateful_step_count=200 if long else 40,
            suppress_health_check=list(HealthCheck),
            phases=set(Phase) - {Phase.explain},  # which has no bound
        ),
    )
