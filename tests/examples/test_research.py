"""The main job: what it leaves, and that neither kill -9 nor Ctrl-C costs or repeats anything."""

from __future__ import annotations

import importlib.util
import random
import signal
import time
from pathlib import Path

import pytest

from runtime.models.weights import KNOWN_WEIGHTS, find_weights
from tests.cli.commands import mob
from tests.examples.research import (
    EXAMPLE,
    QUESTION,
    RESEARCHERS,
    Research,
    check_finding,
    check_finished,
    is_reported,
)

KILLS = 10
SEED = 20250607


@pytest.fixture
def research(tmp_path: Path) -> Research:
    return Research(tmp_path)


@pytest.fixture(scope="module")
def duration_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that the main job takes on this machine, from its start to its exit."""
    seconds = []
    for _ in range(2):  # the first run of all may be slow: nothing is compiled and cached yet
        research = Research(tmp_path_factory.mktemp("timed"))
        began = time.perf_counter()
        research.finish()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def test_the_main_job_leaves_an_answer_findings_children_and_usage(research: Research) -> None:
    check_finished(research, research.finish())


def test_the_same_file_runs_on_another_model(tmp_path: Path) -> None:
    file = str(EXAMPLE / "mob.toml")
    done = mob("run", file, "--prompt", QUESTION, "--model", "all=sim:agent", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("nth", range(KILLS))
def test_killed_at_a_random_moment_the_same_command_finishes_the_work(
    research: Research, duration_s: float, nth: int
) -> None:
    # One moment in each tenth of the job, so that no seed leaves a part of it out.
    moment_s = duration_s * (nth + random.Random(SEED + nth).random()) / KILLS
    with research.start() as running:
        time.sleep(moment_s)
        running.signal(signal.SIGKILL)
        code, answer, _ = running.end()
    assert code in (0, -signal.SIGKILL)
    before = research.events()
    if not is_reported(before):
        answer = research.finish()
    # Whatever had been committed is there, the same, in the same place.
    assert research.events()[: len(before)] == before
    check_finished(research, answer)


def test_killed_again_and_again_it_gets_on_until_it_is_done(
    research: Research, duration_s: float
) -> None:
    chance = random.Random(SEED)
    before = research.events()
    for kills in range(100):
        with research.start() as running:
            if kills:
                # Longer each time, or a machine that starts slowly would never get anywhere.
                time.sleep(duration_s * (0.3 + 0.3 * chance.random() + 0.02 * kills))
            else:
                running.wait_for("starts child")  # it is not done before it is killed once
            running.signal(signal.SIGKILL)
            code, answer, _ = running.end()
        now = research.events()
        assert now[: len(before)] == before
        before = now
        assert code in (0, -signal.SIGKILL)
        if is_reported(now):
            break
    else:
        pytest.fail("it never got done")
    assert kills > 0
    check_finished(research, answer)


@pytest.mark.parametrize("moment", ["calls ask_researcher", "starts child", "calls ask_critic"])
def test_interrupted_it_saves_and_the_same_command_finishes_the_work(
    research: Research, moment: str
) -> None:
    with research.start() as running:
        running.wait_for(moment)
        running.signal(signal.SIGINT)
        code, answer, said = running.end()
    assert (code, answer) == (130, ""), said
    assert "continue with: mob run" in said
    before = research.events()
    answer = research.finish()
    assert research.events()[: len(before)] == before
    check_finished(research, answer)


def _why_not_local() -> str | None:
    if importlib.util.find_spec("xllamacpp") is None:
        return "the extra 'local' is not installed; examples/run_all.sh runs this where it is"
    if find_weights(KNOWN_WEIGHTS["smollm2-135m"]) is None:
        return "the weights are not on this machine; `mob run` fetches them"
    return None


@pytest.mark.skipif(_why_not_local() is not None, reason=str(_why_not_local()))
def test_the_embedded_model_finds_three_true_facts_and_answers_with_them(tmp_path: Path) -> None:
    file = str(EXAMPLE / "mob.toml")
    done = mob("run", file, "--prompt", QUESTION, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    research = Research(tmp_path)
    with research.store() as store:
        findings = [research.finding(store, name) for name in RESEARCHERS]
    for finding in findings:
        check_finding(finding)
    assert len({finding["source"] for finding in findings}) == 3
    told = [each["finding"] for each in findings if each["finding"] in done.stdout]
    assert len(told) >= 2, done.stdout
