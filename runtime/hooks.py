"""Hooks: what people have done at fixed points of a turn, and what that may change.

Owns: the points, the verdicts, running the hooks of one session in their order, and one turn's use
of them. Must not: know how a hook is carried out (`runtime.hookbodies`), or cost anything where
there are none: a session without hooks has no `Hooks`.

An *observe* hook is told; whatever it does or fails to do changes nothing. A *guardrail* decides:
it allows, denies, or rewrites what is under way. Guardrails are asked in declared order; the first
that denies ends the asking, and a rewrite is what those behind it see. One that fails, or does not
answer in time, denies, unless it was declared to allow then. Every failure, denial and rewrite is a
`HookReported` record.

A turn that is continued after a crash passes the points it had passed once more, so a hook may hear
of the same thing twice; `run_id` and the tool call's id tell.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import trio

from runtime.containing import Contained
from runtime.errors import describe, encodable
from runtime.ids import RunId, SessionId
from runtime.messages import ToolCall, ToolOutcome, ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.records import HookReported, TurnEnded, TurnOutcome

if TYPE_CHECKING:
    from runtime.realm import Realm

#: Seconds that a hook has unless it is given others: a turn waits for each of them.
TIMEOUT_S: Final = 10.0


class HookPoint(enum.Enum):
    """Where hooks are run. The first six can be guarded, the last two have happened."""

    #: Before the first model call of a turn. Value: the text that the turn was begun with.
    RUN_STARTED = "run_started"
    #: Before each model call. Value: the instructions; a rewrite holds for this call.
    BEFORE_MODEL = "before_model"
    #: After each reply. Value: its text; a rewrite is what goes into the history.
    AFTER_MODEL = "after_model"
    #: Before each tool call. Value: its arguments as JSON text; a rewrite is what the tool gets.
    BEFORE_TOOL = "before_tool"
    #: After each tool call. Value: its result's text; a rewrite is what the model reads.
    AFTER_TOOL = "after_tool"
    #: Between a batch of tools and the next model call. Value: empty.
    TURN_BOUNDARY = "turn_boundary"
    #: A turn ended with an answer, and is on disk. Value: the answer.
    RUN_COMPLETED = "run_completed"
    #: A turn ended without one. Value: the reason.
    RUN_FAILED = "run_failed"


#: What has happened cannot be denied.
OBSERVED_ONLY: Final = frozenset({HookPoint.RUN_COMPLETED, HookPoint.RUN_FAILED})


@attrs.frozen
class HookEvent:
    """What a hook is told: where, about whom, the value it may judge, and what else is known."""

    point: HookPoint
    session_id: SessionId
    run_id: RunId
    value: str
    details: Mapping[str, Any] = attrs.field(factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The event as commands and servers get it."""
        return {
            "point": self.point.value,
            "session_id": self.session_id,
            "run_id": self.run_id,
            "value": self.value,
            **self.details,
        }


@attrs.frozen
class Allow:
    """Go on, with the value as it is. What a hook that returns nothing says."""


@attrs.frozen
class Deny:
    """Do not; `reason` is for the model, where it is told, and for people."""

    reason: str


@attrs.frozen
class Rewrite:
    """Go on with this value instead: docs/hooks.md says at which point it is what."""

    value: str


Verdict: TypeAlias = Allow | Deny | Rewrite
#: Carries a hook out. Whatever it raises is a failure of the hook.
Body: TypeAlias = Callable[[HookEvent], Awaitable[Verdict]]
ALLOW: Final = Allow()


@attrs.frozen
class Hook:
    """One hook: at which points it is run, what it is asked for, and how long it may take."""

    name: str
    points: frozenset[HookPoint]
    body: Body
    mode: Literal["observe", "guardrail"] = "observe"
    timeout_s: float = TIMEOUT_S
    on_error: Literal["allow", "deny"] = "deny"


class Hooks:
    """The hooks of one session, in declared order.

    Raises:
        ValueError: a guardrail is declared for a point that only can be observed.
    """

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self.hooks = tuple(hooks)
        self._at: dict[HookPoint, list[Hook]] = {}
        for hook in self.hooks:
            for point in hook.points:
                if hook.mode == "guardrail" and point in OBSERVED_ONLY:
                    raise ValueError(f"{hook.name!r}: at {point.value} there is nothing to guard")
                self._at.setdefault(point, []).append(hook)

    def at(self, point: HookPoint) -> list[Hook]:
        """The hooks that are run at this point, in order."""
        return self._at.get(point, [])

    def overridden(self, by: Mapping[str, bool | Hook]) -> Hooks | None:
        """These hooks with some disabled (False), left (True), replaced or added, by name."""
        named = {hook.name: hook for hook in self.hooks}
        for name, how in by.items():
            if isinstance(how, Hook):
                named[name] = how
            elif not how:
                named.pop(name, None)
        return Hooks(named.values()) if named else None


NO_HOOKS: Final = Hooks(())


class TurnHooks:
    """The hooks of one turn under way."""

    def __init__(
        self, realm: Realm, hooks: Hooks, session_id: SessionId, run_id: RunId, model: str
    ) -> None:
        self._realm = realm
        self._hooks = hooks
        self._session_id = session_id
        self._run_id = run_id
        self._model = model

    async def started(self, text: str) -> Verdict:
        return await self._run(HookPoint.RUN_STARTED, text)

    async def before_model(self, request: ModelRequest, step: int) -> Verdict:
        details = {
            "step": step,
            "model": self._model,
            "messages": len(request.messages),
            "last_message": request.messages[-1].text if request.messages else "",
        }
        return await self._run(HookPoint.BEFORE_MODEL, request.instructions, details)

    async def after_model(self, reply: ModelReply, step: int) -> Verdict:
        details = {
            "step": step,
            "model": reply.model or self._model,
            "tool_calls": [_told(call) for call in reply.tool_calls],
            "usage": attrs.asdict(reply.usage),
        }
        return await self._run(HookPoint.AFTER_MODEL, reply.text, details)

    async def boundary(self, step: int) -> Verdict:
        return await self._run(HookPoint.TURN_BOUNDARY, "", {"step": step})

    async def around_tool(
        self, call: ToolCall, run: Callable[[ToolCall], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Run a tool call as its hooks allow. What is denied is data for the model."""
        verdict = await self._run(HookPoint.BEFORE_TOOL, call.arguments, {"call": _told(call)})
        if isinstance(verdict, Deny):
            return _denied(call, verdict.reason)
        if isinstance(verdict, Rewrite):
            call = attrs.evolve(call, arguments=verdict.value)
        result = await run(call)
        details = {"call": _told(call), "outcome": result.outcome.name.lower()}
        verdict = await self._run(HookPoint.AFTER_TOOL, result.text, details)
        if isinstance(verdict, Deny):
            return _denied(call, verdict.reason)
        return attrs.evolve(result, text=verdict.value) if isinstance(verdict, Rewrite) else result

    async def ended(self, record: TurnEnded, text: str) -> None:
        """The turn's end is on disk."""
        details = {"outcome": record.outcome.name.lower(), "usage": attrs.asdict(record.usage)}
        if record.outcome is TurnOutcome.COMPLETED:
            await self._run(HookPoint.RUN_COMPLETED, text, details)
        else:
            await self._run(HookPoint.RUN_FAILED, record.error or "", details)

    async def _run(
        self, point: HookPoint, value: str, details: Mapping[str, Any] | None = None
    ) -> Verdict:
        """Run the hooks of a point. A `Rewrite` is the last value of several."""
        rewritten = False
        for hook in self._hooks.at(point):
            event = HookEvent(point, self._session_id, self._run_id, value, details or {})
            verdict, failure = await _answer(hook, event)
            if hook.mode == "observe":
                if failure is not None:
                    self._report(hook, point, "failed", failure)
                continue
            if failure is not None:
                self._report(hook, point, "failed", failure)
                if hook.on_error == "allow":
                    continue
                verdict = Deny("it could not be checked")
            if isinstance(verdict, Deny):
                self._report(hook, point, "denied", verdict.reason)
                return Deny(f"denied by hook {hook.name!r}: {verdict.reason}")
            if isinstance(verdict, Rewrite):
                self._report(hook, point, "rewrote", "")
                value, rewritten = verdict.value, True
        return Rewrite(value) if rewritten else ALLOW

    def _report(self, hook: Hook, point: HookPoint, what: str, reason: str) -> None:
        now_ns = self._realm.ports.clock.now_ns()
        self._realm.append(
            HookReported(
                self._session_id, self._run_id, hook.name, point.value, what, reason, now_ns
            )
        )


async def _answer(hook: Hook, event: HookEvent) -> tuple[Verdict, str | None]:
    """What the hook says, and why it said nothing if it failed."""
    trouble = Contained()
    try:
        with trouble, trio.move_on_after(hook.timeout_s):
            return _speakable(await hook.body(event)), None
    except Exception as error:  # noqa: BLE001 whatever a hook raises is its failure
        return ALLOW, describe(error)
    except BaseExceptionGroup as group:
        _, others = group.split(Exception)
        assert others is not None, "a group of nothing but errors is an Exception"
        raise others from None  # it is being cancelled: its last words reach nobody
    if trouble.said is not None:
        return ALLOW, trouble.said
    return ALLOW, f"it did not answer within {hook.timeout_s:g} s"


def _speakable(verdict: Verdict) -> Verdict:
    """`verdict`, its text such as a journal can hold."""
    if isinstance(verdict, Deny):
        return Deny(encodable(verdict.reason))
    if isinstance(verdict, Rewrite):
        return Rewrite(encodable(verdict.value))
    return verdict


def _told(call: ToolCall) -> dict[str, str]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def _denied(call: ToolCall, reason: str) -> ToolResult:
    return ToolResult(call.id, call.name, f"error: {reason}", ToolOutcome.ERROR)
