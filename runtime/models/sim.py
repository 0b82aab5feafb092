"""Simulated models: no key, no network, and the same answer every time.

Owns: ``sim:echo`` and ``sim:agent``. Must not: draw on anything but the seed and the request.
(``sim:solver``, whose answers are right as often as it is told, and ``sim:flaky``, which fails, are
in files of their own.)

`EchoModel` answers at once with the last message: it costs one checkpoint and two objects, so that
a benchmark measures the runtime and not its model. `AgentModel` acts like an agent: it takes its
time, streams, calls the tools it is offered and answers from their results. What it says is a
pure function of seed and request, the randomness drawn from the request's key, so a swarm replays
bit for bit (the idea is FoundationDB's: https://apple.github.io/foundationdb/testing.html).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import trio

from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import CALL_CUT, CONTINUED, Message, ToolCall, ToolResult, Usage, UserMessage
from runtime.models.base import Emit, ModelReply, ModelRequest, Schema, StopReason, ToolSpec
from runtime.models.instances import NoInstance, Subject, make_instance
from runtime.models.retelling import quoting, told
from runtime.structured import mistakes_in

#: About four characters a token holds for English text in the common tokenizers.
CHARS_PER_TOKEN = 4
#: Mean time of a call in seconds: long enough for calls to overlap, short enough for a demo.
DEFAULT_LATENCY_S = 0.02
#: A reply arrives in at most this many pieces, watched or not: a watcher must not change the run.
_MAX_PIECES = 4
#: Tools called in one step at most: with two, trees of child sessions stay small.
_MAX_CALLS = 2
#: Values drawn before a schema with keywords the generator passes over is given up.
_TRIES = 8


@functools.lru_cache(maxsize=1024)
def _echo_usage(tokens: int) -> Usage:
    return Usage(tokens, tokens, 1)


class EchoModel:
    """``sim:echo``: the last message's text, at once. Ignores tools, schemas and options.

    Usage counts a quarter of the characters, of the last message only: counting the history
    would make a turn's cost grow with it.
    """

    name = "sim:echo"
    #: Said so that no `JsonTools` stands in front of a model that calls nothing anyway.
    supports_tools = True

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        await trio.lowlevel.checkpoint()
        messages = request.messages
        text = messages[-1].text if messages else ""
        if emit is not None and text:
            emit(text)
        usage = _echo_usage(len(text) // CHARS_PER_TOKEN)
        return ModelReply(text, (), StopReason.END, usage, "sim:echo")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class AgentModel:
    """``sim:agent``: calls tools on the first step of a turn, then answers from their results.

    At most one batch of tools a turn unless `tool_choice` forces one. Options it knows:
    ``latency_s`` (mean, default 0.02; a call takes 0.5 to 1.5 times that on Trio's clock),
    ``seed`` (over the constructor's) and ``max_tokens`` (cuts plain text, never JSON).
    """

    name = "sim:agent"
    supports_tools = True

    def __init__(self, *, seed: int | str = 0, latency_s: float = DEFAULT_LATENCY_S) -> None:
        if latency_s < 0:
            raise ValueError(f"latency_s must not be negative, got {latency_s}")
        self._seed = seed
        self._latency_s = latency_s

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Take the drawn time, then answer. Pieces come spread over the second half of it.

        Raises:
            ModelError: no value fits a schema, or `tool_choice` asks for what is not offered.
        """
        reply, latency_s = self.plan(request)
        pieces = _pieces(reply.text)
        if not pieces:
            await trio.sleep(latency_s)
            return reply
        await trio.sleep(latency_s / 2)
        for piece in pieces:
            await trio.sleep(latency_s / 2 / len(pieces))
            if emit is not None:
                emit(piece)
        return reply

    def plan(self, request: ModelRequest) -> tuple[ModelReply, float]:
        """The whole reply and how many seconds it takes: a pure function of seed and request."""
        draws = Draws(request.options.get("seed", self._seed), request.key)
        mean_s = float(request.options.get("latency_s", self._latency_s))
        latency_s = mean_s * (50 + draws.below(101)) / 100
        user = last_user_text(request.messages)
        subject = Subject(user, draws.below)
        stop = StopReason.END
        text, calls = "", self._calls(request, subject, draws)
        if calls:
            stop = StopReason.TOOL_CALLS
        elif request.output_schema is not None:
            schema = quoting(request.output_schema, told(results_of(request.messages)))
            text = json.dumps(fitting(schema, subject, draws, optional=True))
        else:
            text = _answer(results_of(request.messages), subject)
            most = request.options.get("max_tokens")
            if most is not None and len(text) > int(most) * CHARS_PER_TOKEN:
                text, stop = text[: int(most) * CHARS_PER_TOKEN], StopReason.LENGTH
        said = len(text) + sum(len(call.arguments) + len(call.name) for call in calls)
        heard = len(request.instructions) + sum(len(each.text) for each in request.messages)
        usage = Usage(heard // CHARS_PER_TOKEN, said // CHARS_PER_TOKEN, model_calls=1)
        return ModelReply(text, calls, stop, usage, self.name), latency_s

    def _calls(self, request: ModelRequest, subject: Subject, draws: Draws) -> tuple[ToolCall, ...]:
        chosen = _chosen_tools(request, draws)
        made = []
        for index, tool in enumerate(chosen):
            arguments = fitting(tool.parameters, subject, draws, optional=False)
            call_id = ToolCallId(f"{request.key}#{index}")
            made.append(ToolCall(call_id, tool.name, json.dumps(arguments)))
        return tuple(made)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Draws:
    """Numbers from a seed and a key: the same in every process and Python version."""

    def __init__(self, seed: object, key: str) -> None:
        self._start = f"{seed}\0{key}\0".encode()
        self._count = 0

    def below(self, bound: int) -> int:
        self._count += 1
        digest = hashlib.blake2b(self._start + b"%d" % self._count, digest_size=8).digest()
        return int.from_bytes(digest, "big") % bound


def _chosen_tools(request: ModelRequest, draws: Draws) -> list[ToolSpec]:
    choice = request.tool_choice
    if choice == "none" or (choice == "auto" and not request.tools):
        return []
    if choice not in ("auto", "required"):
        named = [tool for tool in request.tools if tool.name == choice]
        if not named:
            raise _error(f"tool_choice names {choice!r}, which is not among the tools offered")
        return named[:1]
    if not request.tools:
        raise _error("tool_choice is 'required' but no tools are offered")
    if choice == "auto" and results_of(request.messages):
        return []
    left = list(request.tools)
    count = 1 + draws.below(min(_MAX_CALLS, len(left)))
    return [left.pop(draws.below(len(left))) for _ in range(count)]


def fitting(schema: Schema, subject: Subject, draws: Draws, *, optional: bool) -> Any:
    reason: str | None = "no value was found"
    for _ in range(_TRIES):
        try:
            value = make_instance(schema, draws.below, subject.text_for, optional=optional)
            reason = mistakes_in(schema, value)
        except (NoInstance, ValueError) as error:
            raise _error(f"cannot make a value for a schema: {error}") from error
        if reason is None:
            return value
    raise _error(f"cannot make a value for a schema it only partly understands: {reason}")


def _error(message: str) -> ModelError:
    return ModelError(f"sim:agent: {message}", provider="sim", retryable=False)


def last_user_text(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if isinstance(message, UserMessage) and message.sender not in (CONTINUED, CALL_CUT):
            return message.text
    return ""


def results_of(messages: Sequence[Message]) -> list[ToolResult]:
    """The tool results of this turn, oldest first."""
    found: list[ToolResult] = []
    for message in reversed(messages):
        if isinstance(message, UserMessage) and message.sender not in (CONTINUED, CALL_CUT):
            break
        if isinstance(message, ToolResult):
            found.append(message)
    return found[::-1]


def _answer(results: Sequence[ToolResult], subject: Subject) -> str:
    topic = " ".join(subject.keywords(6))
    if not results:
        return f"On {topic}: this is a simulated answer to {subject.text[:200]!r}."
    parts = [f"{each.name} said: {' '.join(each.text.split())[:240]}" for each in results]
    return f"On {topic}: " + " ".join(parts)


def _pieces(text: str) -> list[str]:
    """`text` in at most four pieces that break before a word."""
    if not text:
        return []
    words = re.findall(r"\s*\S+\s*$|\s*\S+", text)
    if not words:
        return [text]
    size = -(-len(words) // _MAX_PIECES)
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]
