"""Members that go on by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.autonomy import SELF, Autonomy, count_of, prompt_id, rests
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.lifecycle import MobState
from mob.records import MemberExited
from runtime.ids import RunId, SessionId
from runtime.messages import AssistantMessage, UserMessage
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded, TurnOutcome
from runtime.session import PendingInput
from stores import MemoryStore
from tests.mob.mobs import asked, check_inputs, define, opened, records, table

Clock = trio.testing.MockClock


def _profile(**given: Any) -> dict[str, Any]:
    return {"mode": "autonomous", "continue_with": "go on", **given}


def _ended(text: str, outcome: TurnOutcome = TurnOutcome.COMPLETED) -> TurnEnded:
    messages = (UserMessage("hi"), AssistantMessage(text))
    usage = AssistantMessage("").usage
    return TurnEnded(
        SessionId("s"), RunId("r"), 0, outcome, messages, usage, (), None, None, 0, 0, 1, 2, 0, 0
    )


def test_when_a_member_rests() -> None:
    policy = Autonomy(rest_word="DONE", max_turns=3)
    assert rests(policy, _ended("more to do"), 2) is None
    assert rests(policy, _ended("I am DONE."), 0) == "it has said 'DONE'"
    assert "which is the limit" in (rests(policy, _ended("more"), 3) or "")
    assert rests(policy, _ended("", TurnOutcome.INTERRUPTED), 0) == "its turn ended as interrupted"


def test_a_prompt_says_which_it_is() -> None:
    assert count_of(PendingInput(prompt_id("abc", 7), "go on", SELF, None)) == 7
    assert count_of(PendingInput(prompt_id("abc", 7), "go on", "boss", None)) == 0


async def test_a_member_goes_on_until_it_calls_rest(autojump_clock: Clock) -> None:
    """CONTRACTS 6.13: it is prompted when a turn has ended, and nothing looks in between."""
    store = MemoryStore()
    seen: list[str] = []

    def answer(request: ModelRequest) -> Any:
        seen.append(asked(request))
        if len(seen) == 4 and not request.messages[-1].text.startswith("You rest"):
            return calling(("rest", {"reason": "all done"}))
        return "working"

    async with opened(define("a", profile=_profile()), answer, store=store) as mob:
        await mob.ask("a", "begin")
        await mob.wait_idle()
        assert mob.at_work == ()
        assert seen == ["begin", "go on", "go on", "go on", "go on"]
    assert [record.sender for record in records(store, InputAccepted)] == [None, SELF, SELF, SELF]
    check_inputs(store)


async def test_a_member_rests_at_a_word_and_at_its_limit_and_a_message_wakes_it(
    autojump_clock: Clock,
) -> None:
    seen: list[str] = []

    def answer(request: ModelRequest) -> str:
        seen.append(asked(request))
        return "DONE" if seen[-1] == "quick" else "more"

    profile = _profile(rest_word="DONE", max_turns=2)
    async with opened(define("a", profile=profile), answer) as mob:
        await mob.ask("a", "quick")
        await mob.wait_idle()
        assert seen == ["quick"]
        for _ in range(2):
            seen.clear()
            await mob.ask("a", "long")
            await mob.wait_idle()
            assert seen == ["long", "go on", "go on"]


async def test_a_message_comes_before_the_next_prompt(autojump_clock: Clock) -> None:
    seen: list[str] = []

    async def answer(request: ModelRequest) -> str:
        seen.append(asked(request))
        await trio.sleep(1)
        return "more"

    async with opened(define("a", profile=_profile(max_turns=1)), answer) as mob:
        await mob.send("a", "1")
        await mob.send("a", "2")
        await mob.wait_idle()
    assert seen == ["1", "2", "go on"]


async def test_a_crash_anywhere_loses_no_prompt_and_makes_none_twice(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.9: the prompt is in the commit of the turn before it, and its count with it."""
    store = MemoryStore()
    calls = 0

    async def answer(request: ModelRequest) -> str:
        nonlocal calls
        calls += 1
        await trio.sleep(10)
        return "more"

    definition = define("a", profile=_profile(max_turns=3))
    for process in range(8):
        async with opened(definition, answer, store=store, grace_s=0) as mob:
            if not process:
                await mob.send("a", "begin")
            await trio.sleep(15)  # ends in the middle of every second turn
    assert len(records(store, InputAccepted)) == len(records(store, TurnEnded)) == 4
    assert calls > 4
    check_inputs(store)


async def test_what_does_not_end_with_an_answer_ends_it(autojump_clock: Clock) -> None:
    store = MemoryStore()

    async def answer(request: ModelRequest) -> str:
        await trio.sleep(10)
        return "more"

    async with opened(define("a", profile=_profile()), answer, store=store) as mob:
        await mob.send("a", "begin")
        await trio.sleep(15)
        assert mob.interrupt("a")
        await mob.wait_idle()
        assert len(records(store, TurnEnded)) == 2


async def test_a_mob_that_completes_gives_no_more_prompts(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1."""
    store = MemoryStore()

    async def answer(request: ModelRequest) -> str:
        await trio.sleep(10)
        return "more"

    async with opened(define("a", profile=_profile()), answer, store=store) as mob:
        await mob.send("a", "begin")
        await trio.sleep(15)
        await mob.complete()
        assert mob.state is MobState.COMPLETED
    assert len(records(store, TurnEnded)) == 2
    check_inputs(store)


async def test_always_restarts_also_what_ended_well_within_its_intensity(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.8: with backoff, durably, and never a busy loop."""
    store = MemoryStore()
    times: list[float] = []

    def answer(request: ModelRequest) -> str:
        times.append(trio.current_time())
        return "DONE"

    definition = define(
        "a",
        profile=_profile(rest_word="DONE"),
        restart={"policy": "always", "max": 2, "backoff_s": 4, "within_s": 1000},
    )
    async with opened(definition, answer, store=store) as mob:
        await mob.ask("a", "begin")
        await mob.wait_idle()
        assert [round(at - times[0]) for at in times] == [0, 4, 12]
        exits = mob.exits("a")
    assert [each.restart_in_s for each in exits] == [4, 8, None]
    assert exits[0].cause == "it has said 'DONE'"
    assert records(store, MemberExited) == list(exits)
    check_inputs(store)


def test_what_a_file_says_about_it() -> None:
    profile = MobDefinition.from_table(table(profile=_profile(max_turns=5))).profiles["p"]
    assert profile.autonomy == Autonomy("go on", None, 5)
    assert define().profiles["p"].autonomy is None
    for given, path in (
        ({"mode": "wild"}, "profiles.p.mode"),
        (_profile(max_turns=0), "profiles.p.max_turns"),
        (_profile(continue_with=" "), "profiles.p.continue_with"),
    ):
        with pytest.raises(DefinitionInvalid) as caught:
            define(profile=given)
        assert [each.path for each in caught.value.mistakes] == [path]
