"""Whatever a model's client does, the journal stays readable and the runtime is not fooled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import attrs
import pytest
import trio

from mob import open_mob
from runtime.errors import ModelError, SessionQuarantined, TurnFailed, TurnInterrupted
from runtime.ids import SessionId, ToolCallId
from runtime.messages import ToolCall, Usage
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.turn import TurnRules
from stores import MemoryStore, StoreFull
from tests.mob.mobs import define, models
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session

Clock = trio.testing.MockClock
HALF = "\ud83d"


class Rude:
    """A model whose first call is answered by `answer`, the later ones with ``done``."""

    name = "test:rude"
    supports_tools = True

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer: Callable[[], Any] | None = answer

    async def generate(self, request: ModelRequest, emit: object = None) -> ModelReply:
        answer, self._answer = self._answer, None
        if answer is None:
            return ModelReply("done")
        made = answer()
        return cast(ModelReply, await made if hasattr(made, "__await__") else made)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("cannot be said")


class UnspeakableModelError(ModelError):
    def __str__(self) -> str:
        raise ValueError("cannot be said")


def throw(error: Exception) -> Any:
    raise error


NO_REPLIES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "no text": lambda: ModelReply(cast(str, None)),
    "no model": lambda: ModelReply("x", model=cast(str, 7)),
    "no calls": lambda: ModelReply("x", cast("tuple[ToolCall, ...]", None)),
    "calls of something": lambda: ModelReply("x", (cast(ToolCall, "c"),)),
    "arguments parsed": lambda: ModelReply("x", (call("c", arguments=cast(str, {})),)),
    "no usage": lambda: ModelReply("x", usage=cast(Usage, None)),
    **{
        f"{field} in parts": partial(ModelReply, "x", usage=Usage(**{field: cast(int, 1.5)}))
        for field in attrs.fields_dict(Usage)
    },
    **{
        f"{field} below nothing": partial(ModelReply, "x", usage=Usage(**{field: -1}))
        for field in attrs.fields_dict(Usage)
    },
    "usage beyond everything": lambda: ModelReply("x", usage=Usage(1 << 70)),
}


@pytest.mark.parametrize("answer", NO_REPLIES.values(), ids=NO_REPLIES)
async def test_what_is_no_reply_is_a_failed_call(
    answer: Callable[[], Any], autojump_clock: Clock
) -> None:
    """It is tried again as any failure that may pass, and nothing of it is journalled."""
    store = MemoryStore()
    realm = make_realm(store, Rude(answer))
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "done"
    again = make_realm(store, Rude(answer))
    assert again.state.heads == realm.state.heads
    assert again.messages(session) == realm.messages(session)


HALVES: dict[str, Callable[[], Any]] = {
    "text": lambda: ModelReply(f"a{HALF}"),
    "model": lambda: ModelReply("a?", model=HALF),
    "call": lambda: ModelReply(
        "", (ToolCall(ToolCallId(HALF), f"w{HALF}", f'"{HALF}"'),), StopReason.TOOL_CALLS
    ),
    "error": lambda: throw(ModelError(HALF, provider="test", retryable=True)),
    "unspeakable": lambda: throw(UnspeakableModelError("x", provider="test", retryable=True)),
}


@pytest.mark.parametrize("answer", HALVES.values(), ids=HALVES)
async def test_text_that_no_journal_holds_is_mended(
    answer: Callable[[], Any], autojump_clock: Clock
) -> None:
    store = MemoryStore()
    realm = make_realm(store, Rude(answer))
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text in ("a?", "done")
    assert make_realm(store, Rude(answer)).messages(session) == realm.messages(session)


async def test_an_answer_that_spells_half_a_pair_is_kept_escaped(autojump_clock: Clock) -> None:
    """JSON may spell what Unicode has not: the answer fits its schema, so it must fit the disk."""
    rules = TurnRules(output_schema={"type": "object"})
    store = MemoryStore()
    realm = make_realm(store, ['{"a": "\\ud83d", "b": "é"}'], rules=rules)
    session = await new_session(realm)
    result = await realm.runner.send_message(session, "go")
    assert result.output == {"a": HALF, "b": "é"}


ERRORS: dict[str, Callable[[], Exception]] = {
    "unspeakable": Unspeakable,
    "half a pair": lambda: ValueError(HALF),
    "a store": lambda: StoreFull("the client's own cache is full", path="cache"),
    "quarantine": lambda: SessionQuarantined(SessionId("x"), "of another mob"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_whatever_a_client_raises_is_an_exit_of_its_member(
    error: Callable[[], Exception], autojump_clock: Clock
) -> None:
    """CONTRACTS 6.8: it reaches the supervisor, not the mob; the restarted turn is answered."""
    definition = define("a", "b")
    raised = iter([error()])

    def answer(_: ModelRequest) -> str:
        for each in raised:
            raise each
        return "done"

    async with open_mob(definition, models=models(answer)) as mob:
        assert (await mob.ask("a", "go")).text == "done"
        assert mob.roster.members["a"].restarts == 1
        assert (await mob.ask("b", "go")).text == "done"


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_a_child_ends_as_failed_whatever_its_client_raises(
    error: Callable[[], Exception], autojump_clock: Clock
) -> None:
    realm = make_realm(MemoryStore(), Rude(lambda: throw(error())))
    session = await new_session(realm)
    with pytest.raises(TurnFailed):
        await realm.runner.send_message(session, "go")
    assert (await realm.runner.send_message(session, "again")).text == "done"


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_whatever_a_tool_raises_is_data(
    error: Callable[[], Exception], autojump_clock: Clock
) -> None:
    tool = Doing(lambda _: throw(error()))
    realm = make_realm(MemoryStore(), [asking(call("c")), "I see"], [tool])
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "I see"


async def torn(grouped: bool) -> None:
    """Raise while being cancelled; from a task of its own if `grouped`."""

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("torn")

    if not grouped:
        await child()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        await trio.sleep_forever()


@pytest.mark.parametrize("grouped", [False, True])
async def test_an_interrupt_is_not_lost_in_what_a_client_raises_about_it(
    grouped: bool, autojump_clock: Clock
) -> None:
    """CONTRACTS 4.3: an interrupt that was confirmed ends the turn as interrupted."""
    realm = make_realm(MemoryStore(), Rude(lambda: torn(grouped)))
    session = await new_session(realm)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(TurnInterrupted):
                await realm.runner.send_message(session, "go")

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert realm.interrupt(session)
