"""The services as they answer on the wire, told by the conformance suite what to say.

Owns: one dialect for each protocol (a wish as the bytes of a response), and the server that speaks
one on 127.0.0.1. Must not: understand the requests; it records them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import h11
import trio

from runtime.conformance.models import Failure, Wish
from tests.models.http import Connection, serving

Json: TypeAlias = dict[str, Any]


@attrs.frozen
class Dialect:
    """How a service answers: the events of a wish, its last event, an error's body and headers."""

    events: Callable[[Wish], Iterable[bytes]]
    garbage: bytes
    error: Callable[[Failure], Json]
    last: bytes = b""
    retry_header: bool = True


def event(data: Json, name: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def halves(text: str) -> list[str]:
    """A text in two pieces, so that there is something to put together."""
    return [piece for piece in (text[: len(text) // 2], text[len(text) // 2 :]) if piece]


# --- chat completions ---------------------------------------------------------------------------


def _chat(wish: Wish) -> Iterable[bytes]:
    def chunk(delta: Json | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        whole = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
        return event({**whole, "choices": choices, **more})

    yield chunk({"role": "assistant", "content": "" if wish.text else None})
    for piece in halves(wish.text):
        yield chunk({"content": piece})
    for piece in halves(wish.refusal):
        yield chunk({"refusal": piece})
    for index, (name, arguments) in enumerate(wish.calls):
        begin = {"index": index, "id": f"call_{index}", "type": "function"}
        yield chunk({"tool_calls": [{**begin, "function": {"name": name, "arguments": ""}}]})
        for piece in halves(arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if wish.then != "end":
        return
    yield chunk({}, "length" if wish.cut else "tool_calls" if wish.calls else "stop")
    usage = wish.usage
    counted = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
    }
    yield chunk(None, usage=counted)


def _chat_error(failure: Failure) -> Json:
    return {"error": {"message": failure.message, "type": "t", "code": None, "param": None}}


CHAT = Dialect(_chat, b'data: {"chioces": []}\n\n', _chat_error, b"data: [DONE]\n\n")

# --- messages -----------------------------------------------------------------------------------


def _messages(wish: Wish) -> Iterable[bytes]:
    def told(kind: str, **more: Any) -> bytes:
        return event({"type": kind, **more}, kind)

    def block(index: int, first: Json, deltas: list[Json]) -> Iterable[bytes]:
        yield told("content_block_start", index=index, content_block=first)
        for delta in deltas:
            yield told("content_block_delta", index=index, delta=delta)
        if wish.then == "end":
            yield told("content_block_stop", index=index)

    usage = wish.usage
    counted = {
        "input_tokens": usage.input_tokens - usage.cached_input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": 1,
    }
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "fake-1", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": counted,
    }  # fmt: skip
    yield told("message_start", message=message)
    yield told("ping")
    if wish.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in halves(wish.text)]
        yield from block(0, {"type": "text", "text": ""}, deltas)
    for index, (name, arguments) in enumerate(wish.calls, 1):
        first = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        pieces = ["", *halves(arguments)]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        yield from block(index, first, deltas)
    if wish.then != "end":
        return
    stop = "max_tokens" if wish.cut else "tool_use" if wish.calls else "end_turn"
    delta: Json = {"stop_reason": stop, "stop_sequence": None}
    if wish.refusal:
        details = {"type": "refusal", "category": None, "explanation": wish.refusal}
        delta = {"stop_reason": "refusal", "stop_details": details}
    yield told("message_delta", delta=delta, usage={"output_tokens": usage.output_tokens})
    yield told("message_stop")


def _messages_error(failure: Failure) -> Json:
    inner = {"type": "some_error", "message": failure.message}
    return {"type": "error", "error": inner, "request_id": "req_1"}


MESSAGES = Dialect(_messages, b"event: x\ndata: [1, 2]\n\n", _messages_error)

# --- generate content ---------------------------------------------------------------------------


def _generate(wish: Wish) -> Iterable[bytes]:
    def chunk(parts: list[Json], finish: str | None = None, **more: Any) -> bytes:
        candidate: Json = {"index": 0, "content": {"role": "model", "parts": parts}}
        if finish:
            candidate["finishReason"] = finish
        return event({"candidates": [candidate], "modelVersion": "fake-1", **more})

    for piece in halves(wish.text):
        yield chunk([{"text": piece}])
    for index, (name, arguments) in enumerate(wish.calls):
        call = {"name": name, "args": json.loads(arguments)}
        signed = {"thoughtSignature": "c2lnbmVk"} if index == 0 else {}
        yield chunk([{"functionCall": call, **signed}])
    if wish.then != "end":
        return
    usage = wish.usage
    counted = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - 2,
        "thoughtsTokenCount": 2,
        "cachedContentTokenCount": usage.cached_input_tokens,
        "totalTokenCount": usage.total_tokens,
    }
    finish = "SAFETY" if wish.refusal else "MAX_TOKENS" if wish.cut else "STOP"
    yield chunk([{"text": ""}], finish, usageMetadata=counted)


def _generate_error(failure: Failure) -> Json:
    inner: Json = {"code": failure.status, "message": failure.message, "status": "SOME_STATUS"}
    if failure.retry_after_s is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        inner["details"] = [{"@type": kind, "retryDelay": f"{failure.retry_after_s}s"}]
    return {"error": inner}


GENERATE = Dialect(
    _generate,
    b"data: {this is not json\n\n",
    _generate_error,
    retry_header=False,
)


class Service:
    """Answers each request with the next wish; the last one answers all that follow."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.wishes: list[Wish] = [Wish()]
        self.paths: list[str] = []
        self.requests: list[Json] = []
        self.headers: list[dict[str, str]] = []
        #: Set when a client left an answer that hangs.
        self.left = trio.Event()
        self.origin = ""

    def will(self, *wishes: Wish) -> None:
        """Answer with `wishes` from the next request on."""
        self.wishes = list(wishes)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        connection = Connection(stream)
        async with stream:
            async for heard in connection.requests():
                self.paths.append(heard.path)
                self.headers.append(heard.headers)
                self.requests.append(heard.body)
                wish = self.wishes.pop(0) if len(self.wishes) > 1 else self.wishes[0]
                try:
                    await self._answer(connection, wish)
                except trio.BrokenResourceError:
                    self.left.set()
                    return

    async def _answer(self, connection: Connection, wish: Wish) -> None:
        if wish.failure is not None:
            await self._fail(connection, wish.failure)
            return
        await connection.begin_events()
        for piece in self._pieces(wish):
            await connection.send(h11.Data(data=piece))
            await trio.sleep(wish.pause_s)
        if wish.then == "hang":
            if not await connection.stream.receive_some():
                self.left.set()
            connection.drop()
        elif wish.then == "drop":
            connection.drop()
        else:
            await connection.send(h11.EndOfMessage())

    def _pieces(self, wish: Wish) -> Iterable[bytes]:
        sent = list(self.dialect.events(wish))
        if wish.then == "garbage":
            sent.append(self.dialect.garbage)
        elif wish.then == "end":
            sent.append(self.dialect.last)
        if wish.bytes_at_once is None:
            return [piece for piece in sent if piece]
        whole, size = b"".join(sent), wish.bytes_at_once
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    async def _fail(self, connection: Connection, failure: Failure) -> None:
        headers = []
        if failure.retry_after_s is not None and self.dialect.retry_header:
            headers.append(("retry-after", str(failure.retry_after_s)))
        await connection.send_json(failure.status, self.dialect.error(failure), headers)


@asynccontextmanager
async def open_service(dialect: Dialect) -> AsyncIterator[Service]:
    """Serve until the block ends."""
    service = Service(dialect)
    async with serving(service.serve) as service.origin:
        yield service
