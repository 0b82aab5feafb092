"""Budgets as data: the check row by row, and a ledger beside a sum over the whole tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.budget import Account, Budget, Excess, Ledger, Spent, check, seconds_left
from runtime.errors import BudgetExceeded, SessionError
from runtime.ids import HarnessId, RunId, SessionId
from runtime.messages import NO_USAGE, Usage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.realm import Realm
from runtime.records import TurnEnded, TurnOutcome, TurnProgressed
from runtime.service import (
    CreateSessionRequest,
    RealmSessionService,
    SessionBuildOptions,
    StartTurnRequest,
)
from runtime.session import Lineage, SessionHead, SessionStatus
from runtime.spending import Budgets, Grant
from runtime.tools.agents import SpawnAgent
from stores import MemoryStore, open_lmdb
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session, open_lagging

SPENT = Spent(Usage(60, 40, 3, 5, cost_nano_usd=2_000, priced_calls=3), 7.5)


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget(), None),
        (Budget(tokens=101), None),
        (Budget(tokens=100), Excess("it", "tokens", 100, 100)),
        (Budget(tool_calls=5), None),
        (Budget(tool_calls=4), Excess("it", "tool_calls", 4, 5)),
        (Budget(seconds=7.6), None),
        (Budget(seconds=7.5), Excess("it", "seconds", 7.5, 7.5)),
        (Budget(nano_usd=2_001), None),
        (Budget(nano_usd=2_000), Excess("it", "usd", 2e-6, 2e-6)),
        (Budget(tokens=0), Excess("it", "tokens", 0, 100)),
    ],
)
def test_what_is_used_up(budget: Budget, limit: Excess | None) -> None:
    """CONTRACTS 4.9, budget_limits."""
    assert check([Account("it", budget, SPENT)]) == limit


def test_of_several_budgets_any_may_stop_the_work() -> None:
    """CONTRACTS 6.15: the tightest wins."""
    wide, tight = Account("mob", Budget(tokens=999), SPENT), Account("me", Budget(tokens=9), SPENT)
    assert check([wide, tight]) == check([tight, wide]) == Excess("me", "tokens", 9, 100)
    soon, late = (Account(str(s), Budget(seconds=s), SPENT) for s in (8.0, 9.0))
    assert seconds_left([late, soon]) == (0.5, soon)
    assert seconds_left([wide])[1] is None


def test_an_excess_says_limit_and_spent_and_what_to_do() -> None:
    told = str(Excess("mob 'm'", "tokens", 5000, 5321))
    assert told.startswith("the budget of mob 'm' is used up: 5,321 of 5,000 tokens; raise it")
    assert "$0.00123 of $0.001" in str(Excess("x", "usd", 0.001, 0.00123))


class LedgerMachine(RuleBasedStateMachine):
    """Heads that come, spend and end; the ledger beside a walk over the whole tree."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: dict[SessionId, SessionHead] = {}
        self.ledger = Ledger(self.heads)
        self.open: dict[SessionId, Usage] = {}

    @rule(data=st.data(), fork=st.booleans())
    def create(self, data: st.DataObject, fork: bool) -> None:
        made = SessionId(f"s{len(self.heads)}")
        above = data.draw(st.sampled_from([None, *self.heads]))
        lineage = Lineage()
        if above is not None:
            root = self.heads[above].lineage.budget_root or above
            lineage = Lineage(None if fork else above, above if fork else None, 0, root)
        self.heads[made] = SessionHead(made, HarnessId("h"), None, None, None, lineage, _SPEC, 0, 0)

    @rule(data=st.data(), tokens=st.integers(0, 9), calls=st.integers(0, 2))
    def progress(self, data: st.DataObject, tokens: int, calls: int) -> None:
        if self.heads:
            here = data.draw(st.sampled_from(list(self.heads)))
            usage = self.open.get(here, NO_USAGE) + Usage(tokens, 1, 1, calls)
            self.open[here] = usage
            self.ledger.progressed(here, usage)
            if data.draw(st.booleans()):  # the fold comes later and says the same
                self.ledger.progressed(here, usage)

    @rule(data=st.data(), more=st.integers(0, 9))
    def end(self, data: st.DataObject, more: int) -> None:
        if self.heads:
            here = data.draw(st.sampled_from(list(self.heads)))
            usage = self.open.pop(here, NO_USAGE) + Usage(more, 0, 1)
            self.heads[here].usage = self.heads[here].usage + usage
            self.heads[here].active_ns += 5
            self.ledger.ended(here, usage, 5)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.open:
            here = data.draw(st.sampled_from(list(self.open)))
            del self.open[here]
            self.ledger.dropped(here)

    @rule()
    def restart(self) -> None:
        for here in self.open:
            self.ledger.dropped(here)
        self.open.clear()
        self.ledger = Ledger(self.heads)

    @invariant()
    def every_total_is_that_of_the_tree(self) -> None:
        """CONTRACTS 6.15: a child's spending counts against its root, a fork's too."""

        def charged(head: SessionHead) -> set[SessionId]:
            found, here = set(), head
            while True:
                found.add(here.session_id)
                above = here.lineage.parent or here.lineage.budget_root
                if above is None:
                    return found
                here = self.heads[above]

        own = {h: self.heads[h].usage + self.open.get(h, NO_USAGE) for h in self.heads}
        for session_id in self.heads:
            below = [own[h] for h, head in self.heads.items() if session_id in charged(head)]
            assert self.ledger.total(session_id) == sum(below, NO_USAGE)
        assert self.ledger.whole == sum(own.values(), NO_USAGE)
        roots = [head for head in self.heads.values() if head.lineage.parent is None]
        assert self.ledger.whole_ns == sum(head.active_ns for head in roots)


_SPEC: Any = None
TestLedger = LedgerMachine.TestCase


# In a realm.


def said(text: str, tokens: int = 10) -> ModelReply:
    return ModelReply(text, usage=Usage(tokens, 0, 1))


def wanting(*calls: Any, tokens: int = 10) -> ModelReply:
    return attrs.evolve(asking(*calls), usage=Usage(tokens, 0, 1))


def bounded(realm: Realm, budget: Budget) -> Realm:
    """`realm` with this budget on every session that has no parent."""
    realm.budgets = Budgets(realm, lambda h: None if h.lineage.parent else ("it", budget))
    return realm


async def exceeded(realm: Realm, session: SessionId) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as found:
        await realm.runner.send_message(session, "go")
    return found.value


async def test_a_turn_ends_before_the_call_that_is_not_allowed_any_more() -> None:
    """CONTRACTS 4.9: checked before each model and each tool call; the outcome is typed."""
    tool = Doing(lambda _: "ok")
    script = [said("one"), wanting(call("a")), said("never")]
    realm = bounded(make_realm(MemoryStore(), script, [tool]), Budget(tokens=20))
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "one"
    error = await exceeded(realm, session)
    assert (error.scope, error.limit, error.allowed, error.spent) == ("it", "tokens", 20, 20)
    assert error.session_id == session
    assert tool.begun == [], "the tokens were used up before the tool"
    record = realm.turn(realm.state.head(session).head)
    assert record.outcome is TurnOutcome.OVER_BUDGET
    assert await realm.runner.get_session_status(session) is SessionStatus.IDLE
    # Nothing is spent any more.
    assert (await exceeded(realm, session)).spent == 20


async def test_tool_calls_are_never_more_than_allowed() -> None:
    tool = Doing(lambda _: "ok")
    script = [wanting(call("a"), call("b")), said("fine"), wanting(call("c"), call("d"))]
    realm = bounded(make_realm(MemoryStore(), script, [tool]), Budget(tool_calls=3))
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    error = await exceeded(realm, session)
    assert (error.limit, error.allowed, error.spent) == ("tool_calls", 3, 4)
    assert sorted(tool.begun) == ["a", "b"]


async def test_time_is_up_in_the_middle_of_a_call(autojump_clock: Any) -> None:
    async def slow(_: ModelRequest) -> str:
        await trio.sleep(100)
        return "late"

    realm = bounded(make_realm(MemoryStore(), slow), Budget(seconds=7))
    session = await new_session(realm)
    began = trio.current_time()
    error = await exceeded(realm, session)
    assert trio.current_time() - began == pytest.approx(7)
    assert (error.limit, error.allowed) == ("seconds", 7)


async def test_what_is_spent_to_the_end_stays_so_whatever_the_time(autojump_clock: Any) -> None:
    """CONTRACTS 4.9: at a later time the sum is the same, to the last digit."""

    async def slow(_: ModelRequest) -> str:
        await trio.sleep(100)
        return "late"

    realm = bounded(make_realm(MemoryStore(), slow), Budget(seconds=6.355326))
    session = await new_session(realm)
    realm.state.head(session).active_ns = 6_355_326_000
    for pause_s in (0.1, 0.2, 0.7, 1.3, 5.9, 22.08):
        await trio.sleep(pause_s)
        assert realm.budgets is not None
        assert realm.budgets.check(session) is not None, trio.current_time()


async def test_an_interrupt_wins_over_a_deadline(autojump_clock: Any) -> None:
    from tests.runtime.test_driver import interrupted

    async def slow(_: ModelRequest) -> str:
        await trio.sleep(100)
        return "late"

    realm = bounded(make_realm(MemoryStore(), slow), Budget(seconds=7))
    session = await new_session(realm)

    async def soon() -> None:
        await trio.sleep(3)

    await interrupted(realm, session, soon)


def spawning(request: ModelRequest) -> ModelReply:
    """A parent that starts two children at once, and children that spend 30 tokens each."""
    if "/" in request.key.removeprefix("test/").rsplit("/", 1)[0]:
        return said("child", 30)
    if request.messages[-1].text == "go":
        given = '{"name": "x", "instructions": "do"}'
        calls = [call(i, "spawn_agent", given) for i in ("a", "b")]
        return wanting(*calls)
    return said("parent")


async def test_what_children_spend_is_charged_to_the_root() -> None:
    """CONTRACTS 1.7, 6.15."""
    for tokens, fits in ((71, True), (70, False)):
        store = MemoryStore()
        realm = bounded(make_realm(store, spawning, [SpawnAgent()]), Budget(tokens=tokens))
        session = await new_session(realm)
        if fits:
            assert (await realm.runner.send_message(session, "go")).text == "parent"
        else:
            assert (await exceeded(realm, session)).spent == 70
        # Folded anew from the journal, the same.
        again = make_realm(store, [])
        assert Ledger(again.state.heads).total(session) == realm.state.ledger.total(session)  # type: ignore[union-attr]


@pytest.mark.parametrize("checkpointed", [False, True])
async def test_a_restart_keeps_what_was_spent(tmp_path: Path, checkpointed: bool) -> None:
    """CONTRACTS 6.9, 6.15; from the journal and from rows."""
    async with open_lmdb(tmp_path) as store:
        realm = make_realm(store, [said("x", 30)])
        session = await new_session(realm)
        await realm.runner.send_message(session, "go")
        ns = realm.state.head(session).active_ns
        assert ns > 0
        if checkpointed:
            await realm.checkpoint()
    async with open_lmdb(tmp_path) as store:
        realm = bounded(make_realm(store, []), Budget(tokens=30))
        assert realm.state.head(session).active_ns == ns
        assert (await exceeded(realm, session)).spent == 30


async def test_what_a_turn_tells_after_its_session_has_ended_counts_once() -> None:
    """CONTRACTS 6.9, 6.15: in the process that hears of it, and in the next."""
    store = MemoryStore()
    realm = make_realm(store, [])
    session = await new_session(realm)
    ledger = realm.state.ledger = Ledger(realm.state.heads)

    async def tell(tokens: int) -> None:
        usage = Usage(tokens, 0, tokens)
        await realm.append(TurnProgressed(session, RunId("r"), (), (), usage, 1, 0)).wait()

    await tell(1)
    await realm.archive(session, "over")
    await tell(3)
    again = make_realm(store, [])
    assert Ledger(again.state.heads).whole == ledger.whole == Usage(3, 0, 3)
    await realm.append(ended(session, Usage(5, 0, 5))).wait()
    again = make_realm(store, [])
    assert Ledger(again.state.heads).whole == ledger.whole == Usage(5, 0, 5)
    assert again.state.heads[session].cut is None


def ended(session: SessionId, usage: Usage) -> TurnEnded:
    outcome = TurnOutcome.INTERRUPTED
    return TurnEnded(session, RunId("r"), 0, outcome, (), usage, (), None, None, 0, 0, 1, 0, 0, 0)


async def test_what_is_not_on_disk_yet_counts(autojump_clock: Any) -> None:
    async with open_lagging(delay_s=5) as store:
        realm = make_realm(store, [wanting(call("a")), said("no")], [Doing(lambda _: "ok")])
        realm.budgets = Budgets(realm, lambda _: ("it", Budget(tokens=10)))
        session = await new_session(realm)
        assert (await exceeded(realm, session)).spent == 10


async def test_a_grant_counts_from_its_base() -> None:
    realm = make_realm(MemoryStore(), [said("a"), said("b"), said("c")])
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    realm.budgets = Budgets(realm, lambda _: None)
    base = Spent(realm.budgets.ledger.whole)
    realm.budgets.grants.append(Grant("this run", Budget(tokens=10), base, session))
    await realm.runner.send_message(session, "go")
    assert (await exceeded(realm, session)).scope == "this run"


async def test_a_fork_is_charged_to_what_it_came_from() -> None:
    """CONTRACTS 1.7."""
    from runtime.records import SessionForked

    realm = make_realm(MemoryStore(), [said("a"), said("b", 30)])
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    head = realm.state.head(session).head
    fork = SessionId("fork")
    await realm.append(SessionForked(fork, session, None, head, 1, 2, (), 9)).wait()
    realm.budgets = Budgets(realm, lambda h: ("it", Budget(tokens=40)) if h.head == head else None)
    await realm.runner.send_message(fork, "go")
    assert realm.budgets.ledger.total(session).total_tokens == 40
    assert realm.budgets.ledger.total(fork).total_tokens == 30


async def test_a_session_service_keeps_the_budget_of_a_session() -> None:
    """CONTRACTS 4.9, budget_limits: also in the next process."""
    store = MemoryStore()
    build = SessionBuildOptions(
        budget_limits=Budget(tokens=10), llm_client_override=ScriptedModel([said("a")])
    )
    service = RealmSessionService(store)
    made = await service.create_session(CreateSessionRequest("sim:echo", "go", build=build))
    again = RealmSessionService(store)
    with pytest.raises(BudgetExceeded, match="10 of 10 tokens"):
        await again.start_turn(made.session_id, StartTurnRequest("more"))
    free = await again.create_session(CreateSessionRequest("sim:echo", "hello"))
    assert free.text == "hello"
    money = SessionBuildOptions(budget_limits=Budget(nano_usd=1))
    with pytest.raises(SessionError, match="no price"):
        await again.create_session(CreateSessionRequest("sim:echo", "hello", build=money))
