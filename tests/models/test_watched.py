"""The watchdog of a model call: silence ends it, an answer that keeps coming never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.models.sim import EchoModel
from runtime.models.watched import ModelStalled, Watched, watched

REQUEST = ModelRequest(())


class Slow:
    """Sends a piece after each of `gaps_s`, then ends after the last one."""

    name = "slow:one"
    supports_tools = True

    def __init__(self, *gaps_s: float) -> None:
        self.gaps_s = gaps_s
        self.ended = ""

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        self.ended = "cancelled"
        *gaps_s, last_s = self.gaps_s
        for gap_s in gaps_s:
            await trio.sleep(gap_s)
            if emit is not None:
                emit("x")
        await trio.sleep(last_s)
        self.ended = "whole"
        return ModelReply("x" * len(gaps_s))

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("gaps_s", [(9.0,), (9.0, 4.0), (1.0,) + (4.0,) * 50])
async def test_an_answer_that_keeps_coming_is_never_cut(
    gaps_s: tuple[float, ...], autojump_clock: Any
) -> None:
    seen: list[str] = []
    model = Watched(Slow(*gaps_s), timeout_s=10, stall_s=5)
    reply = await model.generate(REQUEST, seen.append)
    assert reply.text == "".join(seen) == "x" * (len(gaps_s) - 1)


@pytest.mark.parametrize(
    ("gaps_s", "silent_s", "said"),
    [
        ((11.0,), 10, "sent nothing for 10 s before its answer began"),
        ((9.0, 4.0, 6.0), 5, "sent nothing for 5 s in the middle of its answer"),
    ],
)
async def test_silence_ends_the_call_and_says_how_long_it_was(
    gaps_s: tuple[float, ...], silent_s: float, said: str, autojump_clock: Any
) -> None:
    slow = Slow(*gaps_s)
    began = trio.current_time()
    with pytest.raises(ModelStalled, match=said) as found:
        await Watched(slow, timeout_s=10, stall_s=5).generate(REQUEST)
    assert (found.value.silent_s, found.value.retryable) == (silent_s, True)
    assert found.value.provider == "slow"
    assert slow.ended == "cancelled"
    assert trio.current_time() - began == pytest.approx(sum(gaps_s[:-1]) + silent_s)


@pytest.mark.parametrize(
    ("limits", "gaps_s"),
    [
        ({"timeout_s": None, "stall_s": 5}, (1e6, 1.0)),
        ({"timeout_s": 10, "stall_s": None}, (1.0, 1e6)),
    ],
)
async def test_a_limit_of_none_is_none(
    limits: dict[str, Any], gaps_s: tuple[float, ...], autojump_clock: Any
) -> None:
    await Watched(Slow(*gaps_s), **limits).generate(REQUEST)


async def test_a_cancelled_call_is_cancelled_and_no_stall(autojump_clock: Any) -> None:
    with trio.move_on_after(3) as scope:
        await Watched(Slow(99.0), timeout_s=10, stall_s=5).generate(REQUEST)
    assert scope.cancelled_caught


async def test_what_the_model_raises_comes_through() -> None:
    with pytest.raises(ValueError, match="oops"):
        await Watched(ScriptedModel([ValueError("oops")])).generate(REQUEST)


@pytest.mark.parametrize(
    ("make", "limits", "is_watched"),
    [
        (EchoModel, {}, False),
        (EchoModel, {"stall_s": 1.0}, True),
        (EchoModel, {"timeout_s": 1.0}, True),
        (lambda: ScriptedModel([]), {}, True),
    ],
)
def test_only_a_simulated_model_goes_unwatched(
    make: Callable[[], Any], limits: dict[str, float], is_watched: bool
) -> None:
    model = make()
    made = watched(model, **limits)
    assert isinstance(made, Watched) is is_watched
    assert made.name == model.name
