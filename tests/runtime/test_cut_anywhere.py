"""A turn that is interrupted, aborted or lost with its process at any moment, again and again.

The turn has every kind of await: a model call, a durable save, a batch of tools of which one is not
idempotent, a model call that fails and is tried again, the wait before that, the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.driver import TurnAborted
from runtime.errors import ModelError, TurnInterrupted
from runtime.ids import SessionId
from runtime.messages import ToolOutcome, ToolResult, UserMessage, check_sequence
from runtime.models.base import ModelReply, ModelRequest, ToolSpec
from runtime.realm import Realm
from runtime.records import TurnEnded, TurnOutcome, TurnProgressed
from runtime.tools.base import ToolContext
from stores import MemoryStore
from tests.runtime.fakes import ANYTHING, asking, call, make_realm, new_session, open_lagging


class Counted:
    """A tool that takes `takes_s` and counts the calls it began, by their names for ever."""

    timeout_s = None

    def __init__(self, name: str, takes_s: float, disk: MemoryStore, *, idempotent: bool) -> None:
        self._disk = disk
        self.spec = ToolSpec(name, "", ANYTHING)
        self.takes_s = takes_s
        self.idempotent = idempotent
        self.begun: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        self.begun[context.key] += 1
        records = [e.record for e in make_realm(self._disk).journal.read(limit=10_000)]
        saved = [r for r in records if type(r) is TurnProgressed and r.run_id == context.run_id]
        calls = [each for r in saved for m in r.messages for each in getattr(m, "tool_calls", ())]
        assert context.call in calls, "a call is on disk before its tool begins"
        await trio.sleep(self.takes_s)
        self.finished[context.key] += 1
        return "ok"


class World:
    """A store that outlives its processes, and what was promised to whom."""

    def __init__(self) -> None:
        self.disk = MemoryStore()
        self.session: SessionId | None = None
        self.failed: set[str] = set()
        self.once = Counted("once", 2, self.disk, idempotent=False)
        self.again = Counted("again", 1, self.disk, idempotent=True)

    async def answer(self, request: ModelRequest) -> ModelReply | str:
        await trio.sleep(1)
        if isinstance(request.messages[-1], UserMessage):
            return asking(call("o", "once"), call("a", "again"))
        if request.key not in self.failed:
            self.failed.add(request.key)
            raise ModelError("busy", provider="x", retryable=True)
        return "done"

    async def process(self, number: int, at_s: float, kind: str) -> None:
        """Put a question, and do `kind` to it after `at_s`."""
        async with open_lagging(self.disk, 0.7) as store:
            realm = make_realm(store, self.answer, [self.once, self.again])
            if self.session is None:
                self.session = await new_session(realm)
            session = self.session
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask, realm, session, number, kind == "abort")
                await trio.sleep(at_s)
                if kind == "crash":  # what was not committed yet never will be
                    store._queue.clear()
                    nursery.cancel_scope.cancel()
                elif kind == "abort":
                    realm.abort(session, "killed")
                else:
                    began, promised = trio.current_time(), realm.interrupt(session)
                    count = self._interrupted(realm)
                    while promised and self._interrupted(realm) == count:
                        assert trio.current_time() - began <= 2, "the interrupt is prompt"
                        await store.wait_beyond(b"realm/test", realm.journal.last)

    async def _ask(
        self, realm: Realm, session: SessionId, number: int, again: bool = False
    ) -> None:
        """Ask; if that is cut off and `again`, at once put another question."""
        try:
            result = await realm.runner.send_message(
                session, f"go {number}", idempotency_key=f"k{number}"
            )
            assert result.text == "done"
        except (TurnInterrupted, TurnAborted):
            if again:
                await self._ask(realm, session, number + 100)

    def _interrupted(self, realm: Realm) -> int:
        records = [event.record for event in realm.journal.read(limit=10_000)]
        return sum(type(r) is TurnEnded and r.outcome is TurnOutcome.INTERRUPTED for r in records)

    async def check(self) -> None:
        """Whatever happened, the session goes on and nothing was done twice."""
        realm = make_realm(self.disk, self.answer, [self.once, self.again])
        if self.session is None or self.session not in realm.state.heads:
            return
        result = await realm.runner.send_message(self.session, "last", idempotency_key="last")
        assert result.text == "done"
        head = realm.state.head(self.session)
        assert (head.inputs, head.partial) == (None, None)
        history = realm.history(head)
        assert check_sequence(history) is None
        asked = Counter(m.text for m in history if isinstance(m, UserMessage))
        assert set(asked.values()) == {1}, "an input is answered once"
        # CONTRACTS 6.9: a tool that is not idempotent is never begun twice, and a finished
        # call of an idempotent one is repeated only if its result had not been journalled.
        assert set(self.once.begun.values()) <= {1}
        for each in history:
            if isinstance(each, ToolResult) and each.name == "once":
                assert each.outcome in (
                    ToolOutcome.OK,
                    ToolOutcome.INTERRUPTED,
                    ToolOutcome.UNKNOWN,
                )
        answered = [m for m in history if isinstance(m, ToolResult)]
        ok = sum(m.outcome is ToolOutcome.OK and m.name == "once" for m in answered)
        assert ok <= sum(self.once.finished.values())


moments = st.integers(0, 36).map(lambda quarter: quarter / 4)
cuts = st.lists(st.tuples(moments, st.sampled_from(["interrupt", "abort", "crash"])), max_size=4)


async def play(plan: list[tuple[float, str]]) -> None:
    world = World()
    for number, (at_s, kind) in enumerate(plan):
        with trio.fail_after(1000):
            await world.process(number, at_s, kind)
    await world.check()


@given(cuts)
@example([(0.0, "interrupt")])
@example([(3.0, "crash"), (0.0, "interrupt"), (3.0, "abort")])
def test_a_turn_that_is_cut_anywhere_goes_on_and_does_nothing_twice(
    plan: list[tuple[float, str]],
) -> None:
    """CONTRACTS 4.3, 2.8, 5.6: interrupts are prompt and never lost; histories always resume."""
    trio.run(play, plan, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("kind", ["interrupt", "abort", "crash"])
def test_every_quarter_second_of_a_turn(kind: str) -> None:
    """The same at every moment there is, once."""
    for quarter in range(37):
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(play, [(quarter / 4, kind)], clock=clock)
