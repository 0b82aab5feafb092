"""Retries, fallbacks and the watchdog as a mob file says them, and beside supervision."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.errors import MemberFailed
from mob.models import override
from mob.records import MemberExited
from mob.view import live_view
from runtime.errors import ModelError
from runtime.live import Doing
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.models.watched import ModelStalled
from runtime.records import ModelRetried
from runtime.service import CreateSessionRequest, RealmSessionService, SessionBuildOptions
from stores import MemoryStore
from tests.mob.mobs import define, opened, records

RETRY = {"attempts": 2, "backoff_s": 4.0}


def busy() -> ModelError:
    return ModelError("busy", provider="x", retryable=True)


def chain(**model: Any) -> Any:
    return define(
        "a",
        models={
            "m": {"model": "sim:echo", "fallback": ["n"], "retry": RETRY, **model},
            "n": {"model": "sim:echo", "options": {"n": 1}},
        },
    )


async def test_the_file_says_how_often_and_who_is_next(autojump_clock: Any) -> None:
    """`[models.X] retry` and `fallback`."""
    store, seen = MemoryStore(), []

    def spare(request: ModelRequest) -> str:
        seen.append(request.options)
        return "spare"

    async with opened(chain(), lambda _: busy(), store=store, n=spare) as mob:
        began = trio.current_time()
        assert (await mob.ask("a", "x")).text == "spare"
        assert 2 <= trio.current_time() - began <= 4
        assert mob.roster.members["a"].restarts == 0
    assert seen == [{"n": 1}]
    assert len(records(store, ModelRetried)) == 2
    assert records(store, MemberExited) == []


async def test_a_model_that_stays_away_fails_the_turn_and_restarts_nobody(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 6.8: the supervisor restarts what crashed, and a busy provider is no crash."""
    definition = define("a", models={"m": {"model": "sim:echo", "retry": RETRY}})
    calls: list[str] = []

    def answer(request: ModelRequest) -> ModelError:
        calls.append(request.key)
        return busy()

    async with opened(definition, answer) as mob:
        with pytest.raises(MemberFailed, match="tried 2 times"):
            await mob.ask("a", "x")
        assert mob.roster.members["a"].restarts == 0
    assert len(calls) == 2


async def test_the_tree_shows_until_when_it_waits(autojump_clock: Any) -> None:
    said = iter([busy(), "done"])
    async with opened(chain(), lambda _: next(said)) as mob, trio.open_nursery() as nursery:
        nursery.start_soon(mob.ask, "a", "x")
        await trio.sleep(1)
        (node,) = live_view(mob).members
        assert (node.state, node.busy) == (Doing.RETRYING.value, True)
        assert node.until_s is not None
        assert 2 <= node.until_s <= 4


async def test_silence_is_a_failure_that_is_tried_again(autojump_clock: Any) -> None:
    """The stall watchdog. A given client is watched like one that is opened here."""
    store = MemoryStore()

    async def silent(_: ModelRequest) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async with opened(chain(timeout_s=30), silent, store=store, n=lambda _: "spare") as mob:
        assert (await mob.ask("a", "x")).text == "spare"
    told = [each.error for each in records(store, ModelRetried)]
    assert told == [str(ModelStalled("scripted:test", 30, 0))] * 2


async def test_waiting_for_the_turn_at_a_bounded_model_is_no_silence(autojump_clock: Any) -> None:
    async def slow(_: ModelRequest) -> str:
        await trio.sleep(20)
        return "done"

    model = {"model": "sim:echo", "max_concurrency": 1, "timeout_s": 30, "retry": {"attempts": 1}}
    async with opened(define("a", "b", "c", models={"m": model}), slow) as mob:
        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(mob.ask, name, "x")


def test_who_names_a_model_wants_that_one() -> None:
    made = override(chain().models, {"m": "sim:agent"})
    assert made["m"].fallback == ()


async def test_a_session_of_its_own_names_its_fallbacks(autojump_clock: Any) -> None:
    """CONTRACTS 4.9; kept with the session, so they hold after a restart too."""

    async def broken(_: ModelRequest) -> str:
        raise ModelError("down", provider="test", retryable=False)

    store = MemoryStore()
    build = SessionBuildOptions(fallback=("sim:echo",), llm_client_override=ScriptedModel(broken))
    service = RealmSessionService(store)
    request = CreateSessionRequest("sim:agent", "hello", build=build)
    made = await service.create_session(request)
    assert made.text == "hello"
    again = RealmSessionService(store)
    assert again.realm.state.head(made.session_id).spec.fallback == ("sim:echo",)
