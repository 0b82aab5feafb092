"""Compaction: when a context is due, what stands for its beginning, and what it can never break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from mob import open_session_service
from runtime import compaction
from runtime.budget import Budget
from runtime.compaction import SUMMARY, TIMEOUT_S, Compacting, Context, count_tokens
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.driver import SessionConfig
from runtime.errors import CompactionDisabled, ModelError, SessionBusy, TurnInterrupted
from runtime.manager import RealmSessions
from runtime.messages import (
    AssistantMessage,
    SystemMessage,
    ToolResult,
    Usage,
    UserMessage,
    check_sequence,
)
from runtime.models.scripted import ScriptedModel, calling
from runtime.service import CreateSessionRequest, InitialTurnPolicy, SessionBuildOptions
from runtime.session import CompactionPolicy, SessionSpec
from runtime.spending import Budgets
from stores import MemoryStore
from tests.runtime.fakes import Doing, make_realm, new_session
from tests.runtime.minutes import MINUTES, Minutes, hang, of_kind, realm_of, talk, texts_of


async def test_a_context_at_its_threshold_begins_with_a_summary() -> None:
    """CONTRACTS 6.14; compaction: threshold, summary by the model, the newest turns as they are."""
    minutes = Minutes()
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, "a", "b", "c", "d", "e")
    assert [texts_of(each) for each in minutes.contexts] == [
        ["a"],
        ["a", "done", "b"],
        ["a", "done", "b", "done", "c"],
        [MINUTES, "c", "done", "d"],
        [MINUTES, "c", "done", "d", "done", "e"],
    ]
    (asked,) = minutes.asked
    assert asked == (
        "User: a\n\nAssistant: done\n\nUser: b\n\nAssistant: done\n\nSum all of this up."
    )
    (record,) = of_kind(realm, ContextCompacted)
    assert (record.turn, record.turns, record.total, record.summary) == (3, 2, 4, "the minutes")
    first = minutes.contexts[3][0]
    assert first == UserMessage(MINUTES, SUMMARY)


async def test_the_next_summary_is_of_the_one_before_and_what_followed() -> None:
    """Compaction: a summary goes into the next one."""
    minutes = Minutes()
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcdefg")
    assert len(minutes.asked) == 2
    assert minutes.asked[1].startswith(f"{MINUTES}\n\nThis was said after that:\n\nUser: c")
    one, other = of_kind(realm, ContextCompacted)
    assert (one.before, other.before.turns, other.turns) == (None, 2, 4)


async def test_the_whole_history_is_readable() -> None:
    """Compaction: nothing is deleted."""
    minutes = Minutes()
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcde")
    whole = ["a", "done", "b", "done", "c", "done", "d", "done", "e", "done"]
    assert texts_of(realm.messages(session_id, order="oldest")) == whole
    assert texts_of(list(realm.snapshot(session_id).messages)) == whole
    assert realm.snapshot(session_id).messages[-2].text == "e"


async def test_what_it_costs_is_counted_up_to_the_root() -> None:
    """Compaction: usage counted, to the budget root."""
    minutes = Minutes()
    realm = realm_of(minutes)
    budgets = realm.budgets = Budgets(realm, lambda head: ("s", Budget(tokens=10_000)))
    root = await new_session(realm)
    child = await new_session(realm, parent=root)
    await talk(realm, child, *"abcd")
    assert realm.state.head(child).usage == Usage(4 * 10 + 50, 4 + 5, 5)
    assert budgets.ledger.total(root) == realm.state.head(child).usage
    again = realm_of(minutes, realm.store)
    assert again.state.head(child).usage == realm.state.head(child).usage


async def test_a_used_up_budget_pays_for_no_summary() -> None:
    """Compaction: budgets are checked before its call too."""
    minutes = Minutes()
    realm = realm_of(minutes)
    realm.budgets = Budgets(realm, lambda head: ("s", Budget(tokens=33)))
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abc")
    with pytest.raises(Exception, match="is used up"):
        await talk(realm, session_id, "d")
    assert minutes.asked == []


@pytest.mark.parametrize(
    ("summary", "said", "cost"),
    [
        (lambda: ModelError("busy", provider="p", retryable=True), "busy", Usage()),
        (lambda: ValueError("a bug"), "a bug", Usage()),
        (lambda: "  ", "wrote no summary", Usage(50, 5, 1)),
        (lambda: "x" * 8_001, "the summary has 8001 characters", Usage(50, 5, 1)),
        (lambda: calling(("work", {})), "wrote no summary", Usage()),
        (hang, f"took longer than {TIMEOUT_S:g} s", Usage()),
    ],
)
async def test_a_summary_that_fails_leaves_everything_as_it_is(
    summary: Callable[[], Any], said: str, cost: Usage, autojump_clock: MockClock
) -> None:
    """Compaction is never fatal: the turn goes on, the failure is reported, its cost counted."""
    minutes = Minutes(summary)
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcd")
    assert texts_of(minutes.contexts[-1]) == ["a", "done", "b", "done", "c", "done", "d"]
    (failure,) = of_kind(realm, CompactionFailed)
    assert said in failure.reason
    assert failure.usage == cost
    assert realm.state.head(session_id).usage == Usage(40, 4, 4) + cost
    minutes.summary = lambda: "the minutes"
    await talk(realm, session_id, "e")
    assert texts_of(minutes.contexts[-1]) == [MINUTES, "d", "done", "e"]


async def test_system_messages_stay_as_they_are() -> None:
    """Compaction: system messages are kept, through any number of summaries."""
    minutes = Minutes()
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    manager = RealmSessions(realm)
    session = await manager.resume(session_id)
    told = SystemMessage("the door code is 7", "host")
    talked = (told, UserMessage("a"), AssistantMessage("ok"), UserMessage("b"))
    from attrs import evolve

    await manager.save(evolve(session, messages=(*talked, AssistantMessage("ok"))))
    await talk(realm, session_id, *"cdefghi")
    assert len(minutes.asked) >= 2
    assert not any("door code" in asked for asked in minutes.asked)
    assert minutes.contexts[-1][:2] == [told, UserMessage(MINUTES, SUMMARY)]


async def test_tool_results_are_never_orphaned_by_the_cut() -> None:
    """Compaction cuts between turns: what a model is shown is a valid sequence (CONTRACTS 2.8)."""
    minutes = Minutes()
    realm = realm_of(minutes, tools=(Doing(lambda _: "x" * 10_000),))
    session_id = await new_session(realm)
    await talk(realm, session_id, *["work"] * 5)
    assert minutes.asked
    for context in minutes.contexts:
        told = context if isinstance(context[-1], ToolResult) else [*context]
        assert check_sequence(told) is None
    assert "[calls work {}]" in minutes.asked[0]
    assert "Tool work: xxx" in minutes.asked[0]
    assert len(minutes.asked[0]) < 3 * 9_000


async def test_the_threshold_in_tokens_is_what_the_model_says_it_read() -> None:
    """Compaction: threshold by tokens, counted once each."""
    minutes = Minutes()
    realm = realm_of(minutes, policy=CompactionPolicy(at_tokens=12, keep_turns=1))
    session_id = await new_session(realm)
    await talk(realm, session_id, "a", "b", "c")
    assert minutes.asked == []
    assert count_tokens(realm.live(session_id)) == 11
    live = realm.live(session_id)
    live.history.append(UserMessage("eight ch"))
    assert count_tokens(live) == 13
    assert count_tokens(live) == 13
    live.history.pop()


async def test_an_estimate_does_where_no_tokens_are_reported() -> None:
    model = ScriptedModel(lambda _: "four" * 10)
    realm = make_realm(MemoryStore(), model)
    session_id = await new_session(realm)
    await talk(realm, session_id, "four" * 5)
    assert count_tokens(realm.live(session_id)) == 15


async def test_a_long_beginning_is_summed_up_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compaction: what is too long for one request is summed up in several, each paid for."""
    monkeypatch.setattr(compaction, "PIECE", 20)
    minutes = Minutes(iter(f"part {n}" for n in range(9)).__next__)
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcd")
    after, end = "This was said after that:", "Sum all of this up."
    assert minutes.asked == [
        f"User: a\n\n{end}",
        f"part 0\n\n{after}\n\nAssistant: done\n\n{end}",
        f"part 1\n\n{after}\n\nUser: b\n\n{end}",
        f"part 2\n\n{after}\n\nAssistant: done\n\n{end}",
    ]
    (record,) = of_kind(realm, ContextCompacted)
    assert (record.usage, record.summary) == (Usage(200, 20, 4), "part 3")


async def test_an_interrupt_ends_a_summary_too(autojump_clock: MockClock) -> None:
    """CONTRACTS 4.3: prompt also inside a summary; the context stays as it is."""
    minutes = Minutes(hang)
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abc")

    async def ask() -> None:
        with pytest.raises(TurnInterrupted):
            await talk(realm, session_id, "d")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert realm.interrupt(session_id)
    assert trio.current_time() < 1
    assert realm.state.head(session_id).compaction is None
    minutes.summary = lambda: "the minutes"
    await talk(realm, session_id, "e")
    assert texts_of(minutes.contexts[-1])[0] == MINUTES


async def test_a_turn_costs_the_same_however_long_the_history_is() -> None:
    """CONTRACTS 6.14: the live copy holds what is behind the summary, and nothing is read again."""
    minutes = Minutes()
    realm = realm_of(minutes)
    session_id = await new_session(realm)
    await talk(realm, session_id, *["x"] * 40)
    live = realm.live(session_id)
    assert len(live.history) + live.skipped == 80
    assert len(live.history) <= 6
    reads: list[int] = []
    get = realm.journal.get
    realm.journal.get = lambda seq: reads.append(seq) or get(seq)  # type: ignore[method-assign,func-returns-value]
    realm.discard_live(session_id)
    await talk(realm, session_id, "y", "y")
    assert len(reads) < 40


async def test_a_session_without_a_policy_is_never_compacted() -> None:
    """Compaction: off unless asked for."""
    minutes = Minutes()
    realm = realm_of(minutes, policy=None)
    session_id = await new_session(realm)
    await talk(realm, session_id, *"abcdefgh")
    assert minutes.asked == []
    assert type(minutes.model.requests[-1].messages) is not Context


async def test_the_service_compacts_on_request() -> None:
    """CONTRACTS 4.7: SESSION_COMPACTION_DISABLED; SESSION_BUSY; a failure is data."""
    minutes = Minutes()
    async with open_session_service() as service:
        build = SessionBuildOptions(llm_client_override=minutes.model)
        defer = InitialTurnPolicy.DEFER
        plain = await service.create_session(
            CreateSessionRequest("sim:echo", initial_turn=defer, build=build)
        )
        with pytest.raises(CompactionDisabled) as caught:
            await service.compact(plain.session_id)
        assert caught.value.code == "SESSION_COMPACTION_DISABLED"
        assert caught.value.session_id == plain.session_id
        build = SessionBuildOptions(
            llm_client_override=minutes.model, compaction=CompactionPolicy(keep_turns=1)
        )
        made = await service.create_session(CreateSessionRequest("sim:echo", "a", build=build))
        nothing = await service.compact(made.session_id)
        assert (nothing.summary, nothing.reason) == (None, "there is nothing to sum up")
        await talk(service.realm, made.session_id, "b")
        with service.realm.hold(made.session_id), pytest.raises(SessionBusy):
            await service.compact(made.session_id)
        minutes.summary = lambda: ValueError("no")
        assert "no" in str((await service.compact(made.session_id)).reason)
        minutes.summary = lambda: "the minutes"
        done = await service.compact(made.session_id)
        assert (done.summary, done.turns, done.usage) == ("the minutes", 1, Usage(50, 5, 1))
        await talk(service.realm, made.session_id, "c")
        assert texts_of(minutes.contexts[-1]) == [MINUTES, "b", "done", "c"]
        assert len(await service.read_history(made.session_id)) == 6


async def test_a_policy_is_stored_with_its_session() -> None:
    """Compaction: a session's policy survives the process."""
    store = MemoryStore()
    realm = make_realm(store)
    spec = SessionSpec(compaction=CompactionPolicy(at_tokens=5, model="sim:echo"))
    session_id = await new_session(realm, spec=spec)
    assert make_realm(store).state.head(session_id).spec == spec
    await realm.checkpoint()
    assert make_realm(store).state.head(session_id).spec == spec


def test_a_context_is_a_sequence() -> None:
    first, rest = [UserMessage("a")], [UserMessage("b"), UserMessage("c")]
    context = Context(first, rest)
    rest.append(UserMessage("d"))
    assert (len(context), texts_of(list(context))) == (4, ["a", "b", "c", "d"])
    assert [context[0].text, context[-1].text, context[1].text] == ["a", "d", "b"]
    assert texts_of(list(context[:2])) == ["a", "b"]
    assert [each.text for each in reversed(context)] == ["d", "c", "b", "a"]
    with pytest.raises(IndexError):
        context[4]


async def test_what_was_counted_is_forgotten_with_what_is_summed_up() -> None:
    model = ScriptedModel(lambda request: "s" if ".summary." in request.key else "four" * 10)
    policy = CompactionPolicy(at_tokens=40, keep_turns=1)
    realm = make_realm(MemoryStore(), model)
    realm.configure = lambda _: SessionConfig(model, compacting=Compacting(policy, model))
    session_id = await new_session(realm)
    counts = []
    for _ in range(6):
        await talk(realm, session_id, "four" * 5)
        counts.append(count_tokens(realm.live(session_id)))
    assert max(counts) < 50
