"""One call of a model, held to its word: what comes back fits a journal, whatever the client did.

Owns: `ask`, which calls a `Model` for a turn. Must not: try again (`runtime.attempts` does), know a
provider.

A client is somebody else's code. What it returns becomes part of a history that must be readable
for ever, so a reply of other types than it promised, or text that is no Unicode (half a surrogate
pair, which JSON can spell), is stopped here. What it raises must not be taken for an error of the
runtime's own: a client that keeps a cache in a store may well raise a `StoreError`, and that says
nothing about ours.
"""

from __future__ import annotations

from typing import Any, Final, cast

import attrs
import trio

from runtime.containing import Contained
from runtime.errors import MobError, ModelError, describe, encodable, words_of
from runtime.ids import ToolCallId
from runtime.messages import ToolCall, Usage
from runtime.models.base import Emit, Model, ModelReply, ModelRequest
from stores import StoreError

#: No call counts so much; what is less than nothing would give a budget back.
_MOST: Final = 1 << 48


class ModelCrashed(Exception):
    """A model's client raised what means something else to whoever runs the turn, or no error at
    all."""


async def ask(model: Model, request: ModelRequest, emit: Emit | None) -> ModelReply:
    """Run one call to its end. While it is being cancelled, what the client raises about that
    reaches nobody.

    Raises:
        ModelError: the call failed, or came back with what is no reply.
        ModelCrashed: the client raised an error of the runtime or of a store.
        Exception: whatever else it raised.
    """
    trouble = Contained()
    reply: Any = None
    try:
        with trouble:
            reply = await model.generate(request, emit)
    except Exception as error:
        await trio.lowlevel.checkpoint_if_cancelled()
        raised = _as_the_models(model, error)
        if raised is error:
            raise
        raise raised from error
    except BaseExceptionGroup as group:
        await trio.lowlevel.checkpoint_if_cancelled()
        _, others = group.split(Exception)
        assert others is not None, "a group of nothing but errors is an Exception"
        raise others from None
    if trouble.said is not None:
        await trio.lowlevel.checkpoint_if_cancelled()
        raise ModelCrashed(f"{model.name} raised {trouble.said}")
    wrong = _mistake(reply)
    if wrong is not None:
        provider = model.name.partition(":")[0]
        raise ModelError(f"{model.name} returned {wrong}", provider=provider, retryable=True)
    return _fitting(reply)


def _as_the_models(model: Model, error: Exception) -> Exception:
    """`error`, or what stands for it where it says something else to whoever runs the turn."""
    if isinstance(error, ModelError):
        if words_of(error) == _said(error):
            return error
        return ModelError(words_of(error), provider=error.provider, retryable=error.retryable)
    if isinstance(error, MobError | StoreError):
        return ModelCrashed(f"{model.name} raised {describe(error)}")
    return error


def _said(error: Exception) -> str | None:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 whatever its own code does
        return None


def _mistake(reply: object) -> str | None:
    """What makes `reply` no reply, if anything does."""
    if not isinstance(reply, ModelReply):
        return f"{type(reply).__name__} where a ModelReply belongs"
    if type(reply.text) is not str or not (reply.model is None or type(reply.model) is str):
        return "a reply whose text or model is no text"
    usage = reply.usage
    if type(usage) is not Usage or not _whole(usage):
        return "a reply whose usage is not made of whole numbers from 0 on"
    if type(reply.tool_calls) is not tuple:
        return "a reply whose tool calls are no tuple"
    for call in cast("tuple[object, ...]", reply.tool_calls):
        parts = (call.id, call.name, call.arguments) if isinstance(call, ToolCall) else (None,)
        if not all(isinstance(part, str) for part in parts):
            return "a tool call that is not made of texts"
    return None


def _whole(usage: Usage) -> bool:
    """Whether it is made of whole numbers from 0 on. Written out, for it is asked of every call."""
    return (
        type(usage.input_tokens) is int
        and type(usage.output_tokens) is int
        and type(usage.model_calls) is int
        and type(usage.tool_calls) is int
        and type(usage.cached_input_tokens) is int
        and type(usage.cost_nano_usd) is int
        and type(usage.priced_calls) is int
        and 0
        <= (  # of all at once: what is below 0 stays below it
            usage.input_tokens
            | usage.output_tokens
            | usage.model_calls
            | usage.tool_calls
            | usage.cached_input_tokens
            | usage.cost_nano_usd
            | usage.priced_calls
        )
        < _MOST
    )


def _fitting(reply: ModelReply) -> ModelReply:
    """`reply`, its texts encodable."""
    if reply.text.isascii() and (reply.model is None or reply.model.isascii()):
        # Most calls end here or in the loop, which is empty for an answer.
        for call in reply.tool_calls:
            if not (call.id.isascii() and call.name.isascii() and call.arguments.isascii()):
                break
        else:
            return reply
    return attrs.evolve(
        reply,
        text=encodable(reply.text),
        model=None if reply.model is None else encodable(reply.model),
        tool_calls=tuple(
            ToolCall(
                ToolCallId(encodable(call.id)), encodable(call.name), encodable(call.arguments)
            )
            for call in reply.tool_calls
        ),
    )
