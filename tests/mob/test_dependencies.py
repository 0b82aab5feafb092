"""Members that depend on others: who goes on first, who stops first, who is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.definition import MobDefinition
from mob.dependencies import dependencies_of, waves
from mob.errors import DefinitionInvalid, MemberFailed
from mob.mob import Mob
from mob.records import MemberExited
from runtime.messages import SystemMessage
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted
from stores import MemoryStore
from tests.mob.mobs import (
    Stuck,
    asked,
    check_inputs,
    define,
    journal,
    member,
    opened,
    records,
)

Clock = trio.testing.MockClock


def _depending(needs: dict[str, list[str]], **parts: Any) -> MobDefinition:
    members = {name: {"profile": "p", "depends_on": each} for name, each in needs.items()}
    return define(*needs, members=members, **parts)


CHAIN = {"c": ["b"], "a": [], "b": ["a"], "d": []}


class Slow:
    """A model that takes a second, and says when whose calls began and ended."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, request: ModelRequest) -> str:
        name = member(request)
        self.seen.append(f"+{name}")
        try:
            await trio.sleep(1)
        finally:
            self.seen.append(f"-{name}")
        return asked(request)


async def _left(store: MemoryStore, needs: dict[str, list[str]], **parts: Any) -> None:
    """A process that dies with work for everybody."""
    async with opened(_depending(needs, **parts), Stuck(), store=store, grace_s=0) as mob:
        for name in needs:
            await mob.send(name, "work")


@pytest.mark.parametrize("how", ["open", "resume"])
async def test_what_is_left_is_gone_on_with_in_order(autojump_clock: Clock, how: str) -> None:
    """CONTRACTS 6.8: dependents after those they depend on; nobody else waits."""
    store, model = MemoryStore(), Slow()
    await _left(store, CHAIN)
    if how == "resume":
        async with opened(_depending(CHAIN), Stuck(), store=store) as mob:
            await mob.stop(0)
    async with opened(_depending(CHAIN), model, store=store) as mob:
        if how == "resume":
            await mob.resume()
        await mob.wait_idle()
        assert mob.realm.state.heads[mob.session_of("c")].turns == 1
    assert sorted(model.seen[:2]) == ["+a", "+d"]
    assert sorted(model.seen[2:4]) == ["-a", "-d"] or "+b" in model.seen[2:4]
    order = [each for each in model.seen if each[1] != "d"]
    assert order == ["+a", "-a", "+b", "-b", "+c", "-c"]
    check_inputs(store)


@pytest.mark.parametrize("how", ["stopped", "taken back"])
async def test_who_is_held_back_goes_on_after_a_stop(autojump_clock: Clock, how: str) -> None:
    """CONTRACTS 6.8: a stop, or one that came to nothing, leaves nobody held back for ever."""
    store, model, needs = MemoryStore(), Slow(), {"a": [], "b": ["a"]}
    await _left(store, needs)
    with trio.fail_after(60):
        async with opened(_depending(needs), model, store=store) as mob:
            await mob.send("a", "more")
            await trio.sleep(0.5)
            if how == "stopped":
                await mob.stop(0)
                await mob.resume()
            else:
                with trio.move_on_after(0.1):
                    await mob.stop(5)
            await mob.wait_idle()
            assert mob.realm.state.heads[mob.session_of("b")].turns == 1
    assert model.seen[-2:] == ["+b", "-b"]
    check_inputs(store)


async def test_a_dependent_goes_on_when_its_dependency_is_given_up(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: also then its work has ended."""
    store = MemoryStore()
    needs = {"a": [], "b": ["a"]}
    await _left(store, needs, restart={"max": 1})

    def answer(request: ModelRequest) -> str:
        if member(request) == "a":
            raise ValueError("no")
        return "yes"

    async with opened(_depending(needs, restart={"max": 1}), answer, store=store) as mob:
        await mob.wait_idle()
        assert mob.realm.state.heads[mob.session_of("b")].turns == 1


async def test_new_work_does_not_wait(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: only what was left is in order."""
    model = Slow()
    async with opened(_depending({"a": [], "b": ["a"]}), model) as mob:
        await mob.send("a", "x")
        await mob.send("b", "x")
        await mob.wait_idle()
    assert sorted(model.seen[:2]) == ["+a", "+b"]


async def test_a_dependent_that_is_asked_goes_on(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: nobody waits for one that waits for it."""
    store, needs = MemoryStore(), {"a": [], "b": ["a"]}
    parts: dict[str, Any] = {"profile": {"max_steps": 4}}
    await _left(store, needs, **parts)

    def answer(request: ModelRequest) -> Any:
        if member(request) == "a" and len(request.messages) == 1:
            return calling(("ask_p", {"message": "help"}))
        return "yes"

    with trio.fail_after(60):
        async with opened(_depending(needs, **parts), answer, store=store) as mob:
            await mob.wait_idle()
            assert mob.realm.state.heads[mob.session_of("b")].turns == 2
    check_inputs(store)


async def test_dependents_are_cut_off_first(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: each wave when the one before has unwound, also if that takes a while."""
    seen: list[str] = []

    async def answer(request: ModelRequest) -> str:
        name = member(request)
        try:
            await trio.sleep(1000)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            seen.append(name)
        return "never"

    async with opened(_depending(CHAIN), answer) as mob:
        for name in CHAIN:
            await mob.send(name, "work")
        await trio.sleep(1)
        report = await mob.stop(1)
        assert set(report.cancelled) == set(CHAIN)
        assert [each for each in seen if each != "d"] == ["c", "b", "a"]
        assert not records(mob.realm.store, MemberExited)


async def test_dependents_at_work_are_told(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: as system context, in the commit that says that the turn is given up."""
    store, seen = MemoryStore(), list[str]()
    go = trio.Event()

    async def answer(request: ModelRequest) -> Any:
        if member(request) == "a":
            raise ValueError("boom")
        if len(request.messages) == 1:
            await go.wait()
            return calling(("peers", {}))
        seen.extend(e.text for e in request.messages if isinstance(e, SystemMessage))
        return "yes"

    needs = {"a": [], "b": ["a"], "c": ["a"], "d": []}
    definition = _depending(
        needs,
        restart={"max": 0},
        profile={"comms": True, "max_inline_peer_notifications": 0},
    )
    async with opened(definition, answer, store=store) as mob:
        await mob.send("b", "work")
        await mob.send("d", "work")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(MemberFailed):
            await mob.ask("a", "go")
        go.set()
        await mob.wait_idle()
        (told,) = [e for e in records(store, InputAccepted) if "depend" in e.text]
        assert told.session_id == mob.session_of("b")
        assert "'a'" in told.text
        assert seen == [told.text]
    events = [event.record for event in journal(store)]
    (exited,) = records(store, MemberExited)
    assert events[events.index(exited) + 1] == told


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "depend on each other"),
        ({"a": ["a"]}, "depend on each other: a -> a"),
        ({"a": ["bb"], "b": []}, "there is no member 'bb'"),
    ],
)
def test_what_cannot_be_is_a_mistake(needs: dict[str, list[str]], said: str) -> None:
    """CONTRACTS 6.8: circles and unknown names, with their path."""
    with pytest.raises(DefinitionInvalid, match=said) as found:
        _depending(needs)
    (mistake,) = found.value.mistakes
    assert mistake.path.endswith(".depends_on")


def test_replicas_depend_and_are_depended_on() -> None:
    """CONTRACTS 6.8: a base name stands for all of them."""
    members = {
        "a": {"profile": "p", "replicas": 2},
        "b": {"profile": "p", "replicas": 2, "depends_on": ["a"]},
        "c": {"profile": "p", "depends_on": ["b-1", "a-0"]},
    }
    needs = dependencies_of(define("c", members=members))
    assert needs == {
        "b-0": ("a-0", "a-1"),
        "b-1": ("a-0", "a-1"),
        "c": ("b-1", "a-0"),
    }
    assert waves(needs) == [("a-0", "a-1"), ("b-0", "b-1"), ("c",)]


def test_without_the_key_nothing_is_made() -> None:
    """CONTRACTS 6.1: nor does a stored mob remember anything of it."""
    assert "depends_on" not in define("a").blueprint()
    assert "depends_on" in _depending({"a": [], "b": ["a"]}).blueprint()


async def test_a_mob_without_dependencies_has_no_part_for_them(autojump_clock: Clock) -> None:
    """CONTRACTS 6.13."""

    def part(mob: Mob) -> object:
        return mob._activations.supervisors.dependencies

    async with opened(define("a")) as mob:
        assert part(mob) is None
