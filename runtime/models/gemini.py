"""Google's Gemini models, through the Gemini API.

Owns: the package's client and one streamed call through it. Must not: know the protocol
(`geminiwire` does), or what clients of other services do alike (`remote`).

The package runs on asyncio unless it is handed an HTTP client, which then does all the waiting;
that one runs on Trio. What it gives us has been checked: nonsense is a `ValueError` of one kind or
another in the middle of the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from runtime.errors import ModelError
from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.models.geminiwire import (
    RESERVED_OPTIONS,
    Answer,
    config,
    contents,
    is_key_invalid,
    retry_delay_s,
)
from runtime.models.remote import MAX_QUOTED, RemoteModel, is_passing, retry_after_s

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.errors import APIError
    from google.genai.types import GenerateContentConfig


class GeminiModel(RemoteModel["Client"]):
    """``gemini:MODEL`` at the Gemini API, or MODEL at a server that speaks its protocol.

    Keywords are those of `RemoteModel`. Options are fields of the package's
    ``GenerateContentConfig`` (``max_output_tokens``, ``temperature``, ``thinking_config``, ...).
    The signatures of tool calls are kept in memory until the calls' results are sent.
    """

    PROVIDER = "gemini"
    KEY_ENV = "GEMINI_API_KEY"
    PACKAGE = "google.genai"
    EXTRA = "gemini"
    RESERVED = RESERVED_OPTIONS
    CUT = frozenset({"MAX_TOKENS"})
    REFUSED = frozenset(
        (
            "BLOCKLIST", "ESCALATION", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
            "IMAGE_SAFETY", "LANGUAGE", "MODEL_ARMOR", "PROHIBITED_CONTENT",
            "PUP_LIMITED_DISABLED", "RECITATION", "SAFETY", "SPII",
        )
    )  # fmt: skip
    SPOILED = frozenset(
        (
            "FINISH_REASON_UNSPECIFIED", "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE",
            "MISSING_THOUGHT_SIGNATURE", "OTHER", "TOO_MANY_TOOL_CALLS", "UNEXPECTED_TOOL_CALL",
        )
    )  # fmt: skip

    #: The HTTP client behind the package's, which leaves closing it to us.
    _http: Any = None

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Run one streamed call. Cancellation closes its connection.

        Raises:
            ModelError: retryable for 408, 409, 429, 5xx, connection failures, timeouts and streams
                that break off or are not the protocol.
            ModelUnavailable: the key is refused, the model or address does not exist.
            ModelRefused: the prompt or the answer was blocked.
        """
        client = await self._open(request)
        # Loaded by `_open`, in a thread.
        import httpx2
        from google.genai import errors

        from runtime.models.geministream import FailedMidway, NotAStream

        asked = self._config(request)
        answer = Answer()
        try:
            await self._stream(client, request, asked, answer, emit)
        except errors.APIError as error:
            raise self._translated(error) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx2.TimeoutException as error:
            raise self._silent() from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._error(f"broke off its answer: {error}", retryable=True) from error
        except NotAStream as error:
            raise self._error(
                f"did not answer with an event stream but with {error.kind}; is base_url right?",
                retryable=False,
            ) from error
        except FailedMidway as error:
            raise self._failed_midway(error.error) from error
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            # Also of the package's own code, which takes an answer apart before it checks it.
            what = f"sent what is no answer of the protocol: {str(error)[:MAX_QUOTED]}"
            raise self._error(what, retryable=True) from error
        if answer.refusal and answer.finish is None:
            answer.finish = "SAFETY"
        reply = self._reply(answer, request)
        if reply.tool_calls and answer.signature is not None:
            self._kept.keep(reply.tool_calls[0].id, answer.signature)
        return reply

    def _config(self, request: ModelRequest) -> GenerateContentConfig:
        from google.genai.types import GenerateContentConfig

        try:
            return GenerateContentConfig(**config(request))
        except ValueError as error:
            what = f"does not take these options: {str(error)[:MAX_QUOTED]}"
            raise self._error(what, retryable=False) from error

    async def _stream(
        self,
        client: Client,
        request: ModelRequest,
        asked: GenerateContentConfig,
        answer: Answer,
        emit: Emit | None,
    ) -> None:
        """Read the whole answer into `answer`."""
        said = contents(self._model, request, self._kept)
        failure: Exception | None = None
        with trio.CancelScope() as scope:
            stream = await client.aio.models.generate_content_stream(
                model=self._model, contents=said, config=asked
            )
            async for chunk in stream:
                try:
                    text = answer.add(chunk)
                except (ValueError, TypeError, AttributeError) as error:
                    # Not raised here: cancelling closes the generators below, which would
                    # otherwise be left to the garbage collector.
                    failure = error
                    scope.cancel()
                    continue
                if text and emit is not None:
                    emit(text)
        if failure is not None:
            raise failure

    def _connected(self) -> Client:
        import httpx2
        from google import genai
        from google.genai import types

        from runtime.models.geministream import CheckingClient

        context = httpx2.create_ssl_context()
        self._http = CheckingClient(verify=context, follow_redirects=True)
        options = types.HttpOptions(
            base_url=self._base_url,
            timeout=max(1, round(self._timeout_s * 1000)),
            httpx_async_client=self._http,
            # Never used. Without it the package would make one, with certificates of its own.
            httpx_client=httpx2.Client(verify=context),
            retry_options=types.HttpRetryOptions(attempts=self._max_retries + 1),
        )
        # Never without a key: the package would look for one in the environment, for whatever
        # server. Nor without `vertexai`: another variable would choose another service.
        key = self._api_key or "no-key-needed"
        return genai.Client(api_key=key, vertexai=False, http_options=options)

    async def _disconnect(self, client: Client) -> None:
        client.close()
        await self._http.aclose()

    def _failed_midway(self, told: Any) -> ModelError:
        """An error the server sent in its stream, after it had accepted the request."""
        error = told["error"] if isinstance(told["error"], dict) else {"message": told["error"]}
        code = error.get("code")
        status = code if isinstance(code, int) else None
        return self._error(
            f"failed while answering: {str(error.get('message'))[:MAX_QUOTED]}",
            retryable=status is None or is_passing(status),
            status=status,
            retry_after_s=retry_delay_s(told),
        )

    def _translated(self, error: APIError) -> ModelError:
        status = error.code
        said = str(error.message or error.details or error.status)
        if is_key_invalid(error.details):
            return self._status_error(401, said, hopeless=True, retry_after_s=None)
        headers = getattr(error.response, "headers", None) or {}
        wait_s = retry_after_s(headers)
        return self._status_error(
            status,
            said,
            hopeless=not is_passing(status),
            retry_after_s=retry_delay_s(error.details) if wait_s is None else wait_s,
        )
