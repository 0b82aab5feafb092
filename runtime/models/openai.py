"""OpenAI, and every server that speaks its chat-completions protocol.

Owns: the package's client and what it is asked. Must not: know the protocol (`chatwire` does), or
what clients of other services do alike (`streamed`, `remote`).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from runtime.models.base import ModelRequest
from runtime.models.chatwire import RESERVED_OPTIONS, Answer, request_body
from runtime.models.remote import CONNECT_TIMEOUT_S
from runtime.models.streamed import StreamedModel

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class OpenAIModel(StreamedModel["AsyncOpenAI"]):
    """``openai:MODEL`` at OpenAI, or MODEL at the OpenAI-compatible server `base_url`.

    Keywords are those of `RemoteModel`.
    """

    PROVIDER = "openai"
    KEY_ENV = "OPENAI_API_KEY"
    PACKAGE = "openai"
    EXTRA = "openai"
    RESERVED = RESERVED_OPTIONS
    CUT = frozenset({"length"})
    REFUSED = frozenset({"content_filter"})
    EVENT = "chat completion chunk"
    # A 429 too, but waiting does not fill an account.
    HOPELESS = frozenset({"insufficient_quota"})
    FILTERED = frozenset({"content_filter", "content_policy_violation"})

    def _answer(self) -> Answer:
        return Answer()

    def _asking(
        self, client: AsyncOpenAI, request: ModelRequest
    ) -> AbstractAsyncContextManager[Any]:
        body = request_body(self._model, request)
        # As extra_body rather than as keywords, so that a server's own options get through too.
        return client.chat.completions.with_streaming_response.create(
            **body, extra_body=dict(request.options)
        )

    def _base_error(self) -> type[Exception]:
        import openai

        return openai.OpenAIError

    def _connected(self) -> AsyncOpenAI:
        import httpx2
        import openai
        import openai.resources.chat.completions.completions  # by itself it is loaded late

        self._sdk = openai
        return openai.AsyncOpenAI(
            # Never None: the package would fall back to OPENAI_API_KEY, for whatever server.
            api_key=self._api_key or "no-key-needed",
            base_url=self._base_url,
            max_retries=self._max_retries,
            timeout=httpx2.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
        )

    async def _disconnect(self, client: AsyncOpenAI) -> None:
        await client.close()
