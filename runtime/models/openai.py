"""OpenAI, and every server that speaks its chat-completions protocol.

Owns: the connection, the key, and the translation of the provider's errors into ours. Must not:
keep a conversation, know the protocol (`chatwire` does), or retry by itself: the `openai` package
retries a request whose answer has not begun, the policy above retries the rest.

The package does connections, keys and retries, natively on Trio. The stream is not read through its
objects: they are built unvalidated, so a server that sends nonsense would show up as an
`AttributeError` in the middle of a turn.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from runtime.errors import ModelError, ModelRefused, ModelUnavailable
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason
from runtime.models.chatwire import (
    RESERVED_OPTIONS,
    Answer,
    Events,
    NotAChunk,
    estimated_usage,
    parse_event,
    request_body,
)
from runtime.models.guard import check_real_models_allowed

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI, OpenAIError

DEFAULT_API_KEY_ENV = "OPENAI_API_KEY"
#: Longest silence of the server, in seconds. Models that think send nothing for minutes.
DEFAULT_TIMEOUT_S = 300.0
#: Longest time to connect, in seconds: a wrong address should not look like a slow model.
_CONNECT_TIMEOUT_S = 15.0
#: Longest quotation of a server in an error message, in characters.
_MAX_QUOTED = 300


class OpenAIModel:
    """``openai:MODEL`` at OpenAI, or MODEL at the OpenAI-compatible server `base_url`.

    The key is `api_key`, else the environment variable `api_key_env`. That defaults to
    ``OPENAI_API_KEY`` at OpenAI and to no key at another `base_url`: local servers need none, and
    a key must never be sent to a server it was not meant for. `max_retries` bounds the repeats of a
    request that failed before its answer began; `timeout_s` the silence while one is awaited.
    An instance belongs to one Trio run. The package is imported by the first call, in a thread.

    Raises:
        ModelUnavailable: the package or the key is missing, or `base_url` is no URL.
    """

    supports_tools = True

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        provider: str = "openai",
        max_retries: int = 2,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.name = f"{provider}:{model}"
        self._model = model
        self._provider = provider
        self._base_url = base_url
        if api_key_env is None and base_url is None:
            api_key_env = DEFAULT_API_KEY_ENV
        self._api_key_env = api_key_env
        self._max_retries = max_retries
        self._timeout_s = timeout_s
        if importlib.util.find_spec("openai") is None:
            raise self._unavailable("needs the openai package: pip install 'trio-mob[openai]'")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise self._unavailable(
                f"needs a base_url that starts with http:// or https://, not {base_url!r}"
            )
        self._api_key = api_key or self._key_from(api_key_env)
        self._client: AsyncOpenAI | None = None
        self._opening = trio.Lock()
        self._closed = False

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Run one streamed completion. Cancellation closes its connection.

        Usage is the server's; from a server that reports none it is a quarter of the characters.

        Raises:
            ModelError: retryable for 408, 409, 429 (except a spent quota), 5xx, connection
                failures, timeouts and streams that break off or are not the protocol.
            ModelUnavailable: the key is refused, the model or address does not exist.
            ModelRefused: a refusal, or the content filter.
        """
        check_real_models_allowed(self.name, self._provider)
        clash = RESERVED_OPTIONS.intersection(request.options)
        if clash:
            raise self._error(f"does not take {sorted(clash)} as options", retryable=False)
        client = await self._open()
        # Loaded by `_open`, in a thread.
        import httpx2
        import openai

        answer = Answer()
        try:
            kind = await self._stream(client, request, answer, emit)
        except openai.OpenAIError as error:
            raise self._translated(error) from error
        except httpx2.TimeoutException as error:
            raise self._error(f"sent nothing for {self._timeout_s:g} s", retryable=True) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._error(f"broke off its answer: {error}", retryable=True) from error
        if not answer.begun:
            raise self._error(
                f"did not answer with an event stream but with {kind}; is base_url right?",
                retryable=False,
            )
        return self._reply(answer, request)

    async def _stream(
        self, client: AsyncOpenAI, request: ModelRequest, answer: Answer, emit: Emit | None
    ) -> str:
        """Read the whole answer into `answer`; return the content type it came as."""
        body = request_body(self._model, request)
        # As extra_body rather than as keywords, so that a server's own options get through too.
        opening = client.chat.completions.with_streaming_response.create(
            **body, extra_body=dict(request.options)
        )
        events, kind = Events(), ""
        failure: ModelError | None = None
        async with opening as response:
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

    def _take(self, answer: Answer, events: list[str], emit: Emit | None) -> ModelError | None:
        for data in events:
            try:
                chunk = parse_event(data)
                if chunk.get("error"):
                    return self._failed_midway(chunk["error"])
                text = answer.add(chunk)
            except NotAChunk as error:
                return self._error(
                    f"sent an event that is no chat completion chunk ({error}):"
                    f" {data[:_MAX_QUOTED]!r}",
                    retryable=True,
                )
            if text and emit is not None:
                emit(text)
        return None

    def _reply(self, answer: Answer, request: ModelRequest) -> ModelReply:
        if answer.refusal or answer.finish == "content_filter":
            raise ModelRefused(
                f"{self.name} refused: {answer.refusal or 'stopped by its content filter'}",
                provider=self._provider,
            )
        if answer.finish is None:
            raise self._error("ended its stream before its answer", retryable=True)
        try:
            calls = answer.calls(request)
        except NotAChunk as error:
            raise self._error(f"made a malformed tool call: {error}", retryable=True) from error
        text = answer.text
        stop = StopReason.TOOL_CALLS if calls else StopReason.END
        if answer.finish == "length":
            stop = StopReason.LENGTH
        usage = answer.usage or estimated_usage(request, text, calls)
        return ModelReply(text, calls, stop, usage, answer.model or self._model)

    async def _open(self) -> AsyncOpenAI:
        # One at a time, or the calls of a starting swarm would each build a client.
        async with self._opening:
            if self._closed:
                raise self._unavailable("is closed")
            if self._client is None:
                # In a thread: imports and certificates take more than 0.5 s of the whole loop.
                self._client = await trio.to_thread.run_sync(self._connected)
            return self._client

    def _connected(self) -> AsyncOpenAI:
        import httpx2
        import openai
        import openai.resources.chat.completions.completions  # by itself it is loaded late

        return openai.AsyncOpenAI(
            # Never None: the package would fall back to OPENAI_API_KEY, for whatever server.
            api_key=self._api_key or "no-key-needed",
            base_url=self._base_url,
            max_retries=self._max_retries,
            timeout=httpx2.Timeout(self._timeout_s, connect=_CONNECT_TIMEOUT_S),
        )

    async def aclose(self) -> None:
        """Close the connections. Calls that are running fail. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        await trio.lowlevel.checkpoint()

    def _key_from(self, env: str | None) -> str | None:
        if env is None:
            return None
        key = os.environ.get(env, "").strip()
        if not key:
            raise self._unavailable(
                f"needs an API key in the environment variable {env}, which is not set:"
                f" export {env}=... first, or name another variable with api_key_env"
            )
        return key

    def _unavailable(self, what: str, status: int | None = None) -> ModelUnavailable:
        error = ModelUnavailable(f"{self.name} {what}", provider=self._provider)
        error.status = status
        return error

    def _error(
        self,
        what: str,
        *,
        retryable: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> ModelError:
        return ModelError(
            f"{self.name} {what}",
            provider=self._provider,
            retryable=retryable,
            status=status,
            retry_after_s=retry_after_s,
        )

    def _failed_midway(self, error: Any) -> ModelError:
        """An error the server sent in its stream, after it had accepted the request."""
        told = error if isinstance(error, Mapping) else {"message": str(error)}
        code = told.get("code")
        status = code if isinstance(code, int) else None
        retryable = status is None or status in (408, 409, 429) or status >= 500
        what = f"failed while answering: {str(told.get('message'))[:_MAX_QUOTED]}"
        return self._error(what, retryable=retryable, status=status)

    def _translated(self, error: OpenAIError) -> ModelError:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return self._error(f"did not answer within {self._timeout_s:g} s", retryable=True)
        if isinstance(error, openai.APIConnectionError):
            where = self._base_url or "its server"
            return self._error(f"cannot be reached at {where}: {error.__cause__}", retryable=True)
        if isinstance(error, openai.APIStatusError):
            return self._from_status(error)
        return self._error(f"failed: {error}", retryable=False)

    def _from_status(self, error: APIStatusError) -> ModelError:
        status, said = error.status_code, _said(error)
        if error.code in ("content_filter", "content_policy_violation"):
            return ModelRefused(f"{self.name} refused: {said}", provider=self._provider)
        if status in (401, 403):
            source = f"set {self._api_key_env}" if self._api_key_env else "set api_key_env"
            return self._unavailable(f"refused the key ({status}; {source}): {said}", status)
        if status == 404:
            return self._unavailable(f"does not exist there (404): {said}", status)
        retryable = status in (408, 409, 429) or status >= 500
        if error.code == "insufficient_quota":
            retryable = False  # A 429 too, but waiting does not fill an account.
        return self._error(
            f"answered {status}: {said}",
            retryable=retryable,
            status=status,
            retry_after_s=_retry_after_s(error.response.headers),
        )


def _said(error: APIStatusError) -> str:
    """The server's own words, without the package's rendering of the whole body."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    # Without JSON it is a gateway's page; its start says which.
    return str(message or error.response.text.strip() or error.message)[:_MAX_QUOTED]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for header, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[header]) * unit_s
        except (KeyError, ValueError):
            continue  # Absent, or a date, which these servers do not send.
        if 0 <= wait_s < float("inf"):
            return wait_s
    return None
