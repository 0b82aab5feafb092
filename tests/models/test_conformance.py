"""Every client passes the conformance suites, the fakes too.

The embedded model has its own module: it needs weights.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from runtime.conformance import ModelConformance, ProviderConformance
from runtime.conformance.models import KEY, Subject, Wish
from runtime.models.anthropic import AnthropicModel
from runtime.models.base import Emit, Model, ModelReply, ModelRequest
from runtime.models.gemini import GeminiModel
from runtime.models.jsontools import JsonTools
from runtime.models.openai import OpenAIModel
from runtime.models.scripted import ScriptedModel, calling
from runtime.models.sim import AgentModel, EchoModel
from tests.models.services import CHAT, GENERATE, MESSAGES, Dialect, open_service


@asynccontextmanager
async def just(subject: Subject) -> AsyncIterator[Subject]:
    yield subject


class TestEcho(ModelConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        return just(Subject(EchoModel(), obeys=False))


class TestAgent(ModelConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        return just(Subject(AgentModel(latency_s=0)))


class TestScripted(ModelConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        wishes = [Wish()]

        def say(request: ModelRequest) -> ModelReply | str:
            calls = tuple((name, json.loads(given)) for name, given in wishes[-1].calls)
            return calling(*calls) if calls else wishes[-1].text

        return just(Subject(ScriptedModel(say), wishes.append))


@asynccontextmanager
async def service(dialect: Dialect, model: Callable[[str], Model]) -> AsyncIterator[Subject]:
    async with open_service(dialect) as server, aclosing(model(server.origin)) as opened:
        yield Subject(
            opened, server.will, asked=lambda: len(server.requests), left=server.left.wait
        )


class TestOpenAI(ProviderConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        def model(origin: str) -> Model:
            return OpenAIModel("fake-1", base_url=f"{origin}/v1", api_key=KEY, max_retries=0)

        return service(CHAT, model)


class TestAnthropic(ProviderConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        def model(origin: str) -> Model:
            return AnthropicModel("fake-1", base_url=origin, api_key=KEY, max_retries=0)

        return service(MESSAGES, model)


class TestGemini(ProviderConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        def model(origin: str) -> Model:
            return GeminiModel("fake-1", base_url=origin, api_key=KEY, max_retries=0)

        return service(GENERATE, model)


class TestJsonToolsOverAScript(ModelConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        wishes = [Wish()]

        def say(request: ModelRequest) -> str:
            assert not request.tools, "the model behind has none"
            if not wishes[-1].calls:
                return wishes[-1].text
            [(name, arguments)] = wishes[-1].calls
            assert request.output_schema is not None
            if "anyOf" not in request.output_schema:
                return arguments
            return f'{{"tool": "{name}", "arguments": {arguments}}}'

        script = ScriptedModel(say, name="script:small", supports_tools=False)
        return just(Subject(JsonTools(script), wishes.append))


class ToollessAgent(AgentModel):
    """sim:agent as a model that answers under a schema and knows no tools."""

    supports_tools = False

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        assert not request.tools
        return await super().generate(request, emit)


class TestJsonToolsOverAnAgent(ModelConformance):
    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        return just(Subject(JsonTools(ToollessAgent(latency_s=0))))
