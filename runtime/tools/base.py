"""The tool port and the dispatcher: from a model's call to a result that is always data.

Owns: the `Tool` protocol, what a tool is told (`ToolContext`), `Toolbox` which runs one call.
Must not: know the turn that called, or what any particular tool does.

Whatever a tool does wrong becomes a `ToolResult` with outcome ERROR that the model reads; only
cancellation passes through. Arguments are checked against the tool's schema before it runs. What
the session may not call is not advertised, and a model that calls it all the same is told DENIED.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from runtime.containing import Contained
from runtime.errors import describe, encodable, words_of
from runtime.ids import RunId, SessionId
from runtime.messages import ToolCall, ToolOutcome, ToolResult
from runtime.models.base import ToolChoice, ToolSpec
from runtime.structured import mistakes_in
from runtime.tools.policy import EVERY_TOOL, Patterns, ToolPolicy, matches
from runtime.tools.source import ToolSource

if TYPE_CHECKING:
    from runtime.runner import LocalSessionRunner

#: Characters of a tool's answer that reach the model; the rest is cut and said to be cut. A model
#: with a context of 128k tokens holds about eight of these.
MAX_RESULT_CHARS = 60_000


@attrs.frozen
class ToolContext:
    """Who calls: `call` is the model's call, `runner` the seam for tools that start children.

    `since_s` is how many seconds ago the call was made, if it is repeated after a crash.
    """

    session_id: SessionId
    run_id: RunId
    call: ToolCall
    runner: LocalSessionRunner
    since_s: float = 0.0

    @property
    def key(self) -> str:
        """Names the call for ever, also when its turn is continued by another process: a call id
        alone need not be unique beyond its turn."""
        return f"{self.session_id}:{self.run_id}:{self.call.id}"


class Tool(Protocol):
    """One tool. Safe for many tasks at once."""

    @property
    def spec(self) -> ToolSpec:
        """How it is advertised: its name, what it does, and the JSON Schema of its arguments."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether running it again for the same call id is harmless: only then does recovery
        repeat a call whose outcome is unknown."""
        ...

    @property
    def timeout_s(self) -> float | None:
        """Seconds after which the call is cancelled and reported as failed; None: no limit."""
        ...

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Do it; return text, or a JSON value that becomes text.

        `arguments` fit the schema. Any exception becomes an error result that the model reads,
        `ToolFailed` in its own words. Cancellation (an interrupt, a stop, `timeout_s`) ends the
        call promptly; one that a crash cuts off is repeated only if the tool is `idempotent`.
        """
        ...


class ToolFailed(Exception):
    """Raised by a tool to say, in words meant for the model, why it could not do as asked."""


@attrs.frozen
class Offer:
    """What a model call advertises; `missing` says which tools cannot be had now, and why."""

    specs: tuple[ToolSpec, ...]
    missing: str = ""

    def choice(self, asked: ToolChoice) -> ToolChoice:
        """`asked`, or ``auto`` if it names a tool that is not offered: providers refuse that."""
        if asked in ("auto", "none"):
            return asked
        names = {spec.name for spec in self.specs}
        return asked if asked in names or (asked == "required" and names) else "auto"


class Toolbox:
    """The tools of a session by name, in the order given, and those of its sources.

    `policy` says which of them may be called, `approve` which of those wait for a decision before
    they run (`runtime.approvals`), as patterns. A tool of a source that has the name of another one
    is left out.

    Raises:
        ValueError: two tools share a name.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        *,
        policy: ToolPolicy = EVERY_TOOL,
        sources: Iterable[ToolSource] = (),
        approve: Patterns = (),
    ) -> None:
        self.policy = policy
        self.approve = approve
        self._sources = tuple(sources)
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.spec.name in self._tools:
                raise ValueError(f"two tools are named {tool.spec.name!r}; rename one of them")
            self._tools[tool.spec.name] = tool
        self._waiters = frozenset(
            [name for name, t in self._tools.items() if getattr(t, "waits_for_others", False)]
        )
        self._own = Offer(
            tuple([t.spec for name, t in self._tools.items() if policy.permits(name)])
        )
        #: What `offer` returns, if that never changes: one wait less in every turn without sources.
        self.fixed = None if self._sources else self._own

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What may be called, as far as is known without waiting for a source."""
        return self._offered("").specs if self._sources else self._own.specs

    def restricted(self, policy: ToolPolicy, approve: Patterns = ()) -> Toolbox:
        """The same tools with `policy` laid over theirs, and these to `approve` besides."""
        if policy == EVERY_TOOL and not approve:
            return self
        return Toolbox(
            self._tools.values(),
            policy=self.policy & policy,
            sources=self._sources,
            approve=(*self.approve, *approve),
        )

    async def offer(self) -> Offer:
        """What to advertise in the next model call. A checkpoint only if there are sources."""
        if not self._sources:
            return self._own
        reasons = [reason for each in self._sources if (reason := await each.refresh())]
        return self._offered("\n".join(reasons))

    def _offered(self, missing: str) -> Offer:
        specs = {spec.name: spec for spec in self._own.specs}
        for source in self._sources:
            for qualified, tool in source.tools.items():
                if tool.spec.name not in self._tools and self.policy.permits(qualified):
                    specs.setdefault(tool.spec.name, tool.spec)
        return Offer(tuple(specs.values()), missing)

    def __len__(self) -> int:
        return len(self.specs)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def waits_for_others(self, name: str) -> bool:
        """Whether a call of the tool does nothing itself while others work for it."""
        return name in self._waiters

    def idempotent(self, name: str) -> bool:
        """Whether the tool called `name` may be repeated; an unknown one does nothing, so yes."""
        tool = self._tools.get(name)
        if tool is not None:
            return tool.idempotent
        source = self._source(name)
        return source is None or source.idempotent(name)

    def asks(self, call: ToolCall) -> Mapping[str, Any] | None:
        """The schema of the arguments of a call that waits for a decision; None if it needs none.

        A call that would fail anyway, by its name or its arguments, needs none.
        """
        tool = self._tools.get(call.name)
        source = self._source(call.name) if tool is None else None
        name = (source.qualified(call.name) if source is not None else None) or call.name
        if not matches(self.approve, name) or not self.policy.permits(name):
            return None
        if source is not None:
            tool = source.tools.get(name)
            if tool is None:  # its server cannot be reached now: whether it fits is found out later
                return {}
        if tool is None or mistake_in(tool.spec.parameters, call.arguments) is not None:
            return None
        return tool.spec.parameters

    async def run(self, context: ToolContext) -> ToolResult:
        """Run `context.call` and return its result. Only cancellation escapes."""
        call = context.call
        tool = self._tools.get(call.name)
        source = self._source(call.name) if tool is None else None
        if tool is None and source is None:
            return _failed(call, f"there is no tool named {call.name!r}; {self._available()}")
        name, why = call.name, None
        if source is not None:
            why = await source.refresh()
            name = source.qualified(call.name) or name  # as it is called now that the list is known
            tool = source.tools.get(name)
        if not self.policy.permits(name):
            reason = f"this session may not call {call.name!r}; {self._available()}"
            return _failed(call, reason, ToolOutcome.DENIED)
        if tool is None:
            gone = f"there is no tool named {call.name!r} any more; {self._available()}"
            return _failed(call, why or gone)
        return await self._checked(tool, context)

    def _source(self, name: str) -> ToolSource | None:
        return next((each for each in self._sources if each.qualified(name) is not None), None)

    def _available(self) -> str:
        return "available: " + (", ".join(sorted(spec.name for spec in self.specs)) or "none")

    async def _checked(self, tool: Tool, context: ToolContext) -> ToolResult:
        call = context.call
        mistake = mistake_in(tool.spec.parameters, call.arguments)
        if mistake is not None:
            return _failed(call, mistake)
        return await self._guarded(tool, json.loads(call.arguments or "{}"), context)

    @staticmethod
    async def _guarded(
        tool: Tool, arguments: Mapping[str, Any], context: ToolContext
    ) -> ToolResult:
        timeout_s = tool.timeout_s if tool.timeout_s is not None else float("inf")
        trouble = Contained()
        try:
            # Around the deadline too: what a tool's own tasks raise while they are being cancelled
            # comes out there, in one group with the cancellation.
            with trouble, trio.move_on_after(timeout_s):
                text = as_text(await tool.run(arguments, context))
                return ToolResult(context.call.id, context.call.name, text)
        except ToolFailed as error:
            return _failed(context.call, words_of(error))
        except Exception as error:  # noqa: BLE001 whatever a tool raises, the model is told
            return _failed(context.call, describe(error))
        except BaseExceptionGroup as group:
            _, others = group.split(Exception)
            assert others is not None, "a group of nothing but errors is an Exception"
            raise others from None  # the call is being cancelled: its last words reach nobody
        if trouble.said is not None:
            return _failed(context.call, trouble.said)
        return _failed(context.call, f"timed out after {timeout_s:g} s")


def unknown_outcome(call: ToolCall) -> ToolResult:
    """What the model is told of a call that the end of a process cut off."""
    text = (
        "error: the process ended while this tool ran, and whether it finished is unknown; it was"
        " not repeated because it is not declared idempotent"
    )
    return ToolResult(call.id, call.name, text, ToolOutcome.UNKNOWN)


def mistake_in(parameters: Mapping[str, Any], text: str) -> str | None:
    """Why `text` is no arguments that fit the schema; None if it is."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        return f"the arguments are not valid JSON: {error}"
    try:
        reason = mistakes_in(parameters, arguments)
    except (ValueError, RecursionError) as error:
        return f"the arguments cannot be checked: {error}"
    return None if reason is None else f"the arguments do not fit: {reason}"


def as_text(value: Any) -> str:
    """A tool's return value as the text the model reads: strings as they are, the rest as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = encodable(text)  # half a surrogate pair may come from a file name, for instance
    if len(text) > MAX_RESULT_CHARS:
        cut = len(text) - MAX_RESULT_CHARS
        return f"{text[:MAX_RESULT_CHARS]}\n[{cut} more characters were cut]"
    return text


def _failed(call: ToolCall, reason: str, outcome: ToolOutcome = ToolOutcome.ERROR) -> ToolResult:
    return ToolResult(call.id, call.name, as_text(f"error: {reason}"), outcome)
