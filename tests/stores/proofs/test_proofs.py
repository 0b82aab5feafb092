"""The proof programs, in their quick form by default and in their long form with `--long`.

Each prints one line of figures (`pytest -s` or the report of a failure shows it); each also runs
by itself: ``python -m tests.stores.proofs.kill --kills 1000``. And each is shown to be able to
fail: a proof that cannot is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.proofs import damage, faults, kill, power, repair
from tests.stores.proofs.disk import NoCompiler, build
from tests.stores.proofs.script import say, script, states


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except NoCompiler as reason:
        pytest.skip(str(reason))


def long(*values: int) -> list[object]:
    """The quick form, and the long one behind `--long`."""
    quick, *slow = values
    return [quick, *(pytest.param(value, marks=pytest.mark.long) for value in slow)]


# A thousand kills in the long form, in four parts: one test may take five minutes.
@pytest.mark.parametrize(
    ("kills", "seed"),
    [(50, 0), *(pytest.param(250, seed, marks=pytest.mark.long) for seed in range(1, 5))],
)
def test_kill_9_loses_and_tears_nothing(kills: int, seed: int) -> None:
    say(kill.prove(kills, seed))


@pytest.mark.parametrize("images", long(200, 3000))
def test_power_loss_loses_and_tears_nothing(images: int, shim: Path) -> None:
    line, bad = power.prove(images, images, shim)
    say(line)
    assert not bad, line


def test_a_disk_that_lies_about_its_syncs_is_caught(shim: Path) -> None:
    line, bad = power.prove(60, 1, shim, honest=False)
    assert bad > 20, line


@pytest.mark.parametrize("seed", long(1, 2, 3, 4, 5))
def test_what_is_told_after_a_fault_is_on_disk(seed: int, shim: Path) -> None:
    line, wrong = faults.prove(1, seed, shim)
    say(line)
    assert not wrong, line


def test_a_wrong_answer_after_a_fault_is_caught() -> None:
    expected = states(script(1, faults.BATCHES))
    for outcomes, found, words in (
        (["acknowledged"] * 3, 2, "batch 2 was acknowledged and is not on disk"),
        (["acknowledged", "refused"], 2, "batch 1 was refused and is on disk"),
        (["acknowledged", "unknown"], 0, "batch 0 was acknowledged"),
        (["acknowledged", "unknown"], 1, ""),
        (["acknowledged", "unknown"], 2, ""),
    ):
        complaint = faults.judge(faults.Run(outcomes), expected[found], expected)
        assert complaint.startswith(words)
        assert bool(complaint) == bool(words)
    half = ({b"journal": []}, {})
    assert "whole batches" in faults.judge(faults.Run([]), half, expected)


@pytest.mark.parametrize("images", long(60, 600))
def test_damage_is_never_read_in_silence_and_kills_nobody(images: int) -> None:
    line, bad = damage.prove(images, seed=images)
    say(line)
    assert not bad, line


# With this seed, image 26 has a record's key cut short in the midst of a stream: once it split it.
@pytest.mark.parametrize("images", long(30, 600))
def test_what_a_repair_saves_is_what_was_written(images: int) -> None:
    say(repair.prove(images, seed=600))
