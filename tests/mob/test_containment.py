"""What code of others does wrong stays where it is, and stopping is bounded whatever it does."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from mob.errors import MemberFailed
from mob.lifecycle import MobState
from mob.receipts import StopReport
from runtime.containing import contained
from runtime.messages import ToolResult
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import TurnEnded, TurnProgressed
from stores import MemoryStore
from tests.mob.mobs import TOOLS, asked, check_inputs, define, opened, records, tool_file

Clock = trio.testing.MockClock


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


class Odd(BaseException):
    """No `Exception`, and nobody's cancellation."""


def _cancelled() -> BaseException:
    return trio.Cancelled._create(source="explicit", reason="by hand")  # type: ignore[attr-defined]


RAISED: list[Any] = [
    SystemExit(3),
    KeyboardInterrupt(),
    Odd("odd"),
    Unspeakable(),
    ExceptionGroup("many", [ValueError("x")]),
    BaseExceptionGroup("worse", [SystemExit(3), ValueError("x")]),
    _cancelled(),
    BaseExceptionGroup("cut", [_cancelled()]),
]


def _calls_once(request: ModelRequest) -> Any:
    return calling(("bad", {"text": ""})) if len(request.messages) == 1 else "went on"


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_whatever_a_tool_raises_is_a_result_that_names_it(
    error: BaseException, tmp_path: Path, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.8: nobody else notices."""

    async def bad(text: str) -> str:
        raise error

    TOOLS["bad"] = bad
    store = MemoryStore()
    tools = tool_file(tmp_path, bad=False)
    definition = define("a", folder=tmp_path, tools=tools, profile={"tools": ["bad"]})
    async with opened(definition, _calls_once, store=store) as mob:
        assert (await mob.ask("a", "go")).text == "went on"
        (said,) = [
            message.text
            for message in mob.realm.messages(mob.session_of("a"))
            if isinstance(message, ToolResult)
        ]
    assert said.startswith(f"error: {type(error).__name__}: ")


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_whatever_a_model_raises_is_an_exit_of_its_member(
    error: BaseException, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.8: named, and beyond its restarts given up; its sibling answers."""

    async def answer(request: ModelRequest) -> str:
        if asked(request) == "go":
            raise error
        return "well"

    async with opened(define("a", "b", restart={"max": 1}), answer) as mob:
        with pytest.raises(MemberFailed, match=type(error).__name__):
            await mob.ask("a", "go")
        assert (await mob.ask("b", "you?")).text == "well"
        assert len(mob.exits("a")) == 2
        assert all(type(error).__name__ in each.cause for each in mob.exits("a"))


async def test_a_cancellation_under_way_and_a_signal_are_not_held_back() -> None:
    """CONTRACTS 6.8: nobody's Ctrl-C is swallowed, and no cancellation."""
    said: list[str | None] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            said = [contained(error), contained(BaseExceptionGroup("", [ValueError(), error]))]
            raise
    assert said == [None, None]
    ignored = (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    )  # as a shell has it in the background
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert contained(caught.value) is None
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert contained(KeyboardInterrupt()) is None, "raised by nobody knows whom"
    assert contained(GeneratorExit()) is None


class Stubborn:
    """A tool that shields itself from cancellation until it is let go."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.gate = trio.Event()
        self.left = trio.Event()

    async def __call__(self, text: str) -> str:
        with trio.CancelScope(shield=True):
            self.entered.set()
            await self.gate.wait()
        self.left.set()
        return "late"


async def test_stop_is_bounded_names_what_is_stuck_and_nothing_of_it_lands_later(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """CONTRACTS 5.11, 6.8: at `resume` the turn goes on as after a crash: the model is told that
    the outcome of the call is unknown, and what the old call still returns is nowhere."""
    stubborn = TOOLS["bad"] = Stubborn()
    store = MemoryStore()
    answers: list[str] = []
    tools = tool_file(tmp_path, bad=False)
    definition = define("a", "b", folder=tmp_path, tools=tools, profile={"tools": ["bad"]})
    async with opened(definition, _calls_once, store=store) as mob:

        async def ask() -> None:
            answers.append((await mob.ask("a", "go")).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stubborn.entered.wait()
            start = trio.current_time()
            assert await mob.stop(3) == StopReport((), ("a",), (), ("a",))
            assert trio.current_time() - start == pytest.approx(3 + 5)
            assert mob.state is MobState.STOPPED
            assert mob.at_work == ()
            await mob.wait_idle()
            await mob.resume()
        assert answers == ["went on"]
        last = mob.realm.journal.last
        stubborn.gate.set()
        await stubborn.left.wait()
        await trio.sleep(10)
        assert mob.realm.journal.last == last
        (result,) = [
            message
            for message in mob.realm.messages(mob.session_of("a"))
            if isinstance(message, ToolResult)
        ]
        assert "whether it finished is unknown" in result.text
        assert (await mob.ask("a", "more")).text == "went on"
        assert (mob.at_work, mob._activations.active) == ((), 0)
    assert len(records(store, TurnEnded)) == 2
    assert len(records(store, TurnProgressed)) == 2
    check_inputs(store)


async def test_a_blocked_loop_is_reported_with_the_code_that_blocks_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CONTRACTS 6.8, 6.13: by a thread that is armed while somebody works, and parked otherwise."""

    async def bad(text: str) -> str:
        time.sleep(0.5)  # noqa: ASYNC251 that is the point
        return "slept"

    TOOLS["bad"] = bad
    tools = tool_file(tmp_path, bad=False)
    definition = define(
        "a",
        folder=tmp_path,
        tools=tools,
        profile={"tools": ["bad"]},
        supervision={"blocked_s": 0.1},
    )
    async with opened(definition, _calls_once) as mob:
        await mob.ask("a", "go")
        await mob.wait_idle()
        await trio.sleep(0.3)
        (seen,) = mob.blocked
        assert "time.sleep(0.5)" in seen.stack
        assert 0.3 < seen.seconds < 5
        assert "has been blocked for" in caplog.text
        time.sleep(0.4)  # noqa: ASYNC251 nobody works: nobody watches
        await trio.sleep(0.1)
        assert len(mob.blocked) == 1
    assert not [each for each in threading.enumerate() if each.name == "mob watchdog"]
    off = define("a", supervision={"blocked_s": 0})
    async with opened(off) as mob:
        assert mob._activations.watchdog is None
    assert "supervision" not in off.blueprint()


async def test_a_crowd_of_short_steps_blocks_nobody() -> None:
    """CONTRACTS 6.8: with many members a pass over all takes longer than the limit, and nobody of
    them is to blame."""
    done, longest = trio.Event(), 0.0

    async def answer(request: ModelRequest) -> str:
        await done.wait()
        return "done"

    async def step() -> None:
        nonlocal longest
        for _ in range(2):
            began = time.monotonic()
            time.sleep(0.02)  # noqa: ASYNC251 the work of one step
            longest = max(longest, time.monotonic() - began)
            await trio.lowlevel.checkpoint()

    async with opened(define("a", supervision={"blocked_s": 0.1}), answer) as mob:
        await mob.send("a", "go")
        async with trio.open_nursery() as crowd:
            for _ in range(30):
                crowd.start_soon(step)
        # A machine that stands still for that long makes one of them block the loop indeed.
        assert list(mob.blocked) == [] or longest > 0.09
        done.set()
        await mob.wait_idle()


async def test_nobody_watches_a_clock_that_is_not_real(autojump_clock: Clock) -> None:
    async with opened(define("a")) as mob:
        assert mob._activations.watchdog is None


async def test_a_thread_that_never_returns_holds_up_no_stop(tmp_path: Path) -> None:
    """CONTRACTS 5.11: it is left behind."""
    gate = threading.Event()
    (tmp_path / "tools.py").write_text(
        "import tests.mob.test_containment as here\n\n\ndef bad(text: str) -> str:\n"
        '    """Wait."""\n    here.GATE.wait(60)\n    return "late"\n'
    )
    globals()["GATE"] = gate
    tools = {"bad": {"function": "tools.py:bad"}}
    definition = define("a", folder=tmp_path, tools=tools, profile={"tools": ["bad"]})
    try:
        async with opened(definition, _calls_once) as mob:
            await mob.send("a", "go")
            await trio.sleep(0.3)
            with trio.fail_after(2):
                assert await mob.stop(0.1) == StopReport((), ("a",))
    finally:
        gate.set()
