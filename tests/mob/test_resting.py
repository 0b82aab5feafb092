"""A handle on a stored mob that begins no turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.blueprints import definition_of
from mob.definition import MobDefinition
from mob.errors import DefinitionChanged, MobInUse, MobNotFound
from mob.lifecycle import MobState, VerbRefused
from mob.resting import open_resting
from runtime.errors import MobError
from stores import open_memory
from tests.mob.mobs import Stuck, asked, check_inputs, define, opened

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/mob.toml"))


async def test_what_it_lets_in_is_worked_on_when_the_mob_is_run(autojump_clock: object) -> None:
    async with open_memory() as store:
        async with opened(define("a", "b"), store=store) as mob:
            await mob.ask("a", "one")
        async with open_resting(store, "t") as mob:
            assert mob.state is MobState.RUNNING
            await mob.send("a", "two")
            await mob.send("b", "three")
            await mob.spawn("c", profile="p")
            await mob.send("c", "four")
            assert (await mob.respawn("b")).generation == 2
            assert await mob.unwire("a", "b")
            await mob.wait_idle()
            assert [head.turns for head in mob.realm.state.heads.values()] == [1, 0, 0, 0]
        stuck = Stuck()
        stuck.gate.set()
        async with opened(define("a", "b"), stuck, store=store) as mob:
            await mob.wait_idle()
            assert sorted(stuck.calls) == ["four", "three", "two"]
            assert not mob.may_send("a", "b").allows
        check_inputs(store)


async def test_it_is_left_as_it_was_stopped_or_running(autojump_clock: object) -> None:
    stuck = Stuck()
    async with open_memory() as store:
        async with opened(define("a"), stuck, store=store, grace_s=0.0) as mob:
            await mob.send("a", "one")
            await stuck.entered.wait()
        async with open_resting(store, "t") as mob:
            await mob.stop(0.0)
            with pytest.raises(VerbRefused):
                await mob.send("a", "two")
            await mob.retire("a")
        async with open_resting(store, "t") as mob:
            assert mob.state is MobState.STOPPED
            assert mob.members == ()
            await mob.resume()
            assert mob.at_work == ()
        async with open_resting(store, "t") as mob:
            assert mob.state is MobState.RUNNING


async def test_a_rewind_begins_nothing_either(autojump_clock: object) -> None:
    async with open_memory() as store:
        async with opened(define("a"), store=store) as mob:
            await mob.ask("a", "one")
        async with open_resting(store, "t") as mob:
            await mob.send("a", "two")
            await mob.snapshot("two waits")
            await mob.rewind("two waits")
            await mob.wait_idle()
            assert mob.realm.state.heads[mob.session_of("a")].turns == 1
        said: list[str] = []
        async with opened(define("a"), lambda r: said.append(asked(r)) or "x", store=store) as mob:
            await mob.wait_idle()
        assert said == ["two"]


async def test_a_stop_that_is_taken_back_begins_nothing_either(autojump_clock: object) -> None:
    stuck = Stuck()
    async with open_memory() as store:
        async with opened(define("a"), stuck, store=store, grace_s=0.0) as mob:
            await mob.send("a", "one")
            await stuck.entered.wait()
        async with open_resting(store, "t") as mob:
            last = mob.realm.journal.last
            with trio.CancelScope() as scope:
                scope.cancel()
                await mob.stop()
            assert scope.cancelled_caught
            await wait_all_tasks_blocked()
            assert (mob.state, mob.at_work) == (MobState.RUNNING, ())
            assert mob.realm.journal.last == last
            await mob.stop(0.0)
            await mob.resume()
            await wait_all_tasks_blocked()
            assert (mob.state, mob.at_work) == (MobState.RUNNING, ())
            assert mob.realm.journal.last == last + 2
        stuck.gate.set()
        async with opened(define("a"), stuck, store=store) as mob:
            await mob.wait_idle()
            assert stuck.calls == ["one", "one"]


async def test_it_is_the_only_handle_and_of_a_mob_that_is_there() -> None:
    async with open_memory() as store:
        with pytest.raises(MobNotFound):
            async with open_resting(store, "t"):
                pass
        async with opened(define("a"), store=store):
            with pytest.raises(MobInUse):
                async with open_resting(store, "t"):
                    pass


async def test_a_mob_file_brings_bounds_and_must_be_the_mobs_own() -> None:
    bounded = define("a", limits={"members": 1})
    async with open_memory() as store:
        async with opened(bounded, store=store):
            pass
        async with open_resting(store, "t", bounded) as mob:
            with pytest.raises(MobError, match="member"):
                await mob.spawn("b", profile="p")
        with pytest.raises(DefinitionChanged):
            async with open_resting(store, "t", define("a", "b")):
                pass


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_blueprint_is_a_definition_again(path: Path) -> None:
    """But for what only turns need."""
    of = MobDefinition.load(path)
    known = json.loads(of.blueprint())
    again = json.loads(definition_of(of.blueprint(), "here").blueprint())
    for table in (known, again):
        for key in ("tools", "flows", "skills"):
            table.pop(key, None)
        for profile in table["profiles"].values():
            for key in ("skills", "autonomy", "shell", "options"):
                profile.pop(key, None)
    assert again == known


def test_a_blueprint_of_another_version_says_so() -> None:
    blueprint = json.loads(define("a").blueprint())
    with pytest.raises(MobError, match="another version of trio-mob; give the mob file"):
        definition_of(json.dumps({**blueprint, "moods": 3}), "here")
