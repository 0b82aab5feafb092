"""The embedded model, for real: skipped, with the reason, where it cannot be had.

What needs no weights is tested everywhere. The weights come from the user's cache, or are fetched
into it once.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from runtime.conformance import ModelConformance
from runtime.conformance.models import Subject
from runtime.errors import ModelError, ModelUnavailable
from runtime.messages import AssistantMessage, UserMessage
from runtime.models import local
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.models.jsontools import JsonTools
from runtime.models.local import LocalModel
from runtime.models.weights import FetchProgress

HAS_PACKAGE = importlib.util.find_spec("xllamacpp") is not None
needs_package = pytest.mark.skipif(
    not HAS_PACKAGE, reason="xllamacpp is not installed (extra local)"
)

FINDING = {
    "type": "object",
    "properties": {
        "finding": {"type": "string", "maxLength": 120},
        "confidence": {"enum": ["low", "medium", "high"]},
    },
    "required": ["finding", "confidence"],
    "additionalProperties": False,
}


def asking(text: str, *, key: str = "s/1/1", **options: object) -> ModelRequest:
    return ModelRequest((UserMessage(text),), key=key, options=options)


LONG = "Write a very long story about a lighthouse and the sea."


@pytest.fixture
async def model(weights: Path) -> AsyncIterator[LocalModel]:
    async with aclosing(LocalModel("smollm2-135m", weights=weights, context_tokens=1024)) as opened:
        yield opened


class BriefModel(LocalModel):
    """Ends a text at its first sentence: left alone this model tells 500 tokens of nothing."""

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        if request.output_schema is None:
            request = attrs.evolve(request, options={"stop": [".", "!", "\n"], **request.options})
        return await super().generate(request, emit)


class TestConformance(ModelConformance):
    patience_s = 120.0
    weights: Path

    @pytest.fixture(autouse=True)
    def _have(self, weights: Path) -> None:
        self.weights = weights

    @asynccontextmanager
    async def open_subject(self) -> AsyncIterator[Subject]:
        async with aclosing(BriefModel("smollm2-135m", weights=self.weights)) as model:
            yield Subject(JsonTools(model), obeys=False)


async def test_text_streams_and_is_counted(model: LocalModel) -> None:
    pieces: list[str] = []
    reply = await model.generate(asking("What is a lighthouse?", max_tokens=24), pieces.append)
    assert "".join(pieces) == reply.text
    assert len(pieces) > 10
    assert "light" in reply.text.lower()
    assert reply.stop is StopReason.LENGTH
    assert reply.usage.output_tokens == 24
    assert 5 < reply.usage.input_tokens < 60
    assert reply.model == model.name == "local:smollm2-135m"


async def test_history_and_instructions_are_heard(model: LocalModel) -> None:
    request = ModelRequest(
        (
            UserMessage("My dog is called Bella."),
            AssistantMessage("What a nice name!"),
            UserMessage("What is my dog called?"),
        ),
        instructions="You answer in a few words.",
        options={"max_tokens": 30},
    )
    assert "Bella" in (await model.generate(request)).text


async def test_the_same_call_answers_the_same(model: LocalModel) -> None:
    def call(key: str) -> ModelRequest:
        return asking("Name an animal and say why.", key=key, temperature=1.2, max_tokens=20)

    first = await model.generate(call("s/1/1"))
    assert (await model.generate(call("s/1/1"))).text == first.text
    assert (await model.generate(call("s/1/2"))).text != first.text


async def test_an_answer_fits_its_schema(model: LocalModel) -> None:
    request = ModelRequest(
        (UserMessage("Say one fact about lighthouses as JSON."),), output_schema=FINDING
    )
    reply = await model.generate(request)
    assert reply.stop is StopReason.END
    found = json.loads(reply.text)
    assert set(found) == {"finding", "confidence"}
    assert found["confidence"] in ("low", "medium", "high")


@pytest.mark.parametrize("text", [LONG, "a lighthouse " * 400], ids=["answer", "prompt"])
async def test_cancelling_stops_the_generation_itself(model: LocalModel, text: str) -> None:
    await model.warm_up()
    heard: list[str] = []
    threads = threading.active_count()
    with trio.move_on_after(0.3) as scope:
        await model.generate(asking(text, max_tokens=900), heard.append)
    assert scope.cancelled_caught
    told = len(heard)
    # The call's thread went idle: nothing was abandoned, and all slots are free again.
    [engine] = local._engines().values()
    assert engine.limiter.borrowed_tokens == 0
    assert threading.active_count() <= threads + 1
    reply = await model.generate(asking("Hello!", max_tokens=4))
    assert reply.usage.output_tokens <= 4
    assert len(heard) == told < 900


async def test_calls_run_side_by_side(model: LocalModel) -> None:
    order: list[str] = []
    begun = trio.Event()

    async def long_call() -> None:
        def hear(_: str) -> None:
            begun.set()

        await model.generate(asking(LONG, max_tokens=300), hear)
        order.append("long")

    async def short_call() -> None:
        await begun.wait()
        await model.generate(asking("Hello!", max_tokens=3))
        order.append("short")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(long_call)
        nursery.start_soon(short_call)
    assert order == ["short", "long"]


async def test_more_calls_than_slots_all_answer(model: LocalModel) -> None:
    answered: list[int] = []

    async def call(number: int) -> None:
        await model.generate(asking(f"Count to {number}.", max_tokens=5))
        answered.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(call, number)
    assert sorted(answered) == list(range(10))


async def test_a_prompt_too_long_says_by_how_much(model: LocalModel) -> None:
    with pytest.raises(ModelError, match=r"tokens and the context .* 1024") as caught:
        await model.generate(asking("word " * 2000))
    assert not caught.value.retryable


async def test_a_schema_that_cannot_be_enforced_is_an_error(model: LocalModel) -> None:
    request = ModelRequest((UserMessage("Hi"),), output_schema={"type": "frobnication"})
    with pytest.raises(ModelError, match="refused") as caught:
        await model.generate(request)
    assert not caught.value.retryable


async def test_a_listener_that_raises_ends_its_call_only(model: LocalModel) -> None:
    def hear(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await model.generate(asking(LONG, max_tokens=900), hear)
    assert (await model.generate(asking("Hello!", max_tokens=3))).text


async def test_models_of_the_same_settings_share_an_engine(weights: Path) -> None:
    first = LocalModel("smollm2-135m", weights=weights, slots=1, context_tokens=512)
    second = LocalModel("smollm2-135m", weights=weights, slots=1, context_tokens=512)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.warm_up)
        nursery.start_soon(second.warm_up)
    assert len(local._engines()) == 1
    await first.aclose()
    assert (await second.generate(asking("Hello!", max_tokens=3))).text
    with pytest.raises(ModelUnavailable, match="closed"):
        await first.generate(asking("Hello!"))
    await second.aclose()
    assert local._engines() == {}


async def test_closing_waits_for_calls_in_flight(weights: Path) -> None:
    model = LocalModel("smollm2-135m", weights=weights, context_tokens=512)
    begun = trio.Event()
    replies: list[int] = []

    def hear(_: str) -> None:
        begun.set()

    async def call() -> None:
        reply = await model.generate(asking(LONG, max_tokens=60), hear)
        replies.append(reply.usage.output_tokens)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await begun.wait()
        await model.aclose()
    assert replies == [60]


async def test_loading_says_nothing(weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with aclosing(LocalModel("smollm2-135m", weights=weights, context_tokens=256)) as model:
        await model.generate(asking("Hello!", max_tokens=3))
        with pytest.raises(ModelError):
            await model.generate(asking("word " * 2000))
    assert capfd.readouterr() == ("", "")


@needs_package
async def test_a_file_that_is_no_model_is_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(1000))
    async with aclosing(LocalModel("mine", weights=tmp_path / "bad.gguf")) as model:
        with pytest.raises(ModelUnavailable, match="could not load"):
            await model.warm_up()
    async with aclosing(LocalModel("mine", weights=tmp_path / "absent.gguf")) as model:
        with pytest.raises(ModelUnavailable, match="no file"):
            await model.warm_up()
    assert capfd.readouterr() == ("", "")


@needs_package
async def test_fetching_is_heard_on_the_trio_thread_and_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forever = threading.Event()
    heard: list[tuple[FetchProgress, int]] = []

    def fetch(name: str, *, progress: object) -> Path:
        assert callable(progress)
        while not forever.wait(0.01):
            progress(FetchProgress("downloading", 1, 2))
        raise AssertionError("never set")

    monkeypatch.setattr(local, "fetch_weights", fetch)

    def hear(reached: FetchProgress) -> None:
        heard.append((reached, threading.get_ident()))
        scope.cancel()

    async with aclosing(LocalModel("smollm2-135m", progress=hear)) as model:
        with trio.fail_after(10), trio.CancelScope() as scope:
            await model.warm_up()
    assert scope.cancelled_caught
    assert heard[0] == (FetchProgress("downloading", 1, 2), threading.get_ident())


@needs_package
async def test_what_it_cannot_do_is_said_before_anything_is_loaded() -> None:
    model = LocalModel("smollm2-135m")
    tool = ToolSpec("search", "Searches.", {"type": "object"})
    with pytest.raises(ModelError, match="jsontools"):
        await model.generate(ModelRequest((UserMessage("Hi"),), tools=(tool,)))
    with pytest.raises(ModelError, match=r"'temprature' .* is unknown"):
        await model.generate(asking("Hi", temprature=1))
    with pytest.raises(ModelError, match=r"'stream' .* set by the runtime"):
        await model.generate(asking("Hi", stream=False))
    await model.aclose()
    await model.aclose()


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelUnavailable, match=r"pip install 'trio-mob\[local\]'"):
        LocalModel("smollm2-135m")


def test_settings_are_checked() -> None:
    with pytest.raises(ModelUnavailable, match="known: smollm2-135m"):
        LocalModel("smollm3")
    with pytest.raises(ModelUnavailable, match="slots=0"):
        LocalModel("smollm2-135m", slots=0)
