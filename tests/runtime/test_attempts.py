"""Model calls that fail inside a turn: made again, made elsewhere, and seen by whoever watches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.attempts import Route
from runtime.errors import ModelError, ModelRefused, ModelUnavailable, TurnFailed
from runtime.ids import SessionId
from runtime.live import Doing
from runtime.models.base import Model
from runtime.models.scripted import Line, ScriptedModel
from runtime.realm import Realm
from runtime.records import ModelRetried, TurnEnded, TurnProgressed
from runtime.retry import RetryPolicy
from runtime.session import SessionStatus
from stores import MemoryStore
from tests.runtime.fakes import Doing as Work
from tests.runtime.fakes import asking, call, counting_ports, make_realm, new_session
from tests.runtime.test_driver import check_whole, interrupted

POLICY = RetryPolicy(attempts=3, backoff_s=1.0, max_backoff_s=10.0)


def busy(retry_after_s: float | None = None) -> ModelError:
    return ModelError("busy", provider="x", retryable=True, retry_after_s=retry_after_s)


def realm_over(
    script: Iterable[Line], *others: Iterable[Line], tools: Iterable[Any] = (), **given: Any
) -> tuple[Realm, list[ScriptedModel]]:
    """A realm on a chain of models, ``m:0`` first, all tried as `POLICY` says."""
    models = [ScriptedModel(each, name=f"m:{n}") for n, each in enumerate((script, *others))]
    realm = make_realm(MemoryStore(), models[0], tools, ports=counting_ports(), **given)
    plain = realm.configure
    assert plain is not None
    fallback = tuple(Route(model, POLICY, {"n": n}) for n, model in enumerate(models) if n)
    realm.configure = lambda head: attrs.evolve(plain(head), retry=POLICY, fallback=fallback)
    return realm, models


def records(realm: Realm, kind: type) -> list[Any]:
    return [e.record for e in realm.journal.read() if type(e.record) is kind]


async def test_an_ordinary_429_is_tried_again_inside_the_turn(autojump_clock: Any) -> None:
    """No lost progress; the tool that ran before the failure is not run again."""
    tool = Work(lambda _: "ok")
    realm, (model,) = realm_over([asking(call("c")), busy(), busy(), "done"], tools=[tool])
    session = await new_session(realm)
    began = trio.current_time()
    assert (await realm.runner.send_message(session, "go")).text == "done"
    assert tool.finished == ["c"]
    assert model.remaining == 0
    # 1 and 2 seconds, between half and whole.
    assert 1.5 <= trio.current_time() - began <= 3.0
    assert len(records(realm, TurnEnded)) == 1
    check_whole(realm, session)


async def test_a_plain_turn_is_one_record_and_a_retry_one_more() -> None:
    realm, _ = realm_over(["one", busy(retry_after_s=0), "two"])
    plain = realm.configure
    assert plain is not None
    at_once = RetryPolicy(backoff_s=0)
    realm.configure = lambda head: attrs.evolve(plain(head), retry=at_once)
    session = await new_session(realm)
    await realm.runner.send_message(session, "a")
    assert [type(e.record).__name__ for e in realm.journal.read()] == [
        "SessionCreated",
        "InputAccepted",
        "TurnEnded",
    ]
    await realm.runner.send_message(session, "b")
    assert [type(e.record) for e in realm.journal.read(4)] == [ModelRetried, TurnEnded]
    (retried,) = records(realm, ModelRetried)
    assert (retried.session_id, retried.step, retried.attempt) == (session, 1, 1)
    assert (retried.model, retried.then, retried.error) == ("m:0", "m:0", "busy")


async def test_a_provider_that_says_when_is_asked_then(autojump_clock: Any) -> None:
    realm, _ = realm_over([busy(retry_after_s=7), "done"])
    session = await new_session(realm)
    began = trio.current_time()
    await realm.runner.send_message(session, "go")
    assert trio.current_time() - began == pytest.approx(7)


async def test_watchers_see_until_when_it_waits(autojump_clock: Any) -> None:
    realm, _ = realm_over([busy(retry_after_s=7), "done"])
    session = await new_session(realm)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(realm.runner.send_message, session, "go")
        await trio.sleep(1)
        live = realm.running(session)
        assert live is not None
        assert (live.doing, live.until_s) == (Doing.RETRYING, pytest.approx(live.since + 7))
        assert live.detail == "m:0: busy"
    assert live.doing is Doing.IDLE


async def test_the_next_model_is_asked_and_the_turn_stays_with_it(autojump_clock: Any) -> None:
    tool = Work(lambda _: "ok")
    first = [busy(), busy(), busy(), "again"]
    realm, (one, two) = realm_over(first, [asking(call("c")), "done"], tools=[tool])
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "done"
    assert [each.options for each in two.requests] == [{"n": 1}, {"n": 1}]
    assert [(r.model, r.then, r.attempt) for r in records(realm, ModelRetried)] == [
        ("m:0", "m:0", 1),
        ("m:0", "m:0", 2),
        ("m:0", "m:1", 3),
    ]
    # The next turn begins with the first model anew.
    assert (await realm.runner.send_message(session, "go")).text == "again"
    assert one.remaining == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModelUnavailable("no key", provider="x"), "done"),
        (ModelError("bad request", provider="x", retryable=False), "done"),
        (busy(retry_after_s=3600), "done"),
        (ModelRefused("no", provider="x"), None),
        (ValueError("a bug"), None),
    ],
)
async def test_who_goes_to_the_next_model(
    error: Exception, text: str | None, autojump_clock: Any
) -> None:
    realm, (_, other) = realm_over([error], ["done"])
    session = await new_session(realm)
    began = trio.current_time()
    if text is None:
        with pytest.raises(TurnFailed):
            await realm.runner.send_message(session, "go")
        assert other.remaining == 1
    else:
        assert (await realm.runner.send_message(session, "go")).text == text
    assert trio.current_time() == began


async def test_what_was_tried_stands_in_the_error(autojump_clock: Any) -> None:
    realm, models = realm_over([busy()] * 3, [busy()] * 9)
    session = await new_session(realm)
    with pytest.raises(TurnFailed, match=r"busy \(tried 6 times in .* s; 3 attempts is the limit"):
        await realm.runner.send_message(session, "go")
    assert [model.remaining for model in models] == [0, 6]
    assert await realm.runner.get_session_status(session) is SessionStatus.FAILED


async def test_an_interrupt_ends_the_wait_at_once(autojump_clock: Any) -> None:
    """CONTRACTS 4.3."""
    realm, _ = realm_over([busy(retry_after_s=9), "done"])
    session = await new_session(realm)
    began = trio.current_time()

    async def a_second_later() -> None:
        await trio.sleep(1)

    await interrupted(realm, session, a_second_later)
    assert trio.current_time() - began == pytest.approx(1)
    assert (await realm.runner.send_message(session, "again")).text == "done"
    check_whole(realm, session)


async def test_a_turn_that_is_aborted_while_it_waits_goes_on_from_what_is_journalled(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 6.9: nothing finished is repeated."""
    tool = Work(lambda _: "ok")
    realm, _ = realm_over([asking(call("c")), busy(retry_after_s=9), "done"], tools=[tool])
    session = await new_session(realm)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_aborted, realm, session)
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert realm.abort(session, "killed")
    assert len(records(realm, TurnProgressed)) == 2
    assert (await realm.runner.send_message(session, "more", idempotency_key="k")).text == "done"
    assert tool.finished == ["c"]


async def _aborted(realm: Realm, session: SessionId) -> None:
    from runtime.driver import TurnAborted

    with pytest.raises(TurnAborted):
        await realm.runner.send_message(session, "go", idempotency_key="k")


async def test_delays_differ_between_turns_and_not_between_runs_of_one_seed(
    autojump_clock: Any,
) -> None:
    async def delays() -> list[int]:
        realm, _ = realm_over([busy(), "a", busy(), "b"])
        session = await new_session(realm)
        for _ in range(2):
            await realm.runner.send_message(session, "go")
        return [each.delay_ms for each in records(realm, ModelRetried)]

    one, other = await delays()
    assert one != other
    assert await delays() == [one, other]


def test_a_route_needs_no_more_than_its_model() -> None:
    model: Model = ScriptedModel([])
    assert Route(model).retry.attempts > 1
