"""The shell around the turn: tools, cancellation at every place, interrupts, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.driver import TurnAborted
from runtime.errors import TurnFailed, TurnInterrupted
from runtime.ids import SessionId
from runtime.messages import (
    AssistantMessage,
    Message,
    ToolOutcome,
    ToolResult,
    UserMessage,
    check_sequence,
)
from runtime.models.base import ModelReply, ModelRequest
from runtime.realm import Realm
from runtime.session import SessionStatus
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session, open_lagging

FOREVER = trio.sleep_forever


def history(realm: Realm, session_id: SessionId) -> list[Message]:
    return realm.messages(session_id, order="oldest")


def results(realm: Realm, session_id: SessionId) -> dict[str, ToolResult]:
    found = [m for m in history(realm, session_id) if isinstance(m, ToolResult)]
    assert len({result.call_id for result in found}) == len(found)
    return {result.call_id: result for result in found}


def check_whole(realm: Realm, session_id: SessionId) -> None:
    """The live history is the chain on disk, and a valid sequence (CONTRACTS 2.8)."""
    chain = realm.history(realm.state.head(session_id))
    assert realm.live(session_id).history == chain
    assert check_sequence(chain) is None
    assert realm.state.head(session_id).message_count == len(chain)


async def test_tools_of_one_reply_run_at_the_same_time(autojump_clock: Any) -> None:
    async def nap(given: Any) -> None:
        await trio.sleep(given["s"])

    tool = Doing(nap)
    calls = [call(str(s), arguments=f'{{"s": {s}}}') for s in (30, 10, 20)]
    realm = make_realm(MemoryStore(), [asking(*calls), "done"], [tool])
    session = await new_session(realm)
    began = trio.current_time()
    await realm.runner.send_message(session, "go")
    assert trio.current_time() - began == pytest.approx(30)
    assert tool.finished == ["10", "20", "30"]
    # Whatever the order in which they finish, results are in the order of the calls.
    assert list(results(realm, session)) == ["30", "10", "20"]
    check_whole(realm, session)


def explode(_: Any) -> None:
    raise ValueError("no luck")


async def torn(_: Any) -> None:
    """A tool whose own task raises while it is cancelled."""

    async def child() -> None:
        try:
            await FOREVER()
        finally:
            raise ValueError("torn")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        await FOREVER()


FAILURES: list[tuple[str, Doing, str, str]] = [
    ("raises", Doing(explode), "{}", "ValueError: no luck"),
    ("unknown", Doing(explode, name="other"), "{}", "no tool named 'work'; available: other"),
    ("not json", Doing(explode), "{", "not valid JSON"),
    ("nested too deep", Doing(explode), "[" * 100_000, "not valid JSON"),
    ("not an object", Doing(explode), "[]", "do not fit"),
    (
        "wrong argument",
        Doing(explode, parameters={"type": "object", "required": ["n"]}),
        "{}",
        "'n'",
    ),
    ("bad schema", Doing(explode, parameters={"type": 7}), "{}", "cannot be checked"),
    ("times out", Doing(lambda _: FOREVER(), timeout_s=2), "{}", "timed out after 2 s"),
    ("torn by its deadline", Doing(torn, timeout_s=2), "{}", "ExceptionGroup"),
]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [case[1:] for case in FAILURES],
    ids=[case[0] for case in FAILURES],
)
async def test_whatever_goes_wrong_with_a_tool_is_data_for_the_model(
    tool: Doing, arguments: str, said: str, autojump_clock: Any
) -> None:
    script = [asking(call("c", arguments=arguments)), "I see"]
    realm = make_realm(MemoryStore(), script, [tool])
    session = await new_session(realm)
    result = await realm.runner.send_message(session, "go")
    assert result.text == "I see"
    told = results(realm, session)["c"]
    assert told.outcome is ToolOutcome.ERROR
    assert said in told.text
    check_whole(realm, session)


async def test_text_that_no_journal_can_hold_is_made_fit() -> None:
    realm = make_realm(MemoryStore(), [asking(call("c")), "x"], [Doing(lambda _: "half \ud83d")])
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    assert results(realm, session)["c"].text == "half ?"


async def test_call_ids_that_a_model_repeats_are_told_apart() -> None:
    """CONTRACTS 2.8: each result answers one pending call once."""
    tool = Doing(lambda _: "ok")
    script = [asking(call("c"), call("c")), asking(call("c"), call("")), "done"]
    realm = make_realm(MemoryStore(), script, [tool])
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    assert len(results(realm, session)) == 4
    check_whole(realm, session)


# Interrupts (CONTRACTS 4.3).


async def interrupted(
    realm: Realm, session: SessionId, when: Callable[[], Any] = wait_all_tasks_blocked
) -> TurnInterrupted:
    """Send a message and interrupt it; what its sender is told."""
    told: list[TurnInterrupted] = []

    async def send() -> None:
        with pytest.raises(TurnInterrupted) as found:
            await realm.runner.send_message(session, "go")
        told.append(found.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await when()
        assert realm.interrupt(session, "enough") is True
        assert realm.interrupt(session, "enough again") is True
    assert told[0].session_id == session
    return told[0]


async def test_an_interrupt_ends_a_slow_model_call_at_once(autojump_clock: Any) -> None:
    """CONTRACTS 4.3 and 2.8."""
    realm = make_realm(MemoryStore(), [lambda _: FOREVER(), "next"])
    session = await new_session(realm)
    began = trio.current_time()
    assert "enough" in str(await interrupted(realm, session))
    assert trio.current_time() - began < 1
    assert history(realm, session) == [UserMessage("go")]
    assert realm.interrupt(session) is False
    assert await realm.runner.get_session_status(session) is SessionStatus.IDLE
    assert (await realm.runner.send_message(session, "and now?")).text == "next"
    check_whole(realm, session)


async def test_an_interrupt_ends_a_slow_tool_and_keeps_what_others_finished(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 2.8, 4.3: promptly, also inside a tool; open calls end as interrupted."""
    slow, quick = Doing(lambda _: FOREVER()), Doing(lambda _: "ok", name="quick")
    script = [asking(call("a"), call("b", "quick")), "next"]
    realm = make_realm(MemoryStore(), script, [slow, quick])
    session = await new_session(realm)
    await interrupted(realm, session)
    told = results(realm, session)
    assert told["a"].outcome is ToolOutcome.INTERRUPTED
    assert told["b"] == ToolResult(call("b").id, "quick", "ok")
    check_whole(realm, session)
    assert (await realm.runner.send_message(session, "and now?")).text == "next"


async def test_an_interrupt_is_one_also_if_a_tool_raises_while_it_is_cancelled() -> None:
    realm = make_realm(MemoryStore(), [asking(call("a")), "next"], [Doing(torn)])
    session = await new_session(realm)
    await interrupted(realm, session)
    assert results(realm, session)["a"].outcome is ToolOutcome.INTERRUPTED


async def test_an_interrupt_before_the_first_await_is_not_lost_and_does_not_leak() -> None:
    """CONTRACTS 4.3, better."""
    realm = make_realm(MemoryStore(), ["never said?", "next"])
    session = await new_session(realm)
    admission = realm.inputs.accept(session, "go")
    assert admission.pending is not None
    inputs = [admission.pending]
    driver = realm.driver(session, inputs)
    assert realm.interrupt(session, "at once") is True
    record = await driver.run(inputs)
    assert record.error == "at once"
    assert realm.interrupt(session) is False
    assert (await realm.runner.send_message(session, "again")).text == "never said?"
    check_whole(realm, session)


async def test_no_interrupt_and_no_abort_is_that_of_an_earlier_turn(autojump_clock: Any) -> None:
    """CONTRACTS 4.3: each turn is interrupted, or cut off, for itself."""

    async def hang(_: object) -> str:
        await trio.sleep_forever()
        raise AssertionError("it is never woken")

    realm = make_realm(MemoryStore(), hang)
    session = await new_session(realm)
    with trio.fail_after(60):
        for _ in range(2):
            assert "enough" in str(await interrupted(realm, session))
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(aborted, realm, session)
                await wait_all_tasks_blocked()
                assert realm.abort(session, "cut off")
        async with trio.open_nursery() as nursery:  # one cut off before it is continued by this
            nursery.start_soon(archived, realm, session)
            await wait_all_tasks_blocked()
            await realm.archive(session, "enough")
    head = realm.state.heads[session]
    assert (head.turns, head.partial, head.inputs) == (3, None, None)


async def archived(realm: Realm, session: SessionId) -> None:
    with pytest.raises(TurnInterrupted):
        await realm.runner.send_message(session, "go")


async def aborted(realm: Realm, session: SessionId) -> None:
    with pytest.raises(TurnAborted, match="cut off"):
        await realm.runner.send_message(session, "go")


async def test_an_interrupt_while_the_turn_waits_for_what_was_cut_off_is_not_lost(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 4.3: the session is admitted and has no driver yet."""
    async with open_lagging() as store:
        realm = make_realm(store, ["one", "two", "three"])
        session = await new_session(realm)
        with trio.move_on_after(0.5):
            await realm.runner.send_message(session, "first")
        told: list[str] = []

        async def send() -> None:
            try:
                await realm.runner.send_message(session, "second")
            except TurnInterrupted as error:
                told.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(0.01)
            assert realm.interrupt(session, "enough")
        assert len(told) == 1
        assert (await realm.runner.send_message(session, "third")).text in ("two", "three")
        assert not realm.state.head(session).inputs
        check_whole(realm, session)


# Cancellation: the turn stays in flight and is taken up again.


async def test_a_turn_cut_off_in_its_model_call_is_taken_up_again(autojump_clock: Any) -> None:
    realm = make_realm(MemoryStore(), [lambda _: FOREVER(), "done"])
    session = await new_session(realm)
    with trio.move_on_after(1):
        await realm.runner.send_message(session, "go", idempotency_key="k")
    assert history(realm, session) == []
    assert realm.live(session).history == []
    result = await realm.runner.send_message(session, "go", idempotency_key="k")
    assert result.text == "done"
    assert history(realm, session)[0] == UserMessage("go")
    check_whole(realm, session)


@pytest.mark.parametrize("lag", [0.0, 1.0])
@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_finished_tool_call_is_never_repeated(
    idempotent: bool, lag: float, autojump_clock: Any
) -> None:
    """One call of a batch has finished, the other is cut off: only that one may run again, and
    only if it is declared idempotent; else the model is told that its outcome is unknown."""
    first = [True]

    async def slow(_: Any) -> str:
        if first.pop():
            await FOREVER()
        return "at last"

    cut = Doing(slow, name="cut", idempotent=idempotent)
    quick = Doing(lambda _: "ok", name="quick", idempotent=True)
    script = [asking(call("a", "cut"), call("b", "quick")), "done"]
    async with open_lagging(delay_s=lag) as store:
        realm = make_realm(store, script, [cut, quick])
        session = await new_session(realm)
        with trio.move_on_after(10):
            await realm.runner.send_message(session, "go", idempotency_key="k")
        assert quick.finished == ["b"]
        first.append(False)
        result = await realm.runner.send_message(session, "go", idempotency_key="k")
        assert result.text == "done"
        assert quick.begun == ["b"]
        told = results(realm, session)
        assert told["b"].text == "ok"
        if idempotent:
            assert cut.begun == ["a", "a"]
            assert told["a"].text == "at last"
        else:
            assert cut.begun == ["a"]
            assert told["a"].outcome is ToolOutcome.UNKNOWN
        check_whole(realm, session)


async def test_tools_wait_until_the_call_is_on_disk(autojump_clock: Any) -> None:
    began: list[float] = []
    tool = Doing(lambda _: began.append(trio.current_time()))
    async with open_lagging(delay_s=5) as store:
        realm = make_realm(store, [asking(call("a")), "done"], [tool])
        session = await new_session(realm)
        admitted = trio.current_time()
        await realm.runner.send_message(session, "go")
        assert began[0] - admitted >= 5


@pytest.mark.parametrize("cut_at", [0.1, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5])
async def test_a_turn_cut_off_anywhere_over_a_slow_disk_ends_once(
    cut_at: float, autojump_clock: Any
) -> None:
    """Cut in the commit of the input, the call, the tool, the second reply or the turn itself."""

    def say(request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1]
        return asking(call("a")) if isinstance(last, UserMessage) else f"after {last.text}"

    async def work(_: Any) -> str:
        await trio.sleep(2)
        return "work"

    tool = Doing(work, idempotent=True)
    async with open_lagging() as store:
        realm = make_realm(store, say, [tool])
        session = await new_session(realm)
        with trio.move_on_after(cut_at):
            await realm.runner.send_message(session, "go", idempotency_key="k")
        result = await realm.runner.send_message(session, "go", idempotency_key="k")
        assert result.text == "after work"
        await store.barrier()
        assert [type(message) for message in history(realm, session)] == [
            UserMessage,
            AssistantMessage,
            ToolResult,
            AssistantMessage,
        ]
        assert len(tool.finished) == 1
        assert realm.state.head(session).turns == 1
        check_whole(realm, session)


async def test_a_failure_keeps_what_was_on_its_way_to_the_disk(autojump_clock: Any) -> None:
    """The results of a batch are queued, not waited for, when the model fails after it."""
    tool = Doing(lambda _: "ok")
    async with open_lagging() as store:
        realm = make_realm(store, [asking(call("a")), ValueError("no")], [tool])
        session = await new_session(realm)
        with pytest.raises(TurnFailed):
            await realm.runner.send_message(session, "go")
        assert results(realm, session)["a"].text == "ok"
        check_whole(realm, session)
