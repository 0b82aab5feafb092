"""`mob run --record` and `--replay`: the same run again, without the models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import TEAM, mob

RUN = ("run", "mob.toml", "--prompt", "What do the notes say?", "--display", "none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mob.toml").write_text(TEAM % 0)
    done = mob(*RUN, "--record", "calls.jsonl", "--state", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "answer").write_text(done.stdout)
    return tmp_path


def test_a_replayed_run_answers_as_the_recorded_one_did(folder: Path) -> None:
    done = mob(*RUN, "--replay", "calls.jsonl", "--state", "two", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["text"] == (folder / "answer").read_text().rstrip("\n")
    calls = (folder / "calls.jsonl").read_text().splitlines()
    assert report["usage"]["model_calls"] == len(calls) > 3, "children too"
    # No model is opened, so the key of a real one is not missed.
    (folder / "mob.toml").write_text((TEAM % 0).replace("sim:agent", "openai:gpt-5-mini"))
    again = mob(*RUN, "--replay", "calls.jsonl", "--state", "three", cwd=folder)
    assert again.stdout == (folder / "answer").read_text(), again.stderr


def test_what_was_not_recorded_is_the_models_failure_and_names_the_nearest(folder: Path) -> None:
    other = (*RUN[:3], "What else?", *RUN[4:])
    done = mob(*other, "--replay", "calls.jsonl", "--state", "two", cwd=folder)
    assert done.returncode == 8
    assert 'messages[0].text is now "What else?" and in the recording "What do' in done.stderr


def test_an_alias_may_be_recorded_and_replayed_by_the_mob_file(folder: Path) -> None:
    file = (folder / "mob.toml").read_text()
    taped = file.replace('model = "sim:agent"', 'model = "sim:agent"\nrecord = "more.jsonl"')
    (folder / "mob.toml").write_text(taped)
    assert mob(*RUN, "--state", "two", cwd=folder).returncode == 0
    (folder / "mob.toml").write_text(taped.replace("record =", "replay ="))
    done = mob(*RUN, "--state", "three", cwd=folder)
    assert done.stdout == (folder / "answer").read_text(), done.stderr


def test_both_at_once_make_no_sense(folder: Path) -> None:
    done = mob(*RUN, "--replay", "a", "--record", "b", cwd=folder)
    assert done.returncode == 2
    assert "not both" in done.stderr


def test_a_recording_that_is_not_there_is_told_before_anything_is_done(folder: Path) -> None:
    done = mob(*RUN, "--replay", "nothing.jsonl", "--state", "two", cwd=folder)
    assert done.returncode == 8
    assert "cannot replay" in done.stderr
