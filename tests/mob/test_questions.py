"""Members who ask each other, and questions that are asked twice."""

from __future__ import annotations

import json

import pytest
import trio

from runtime.errors import SessionError
from runtime.messages import ToolOutcome, ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded
from stores import MemoryStore, open_lmdb
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, member, opened, pair, records

Clock = trio.testing.MockClock


def _results(request: ModelRequest) -> list[ToolResult]:
    """The tool results of the turn so far."""
    users = [i for i, each in enumerate(request.messages) if isinstance(each, UserMessage)]
    return [each for each in request.messages[users[-1] :] if isinstance(each, ToolResult)]


def _asks(*questions: str) -> object:
    """Ask ``ask_PROFILE`` each question at once, then say what was answered."""

    def answer(request: ModelRequest) -> str | ModelReply:
        if results := _results(request):
            return " | ".join(result.text for result in results)
        calls = [question.split(" ", 1) for question in questions]
        return calling(*((f"ask_{who}", {"message": text}) for who, text in calls))

    return answer


async def test_a_member_asks_another_and_answers_from_that(autojump_clock: Clock) -> None:
    """CONTRACTS 6.6. The asked member sees who asks."""
    store = MemoryStore()
    models = {"a": _asks("pb what?"), "b": lambda request: f"b heard {asked(request)}"}
    async with opened(pair(), store=store, **models) as mob:
        assert (await mob.ask("a", "go")).text == "b heard what?"
    assert [(r.text, r.sender) for r in records(store, InputAccepted)] == [
        ("go", None),
        ("what?", "a"),
    ]
    check_inputs(store)


async def test_replicas_are_asked_together_and_answer_in_their_order(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.6: a failing one is data beside the others."""
    definition = define(
        "lead",
        profiles={"r": {"model": "r", "restart": {"policy": "never"}}},
        models={"m": {"model": "sim:echo"}, "r": {"model": "sim:echo"}},
        members={"lead": {"profile": "p"}, "r": {"profile": "r", "replicas": 3}},
    )
    together = 0

    async def researcher(request: ModelRequest) -> str:
        nonlocal together
        together += 1
        await trio.sleep(3 - int(member(request)[-1]))
        assert together == 3
        if member(request) == "r-1":
            raise ValueError("no idea")
        return f"I am {member(request)}"

    async with opened(definition, _asks("r what?"), r=researcher) as mob:
        replies = json.loads((await mob.ask("lead", "go")).text)
    assert [reply["member"] for reply in replies] == ["r-0", "r-1", "r-2"]
    assert [reply.get("reply") for reply in replies] == ["I am r-0", None, "I am r-2"]
    assert "no idea" in replies[1]["error"]


async def test_a_circle_of_questions_is_refused_as_data(autojump_clock: Clock) -> None:
    """A asks B asks A: B's model is told, and everybody answers."""
    models = {"a": _asks("pb what?"), "b": _asks("pa why?")}
    async with opened(pair(), **models) as mob:
        text = (await mob.ask("a", "go")).text
    assert text == (
        "error: 'b' cannot wait for 'a', which waits for 'b' already, itself or through others;"
        " nothing was sent"
    )


async def test_a_circle_over_a_third_member_is_refused(autojump_clock: Clock) -> None:
    definition = pair(
        profiles={"pc": {"model": "c"}},
        models={"c": {"model": "sim:echo"}},
        members={"c": {"profile": "pc"}},
    )
    models = {"a": _asks("pb 1"), "b": _asks("pc 2"), "c": _asks("pa 3")}
    async with opened(definition, **models) as mob:
        assert "'c' cannot wait for 'a'" in (await mob.ask("a", "go")).text


async def test_a_member_asks_only_those_it_is_wired_to(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: in both directions, and nobody else."""
    offered: dict[str, list[str]] = {}

    def answer(request: ModelRequest) -> str | ModelReply:
        offered[member(request)] = [spec.name for spec in request.tools]
        if asked(request) != "go":
            return f"{member(request)} heard {asked(request)}"
        if results := _results(request):
            return results[-1].text
        return calling(("ask_p", {"message": "you?"}))

    definition = define(wiring={"edges": [["a", "b"]]})
    async with opened(definition, answer) as mob:
        assert (await mob.ask("a", "go")).text == "b heard you?"
        assert (await mob.ask("b", "go")).text == "a heard you?"
        assert "no tool" in (await mob.ask("c", "go")).text
        assert "ask_p" not in offered["c"]
        assert mob.realm.state.heads[mob.session_of("c")].turns == 1


async def test_a_member_cannot_ask_itself(autojump_clock: Clock) -> None:
    seen: list[list[str]] = []

    def answer(request: ModelRequest) -> str:
        seen.append([tool.name for tool in request.tools])
        return "ok"

    async with opened(define("a"), answer) as mob:
        await mob.ask("a", "go")
        with pytest.raises(Exception, match="'a' cannot wait for itself"):
            mob.question("a", ["a"], "hm", "key")
    assert seen == [[]]


async def test_two_questions_at_once_to_one_member_still_show_a_circle(
    autojump_clock: Clock,
) -> None:
    """The first answer must not hide that the second is still waited for: it would hang."""
    turns: list[str] = []

    async def second(request: ModelRequest) -> str | ModelReply:
        if results := _results(request):
            return results[0].text
        turns.append(asked(request))
        if len(turns) == 2:
            await trio.sleep(1)  # `a` has its first answer by now
            return calling(("ask_pa", {"message": "back"}))
        return "fine"

    async with opened(pair(), a=_asks("pb one", "pb two"), b=second) as mob:
        text = (await mob.ask("a", "go")).text
    refused, answered = sorted(text.split(" | "))
    assert refused.startswith("error: 'b' cannot wait for 'a'")
    assert answered == "fine"


async def test_a_diamond_of_questions_is_no_circle(autojump_clock: Clock) -> None:
    definition = pair(
        profiles={"pc": {"model": "c"}, "pd": {"model": "d"}},
        models={"c": {"model": "sim:echo"}, "d": {"model": "sim:echo"}},
        members={"c": {"profile": "pc"}, "d": {"profile": "pd"}},
    )
    models = {
        "a": _asks("pb 1", "pc 2"),
        "b": _asks("pd 3"),
        "c": _asks("pd 4"),
        "d": lambda request: f"d{asked(request)}",
    }
    async with opened(definition, **models) as mob:
        assert (await mob.ask("a", "go")).text == "d3 | d4"


async def test_a_retired_peer_is_told_as_data(autojump_clock: Clock) -> None:
    """CONTRACTS 6.3: also to a question that was on its way."""
    stuck = Stuck()
    async with opened(pair(), a=_asks("pb what?"), b=stuck) as mob:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert "'b' was retired" in (await mob.ask("a", "go")).text

            nursery.start_soon(ask)
            await stuck.entered.wait()
            await mob.retire("b")
        # The tool is gone with the only one it could ask.
        assert "no tool named 'ask_pb'" in (await mob.ask("a", "again")).text


async def test_a_crashed_asker_does_not_ask_twice(autojump_clock: Clock) -> None:
    """CONTRACTS 1.9, 5.7, 6.7: the repeated call joins the question it had asked."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(pair(), store=store, a=_asks("pb what?"), b=stuck) as mob:
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await mob.ask("a", "go")).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            assert mob.kill("a")
            await trio.sleep(10)
            stuck.gate.set()
        assert answers == ["done what?"]
    assert stuck.calls == ["what?"]
    assert len(records(store, InputAccepted)) == 2
    check_inputs(store)


async def test_an_asked_member_that_crashes_asks_back_without_hanging(
    autojump_clock: Clock,
) -> None:
    """While the asker is being restarted nobody waits, so the circle shows only afterwards."""

    async def second(request: ModelRequest) -> str | ModelReply:
        if not _results(request):
            await trio.sleep(0.5)
            return calling(("ask_pa", {"message": "back"}))
        return "b is done"

    def first(request: ModelRequest) -> str | ModelReply:
        if asked(request) == "go" and not _results(request):
            return calling(("ask_pb", {"message": "what?"}))
        results = _results(request)
        return results[0].text if results else "a is here"

    async with opened(pair(), a=first, b=second) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "a", "go")
            await trio.sleep(0.25)
            assert mob.kill("a")
        await mob.wait_idle()


# -- idempotency keys -----------------------------------------------------------------------


async def test_a_key_joins_the_first_answer_in_every_state(autojump_clock: Clock) -> None:
    """CONTRACTS 5.7: pending, in flight, answered, and after a restart."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(define("a"), stuck, store=store, grace_s=0) as mob:
        receipts = [await mob.send("a", "1", idempotency_key="k")]
        await stuck.entered.wait()
        receipts.append(await mob.send("a", "other", idempotency_key="k"))
        assert receipts[0] == receipts[1]
    async with opened(define("a"), stuck, store=store) as mob:
        stuck.gate.set()
        assert (await mob.ask("a", "1", idempotency_key="k")).text == "done 1"
        assert (await mob.send("a", "1", idempotency_key="k")) == receipts[0]
    async with opened(define("a"), stuck, store=store) as mob:
        assert (await mob.ask("a", "1", idempotency_key="k")).text == "done 1"
    assert stuck.calls == ["1", "1"]  # cut off once
    assert len(records(store, TurnEnded)) == 1
    check_inputs(store)


async def test_a_key_joins_an_input_that_is_not_on_disk_yet(autojump_clock: Clock) -> None:
    """CONTRACTS 5.7."""
    store = HeldStore()
    calls: list[str] = []
    answers: list[str] = []

    def answer(request: ModelRequest) -> str:
        calls.append(asked(request))
        return f"answer {len(calls)}"

    async with opened(define("a"), answer, store=store) as mob:

        async def ask() -> None:
            answers.append((await mob.ask("a", "1", idempotency_key="k")).text)

        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await store.wait_held(2)
            await trio.testing.wait_all_tasks_blocked()
            store.release()
        await mob.wait_idle()
    assert answers == ["answer 1"] * 3
    assert len(records(store, InputAccepted)) == len(records(store, TurnEnded)) == 1
    check_inputs(store)


async def test_a_key_that_two_members_use_is_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 5.7: it would be answered by the wrong one."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        await mob.ask("a", "1", idempotency_key="k")
        with pytest.raises(SessionError, match="'k'"):
            await mob.ask("b", "1", idempotency_key="k")
        await mob.ask("b", "2")
    check_inputs(store)


async def test_keys_join_across_processes_on_disk(tmp_path: object) -> None:
    """CONTRACTS 5.7 on LMDB, where a commit takes time."""
    calls: list[str] = []

    async def answer(request: ModelRequest) -> str:
        calls.append(asked(request))
        await trio.lowlevel.checkpoint()
        return f"answer {len(calls)}"

    for _ in range(2):
        async with open_lmdb(str(tmp_path)) as store:
            async with opened(define("a"), answer, store=store) as mob:
                async with trio.open_nursery() as nursery:
                    for _ in range(10):

                        async def ask() -> None:
                            text = (await mob.ask("a", "1", idempotency_key="k")).text
                            assert text == "answer 1"

                        nursery.start_soon(ask)
            check_inputs(store)
    assert calls == ["1"]


async def test_a_question_to_a_busy_member_waits_its_turn(autojump_clock: Clock) -> None:
    """CONTRACTS 6.7: a peer does not overtake."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(pair(), store=store, a=_asks("pb mine"), b=stuck) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.ask, "b", "first")
            await stuck.entered.wait()
            nursery.start_soon(mob.ask, "a", "go")
            await trio.testing.wait_all_tasks_blocked()
            stuck.gate.set()
    assert stuck.calls == ["first", "mine"]


async def test_an_interrupted_asker_leaves_the_asked_one_alone(autojump_clock: Clock) -> None:
    """CONTRACTS 2.8: the open call is closed in the asker's history; the question is answered."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(pair(), store=store, a=_asks("pb what?"), b=stuck) as mob:
        await mob.send("a", "go")
        await stuck.entered.wait()
        assert mob.interrupt("a")
        await trio.testing.wait_all_tasks_blocked()
        stuck.gate.set()
        await mob.wait_idle()
        (first, second) = records(store, TurnEnded)
    assert first.messages[-1].outcome is ToolOutcome.INTERRUPTED
    assert second.messages[-1].text == "done what?"
    check_inputs(store)


async def test_questions_of_one_member_stay_in_order_while_the_mob_stops(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.7: found by simulation. A question whose asker was interrupted waits on; after a
    restart nobody waits for it, and a later one of the same asker, which the drain still works on,
    must not overtake it."""
    store = MemoryStore()

    async def asks(request: ModelRequest) -> str | ModelReply:
        if results := _results(request):
            return results[-1].text
        return calling(("ask_pb", {"message": f"{asked(request)}?"}))

    busy = Stuck()
    async with opened(pair(), store=store, grace_s=0, a=asks, b=busy) as mob:
        await mob.send("b", "busy")
        await busy.entered.wait()
        await mob.send("a", "first")
        await trio.testing.wait_all_tasks_blocked()
        mob.interrupt("a")
        await trio.testing.wait_all_tasks_blocked()
    busy = Stuck()
    async with opened(pair(), store=store, a=asks, b=busy) as mob, trio.open_nursery() as nursery:
        await busy.entered.wait()
        await mob.send("a", "second")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(mob.stop, 60)
        await trio.testing.wait_all_tasks_blocked()
        busy.gate.set()
    turns = [record.messages[0].text for record in records(store, TurnEnded)]
    assert turns == ["first", "busy", "first?", "second?", "second"]
