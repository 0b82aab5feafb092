"""A simulated model that acts like an agent and fails in every way a provider does.

Owns: `SimModel` and what each ``model.*`` fault (and ``message.slow_peer``) does. Must not: draw on
anything but the seed, the request and how often this very call was made before.

What it says is a function of the request: it calls the tools it is offered now and then, asks its
peers, starts helpers, and answers with what it was told. Retries of a call are told apart by a
count, so a call that failed once need not fail for ever.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, cast, final

import attrs
import trio

from mob.sim_table import LATENCY_S
from mob.simulation.faults import Faults
from mob.simulation.kinds import FaultKind
from mob.simulation.streams import Streams
from runtime.errors import ModelError, ModelRefused
from runtime.ids import ToolCallId
from runtime.messages import (
    CALL_CUT,
    CONTINUED,
    CORRECTED,
    Message,
    SystemMessage,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import Emit, ModelReply, ModelRequest, Schema, StopReason, ToolSpec
from runtime.models.instances import NoInstance, Subject, make_instance
from runtime.prices import Price, priced
from runtime.structured import mistakes_in
from stores import StoreFull

#: Chance of calling tools: in a turn that a caller began, and in one below it (a peer's question, a
#: child). A call of each kind leads to less than one further turn, so trees of questions end.
_CALLS: Final = (0.6, 0.25)
#: Chance of a further batch of tools once there are results.
_AGAIN: Final = 0.25
#: Chance of a child beside its parent, and of one that outlives it.
_BESIDE: Final = 0.6
#: How many tasks a model believes to be on the board.
_TASKS_OF_A_BOARD: Final = 8
#: Seconds that a client which swallows a cancellation goes on; it is bounded, as a deaf one is.
DEAF_S: Final = 3.0
#: Characters of an answer that is far too long.
_HUGE: Final = 300_000
_REQUEST_ID: Final = re.compile(r"\[request ([^\]]+)\]")
_PEER: Final = re.compile(r"(?:peer|Peer|are:|;) ([\w-]+)")
_PEER_NAME: Final = re.compile(r'"name": "([^"]+)"')
_TASK_ID: Final = re.compile(r'"task_id": "([^"]+)"')
#: Senders of what a turn tells its own model.
_OF_THE_TURN: Final = (CORRECTED, CONTINUED, CALL_CUT)
#: A character that no journal can hold: half of a surrogate pair.
_HALF: Final = "\ud83d"


class Unspeakable(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("this error cannot be printed")


def anything(amount: float) -> Exception:
    """An error that is no error of ours; `amount` in [0, 1) chooses which."""
    made: Sequence[Callable[[], Exception]] = (
        lambda: KeyError("choices"),
        lambda: RuntimeError(f"provider said {_HALF}"),
        lambda: OSError(104, "Connection reset by peer"),
        lambda: ExceptionGroup("two at once", [ValueError("one"), trio.BrokenResourceError()]),
        trio.TooSlowError,
        StopAsyncIteration,
        Unspeakable,
        lambda: StoreFull("the cache of this client is full", path="cache"),
        lambda: RecursionError("maximum recursion depth exceeded"),
        AssertionError,
    )
    return made[int(amount * len(made))]()


#: Virtual seconds after which something that hangs looks whether the faults are over.
_LOOKS_S: Final = 20.0

#: In the order in which they are asked for; at most one strikes a call.
_KINDS: Final = tuple(kind for kind in FaultKind if kind.family == "model")


@final
class SimModel:
    """A `runtime.models.base.Model` for one world.

    `calling` is told of each call and says how many tokens are left for it, if anything bounds
    them; `price` is what they cost. `passing` is told of crash points (``model.called``,
    ``model.replied``) as they are passed. A call takes virtual seconds between the two of
    `latency_s`: long enough for calls to overlap.
    """

    supports_tools = True

    def __init__(
        self,
        faults: Faults,
        streams: Streams,
        passing: Callable[[str], None] = lambda _point: None,
        *,
        name: str = "sim:faulty",
        latency_s: tuple[float, float] = LATENCY_S,
        price: Price | None = None,
        calling: Callable[[ModelRequest], int | None] = lambda _request: None,
    ) -> None:
        self.name = name
        self._price = price
        self._calling = calling
        self._latency_s = latency_s
        self._faults = faults
        self._streams = streams
        self._passing = passing
        #: How often each call was made.
        self._made: Counter[str] = Counter()

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """See `runtime.models.base.Model.generate`; and whatever a fault does instead."""
        self._made[request.key] += 1
        alias = self.name.rpartition(":")[2]
        site = f"{alias}/{request.key}#{self._made[request.key]}".replace(",", ";")
        self._passing("model.called")
        left = self._calling(request)
        low, high = self._latency_s
        latency_s = low + (high - low) * self._streams.unit("model", "latency", site)
        slow_s = 0.0
        if _from_peer(request.messages) and self._faults.fires(FaultKind.SLOW_PEER, site):
            slow_s = 60 + 240 * self._faults.amount(FaultKind.SLOW_PEER, site)
        kinds = (kind for kind in _KINDS if left or kind is not FaultKind.MODEL_EXACT)
        fault = next((kind for kind in kinds if self._faults.fires(kind, site)), None)
        reply = self._reply(request)
        if fault in (FaultKind.MODEL_EXACT, FaultKind.MODEL_USAGE):
            much = self._faults.amount(fault, site)
            odd = _ODD[int(much * len(_ODD))] if fault is FaultKind.MODEL_USAGE else None
            reply = attrs.evolve(reply, usage=odd or Usage(left or 0, 0, model_calls=1))
        elif fault is not None:
            reply, latency_s = await self._fail(fault, site, request, reply, latency_s)
        await trio.sleep(latency_s + slow_s)
        if emit is not None and fault is not FaultKind.MODEL_GARBAGE:
            emit(reply.text)
        self._passing("model.replied")
        return reply if self._price is None else _priced(reply, self._price)

    async def aclose(self) -> None:
        """Holds nothing."""
        await trio.lowlevel.checkpoint()

    # -- what it says ----------------------------------------------------------------------

    def _unit(self, request: ModelRequest, *what: str | int) -> float:
        return self._streams.unit("model", request.key, *what)

    def _reply(self, request: ModelRequest) -> ModelReply:
        results = _results(request.messages)
        calls = self._calls(request, len(results))
        told = _told(request.messages)
        if calls:
            text, stop = "", StopReason.TOOL_CALLS
        elif request.output_schema is not None:
            answer = {"answer": told[:200], "calls": len(results)}
            text, stop = self._fitting(request, request.output_schema, answer), StopReason.END
        else:
            heard = "; ".join(f"{each.name}: {each.text[:40]}" for each in results[-3:])
            text, stop = f"on {told[:120]!r}: {heard or 'done'}", StopReason.END
        heard_chars = sum(len(message.text) for message in request.messages[-8:])
        usage = Usage(heard_chars // 4, len(text) // 4 + len(calls), model_calls=1)
        return ModelReply(text, calls, stop, usage, self.name)

    def _calls(self, request: ModelRequest, answered: int) -> tuple[ToolCall, ...]:
        if not request.tools or request.tool_choice == "none":
            return ()
        below = _from_peer(request.messages) or request.key.count("/") > 2
        chance = _AGAIN if answered else _CALLS[below]
        if answered > 4 or self._unit(request, "calls") >= chance:
            return ()
        count = 1 + int(self._unit(request, "count") * 2.4)
        return tuple(self._call(request, index) for index in range(count))

    def _call(self, request: ModelRequest, index: int) -> ToolCall:
        tools = request.tools
        tool = tools[int(self._unit(request, "tool", index) * len(tools))]
        call_id = ToolCallId(f"{request.key}#{index}")
        given: dict[str, Any] = _arguments(tool, f"{request.key}#{index}")
        given.update(self._beside(request, tool.parameters.get("properties", {}), index))
        if tool.name.startswith("board_") and "task" in given:  # mostly one that is there
            given["task"] = f"t{1 + int(self._unit(request, 'task', index) * _TASKS_OF_A_BOARD)}"
        return ToolCall(call_id, tool.name, self._fitting(request, tool.parameters, given, index))

    def _beside(
        self, request: ModelRequest, properties: Mapping[str, Any], index: int
    ) -> Iterator[tuple[str, Any]]:
        """What a call says about children in the background."""
        if "to" in properties and (peers := _peers(request.messages)):
            yield "to", peers[int(self._unit(request, "peer", index) * len(peers))]
            if "mode" in properties and self._unit(request, "steer", index) < _BESIDE:
                yield "mode", "steer"
        elif "mode" in properties:
            beside = self._unit(request, "mode", index) < _BESIDE
            yield "mode", "background" if beside else "foreground"
            apart = self._unit(request, "lifetime", index) < _BESIDE
            yield "lifetime", "detached" if apart else "linked"
        if "task_id" in properties:
            known = _tasks(request.messages) or ("nobody",)
            yield "task_id", known[int(self._unit(request, "task", index) * len(known))]
        if "request_id" in properties:
            open_ = _requests(request.messages) or ("nobody",)
            yield "request_id", open_[int(self._unit(request, "request", index) * len(open_))]
        if "deadline_s" in properties:
            yield "deadline_s", round(1 + 30 * self._unit(request, "deadline", index), 2)
        if "timeout_s" in properties:
            yield "timeout_s", round(30 * self._unit(request, "timeout", index), 2)

    def _fitting(self, request: ModelRequest, schema: Schema, value: object, index: int = 0) -> str:
        """`value` as JSON if it fits `schema`, and if not one that does."""
        if mistakes_in(schema, value) is None:
            return json.dumps(value)
        drawn = 0

        def below(bound: int) -> int:
            nonlocal drawn
            drawn += 1
            return int(self._unit(request, "value", index, drawn) * bound)

        subject = Subject(_told(request.messages), below)
        try:
            return json.dumps(make_instance(schema, below, subject.text_for, optional=False))
        except (NoInstance, ValueError):
            return json.dumps(value)  # it does not fit, as a model's answer may not

    # -- how it fails ----------------------------------------------------------------------

    async def _fail(
        self,
        fault: FaultKind,
        site: str,
        request: ModelRequest,
        reply: ModelReply,
        latency_s: float,
    ) -> tuple[ModelReply, float]:
        """Do what `fault` says: raise, hang, or return another reply or another latency."""
        much = self._faults.amount(fault, site)
        match fault:
            case FaultKind.MODEL_ERROR:
                await trio.sleep(latency_s)
                raise ModelError("overloaded", provider="sim", retryable=True, status=529)
            case FaultKind.MODEL_FATAL:
                await trio.sleep(latency_s)
                if much < 0.5:
                    raise ModelRefused("the content was declined", provider="sim")
                raise ModelError("bad request", provider="sim", retryable=False, status=400)
            case FaultKind.MODEL_HANG:
                await hanging(self._faults)
                raise ModelError("connection reset", provider="sim", retryable=True)
            case FaultKind.MODEL_RAISES:
                await raising(latency_s, much)
            case FaultKind.MODEL_GARBAGE:
                return _garbage(request, reply, much), latency_s
            case FaultKind.MODEL_HUGE:
                return attrs.evolve(reply, text=reply.text + "blah " * (_HUGE // 5)), latency_s
            case FaultKind.MODEL_TRUNCATED:
                return _truncated(reply, much), latency_s
            case FaultKind.MODEL_DUPLICATE:
                return self._duplicated(request, reply), latency_s
            case FaultKind.MODEL_LATE:
                return reply, latency_s * 100
            case FaultKind.MODEL_DEAF:
                await deafly(latency_s * 20, DEAF_S * much)
                return reply, 0.0
            case _:
                pass
        raise AssertionError(f"{fault} is no fault of a model")

    def _duplicated(self, request: ModelRequest, reply: ModelReply) -> ModelReply:
        """One call twice under one id, which is also the id of every other such call."""
        if not request.tools:
            return attrs.evolve(reply, text=reply.text * 2)
        call = attrs.evolve(self._call(request, 0), id=ToolCallId("call_0"))
        return attrs.evolve(reply, text="", tool_calls=(call, call), stop=StopReason.TOOL_CALLS)


def _priced(reply: Any, price: Price) -> ModelReply:
    """`reply` with what it cost, unless it is garbage."""
    if isinstance(reply, ModelReply) and isinstance(reply.usage, Usage):
        return attrs.evolve(reply, usage=priced(reply.usage, price))
    return cast(ModelReply, reply)


#: What clients report that count wrongly.
_ODD: Final = (
    Usage(),
    Usage(5_000_000, 5_000_000, model_calls=1),
    Usage(10, 10, model_calls=0),
    Usage(10, 10, model_calls=9, tool_calls=5),
    Usage(100, 10, model_calls=1, cached_input_tokens=200),
    Usage(-1_000_000, -10, model_calls=1),
    Usage(2**70, 0, model_calls=1),
)


async def hanging(faults: Faults) -> None:
    """Hang until all faults are over: then whoever holds the connection finds out."""
    while faults.active:  # noqa: ASYNC110 a plan is data and has no events; and time is virtual
        await trio.sleep(_LOOKS_S)


async def deafly(seconds: float, more_s: float) -> None:
    """Sleep; swallow a cancellation that comes meanwhile, and go on for `more_s` before returning
    as if there had been none: what a client does that catches too much."""
    try:
        await trio.sleep(seconds)
    except trio.Cancelled:
        with trio.CancelScope(shield=True):  # bounded by `more_s`: deaf, not dead
            await trio.sleep(more_s)


async def raising(seconds: float, much: float) -> NoReturn:
    """Raise anything after `seconds`; or, half of the time, once cancelled in the middle of a long
    wait, as clients do whose cleaning up fails."""
    try:
        await trio.sleep(seconds if much < 0.5 else seconds * 50)
    finally:
        raise anything(much * 2 % 1)


def _garbage(request: ModelRequest, reply: ModelReply, much: float) -> ModelReply:
    name = request.tools[0].name if request.tools else "look"
    required = request.tools[0].parameters.get("required", ()) if request.tools else ()
    key = ToolCallId(f"{request.key}#garbage")

    def calling(*calls: ToolCall) -> ModelReply:
        return attrs.evolve(reply, text="", tool_calls=calls, stop=StopReason.TOOL_CALLS)

    made: Sequence[Callable[[], ModelReply]] = (
        lambda: calling(ToolCall(key, "no_such_tool", "{}")),
        lambda: calling(ToolCall(key, name, '{"what": ')),
        lambda: calling(ToolCall(key, name, '["not", "an", "object"]')),
        lambda: calling(ToolCall(ToolCallId(""), name, "[" * 5000)),
        lambda: calling(ToolCall(key, name, "{}"), ToolCall(ToolCallId(""), "", "null")),
        lambda: attrs.evolve(reply, text=f"half a pair {_HALF}"),
        lambda: calling(ToolCall(key, f"look{_HALF}", "{}")),
        # JSON that fits and spells half a pair.
        lambda: calling(ToolCall(key, name, json.dumps(dict.fromkeys(required, _HALF)))),
        lambda: attrs.evolve(reply, text=json.dumps({"answer": _HALF, "calls": 0})),
        lambda: attrs.evolve(reply, text="\0\x1b[2J", stop=StopReason.TOOL_CALLS),
        # What a client of somebody else's may hand over: no reply, or one that breaks its types.
        lambda: cast(ModelReply, None),
        lambda: attrs.evolve(reply, text=cast(str, None)),
        lambda: attrs.evolve(reply, tool_calls=cast("tuple[ToolCall, ...]", None)),
        lambda: attrs.evolve(reply, usage=cast(Usage, None)),
    )
    return made[int(much * len(made))]()


def _truncated(reply: ModelReply, much: float) -> ModelReply:
    if reply.tool_calls:
        last = reply.tool_calls[-1]
        cut = attrs.evolve(last, arguments=last.arguments[: int(much * len(last.arguments))])
        calls = (*reply.tool_calls[:-1], cut)
        return attrs.evolve(reply, tool_calls=calls, stop=StopReason.LENGTH)
    text = reply.text[: int(much * len(reply.text))]
    return attrs.evolve(reply, text=text, stop=StopReason.LENGTH)


def _arguments(tool: ToolSpec, what: str) -> dict[str, str]:
    """Text for each property the tool requires."""
    return {name: f"{name} of {what}"[:64] for name in tool.parameters.get("required", ())}


def _tasks(messages: Sequence[Message]) -> tuple[str, ...]:
    """The ids of the tasks that tools have spoken of lately, oldest first."""
    found: dict[str, None] = {}
    for message in messages[-40:]:
        if isinstance(message, ToolResult):
            found.update(dict.fromkeys(_TASK_ID.findall(message.text)))
    return tuple(found)


def _requests(messages: Sequence[Message]) -> tuple[str, ...]:
    """The ids of the requests that came lately, oldest first."""
    found: dict[str, None] = {}
    for message in messages[-40:]:
        if isinstance(message, UserMessage):
            found.update(dict.fromkeys(_REQUEST_ID.findall(message.text)))
    return tuple(found)


def _peers(messages: Sequence[Message]) -> tuple[str, ...]:
    """The peers that the model was told of lately, oldest first."""
    found: dict[str, None] = {}
    for message in messages[-40:]:
        if isinstance(message, SystemMessage):
            found.update(dict.fromkeys(_PEER.findall(message.text)))
        elif isinstance(message, ToolResult) and message.name == "peers":
            found.update(dict.fromkeys(_PEER_NAME.findall(message.text)))
    return tuple(found)


def _results(messages: Sequence[Message]) -> list[ToolResult]:
    """The tool results of this turn, oldest first."""
    found: list[ToolResult] = []
    for message in reversed(messages):
        if isinstance(message, UserMessage) and message.sender not in _OF_THE_TURN:
            break
        if isinstance(message, ToolResult):
            found.append(message)
    return found[::-1]


def _asked(messages: Sequence[Message]) -> UserMessage | None:
    """What the turn was begun with."""
    for message in reversed(messages):
        if isinstance(message, UserMessage) and message.sender not in _OF_THE_TURN:
            return message
    return None


def _told(messages: Sequence[Message]) -> str:
    asked = _asked(messages)
    return "" if asked is None else asked.text


def _from_peer(messages: Sequence[Message]) -> bool:
    asked = _asked(messages)
    return asked is not None and asked.sender is not None
