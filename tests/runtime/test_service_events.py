"""Subscriptions and the channels of subtrees. CONTRACTS 4.6 and 4.9."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.journal import Event
from runtime.models.scripted import calling
from runtime.records import InputAccepted, SessionArchived, SessionCreated, TurnEnded
from runtime.service import (
    RealmSessionService,
    ScopedEvent,
    ServiceDefaults,
    StreamTruncated,
)
from stores import MemoryStore
from tests.runtime.serving import made, say


async def test_a_subscriber_that_falls_behind_is_told_how_much_and_can_have_it_again(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.6: typed, counted, replayed from its cursor; and no turn waits for it."""
    service = RealmSessionService(MemoryStore())
    session = await made(service, lambda _: "ok")
    got: list[Event | StreamTruncated] = []
    go = trio.Event()

    async def slow() -> None:
        events = service.subscribe_session_events(session, backlog=3)
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                got.append(event)
                if len(got) == 1:
                    continue
                await go.wait()
                if isinstance(event, Event) and isinstance(event.record, SessionArchived):
                    return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        await wait_all_tasks_blocked()
        for text in "abcde":
            await say(service, session, text)  # none of these waits for the reader
            await wait_all_tasks_blocked()
        await service.archive(session)
        go.set()
    truncated = [each for each in got if isinstance(each, StreamTruncated)]
    whole: list[Any] = []
    async with aclosing(service.subscribe_session_events(session)) as events:
        while len(whole) < 12:
            whole.append(await anext(events))
    (gap,) = truncated
    place = got.index(gap)
    before, after = got[:place], got[place + 1 :]
    assert gap.dropped == len(whole) - len(before) - len(after) == 7
    assert before == whole[: len(before)]
    assert after == whole[-3:]
    assert gap.after == before[-1].seq  # type: ignore[union-attr]
    again: list[Any] = []
    async with aclosing(service.subscribe_session_events(session, gap.after)) as events:
        while len(again) < gap.dropped + len(after):
            again.append(await anext(events))
    assert again == whole[len(before) :]


async def test_subscriptions_end_with_the_service_and_cost_nothing_once_they_have() -> None:
    """CONTRACTS 4.6."""
    service = RealmSessionService(MemoryStore())
    session = await made(service, lambda _: "ok")
    seen: list[Any] = []

    async def read() -> None:
        seen.extend([event async for event in service.subscribe_session_events(session)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert service.realm.journal._listeners
        await service.aclose()
    assert [type(each.record) for each in seen] == [SessionCreated]
    assert service.realm.journal._listeners == ()


async def test_a_channel_has_the_events_of_the_whole_subtree_each_with_its_path() -> None:
    """CONTRACTS 4.9: scoped_event_tx and scoped_event_path."""
    send, receive = trio.open_memory_channel[Any](100)
    service = RealmSessionService(MemoryStore(), defaults=ServiceDefaults(subagents=True))

    def answer(request: Any) -> Any:
        if request.messages[-1].text == "top":
            return calling(("spawn_agent", {"name": "kid", "instructions": "dig"}))
        return "dug"

    session = await made(
        service, answer, scoped_event_tx=send, scoped_event_path=("mob:m", "member:x")
    )
    other = await made(service, lambda _: "ok")
    await say(service, session, "top")
    await say(service, other, "nobody listens")
    got: list[Any] = []
    while receive.statistics().current_buffer_used:
        got.append(receive.receive_nowait())
    assert all(isinstance(each, ScopedEvent) for each in got)
    ended = {each.path: each.session_id for each in got if isinstance(each.event.record, TurnEnded)}
    (kid,) = service.realm.state.head(session).children or ()
    assert ended == {"mob:m/member:x": session, "mob:m/member:x/sub:kid": kid}
    assert {each.session_id for each in got} == {session, kid}
    assert [each.event.seq for each in got] == sorted({each.event.seq for each in got})


@pytest.mark.parametrize("titled", [None, "lead"])
async def test_a_path_begins_with_the_session_unless_another_is_given(titled: str | None) -> None:
    """CONTRACTS 4.9: scoped_event_path."""
    send, receive = trio.open_memory_channel[Any](100)
    service = RealmSessionService(MemoryStore())
    session = await made(service, "ok", scoped_event_tx=send, title=titled)
    await say(service, session, "hi")
    assert receive.receive_nowait().path == f"session:{titled or session}"


async def test_a_channel_that_nobody_empties_slows_nothing_and_says_what_is_missing() -> None:
    """CONTRACTS 4.9: a bounded channel, a typed gap; one that is closed is forgotten."""
    send, receive = trio.open_memory_channel[Any](2)
    service = RealmSessionService(MemoryStore())
    session = await made(service, lambda _: "ok", scoped_event_tx=send)
    for text in "abc":
        await say(service, session, text)
    first, second = receive.receive_nowait(), receive.receive_nowait()
    assert [type(each.event.record) for each in (first, second)] == [SessionCreated, InputAccepted]
    await say(service, session, "d")
    gap, then = receive.receive_nowait(), receive.receive_nowait()
    assert gap == StreamTruncated(5, second.event.seq, then.event.seq)
    receive.close()
    await say(service, session, "e")
    assert service.realm.journal._listeners == ()
