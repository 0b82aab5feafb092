"""Groups: what they decide, as data, and carried out."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, MemberFailed
from mob.groups import (
    Group,
    GroupTree,
    RestartThese,
    StopMob,
    Strategy,
    TellMember,
    circles,
    decide_group,
)
from mob.lifecycle import MobState, VerbRefused
from mob.records import MemberExited, MobStateChanged
from mob.workdefs import group_tree
from runtime.errors import MobError
from runtime.models.base import ModelRequest
from runtime.ports import Ports
from stores import MemoryStore
from tests.mob.mobs import asked, check_inputs, define, member, opened, records, table

Clock = trio.testing.MockClock


def _tree(**groups: Any) -> GroupTree:
    return GroupTree({name: Group(name, **given) for name, given in groups.items()})


def _fail(tree: GroupTree, *whom: tuple[str, float]) -> list[Any]:
    """What is decided on each failure (member, second), one after the other."""
    recent: dict[str, tuple[float, ...]] = {}
    decided = []
    for name, at_s in whom:
        decision = decide_group(tree, name, recent, "boom", at_s)
        recent.update(decision.recent)
        decided.append(decision.actions)
    return decided


# -- decisions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "others"),
    [
        (Strategy.ONE_FOR_ONE, ()),
        (Strategy.ONE_FOR_ALL, ("a", "c", "d")),
        (Strategy.REST_FOR_ONE, ("c", "d")),
    ],
)
def test_a_strategy_says_who_else_is_restarted(strategy: Strategy, others: tuple[str, ...]) -> None:
    """CONTRACTS 6.8: groups below come after the members."""
    tree = _tree(
        g={"members": ("a", "b", "c"), "strategy": strategy}, low={"members": ("d",), "parent": "g"}
    )
    assert _fail(tree, ("b", 0)) == [(RestartThese("g", others),) if others else ()]
    assert _fail(tree, ("x", 0)) == [()], "in no group"


def test_beyond_its_intensity_a_group_fails_as_a_whole_in_its_parent() -> None:
    """CONTRACTS 6.8: then all of it is restarted, and what the parent's strategy says besides; the
    group begins afresh."""
    tree = _tree(
        low={"members": ("a", "b"), "parent": "top", "max_restarts": 1},
        top={"members": ("x",), "strategy": Strategy.ONE_FOR_ALL, "max_restarts": 1},
    )
    first, second, third, fourth = _fail(tree, ("a", 0), ("a", 1), ("a", 2), ("b", 3))
    assert first == ()
    assert second == (RestartThese("top", ("x", "b")),)
    assert third == ()
    (stop,) = fourth
    assert isinstance(stop, StopMob)
    assert stop.group == "top"
    assert "boom" in stop.reason
    assert "which is the limit" in stop.reason


def test_a_failure_goes_where_the_group_says() -> None:
    """CONTRACTS 6.8."""
    for escalate, kind in (("member:x", TellMember), ("mob", StopMob)):
        tree = _tree(
            low={"members": ("a",), "parent": "top", "max_restarts": 0, "escalate": escalate},
            top={"members": ("x",)},
        )
        ((action,),) = _fail(tree, ("a", 0))
        assert isinstance(action, kind)
        assert action.group == "low"


@given(st.lists(st.floats(0, 40), max_size=30), st.integers(0, 5), st.floats(0.1, 60))
def test_no_window_holds_more_failures_than_a_group_puts_up_with(
    gaps: list[float], most: int, within_s: float
) -> None:
    """CONTRACTS 6.8."""
    tree = _tree(
        g={
            "members": ("a", "b"),
            "strategy": Strategy.ONE_FOR_ALL,
            "max_restarts": most,
            "within_s": within_s,
        }
    )
    recent: dict[str, tuple[float, ...]] = {}
    at_s, since = 0.0, [0.0][:0]
    for gap in gaps:
        at_s += gap
        decision = decide_group(tree, "a", recent, "boom", at_s)
        recent.update(decision.recent)
        (action,) = decision.actions
        inside = [at for at in since if at_s - at < within_s]
        if isinstance(action, StopMob):
            assert len(inside) == most
            since = []
        else:
            assert len(inside) < most
            since = [*inside, at_s]


def test_circles_are_found() -> None:
    groups = {
        n: Group(n, (), parent=p) for n, p in {"a": "b", "b": "c", "c": "b", "d": None}.items()
    }
    assert list(circles(groups)) == [("b", "c", "b")]


# -- the file --------------------------------------------------------------------------------------


def test_groups_are_read_and_replicas_stand_in_them() -> None:
    data = table(
        groups={
            "g": {
                "members": ["w", "a"],
                "strategy": "rest-for-one",
                "parent": "h",
                "restart": {"max": 2, "within_s": 5},
                "escalate": "member:a",
            },
            "h": {},
        }
    )
    data["members"]["w"] = {"profile": "p", "replicas": 2}
    tree = group_tree(MobDefinition.from_table(data))
    assert tree.groups["g"] == Group(
        "g", ("w-0", "w-1", "a"), Strategy.REST_FOR_ONE, "h", 2, 5.0, "member:a"
    )
    assert [group.name for group in tree.above("w-1")] == ["g", "h"]


@pytest.mark.parametrize(
    ("groups", "path", "words"),
    [
        ({"g": {"members": ["x"]}}, "groups.g.members", "no member 'x'"),
        (
            {"g": {"members": ["a"]}, "h": {"members": ["a"]}},
            "groups.h.members",
            "in group 'g' already",
        ),
        ({"g": {"parent": "x"}}, "groups.g.parent", "no group 'x'"),
        ({"g": {"parent": "h"}, "h": {"parent": "g"}}, "groups.g.parent", "g -> h -> g"),
        ({"g": {"escalate": "member:x"}}, "groups.g.escalate", "no member 'x'"),
        ({"g": {"escalate": "boss"}}, "groups.g.escalate", "'boss' is not possible"),
        ({"g": {"strategy": "all"}}, "groups.g.strategy", "'all' is not possible"),
        ({"g": {"restart": {"max": -1}}}, "groups.g.restart.max", "at least 0"),
    ],
)
def test_what_does_not_fit_is_a_mistake(groups: Any, path: str, words: str) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        define(groups=groups)
    assert [(each.path, words in each.message) for each in caught.value.mistakes] == [(path, True)]


def test_a_file_without_groups_has_the_blueprint_that_it_had() -> None:
    assert "groups" not in define().blueprint()
    assert "autonomy" not in define().blueprint()


# -- carried out -----------------------------------------------------------------------------------


class Failing:
    """A model that fails for some members so many times, and takes some time for all."""

    def __init__(self, **times: int) -> None:
        self.left = times
        self.calls: list[str] = []

    async def __call__(self, request: ModelRequest) -> Any:
        name = member(request)
        self.calls.append(name)
        await trio.sleep(1 if name in self.left else 5)
        if self.left.get(name, 0) > 0:
            self.left[name] -= 1
            raise RuntimeError(f"{name} broke")
        return f"done {asked(request)}"


@pytest.mark.parametrize(
    ("strategy", "calls"),
    [
        ("one-for-one", {"a": 1, "b": 2, "c": 1, "x": 1}),
        ("rest-for-one", {"a": 1, "b": 2, "c": 2, "x": 1}),
        ("one-for-all", {"a": 2, "b": 2, "c": 2, "x": 1}),
    ],
)
async def test_a_crash_restarts_whom_the_strategy_says_and_nobody_else(
    strategy: str, calls: dict[str, int], autojump_clock: Clock
) -> None:
    """CONTRACTS 6.8: turns of siblings are cut off and continued; all are answered, and each exit
    says why."""
    store = MemoryStore()
    model = Failing(b=1)
    groups = {"g": {"members": ["a", "b", "c"], "strategy": strategy}}
    async with opened(define("a", "b", "c", "x", groups=groups), model, store=store) as mob:
        answers: dict[str, str] = {}

        async def ask(name: str) -> None:
            answers[name] = (await mob.ask(name, name)).text

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c", "x"):
                nursery.start_soon(ask, name)
        assert answers == {name: f"done {name}" for name in "abcx"}
        causes = {each.name: each.cause for each in mob.exits()}
        assert causes.pop("b") == "RuntimeError: b broke"
        assert set(causes) == {name for name, count in calls.items() if count == 2} - {"b"}
        for cause in causes.values():
            assert cause == "group 'g' restarts: 'b' has failed: RuntimeError: b broke"
        assert mob.exits("x") == ()
        assert mob.exits("b") == mob.exits()[:1]
    assert {name: model.calls.count(name) for name in "abcx"} == calls
    check_inputs(store)


async def test_siblings_that_are_restarted_do_not_restart_each_other(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.8: one failure of one member is one restart of each."""
    store = MemoryStore()
    whole = {"members": ["a", "b", "c"], "strategy": "one-for-all", "restart": {"max": 2}}
    async with opened(define(groups={"g": whole}), Failing(a=2), store=store) as mob:
        for name in "abc":
            await mob.send(name, "go")
        await mob.wait_idle()
        assert mob.state is MobState.RUNNING
    assert sorted(each.name for each in records(store, MemberExited)) == [*"aabbcc"]
    check_inputs(store)


async def test_a_failure_beyond_every_group_stops_the_mob_and_says_why(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.8: the reason is on disk; the turn goes on at `resume`."""
    store = MemoryStore()
    model = Failing(a=3)
    groups = {"g": {"members": ["a", "b"], "restart": {"max": 2}}}
    async with opened(define(groups=groups), model, store=store) as mob:
        await mob.send("a", "go")
        await mob.send("c", "well")
        await trio.sleep(100)
        assert mob.state is MobState.STOPPED
        assert model.calls.count("a") == 3
        await trio.sleep(1000)
        assert model.calls.count("a") == 3
        assert model.calls.count("c") == 1
        *_, stopped = records(store, MobStateChanged)
        assert stopped.state == "stopped"
        assert stopped.reason.startswith("RuntimeError: a broke (group 'g' has had 2 failures")
        assert mob.exits("a")[-1].restart_in_s is None
        await mob.resume()
        await mob.wait_idle()
        assert model.calls.count("a") == 4
    check_inputs(store)


async def test_a_failure_that_stops_the_mob_ends_its_completing(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8, 5.11: the mob is stopped with the reason, and whoever waits for it to be
    completed is told; resumed, it can be."""
    store = MemoryStore()
    groups = {"g": {"members": ["a", "b"], "restart": {"max": 1}}}
    async with opened(define(groups=groups), Failing(a=2), store=store) as mob:
        await mob.send("a", "go")
        with trio.fail_after(100), pytest.raises(VerbRefused, match="being stopped") as told:
            await mob.complete()
        assert told.value.verb == "complete"
        await trio.sleep(100)
        assert mob.state is MobState.STOPPED
        *_, stopped = records(store, MobStateChanged)
        assert stopped.reason.startswith("RuntimeError: a broke")
        await mob.resume()
        await mob.complete()
        assert mob.state is MobState.COMPLETED
    check_inputs(store)


async def test_a_member_is_told_of_a_failure_durably(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: in the commit of the exit; the failed turn is given up."""
    store = MemoryStore()
    heard: list[str] = []

    async def answer(request: ModelRequest) -> str:
        if member(request) == "a":
            raise RuntimeError("a broke")
        heard.append(asked(request))
        return "I see"

    groups = {"g": {"members": ["a"], "restart": {"max": 1}, "escalate": "member:b"}}
    async with opened(define(groups=groups), answer, store=store) as mob:
        with pytest.raises(MemberFailed, match="which is the limit"):
            await mob.ask("a", "go")
        await mob.wait_idle()
        assert mob.state is MobState.RUNNING
    (said,) = heard
    assert said.startswith("Member 'a' has failed, and group 'g' gives up: RuntimeError: a broke")
    check_inputs(store)


async def test_whoever_is_to_be_told_and_has_left_leaves_the_failure_to_the_mob(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.8."""
    store = MemoryStore()
    groups = {"g": {"members": ["a"], "restart": {"max": 0}, "escalate": "member:b"}}
    async with opened(define(groups=groups), Failing(a=9), store=store) as mob:
        await mob.retire("b")
        await mob.send("a", "go")
        await trio.sleep(100)
        assert mob.state is MobState.STOPPED
    assert "'b' is not there" in records(store, MobStateChanged)[-1].reason


async def test_restarts_of_an_earlier_process_count(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8, 6.9: a crash loop is as long over many processes as over one."""

    class Wall:
        def now_ns(self) -> int:
            return int(trio.current_time() * 1e9)

    store = MemoryStore()
    ports = Ports(Wall())
    model = Failing(a=100)
    definition = define(restart={"max": 3, "within_s": 1000, "backoff_s": 1})
    for process in range(4):
        async with opened(definition, model, store=store, ports=ports, grace_s=0) as mob:
            if not process:
                await mob.send("a", "go")
            await trio.sleep(1.5)  # one crash, and it waits to be restarted
    assert [each.restart_in_s for each in records(store, MemberExited)] == [1, 2, 4, None]
    async with opened(definition, model, store=store, ports=ports) as mob:
        assert [each.restart_in_s for each in mob.exits("a")] == [1, 2, 4, None]
        await mob.realm.checkpoint()
    async with opened(definition, model, store=store, ports=ports) as mob:
        assert [each.restart_in_s for each in mob.exits("a")] == [1, 2, 4, None]
        await trio.sleep(2000)
        with pytest.raises(MobError):
            await mob.ask("a", "again")
    assert [each.restart_in_s for each in records(store, MemberExited)][4:] == [1, 2, 4, None]
