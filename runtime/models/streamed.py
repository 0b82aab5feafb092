"""Clients over the packages of OpenAI and Anthropic, which are made by the same generator.

Owns: one streamed call through such a package, and the translation of its errors. Must not: know
which of them it is; a subclass says what is asked and how an answer is read.

The packages do connections, keys and retries, natively on Trio. The stream is not read through
their objects: those are built unvalidated, so a server that sends nonsense would show up as an
`AttributeError` in the middle of a turn.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Protocol

import trio

from runtime.errors import ModelError
from runtime.models import remote
from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.models.remote import MAX_QUOTED, C, RemoteModel, is_passing
from runtime.models.wire import Events, NotAChunk, parse_event


class StreamedAnswer(remote.Answer, Protocol):
    """An answer that is given its events one by one."""

    @property
    def begun(self) -> bool:
        """Whether any event arrived."""
        ...

    def add(self, event: Any) -> str:
        """Add one event, parsed; return the text in it. Raises `NotAChunk`."""
        ...


class StreamedModel(RemoteModel[C]):
    """A model behind such a package."""

    #: What one event of the stream is called.
    EVENT: ClassVar[str]
    #: What an error's code or type says that waiting does not mend, and what it says of a refusal.
    HOPELESS: ClassVar[frozenset[str]]
    FILTERED: ClassVar[frozenset[str]] = frozenset()
    #: The HTTP status that an error in the middle of a stream stands for, by its type.
    STATUSES: ClassVar[Mapping[str, int]] = {}

    #: The package's module, once a client is made: its errors are looked up there.
    _sdk: Any = None

    @abc.abstractmethod
    def _answer(self) -> StreamedAnswer:
        """An empty answer."""

    @abc.abstractmethod
    def _asking(self, client: C, request: ModelRequest) -> AbstractAsyncContextManager[Any]:
        """The streamed response to `request`, once entered."""

    @abc.abstractmethod
    def _base_error(self) -> type[Exception]:
        """The base of the package's errors."""

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Run one streamed call. Cancellation closes its connection.

        Usage is the server's; from a server that reports none it is a quarter of the characters.

        Raises:
            ModelError: retryable for 408, 409, 429 (except a spent quota), 5xx, connection
                failures, timeouts and streams that break off or are not the protocol.
            ModelUnavailable: the key is refused, the model or address does not exist.
            ModelRefused: a refusal, or the content filter.
        """
        client = await self._open(request)
        import httpx2  # loaded by `_open`, in a thread

        answer = self._answer()
        try:
            kind = await self._stream(client, request, answer, emit)
        except self._base_error() as error:
            raise self._translated(error) from error
        except httpx2.TimeoutException as error:
            raise self._silent() from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._error(f"broke off its answer: {error}", retryable=True) from error
        if not answer.begun:
            raise self._error(
                f"did not answer with an event stream but with {kind}; is base_url right?",
                retryable=False,
            )
        return self._finished(answer, request)

    def _finished(self, answer: StreamedAnswer, request: ModelRequest) -> ModelReply:
        return self._reply(answer, request)

    async def _stream(
        self, client: C, request: ModelRequest, answer: StreamedAnswer, emit: Emit | None
    ) -> str:
        """Read the whole answer into `answer`; return the content type it came as."""
        events, kind = Events(), ""
        failure: ModelError | None = None
        async with self._asking(client, request) as response:
            kind = str(response.headers.get("content-type", "no content type"))
            with trio.CancelScope() as scope:
                # Read to the end, past [DONE]: a connection with a rest in it is not used again.
                async for received in response.iter_bytes():
                    failure = self._take(answer, events.feed(received), emit)
                    if failure is not None:
                        # Not `break`: cancelling closes the generators below, which would
                        # otherwise be left to the garbage collector.
                        scope.cancel()
            failure = failure or self._take(answer, events.end(), emit)
        if failure is not None:
            raise failure
        return kind

    def _take(
        self, answer: StreamedAnswer, events: list[str], emit: Emit | None
    ) -> ModelError | None:
        for data in events:
            try:
                event = parse_event(data)
                if event.get("error"):
                    return self._failed_midway(event["error"])
                text = answer.add(event)
            except NotAChunk as error:
                return self._error(
                    f"sent an event that is no {self.EVENT} ({error}): {data[:MAX_QUOTED]!r}",
                    retryable=True,
                )
            if text and emit is not None:
                emit(text)
        return None

    def _failed_midway(self, error: Any) -> ModelError:
        """An error the server sent in its stream, after it had accepted the request."""
        told = error if isinstance(error, Mapping) else {"message": str(error)}
        code, kind = told.get("code"), told.get("type")
        status = code if isinstance(code, int) else self.STATUSES.get(str(kind))
        retryable = status is None or is_passing(status)
        what = f"failed while answering: {str(told.get('message'))[:MAX_QUOTED]}"
        return self._error(what, retryable=retryable, status=status)

    def _translated(self, error: Exception) -> ModelError:
        if isinstance(error, self._sdk.APITimeoutError):
            return self._error(f"did not answer within {self._timeout_s:g} s", retryable=True)
        if isinstance(error, self._sdk.APIConnectionError):
            return self._unreachable(error.__cause__)
        if isinstance(error, self._sdk.APIStatusError):
            return self._from_status(error)
        return self._error(f"failed: {error}", retryable=False)

    def _from_status(self, error: Any) -> ModelError:
        """The error that an `APIStatusError` of the package means."""
        said = _said(error)
        kinds = {getattr(error, "code", None), getattr(error, "type", None)}
        if kinds & self.FILTERED:
            return self._refused(said[:MAX_QUOTED])
        return self._status_error(
            error.status_code,
            said,
            hopeless=bool(kinds & self.HOPELESS),
            retry_after_s=remote.retry_after_s(error.response.headers),
        )


def _said(error: Any) -> str:
    """The server's own words, without the package's rendering of the whole body."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    message = (inner if isinstance(inner, dict) else body).get("message")
    # Without JSON it is a gateway's page; its start says which.
    return str(message or error.response.text.strip() or error.message)
