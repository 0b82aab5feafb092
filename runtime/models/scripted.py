"""A model that says what a test tells it to, and remembers what it was asked.

Owns: `ScriptedModel`, and `calling` to write tool calls down shortly. Must not: reach a network,
invent a reply, or go on after its script ended.

The idea is pydantic-ai's `FunctionModel` and httpx's `MockTransport`: the seam is so narrow that
its double fits on a page. It is shipped because users test their mobs with it as well.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs
import trio

from runtime.ids import ToolCallId
from runtime.messages import ToolCall, Usage
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason

#: What a reply may be written as: text, a whole reply, or an error to raise.
Line: TypeAlias = str | ModelReply | Exception
#: Makes a reply out of the request; may be async, for instance to wait for an event of the test.
Answer: TypeAlias = Callable[[ModelRequest], Line | Awaitable[Line]]


class ScriptExhausted(AssertionError):
    """The model was called more often than its script has lines.

    Not a `ModelError` on purpose: a policy would retry that, and the test would pass or hang.
    """


def calling(*calls: tuple[str, Mapping[str, Any] | str], text: str = "") -> ModelReply:
    """A reply that calls tools: ``calling(("search", {"query": "trio"}), ("now", {}))``.

    Arguments given as a string are passed on as they are, which is how to write malformed JSON.
    The call ids are left empty; the model fills them in from the request's key.
    """
    made = tuple(
        ToolCall(ToolCallId(""), name, given if isinstance(given, str) else json.dumps(given))
        for name, given in calls
    )
    return ModelReply(text, made, StopReason.TOOL_CALLS)


class ScriptedModel:
    """Answers with the lines of `script` in order, or with ``script(request)`` for ever.

    A line is text, a `ModelReply`, an exception to raise, or a function (sync or async) from the
    request to one of these. `requests` holds every request in order, its messages copied.
    """

    def __init__(
        self,
        script: Iterable[Line | Answer] | Answer,
        *,
        name: str = "scripted:test",
        supports_tools: bool = True,
    ) -> None:
        self._answer: Answer | None = script if callable(script) else None
        self._lines: list[Line | Answer] = [] if callable(script) else list(script)
        self._next = 0
        self._name = name
        self._supports_tools = supports_tools
        self.requests: list[ModelRequest] = []
        self.closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def supports_tools(self) -> bool:
        return self._supports_tools

    @property
    def remaining(self) -> int:
        """How many lines have not been said. Zero for a script that is one function."""
        return len(self._lines) - self._next

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Say the next line.

        Raises:
            ScriptExhausted: there is no next line.
            Exception: the line is one.
        """
        await trio.lowlevel.checkpoint()
        self.requests.append(attrs.evolve(request, messages=tuple(request.messages)))
        line: Any = self._take(request)
        if callable(line):
            line = line(request)
            if isinstance(line, Awaitable):
                line = await line
        if isinstance(line, Exception):
            raise line
        reply = self._finish(line, request)
        if emit is not None and reply.text:
            emit(reply.text)
        return reply

    def _take(self, request: ModelRequest) -> Line | Answer:
        if self._answer is not None:
            return self._answer
        if self._next == len(self._lines):
            last = request.messages[-1].text if request.messages else ""
            raise ScriptExhausted(
                f"{self._name} has said all {len(self._lines)} lines of its script and was called"
                f" again (key {request.key!r}, last message {last[:80]!r}); add a line, or pass a"
                " function to answer any number of calls"
            )
        self._next += 1
        return self._lines[self._next - 1]

    def _finish(self, line: str | ModelReply, request: ModelRequest) -> ModelReply:
        if isinstance(line, str):
            asked = request.messages[-1].text if request.messages else ""
            usage = Usage(len(asked) // 4, len(line) // 4, model_calls=1)
            return ModelReply(line, usage=usage, model=self._name)
        calls = tuple(
            call if call.id else attrs.evolve(call, id=ToolCallId(f"{request.key}#{index}"))
            for index, call in enumerate(line.tool_calls)
        )
        return attrs.evolve(line, tool_calls=calls)

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()
