"""Anthropic's models, and every server that speaks its messages protocol.

Owns: the package's client, what it is asked, the thoughts it wants back. Must not: know the
protocol (`claudewire` does), or what clients of other services do alike (`streamed`, `remote`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from runtime.models.base import ModelReply, ModelRequest
from runtime.models.claudewire import RESERVED_OPTIONS, Answer, request_body
from runtime.models.remote import CONNECT_TIMEOUT_S
from runtime.models.streamed import StreamedAnswer, StreamedModel

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class AnthropicModel(StreamedModel["AsyncAnthropic"]):
    """``anthropic:MODEL`` at Anthropic, or MODEL at a server that speaks its protocol.

    Keywords are those of `RemoteModel`. Options go into the request as they are (``max_tokens``,
    ``temperature``, ``thinking``, ...). Thoughts that led to tool calls are kept in memory until
    the calls' results are sent; after a restart such a request goes without thinking.
    """

    PROVIDER = "anthropic"
    KEY_ENV = "ANTHROPIC_API_KEY"
    PACKAGE = "anthropic"
    EXTRA = "anthropic"
    RESERVED = RESERVED_OPTIONS
    CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
    REFUSED = frozenset({"refusal"})
    EVENT = "event of the messages protocol"
    HOPELESS = frozenset({"billing_error"})
    # https://platform.claude.com/docs/en/api/errors
    STATUSES: ClassVar[Mapping[str, int]] = {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }

    def _answer(self) -> Answer:
        return Answer()

    def _finished(self, answer: StreamedAnswer, request: ModelRequest) -> ModelReply:
        reply = self._reply(answer, request)
        assert isinstance(answer, Answer)
        if reply.tool_calls and answer.thoughts:
            self._kept.keep(reply.tool_calls[0].id, answer.thoughts)
        return reply

    def _asking(
        self, client: AsyncAnthropic, request: ModelRequest
    ) -> AbstractAsyncContextManager[Any]:
        body = request_body(self._model, request, self._kept)
        required: dict[str, Any] = {
            key: body.pop(key) for key in ("model", "max_tokens", "messages", "stream")
        }
        # As extra_body rather than as keywords, so that a server's own options get through too.
        return client.messages.with_streaming_response.create(**required, extra_body=body)

    def _base_error(self) -> type[Exception]:
        import anthropic

        return anthropic.AnthropicError

    def _connected(self) -> AsyncAnthropic:
        import anthropic
        import anthropic.resources.messages  # by itself it is loaded late
        import httpx2

        self._sdk = anthropic
        return anthropic.AsyncAnthropic(
            # Never None: the package would look for other credentials, for whatever server.
            api_key=self._api_key or "no-key-needed",
            # Nor this: another variable of the environment would choose the server.
            base_url=self._base_url or "https://api.anthropic.com",
            max_retries=self._max_retries,
            timeout=httpx2.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
        )

    async def _disconnect(self, client: AsyncAnthropic) -> None:
        await client.close()
