"""What Gemini sends, looked at before the package takes it apart.

Owns: the HTTP client that the package waits with, and the check of every event that comes through
it. Must not: know what is asked. Imported with the extra only.

The package stops at nonsense somewhere in the middle of the generators that its stream is made of,
and leaves the lower ones, with the connection, to the garbage collector. So nonsense, and an error
that the server sends in its stream, is raised at the bottom, where it unwinds them all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
import trio

from runtime.models.geminiwire import check_chunk
from runtime.models.wire import Events, NotAChunk, parse_event


class NotAStream(ValueError):
    """The answer is of another type than a stream of events; `kind` says which."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"an answer of type {kind}")
        self.kind = kind


class FailedMidway(ValueError):
    """The server sent an error in its stream; `error` is its body."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.error = error


class CheckingClient(httpx2.AsyncClient):
    """Responses of this client raise, while their bytes are read, for an event that is none."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = await super().send(request, **options)
        if response.status_code != 200:
            return response
        kind = response.headers.get("content-type", "no content type")
        if not kind.startswith("text/event-stream"):
            await response.aclose()
            raise NotAStream(kind)
        received = response.aiter_bytes()
        response.aiter_bytes = lambda *_: _checked(received)  # type: ignore[method-assign]
        return response


async def _checked(received: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    events = Events()
    async for some in received:
        failure = _failure_in(events.feed(some))
        if failure is not None:
            # Cancelled, not closed: that unwinds the generators below, whose nature it is not to
            # close each other.
            with trio.CancelScope() as scope:
                scope.cancel()
                async for _ in received:
                    pass
            raise failure
        yield some
    failure = _failure_in(events.end())
    if failure is not None:
        raise failure


def _failure_in(events: list[str]) -> ValueError | None:
    for data in events:
        try:
            chunk = parse_event(data)
            if chunk.get("error"):
                return FailedMidway(chunk)
            check_chunk(chunk)
        except NotAChunk as error:
            return NotAChunk(f"{error}: {data!r}")
    return None
