"""The OpenAI client against a server that is not ours: llama.cpp's own, over real HTTP."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from runtime.conformance import ModelConformance
from runtime.conformance.models import KEY, Subject
from runtime.errors import ModelError, ModelUnavailable
from runtime.messages import UserMessage
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason
from runtime.models.jsontools import JsonTools
from runtime.models.openai import OpenAIModel
from runtime.structured import Parsed, parse_output

LONG = ModelRequest((UserMessage("Write a very long story about a lighthouse."),), key="s/1/1")
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def origin(weights: Path) -> Any:
    """A server with two slots, in this process, on a port of the system's choice."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = os.fspath(weights)
    params.n_parallel, params.n_ctx, params.n_batch, params.n_ubatch = 2, 2048, 256, 256
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    params.cache_ram_mib = 0
    params.warmup = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [KEY]
    params.cors_origins = ""
    params.ui = False
    server = xllamacpp.Server(params)
    yield str(server.listening_address).rstrip("/")
    del server


def client(origin: str, key: str = KEY) -> OpenAIModel:
    return OpenAIModel(
        "smollm2", provider="llama", base_url=f"{origin}/v1", api_key=key, max_retries=0
    )


class BriefModel(OpenAIModel):
    """Ends a text at its first sentence: left alone this model tells 500 tokens of nothing."""

    supports_tools = False

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        if request.output_schema is None:
            request = attrs.evolve(request, options={"stop": [".", "!", "\n"], **request.options})
        return await super().generate(request, emit)


class TestConformance(ModelConformance):
    patience_s = 120.0
    origin: str

    @pytest.fixture(autouse=True)
    def _have(self, origin: str) -> None:
        self.origin = origin

    @asynccontextmanager
    async def open_subject(self) -> AsyncIterator[Subject]:
        model = BriefModel("smollm2", provider="llama", base_url=f"{self.origin}/v1", api_key=KEY)
        async with aclosing(model):
            yield Subject(JsonTools(model), obeys=False)


async def test_text_streams_and_is_counted(origin: str) -> None:
    async with aclosing(client(origin)) as model:
        pieces: list[str] = []
        request = attrs.evolve(LONG, options={"max_tokens": 12})
        reply = await model.generate(request, pieces.append)
    assert "".join(pieces) == reply.text
    assert len(pieces) > 2
    assert reply.stop is StopReason.LENGTH
    assert (reply.usage.output_tokens, reply.usage.model_calls) == (12, 1)
    assert reply.usage.input_tokens > 5


async def test_an_answer_fits_its_schema(origin: str) -> None:
    async with aclosing(client(origin)) as model:
        request = ModelRequest((UserMessage("What colour is grass?"),), output_schema=COLOUR)
        reply = await model.generate(request)
    assert isinstance(parse_output(COLOUR, reply.text), Parsed)
    assert set(json.loads(reply.text)) == {"colour"}


async def test_a_cancelled_stream_frees_its_slot(origin: str) -> None:
    async with aclosing(client(origin)) as model:
        for _ in range(3):  # more than there are slots
            heard = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    functools.partial(model.generate, emit=lambda _, heard=heard: heard.set()),
                    LONG,
                )
                await heard.wait()
                nursery.cancel_scope.cancel()
        with trio.fail_after(60):
            reply = await model.generate(attrs.evolve(LONG, options={"max_tokens": 3}))
        assert reply.text


async def test_a_wrong_key_and_a_wrong_option_are_told_apart(origin: str) -> None:
    async with aclosing(client(origin, "another-key")) as model:
        with pytest.raises(ModelUnavailable, match="refused the key"):
            await model.generate(LONG)
    async with aclosing(client(origin)) as model:
        request = attrs.evolve(LONG, options={"max_tokens": "many"})
        with pytest.raises(ModelError) as caught:
            await model.generate(request)
    assert caught.value.provider == "llama"
