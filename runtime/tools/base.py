"""The tool port and the dispatcher: from a model's call to a result that is always data.

Owns: the `Tool` protocol, what a tool is told (`ToolContext`), `Toolbox` which runs one call.
Must not: know the turn that called, or what any particular tool does.

Whatever a tool does wrong becomes a `ToolResult` with outcome ERROR that the model reads; only
cancellation passes through. Arguments are checked against the tool's schema before it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from runtime.errors import describe, encodable, words_of
from runtime.ids import RunId, SessionId
from runtime.messages import ToolCall, ToolOutcome, ToolResult
from runtime.models.base import ToolSpec
from runtime.structured import mistakes_in

if TYPE_CHECKING:
    from runtime.runner import LocalSessionRunner

#: Characters of a tool's answer that reach the model; the rest is cut and said to be cut. A model
#: with a context of 128k tokens holds about eight of these.
MAX_RESULT_CHARS = 60_000


@attrs.frozen
class ToolContext:
    """Who calls: `call` is the model's call, `runner` the seam for tools that start children."""

    session_id: SessionId
    run_id: RunId
    call: ToolCall
    runner: LocalSessionRunner

    @property
    def key(self) -> str:
        """Names the call for ever, also when its turn is continued by another process: a call id
        alone need not be unique beyond its turn."""
        return f"{self.session_id}:{self.run_id}:{self.call.id}"


class Tool(Protocol):
    """One tool. Safe for many tasks at once."""

    @property
    def spec(self) -> ToolSpec:
        """How it is advertised."""
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

        Any exception becomes an error result. Cancellation ends the call promptly.
        """
        ...


class ToolFailed(Exception):
    """Raised by a tool to say, in words meant for the model, why it could not do as asked."""


class Toolbox:
    """A fixed set of tools by name, in the order given.

    Raises:
        ValueError: two tools share a name.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.spec.name in self._tools:
                raise ValueError(f"two tools are named {tool.spec.name!r}; rename one of them")
            self._tools[tool.spec.name] = tool
        self.specs: tuple[ToolSpec, ...] = tuple(tool.spec for tool in self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def idempotent(self, name: str) -> bool:
        """Whether the tool called `name` may be repeated; an unknown one does nothing, so yes."""
        tool = self._tools.get(name)
        return tool is None or tool.idempotent

    async def run(self, context: ToolContext) -> ToolResult:
        """Run `context.call` and return its result. Only cancellation escapes."""
        call = context.call
        tool = self._tools.get(call.name)
        if tool is None:
            offered = ", ".join(sorted(self._tools)) or "none"
            return _failed(call, f"there is no tool named {call.name!r}; available: {offered}")
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as error:
            return _failed(call, f"the arguments are not valid JSON: {error}")
        try:
            reason = mistakes_in(tool.spec.parameters, arguments)
        except (ValueError, RecursionError) as error:
            return _failed(call, f"the arguments cannot be checked: {error}")
        if reason is not None:
            return _failed(call, f"the arguments do not fit: {reason}")
        return await self._guarded(tool, arguments, context)

    @staticmethod
    async def _guarded(
        tool: Tool, arguments: Mapping[str, Any], context: ToolContext
    ) -> ToolResult:
        timeout_s = tool.timeout_s if tool.timeout_s is not None else float("inf")
        try:
            # Around the deadline too: what a tool's own tasks raise while they are being cancelled
            # comes out there, in one group with the cancellation.
            with trio.move_on_after(timeout_s):
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
        return _failed(context.call, f"timed out after {timeout_s:g} s")


def as_text(value: Any) -> str:
    """A tool's return value as the text the model reads: strings as they are, the rest as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = encodable(text)  # half a surrogate pair may come from a file name, for instance
    if len(text) > MAX_RESULT_CHARS:
        cut = len(text) - MAX_RESULT_CHARS
        return f"{text[:MAX_RESULT_CHARS]}\n[{cut} more characters were cut]"
    return text


def _failed(call: ToolCall, reason: str) -> ToolResult:
    return ToolResult(call.id, call.name, as_text(f"error: {reason}"), ToolOutcome.ERROR)
