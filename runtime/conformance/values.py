"""What the suites feed an implementation: sessions and turns as strange as they may be.

Owns: Hypothesis strategies, and the guest loop in a machine. Must not: assert what an
implementation does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, TypeVar

import attrs
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from runtime.ids import AgentId, HarnessId, SessionId, ToolCallId
from runtime.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.session import Lineage, Session, SessionSpec, SessionStatus
from stores.guest import GuestLoop

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

#: Seconds after which a wait counts as one that never ends.
PATIENCE_S: Final = 30

#: Ids that are the beginning of each other or sort around the signs that a layout may add.
SESSION_IDS: Final = st.sampled_from(
    [SessionId(each) for each in ("s", "s1", "s10", "s1-a", "s1.a", "S1", "s1_", "sé", "t" * 64)]
)

_TEXTS: Final = st.text(max_size=12)
_OPTIONAL: Final = st.none() | _TEXTS
_COUNTS: Final = st.integers(0, 2**40)
_NUMBERS: Final = st.integers(0, 2**63 - 1)
USAGES: Final = st.builds(Usage, _COUNTS, _COUNTS, _COUNTS, _COUNTS)
_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=4,
)
SPECS: Final = st.builds(
    SessionSpec,
    _OPTIONAL,
    _OPTIONAL,
    _OPTIONAL,
    st.none() | st.integers(0, 9),
    st.fixed_dictionaries({"inner": st.just({"depth": 1})}, optional={"more": _JSON}),
)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A whole turn: a question, maybe tools, each call answered once, an answer or none."""
    texts = st.text(max_size=6)
    told: list[Message] = [UserMessage(draw(texts), draw(st.none() | texts))]
    if draw(st.booleans()):
        told.insert(0, SystemMessage(draw(texts), draw(st.none() | texts)))
    for step in range(draw(st.integers(0, 2))):
        calls = tuple(
            ToolCall(ToolCallId(f"c{step}.{index}"), draw(texts), draw(texts))
            for index in range(draw(st.integers(1, 2)))
        )
        told.append(AssistantMessage(draw(texts), calls, None, draw(USAGES)))
        for call in draw(st.permutations(calls)):
            outcome = draw(st.sampled_from(ToolOutcome))
            told.append(ToolResult(call.id, call.name, draw(texts), outcome))
    if draw(st.booleans()):
        told.append(AssistantMessage(draw(texts), (), draw(st.none() | texts), draw(USAGES)))
    return tuple(told)


HISTORIES: Final = st.lists(turns(), max_size=3).map(
    lambda many: tuple(message for turn in many for message in turn)
)
TAGS: Final = st.lists(st.text(min_size=1, max_size=64), max_size=3, unique=True).map(tuple)


def sessions(session_id: SessionId) -> st.SearchStrategy[Session]:
    """Sessions of this id, of any content."""
    return st.builds(
        Session,
        st.just(session_id),
        _TEXTS.map(HarnessId),
        st.none() | _TEXTS.map(AgentId),
        _OPTIONAL,
        _OPTIONAL,
        st.builds(Lineage, _OPTIONAL, _OPTIONAL, _NUMBERS, _OPTIONAL, st.integers(0, 16)),
        SPECS,
        _NUMBERS,
        _NUMBERS,
        st.sampled_from(SessionStatus),
        _NUMBERS,
        _COUNTS,
        USAGES,
        HISTORIES,
        TAGS,
        st.integers(0, 2**31),
        _NUMBERS,
    )


def described(session: Session) -> Session:
    """A copy that shares nothing that can be changed: what a model must keep."""
    options = _copied(session.spec.options)
    return attrs.evolve(session, spec=attrs.evolve(session.spec, options=options))


def spoil(session: Session) -> None:
    """Change all of a session that can be changed, at the top and further in."""
    inner = session.spec.options.get("inner")
    if isinstance(inner, dict):
        inner["depth"] = "changed"
    session.spec.options["added"] = True


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


async def raised(error: type[E], operation: Awaitable[object]) -> E:
    """The `error` that `operation` ends with; an assertion fails if it ends otherwise."""
    try:
        result = await operation
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was expected, {result!r} was returned")


class GuestMachine(RuleBasedStateMachine):
    """A state machine whose rules run async code, one at a time, in one task."""

    #: Seconds to wait for what should come at once, before it is called a hang.
    patience_s: float = PATIENCE_S

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(prefix="mob-conformance-")
        #: A directory for this example alone, removed after it.
        self.directory: str = self._temporary.name
        self._loop = GuestLoop()
        self._stack = AsyncExitStack()

    def entered(self, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Enter what `opening` makes; `left` leaves it. No deadline: its scope would cross."""

        async def enter() -> T:
            return await self._stack.enter_async_context(opening())

        return self._loop.run(enter)

    def left(self) -> None:
        """Leave everything that was entered."""
        self._loop.run(self._stack.aclose)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns, within `patience_s`."""

        async def patient() -> T:
            with trio.fail_after(self.patience_s):
                return await work()

        return self._loop.run(patient)

    def teardown(self) -> None:
        try:
            self.left()
        finally:
            self._loop.end()
            self._temporary.cleanup()
