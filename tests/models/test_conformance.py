"""Every client passes the conformance suite, the fakes too.

The embedded model has its own module: it needs weights.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.models.jsontools import JsonTools
from runtime.models.openai import OpenAIModel
from runtime.models.scripted import ScriptedModel, calling
from runtime.models.sim import AgentModel, EchoModel
from tests.models import chat_server
from tests.models.conformance.suite import ModelConformance, Subject, Wish


class TestEcho(ModelConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(EchoModel(), obeys=False)


class TestAgent(ModelConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(AgentModel(latency_s=0))


class TestScripted(ModelConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        wishes = [Wish()]

        def say(request: ModelRequest) -> ModelReply | str:
            calls = tuple((name, json.loads(given)) for name, given in wishes[-1].calls)
            return calling(*calls) if calls else wishes[-1].text

        return Subject(ScriptedModel(say), wishes.append)


class TestOpenAI(ModelConformance):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with chat_server.open_chat_server() as server:

            def will(wish: Wish) -> None:
                calls = [(f"call_{i}", *call) for i, call in enumerate(wish.calls)]
                server.will(chat_server.calling(*calls) if calls else chat_server.saying(wish.text))

            model = OpenAIModel("fake-1", base_url=server.base_url)
            yield Subject(model, will)
            await model.aclose()


class TestJsonToolsOverAScript(ModelConformance):
    @pytest.fixture
    def subject(self) -> Subject:
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
        return Subject(JsonTools(script), wishes.append)


class ToollessAgent(AgentModel):
    """sim:agent as a model that answers under a schema and knows no tools."""

    supports_tools = False

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        assert not request.tools
        return await super().generate(request, emit)


class TestJsonToolsOverAnAgent(ModelConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(JsonTools(ToollessAgent(latency_s=0)))
