"""The pytest plugin: tests of many seeds, the line that reproduces one, fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mob.simulation import simulate

ROOT = Path(__file__).parents[2]

#: Where the package is installed with its entry point, pytest finds the plugin by itself.
INSTALLED = any(each.name == "mob-simulation" for each in entry_points(group="pytest11"))
LOAD = () if INSTALLED else ("-p", "mob.pytest_plugin")

HEADER = """
import pytest
from mob import MobDefinition
from mob.simulation import World, simulate, invariant

TEAM = MobDefinition.from_table({
    "mob": {"id": "t", "lead": "lead"},
    "models": {"m": {"model": "sim:echo"}},
    "profiles": {"p": {"model": "m"}},
    "members": {"lead": {"profile": "p"}},
})
"""


def run(pytester: pytest.Pytester, body: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=HEADER + body)
    return pytester.runpytest_subprocess(*LOAD, "-p", "no:cacheprovider", *options)


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


def test_a_test_is_played_under_many_seeds(pytester: pytest.Pytester) -> None:
    body = """
seen = []

@simulate(seeds=7, faults="light")
async def test_it(world, tmp_path):
    assert tmp_path
    seen.append(world.seed)
    await world.start(TEAM)

def test_all_were_played():
    assert seen == list(range(7))
"""
    run(pytester, body).assert_outcomes(passed=2)


FAILING = """
@simulate(seeds=20, faults="none", failures=2)
async def test_some_seeds_fail(world):
    await world.start(TEAM)
    answer = await world.process.mob.ask("lead", "hello")
    assert answer.text == "hello"
    assert world.seed % 4 != 3, "a fourth of them"
"""


def test_each_failing_seed_is_named_by_the_line_that_reproduces_it(
    pytester: pytest.Pytester,
) -> None:
    result = run(pytester, FAILING)
    result.assert_outcomes(failed=1)
    line = "reproduce with: pytest test_it.py::test_some_seeds_fail --mob-seed"
    result.stdout.fnmatch_lines([f"*{line} 3", f"*{line} 7"])
    result.stdout.no_fnmatch_line(f"*{line} 11")
    result.stdout.fnmatch_lines(["*a fourth of them*"])
    again = run(pytester, FAILING, "test_it.py::test_some_seeds_fail", "--mob-seed", "7")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"*{line} 7"])
    run(pytester, FAILING, "--mob-seeds", "4..6").assert_outcomes(passed=1)


def test_a_users_invariant_is_asked(pytester: pytest.Pytester) -> None:
    body = """
@invariant
def nobody_is_asked(ledger):
    assert not ledger.inputs, "somebody was"

@simulate(seeds=2, invariants=[nobody_is_asked])
async def test_it(world):
    await world.start(TEAM)
    await world.process.do(lambda: world.process.mob.ask("lead", "hello"))
"""
    result = run(pytester, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nobody_is_asked: reproduce with: pytest *--mob-seed 0"])


def test_fixtures_for_a_single_run(pytester: pytest.Pytester) -> None:
    body = """
import trio

async def test_one_run(world, scripted_model, virtual_clock):
    assert isinstance(world, World) and world.seed == 0
    await world.start(TEAM, models={"m": scripted_model("one", "two")})
    mob = world.process.mob
    assert [(await mob.ask("lead", "x")).text for _ in range(2)] == ["one", "two"]
    before = virtual_clock.current_time()
    await trio.sleep(1000)
    assert virtual_clock.current_time() - before == 1000

async def test_without_a_world(virtual_clock, scripted_model):
    await trio.sleep(10_000)
    assert trio.current_time() >= 10_000

class TestInAClass:
    async def test_one(self, world):
        await world.start(TEAM)

    @simulate(seeds=2)
    async def test_two(self, world):
        await world.start(TEAM)

@simulate(seeds=3)
async def test_skipped(world):
    pytest.skip("not here")

@pytest.fixture
def world():
    return "mine"

@pytest.mark.parametrize("number", [1, 2])
@simulate(seeds=2)
async def test_parametrized(world, number):
    assert number < 3 and isinstance(world, World)
"""
    trio_mode = ("-o", "trio_mode=true")
    kept = body.replace('@pytest.fixture\ndef world():\n    return "mine"\n', "")
    run(pytester, kept, *trio_mode).assert_outcomes(passed=6, skipped=1)
    own = """
@pytest.fixture
def world():
    return "mine"

async def test_my_own_world(world):
    assert world == "mine"
"""
    run(pytester, own, *trio_mode).assert_outcomes(passed=1)


def test_unused_the_plugin_loads_neither_mob_nor_trio() -> None:
    program = (
        "import sys, mob.pytest_plugin\n"
        "print({'mob.simulation', 'runtime', 'trio', 'attrs'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()"


def test_what_cannot_be_simulated_is_said_at_once() -> None:
    def sync(world: object) -> None: ...

    async def worldless() -> None: ...

    with pytest.raises(TypeError, match="is not async"):
        simulate(seeds=1)(sync)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no parameter `world`"):
        simulate(seeds=1)(worldless)
