"""The real world is refused by name, and is there again afterwards."""

from __future__ import annotations

import datetime
import importlib
import logging
import os
import random
import secrets  # noqa: F401 the names that are evaluated
import sqlite3
import sys
import time
import traceback
from pathlib import Path

import pytest
import trio

from mob.simulation import RealWorldRefused, World, attempt
from mob.simulation.guards import guarded
from tests.simulation.scenarios import team, ticks

#: What is refused, and how somebody may reach for it.
REACHES = {
    "time.time": "time.time()",
    "time.monotonic": "time.monotonic()",
    "time.perf_counter": "time.perf_counter()",
    "time.sleep": "time.sleep(0)",
    "random.random": "random.random()",
    "random.shuffle": "random.shuffle([])",
    "random.seed": "random.seed(1)",
    "random.Random() without a seed": "random.Random()",
    "os.urandom": "os.urandom(1)",
    "os.urandom of uuid": "uuid.uuid4()",
    "os.urandom of secrets": "secrets.token_bytes(1)",
    "open": "open(__file__).close()",
    "open of pathlib": "Path(__file__).read_text(encoding='utf-8')",
    "os.remove": "os.remove('there is no such file')",
    "os.mkdir": "os.mkdir('/nowhere/at/all')",
    "socket": "socket.socket()",
    "subprocess": "subprocess.run(['true'], check=True)",
    "os.system": "os.system('true')",
    "sqlite3.connect": "sqlite3.connect('a file')",
    "a thread": "threading.Thread(target=print).start()",
}


NAMES = {
    "Path": Path,
    "__file__": __file__,
    **{
        name: importlib.import_module(name)
        for name in (
            "os", "random", "secrets", "socket", "sqlite3", "subprocess", "threading", "time",
            "uuid",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("reach", REACHES)
def test_reaching_out_is_refused_and_blamed(reach: str) -> None:
    with guarded() as refusals, pytest.raises(RealWorldRefused) as caught:
        eval(compile(REACHES[reach], __file__, "eval"), NAMES)
    assert caught.value is refusals[0]
    assert caught.value.what.startswith(
        reach.split(" of ", maxsplit=1)[0].split(" ", maxsplit=1)[0]
    )
    assert "test_guards.py:" in caught.value.who
    assert len(refusals) == 1
    assert time.time() > 0
    assert random.random() < 1
    assert len(os.urandom(2)) == 2


def test_what_a_seed_decides_is_let_through() -> None:
    with guarded() as refusals:
        assert random.Random(1).random() == random.Random(1).random()
        datetime.datetime.fromtimestamp(0, tz=datetime.UTC)
        sqlite3.connect(":memory:").close()
    assert refusals == []


def test_imports_tracebacks_and_logging_are_let_through(caplog: pytest.LogCaptureFixture) -> None:
    sys.modules.pop("colorsys", None)
    with guarded() as refusals:
        import colorsys  # noqa: F401

        logging.getLogger("somewhere").warning("said")
        try:
            raise ValueError("shown")
        except ValueError:
            assert "test_guards" in traceback.format_exc()
    assert refusals == []
    assert "said" in caplog.text


def test_it_does_not_nest_and_is_undone_after_an_exception() -> None:
    real = time.time
    with pytest.raises(RuntimeError, match="do not nest"):
        with guarded(), guarded():
            raise AssertionError("nested")
    assert time.time is real
    with guarded() as refusals:
        assert refusals == []


def test_a_run_fails_over_a_refusal_that_was_swallowed() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": ticks(world)})
        try:
            await trio.to_thread.run_sync(len, "")
        except RealWorldRefused:
            await process.close()

    failure = attempt(main, 1).failure
    assert failure is not None
    assert failure.invariant == "the real world is left alone"
    assert "trio.to_thread is refused" in failure.message
    assert "in main" in failure.message
