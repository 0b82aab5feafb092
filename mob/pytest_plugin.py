"""The pytest plugin ``mob-simulation``: options, fixtures, and tests that take a world.

Owns: what pytest has to know when it starts. Must not: import `trio` or our modules before a test
needs them (the package `mob` is empty until it is asked); `mob.simulation.plugin` does the work.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--mob-seed`` and ``--mob-seeds``."""
    group = parser.getgroup("mob", "simulation of mobs")
    group.addoption(
        "--mob-seed",
        type=_seed,
        metavar="N",
        help="play simulated tests under this seed only, as a failing test says it",
    )
    group.addoption(
        "--mob-seeds",
        type=_seeds,
        metavar="A..B",
        help="play simulated tests under these seeds instead of their own",
    )


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no seed")
    return int(text)


def _seeds(text: str) -> range:
    low, dots, high = text.partition("..")
    if not (low.isdecimal() and dots and high.isdecimal() and int(low) <= int(high)):
        raise ValueError(f"{text!r} is not A..B")
    return range(int(low), int(high) + 1)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have an async test that takes our `world` played in one."""
    if isinstance(item, pytest.Function) and _takes_our_world(item):
        from mob.simulation.plugin import Simulated

        function, once = item.obj, Simulated((0,), 1, {})

        def test(**fixtures: Any) -> None:
            __tracebackhide__ = True
            once.play(function, fixtures, item.config, item.nodeid)

        item.obj = test


def _takes_our_world(item: pytest.Function) -> bool:
    if "world" not in item.fixturenames or not inspect.iscoroutinefunction(item.obj):
        return False
    definitions = item._fixtureinfo.name2fixturedefs.get("world", ())
    return bool(definitions) and definitions[-1].func.__module__ == __name__


@pytest.fixture
def world() -> None:
    """The simulated machine that an async test is played in: a `mob.simulation.World`.

    It exists only while the test runs; no other fixture can use it.
    """


@pytest.fixture
def scripted_model() -> Any:
    """Makes a model that says what it is told to: ``scripted_model("one", "two")``, or with one
    function from request to reply. See `runtime.models.scripted.ScriptedModel`."""
    from runtime.models.scripted import ScriptedModel

    def made(*script: Any, **options: Any) -> ScriptedModel:
        answers = len(script) == 1 and callable(script[0])
        return ScriptedModel(script[0] if answers else script, **options)

    return made


@pytest.fixture
def virtual_clock() -> Any:
    """Trio's clock of the test, a virtual one that jumps ahead when nothing can run; in a world
    that of the world. pytest-trio uses it where it sees it."""
    from trio.testing import MockClock

    return MockClock(autojump_threshold=0)
