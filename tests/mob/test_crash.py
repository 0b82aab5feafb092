"""Members that crash, are killed or hang, and what their supervisor makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from mob.definition import MobDefinition
from mob.errors import MemberFailed
from mob.records import MemberExited
from runtime.errors import ModelError, TurnInterrupted
from runtime.messages import ToolOutcome, ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, SessionArchived, TurnEnded, TurnOutcome
from stores import MemoryStore, open_lmdb
from tests.mob import mobs
from tests.mob.held import HeldStore
from tests.mob.mobs import (
    asked,
    check_inputs,
    define,
    echo,
    member,
    opened,
    records,
    tool_file,
)

Clock = trio.testing.MockClock

RAISED = [
    ValueError("v"),
    KeyError("k"),
    AssertionError(),
    OSError(5, "io"),
    StopIteration(),
    RuntimeError("r"),
    TimeoutError(),
    ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    trio.TooSlowError(),
    trio.BrokenResourceError(),
    RecursionError("deep"),
    MemoryError(),
]


def _failing(times: int, error: BaseException) -> Any:
    """Answers after raising `error` so often, per input."""
    left: dict[str, int] = {}

    async def answer(request: ModelRequest) -> str:
        await trio.lowlevel.checkpoint()
        count = left.setdefault(asked(request), times)
        left[asked(request)] = count - 1
        if count > 0:
            raise error
        return f"done {asked(request)}"

    return answer


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_whatever_a_model_raises_the_member_is_restarted(
    error: Exception, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.8."""
    store = MemoryStore()
    async with opened(define("a", "b"), _failing(2, error), store=store) as mob:
        assert (await mob.ask("a", "x")).text == "done x"
        assert mob.roster.members["a"].restarts == 2
        assert mob.roster.members["b"].restarts == 0
    exits = records(store, MemberExited)
    assert [(each.name, each.restart_in_s) for each in exits] == [("a", 1.0), ("a", 2.0)]
    assert type(error).__name__ in exits[0].cause
    assert len(records(store, TurnEnded)) == 1


async def test_restarts_wait_as_the_policy_says(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: backoff doubles and is capped."""
    policy = {"backoff_s": 1.0, "max_backoff_s": 3.0, "max": 4, "within_s": 100.0}
    async with opened(define("a", restart=policy), _failing(4, ValueError())) as mob:
        start = trio.current_time()
        await mob.ask("a", "x")
        assert trio.current_time() - start == pytest.approx(1 + 2 + 3 + 3)


async def test_beyond_the_intensity_the_asker_is_told_and_the_mob_lives_on(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.8, 6.8: the inputs behind are not blocked, and restarts begin afresh."""
    store = MemoryStore()
    told: list[str] = []
    definition = define("a", "b", restart={"max": 2, "within_s": 1000.0})

    def answer(request: ModelRequest) -> str:
        if asked(request) == "poison":
            raise ValueError("bad food")
        return f"done {asked(request)}"

    async with opened(definition, answer, store=store) as mob:

        async def ask(name: str, text: str) -> None:
            if text != "poison":
                told.append((await mob.ask(name, text)).text)
                return
            with pytest.raises(MemberFailed) as caught:
                await mob.ask(name, text)
            assert caught.value.name == name
            assert caught.value.session_id == mob.session_of(name)
            assert "bad food" in caught.value.reason
            assert "2 times within 1000 s" in caught.value.reason
            told.append(f"{text} failed")

        async with trio.open_nursery() as nursery:
            for name, text in (("a", "poison"), ("a", "food"), ("b", "soup")):
                nursery.start_soon(ask, name, text)
                await trio.testing.wait_all_tasks_blocked()
        assert told == ["done soup", "poison failed", "done food"]
        assert (await mob.ask("a", "more")).text == "done more"
    failed = [r for r in records(store, TurnEnded) if r.outcome is TurnOutcome.FAILED]
    assert len(failed) == 1
    assert [each.restart_in_s for each in records(store, MemberExited)] == [1.0, 2.0, None]
    check_inputs(store)


@pytest.mark.parametrize(
    ("restart", "error"),
    [
        ({"policy": "never"}, ValueError("x")),
        ({"max": 0}, ValueError("x")),
        ({}, ModelError("no key", provider="x", retryable=False)),
    ],
)
async def test_what_is_not_restarted_fails_at_once(
    restart: dict[str, Any], error: Exception, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.8."""
    async with opened(define("a", restart=restart), _failing(1, error)) as mob:
        start = trio.current_time()
        with pytest.raises(MemberFailed):
            await mob.ask("a", "x")
        assert trio.current_time() == start
        assert (await mob.ask("a", "x")).text == "done x"


async def test_a_crash_does_not_touch_siblings(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8."""
    names = tuple(f"m{index}" for index in range(20))
    turns: dict[str, int] = dict.fromkeys(names, 0)

    async def answer(request: ModelRequest) -> str:
        turns[member(request)] += 1
        await trio.sleep(5)
        if member(request) == "m7":
            raise ExceptionGroup("all", [ValueError(), KeyError()])
        return "ok"

    async with opened(define(*names, restart={"max": 3}), answer) as mob:
        async with trio.open_nursery() as nursery:
            for name in names:
                if name != "m7":
                    nursery.start_soon(mob.ask, name, "x")
            with pytest.raises(MemberFailed):
                await mob.ask("m7", "x")
    assert turns == dict.fromkeys(names, 1) | {"m7": 4}


async def test_a_member_whose_tools_cannot_be_put_together_fails_alone(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.8: its configuration raises, before there is any turn."""
    async with opened(define("a", "b")) as mob:
        honest = mob.realm.configure
        assert honest is not None

        def configure(head: Any) -> Any:
            if head.agent_id == "a":
                raise LookupError("no such thing")
            return honest(head)

        mob.realm.configure = configure
        with pytest.raises(MemberFailed, match="no such thing"):
            await mob.ask("a", "x")
        assert (await mob.ask("b", "x")).text == "x"


# -- kill -----------------------------------------------------------------------------------


async def test_killing_an_idle_member_does_nothing(autojump_clock: Clock) -> None:
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        assert mob.kill("a") is False
        await mob.ask("a", "x")
        assert mob.kill("a") is False
        assert (await mob.ask("a", "y")).text == "y"
    assert records(store, MemberExited) == []


async def test_killing_a_hanging_model_call_begins_it_again(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8, 6.9."""
    store = MemoryStore()
    calls: list[str] = []

    async def answer(request: ModelRequest) -> str:
        calls.append(asked(request))
        if len(calls) == 1:
            await trio.sleep_forever()
        return "ok"

    async with opened(define("a"), answer, store=store) as mob:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert (await mob.ask("a", "x")).text == "ok"

            nursery.start_soon(ask)
            await trio.sleep(1)
            # Twice at once is once; the second cause is the one that is remembered.
            assert mob.kill("a", "hangs")
            assert mob.kill("a", "hangs badly")
    assert calls == ["x", "x"]
    assert [(e.cause, e.restart_in_s) for e in records(store, MemberExited)] == [
        ("hangs badly", 1.0)
    ]
    check_inputs(store)


async def test_killing_during_the_wait_before_a_restart_does_nothing(
    autojump_clock: Clock,
) -> None:
    store = MemoryStore()
    async with opened(define("a"), _failing(1, ValueError()), store=store) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "x")
            await trio.sleep(0.5)
            assert mob.at_work == ("a",)
            assert mob.kill("a") is False
            assert mob.interrupt("a") is False
    assert len(records(store, MemberExited)) == 1


async def test_killing_during_the_commit_is_too_late(autojump_clock: Clock) -> None:
    """CONTRACTS 5.5: the turn is in the queue and nothing takes it back."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        async with trio.open_nursery() as nursery:
            store.hold()

            async def ask() -> None:
                assert (await mob.ask("a", "x")).text == "x"

            nursery.start_soon(ask)
            await store.wait_held(2)
            assert mob.kill("a") is False
            assert mob.interrupt("a") is False
            await trio.testing.wait_all_tasks_blocked()
            store.release()
        assert (await mob.ask("a", "y")).text == "y"
    assert records(store, MemberExited) == []
    assert len(records(store, TurnEnded)) == 2
    check_inputs(store)


def _tools(folder: Path, **more: Any) -> MobDefinition:
    tools = tool_file(folder, once=False, again=True)
    return define("a", folder=folder, tools=tools, profile={"tools": ["once", "again"]}, **more)


def _calls_tools(*names: str) -> Any:
    """Call these tools at once, then say the results in order of the calls."""

    def answer(request: ModelRequest) -> str | ModelReply:
        results = [each for each in request.messages if isinstance(each, ToolResult)]
        if not results:
            return calling(*((name, {"text": f"{i}"}) for i, name in enumerate(names)))
        results.sort(key=lambda result: result.call_id)
        return " | ".join(f"{result.name}: {result.text}" for result in results)

    return answer


@pytest.mark.parametrize("by", ["kill", "stop"])
async def test_a_tool_that_was_cut_off_is_repeated_only_if_that_is_harmless(
    by: str, tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.9, and the path of one message in docs/architecture.md."""
    ran: list[str] = []

    def hanging(name: str) -> Any:
        async def run(text: str) -> str:
            ran.append(name)
            if ran.count(name) == 1:
                await trio.sleep_forever()
            return "fine"

        return run

    for name in ("once", "again"):
        monkeypatch.setitem(mobs.TOOLS, name, hanging(name))
    store = MemoryStore()
    async with opened(_tools(tmp_path), _calls_tools("once", "again"), store=store) as mob:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                text = (await mob.ask("a", "go")).text
                assert text.startswith("once: error: ")
                assert text.endswith("unknown; it was not repeated because it is not declared"
                                     " idempotent | again: fine")  # fmt: skip

            nursery.start_soon(ask)
            await trio.sleep(1)
            if by == "kill":
                assert mob.kill("a")
            else:
                report = await mob.stop(deadline_s=1)
                assert report.cancelled == ("a",)
                await mob.resume()
    assert ran == ["once", "again", "again"] or ran == ["again", "once", "again"]
    (turn,) = records(store, TurnEnded)
    outcomes = {each.name: each.outcome for each in turn.messages if isinstance(each, ToolResult)}
    assert outcomes == {"once": ToolOutcome.UNKNOWN, "again": ToolOutcome.OK}
    check_inputs(store)


@pytest.mark.parametrize("by", ["kill", "stop", "reopen"])
async def test_a_finished_tool_call_is_never_repeated(
    by: str, tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.9: the model call after the batch is cut off; and in one batch a finished
    call keeps its result when another is cut off."""
    ran: list[str] = []

    async def once(text: str) -> str:
        ran.append("once")
        return "fine"

    async def again(text: str) -> str:
        ran.append("again")
        if ran.count("again") == 1:
            await trio.sleep_forever()
        return "fine"

    monkeypatch.setitem(mobs.TOOLS, "once", once)
    monkeypatch.setitem(mobs.TOOLS, "again", again)
    store = MemoryStore()
    answer = _calls_tools("once", "again")
    async with opened(_tools(tmp_path), answer, store=store, grace_s=0) as mob:
        await mob.send("a", "go", idempotency_key="k")
        await trio.sleep(1)
        if by == "kill":
            assert mob.kill("a")
            await mob.wait_idle()
        elif by == "stop":
            await mob.stop(deadline_s=1)
            await mob.resume()
            await mob.wait_idle()
    async with opened(_tools(tmp_path), answer, store=store) as mob:
        text = (await mob.ask("a", "go", idempotency_key="k")).text
    assert text == "once: fine | again: fine"
    assert sorted(ran) == ["again", "again", "once"]
    check_inputs(store)


# -- children -------------------------------------------------------------------------------


def _parent(request: ModelRequest) -> str | ModelReply:
    if asked(request).startswith("go") and request.key.endswith(".1"):
        return calling(("spawn_agent", {"name": "kid", "instructions": "work"}))
    results = [each for each in request.messages if isinstance(each, ToolResult)]
    return f"kid said {results[-1].text}" if results else "nothing"


@pytest.mark.parametrize("by", ["kill", "stop", "reopen"])
async def test_a_child_is_found_again_and_goes_on(by: str, autojump_clock: Clock) -> None:
    """CONTRACTS 1.9, 6.9: one child, one input of its, however often the parent begins again."""
    store = MemoryStore()
    calls = 0

    async def answer(request: ModelRequest) -> str | ModelReply:
        nonlocal calls
        if asked(request) != "work":
            return _parent(request)
        calls += 1
        if calls == 1:
            await trio.sleep_forever()
        return "done"

    definition = define("a", profile={"subagents": {}})
    async with opened(definition, answer, store=store, grace_s=0) as mob:
        await mob.send("a", "go", idempotency_key="k")
        await trio.sleep(1)
        if by == "kill":
            assert mob.kill("a")
            await mob.wait_idle()
        elif by == "stop":
            await mob.stop(deadline_s=1)
            await mob.resume()
            await mob.wait_idle()
    async with opened(definition, answer, store=store) as mob:
        assert (await mob.ask("a", "go", idempotency_key="k")).text == "kid said done"
        (child,) = mob.realm.state.heads[mob.session_of("a")].children or ()
        assert mob.realm.state.heads[child].archived
    assert [record.text for record in records(store, InputAccepted)] == ["go", "work"]
    check_inputs(store)


@pytest.mark.parametrize("how", ["interrupt", "give up"])
async def test_a_turn_that_ends_badly_takes_its_children_along(
    how: str, autojump_clock: Clock
) -> None:
    """CONTRACTS 1.10: they are ended before their parent is reported as ended."""
    store = MemoryStore()

    async def answer(request: ModelRequest) -> str | ModelReply:
        if asked(request) == "work":
            await trio.sleep_forever()
        return _parent(request)

    definition = define("a", profile={"subagents": {}}, restart={"max": 0})
    async with opened(definition, answer, store=store) as mob:

        async def ask() -> None:
            with pytest.raises((TurnInterrupted, MemberFailed)):
                await mob.ask("a", "go")
            (child,) = mob.realm.state.heads[mob.session_of("a")].children or ()
            assert mob.realm.state.heads[child].archived
            assert mob.realm.state.descendants[mob.session_of("a")] == (0, 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            assert mob.interrupt("a") if how == "interrupt" else mob.kill("a")
        await mob.ask("a", "still there?")
    kinds = [type(e.record) for e in mobs.journal(store)]
    assert kinds.index(SessionArchived) < kinds.index(TurnEnded)
    check_inputs(store)


async def test_crashes_on_disk(tmp_path: Path) -> None:
    """CONTRACTS 6.7, 6.8 on LMDB: thirty turns of three members while all are killed at random."""
    definition = define(
        "a", "b", "c", restart={"backoff_s": 0.0, "max_backoff_s": 0.0, "max": 1000}
    )

    async def slow(request: ModelRequest) -> str:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        return echo(request)

    async with open_lmdb(str(tmp_path)) as store:
        async with opened(definition, slow, store=store) as mob:
            for index in range(10):
                async with trio.open_nursery() as nursery:
                    for name in "abc":
                        nursery.start_soon(mob.send, name, f"{name}{index}")
                    await trio.lowlevel.checkpoint()
                    for name in "abc":
                        mob.kill(name)
            await mob.wait_idle()
            for name in "abc":
                texts = [m.text for m in mob.realm.messages(mob.session_of(name), order="oldest")]
                assert texts == [f"{name}{index // 2}" for index in range(20)]
        check_inputs(store)
