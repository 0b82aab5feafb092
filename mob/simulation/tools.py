"""Simulated tools that fail in every way a tool does, and a book of what they did to the world.

Owns: `Effects`, `SimTool`, `sim_tools` and what each ``tool.*`` fault does. Must not: know the mob;
children are started through the context's runner, as any tool would.

Four tools cover what the runtime promises: ``work`` may be repeated, ``note`` must not be,
``delegate`` starts a child session of its own under the call's key, and ``pay`` waits for approval
in the mob that the simulation plays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, final

import trio

from mob.simulation.faults import Faults
from mob.simulation.kinds import FaultKind
from mob.simulation.models import DEAF_S, deafly, hanging, raising
from mob.simulation.streams import Streams
from runtime.errors import AgentError, LimitExceeded, SessionBusy, SessionError
from runtime.models.base import ToolSpec
from runtime.tools.base import Tool, ToolContext, ToolFailed, as_text

#: A call takes between these, in virtual seconds.
_LATENCY_S: Final = (0.005, 0.2)
#: The time limit of the tools that have one: shorter than what ``tool.late`` makes of most calls.
_LIMIT_S: Final = 10.0
_HUGE: Final = 300_000
_PARAMETERS: Final = {
    "type": "object",
    "properties": {"what": {"type": "string", "minLength": 1}},
    "required": ["what"],
    "additionalProperties": False,
}
#: In the order in which they are asked for; at most one strikes a call.
_KINDS: Final = tuple(kind for kind in FaultKind if kind.family == "tool")


@final
class Effects:
    """What the tools of one world did, outliving its processes as the world outside does.

    `began` hears of each call when it begins, `returned` of the text of each that ends well.
    """

    def __init__(
        self,
        began: Callable[[Tool, ToolContext], None] = lambda _tool, _context: None,
        returned: Callable[[ToolContext, str], None] = lambda _context, _text: None,
    ) -> None:
        #: How often the work of each call (`ToolContext.key`) was done.
        self.times: Counter[str] = Counter()
        self.began: Final = began
        self.returned: Final = returned


@final
class SimTool:
    """A tool with one text argument ``what``, or with those of `spec`: takes its time, has its
    effect, answers.

    `passing` is told of crash points (``tool.called``, ``tool.done``) as they are passed.
    """

    def __init__(
        self,
        name: str,
        *,
        idempotent: bool,
        timeout_s: float | None,
        faults: Faults,
        streams: Streams,
        effects: Effects,
        passing: Callable[[str], None],
        work: Callable[[Mapping[str, Any], ToolContext, bool], Awaitable[str]] | None = None,
        spec: ToolSpec | None = None,
    ) -> None:
        self.spec = spec or ToolSpec(name, f"Do some {name}.", _PARAMETERS)
        self.idempotent = idempotent
        self.timeout_s = timeout_s
        #: One that starts a child does no more than wait for it.
        self.waits_for_others = work is not None
        self._faults = faults
        self._streams = streams
        self._effects = effects
        self._passing = passing
        self._work = work
        self._made: Counter[str] = Counter()

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Do it, or whatever a fault does instead. Raises `ToolFailed`."""
        name = f"{self.spec.name}/{context.call.id}"
        self._made[name] += 1
        site = f"{name}#{self._made[name]}".replace(",", ";")
        self._effects.began(self, context)
        self._passing("tool.called")
        low, high = _LATENCY_S
        latency_s = low + (high - low) * self._streams.unit("tool", "latency", site)
        # Only the tool that starts a child can start it twice.
        kinds = (kind for kind in _KINDS if self._work or kind is not FaultKind.TOOL_DUPLICATE)
        fault = next((kind for kind in kinds if self._faults.fires(kind, site)), None)
        if fault is FaultKind.TOOL_HANG:
            await hanging(self._faults)
            raise ToolFailed("the connection was reset")
        if fault is FaultKind.TOOL_LATE:
            latency_s *= 100
        much = 0.0 if fault is None else self._faults.amount(fault, site)
        if fault is FaultKind.TOOL_DEAF:
            await deafly(latency_s * 20, DEAF_S * much)
        else:
            await trio.sleep(latency_s)
        self._effects.times[context.key] += 1
        # A run says which it is, so that the result of another one shows.
        answer = f"{self.spec.name} did {_shown(arguments)} ({self._made[name]})"
        if self._work is not None:
            answer = await self._work(arguments, context, fault is FaultKind.TOOL_DUPLICATE)
        self._passing("tool.done")
        if fault is not None:
            return await _spoiled(fault, much, answer)
        self._effects.returned(context, as_text(answer))
        return answer


def _shown(arguments: Mapping[str, Any]) -> str:
    what = arguments.get("what")
    return what if isinstance(what, str) else as_text(dict(arguments))[:200]


async def _spoiled(fault: FaultKind, much: float, answer: str) -> Any:
    """What comes back of a call that did its work and then failed."""
    match fault:
        case FaultKind.TOOL_ERROR:
            raise ToolFailed("the service is down" if much < 0.7 else "half a pair \ud83d")
        case FaultKind.TOOL_RAISES:
            if much < 0.3:
                await _raise_from_tasks()
            await raising(0.0 if much < 0.6 else 1.0, much)
        case FaultKind.TOOL_GARBAGE:
            return _garbage(much)
        case FaultKind.TOOL_HUGE:
            return answer + "x" * _HUGE
        case FaultKind.TOOL_TRUNCATED:
            return ('{"answer": "' + answer)[: 1 + int(much * len(answer))]
        case _:
            pass
    return answer


async def _raise_from_tasks() -> None:
    """Several errors at once, from tasks of the tool's own."""

    async def fail(error: Exception) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail, ValueError("one task"))
        nursery.start_soon(fail, KeyError("another"))
        nursery.start_soon(trio.sleep_forever)


def _garbage(much: float) -> Any:
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    made: Sequence[Any] = (
        object,
        b"\xff\x00",
        "half a pair \udc80",
        {"nan": float("nan"), "set": frozenset({1})},
        {(1, 2): "no key for JSON"},
        circle,
        None,
        "",
    )
    return made[int(much * len(made))]


async def _delegate(arguments: Mapping[str, Any], context: ToolContext, twice: bool) -> str:
    """Start one child on the task and return its answer; `twice` tries to make two of it."""
    runner = context.runner
    parent = await runner.get_session(context.session_id)
    assert parent is not None, "a running session exists"
    key = f"{context.key}:delegate"
    made: list[str] = []

    async def ask() -> str:
        child = await runner.create_session(
            parent.harness_id,
            parent.agent_id,
            title="delegate",
            parent_session_id=context.session_id,
            spawn_key=key,
        )
        made.append(child.session_id)
        # The same key again, also while the first message is under way, joins or is refused.
        result = await runner.send_message(child.session_id, arguments["what"], idempotency_key=key)
        await runner.archive_session(child.session_id, "finished")
        return result.text

    async def ask_again() -> None:
        try:
            await ask()
        except (SessionBusy, AgentError, SessionError, LimitExceeded):
            return  # the first says what became of it

    try:
        if not twice:
            return await ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_again)
            text = await ask()
    except (SessionError, LimitExceeded) as error:
        raise ToolFailed(f"no answer: {error}") from error
    if len(set(made)) > 1:
        raise AssertionError(f"one key made several children: {made}")
    return text


def sim_tools(
    faults: Faults,
    streams: Streams,
    effects: Effects,
    passing: Callable[[str], None] = lambda _point: None,
    doubled: Mapping[str, Tool] | None = None,
) -> dict[str, Tool]:
    """The tools of a world, by name: one for each of `doubled`, called as that one is and promising
    what it does, or the four of our own."""

    def make(name: str, **parts: Any) -> SimTool:
        return SimTool(
            name, faults=faults, streams=streams, effects=effects, passing=passing, **parts
        )

    if doubled is not None:
        return {
            name: make(name, idempotent=own.idempotent, timeout_s=own.timeout_s, spec=own.spec)
            for name, own in doubled.items()
        }
    return {
        "work": make("work", idempotent=True, timeout_s=_LIMIT_S),
        "note": make("note", idempotent=False, timeout_s=None),
        "delegate": make("delegate", idempotent=True, timeout_s=None, work=_delegate),
        "pay": make("pay", idempotent=False, timeout_s=None),
    }
