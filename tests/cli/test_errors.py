"""What users meet when something is wrong: one paragraph and the exit code that scripts know."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import ECHO, Running, finish_team, mob, refused, run_team

RUN = ("run", "mob.toml", "--prompt", "hello", "--display", "none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mob.toml").write_text(ECHO)
    return tmp_path


def store_still_opens(folder: Path) -> bool:
    done = mob(*RUN, cwd=folder)
    return (done.returncode, done.stdout) == (0, "hello\n")


def test_an_unknown_key_is_named_with_its_path_and_the_nearest_known_one(folder: Path) -> None:
    (folder / "mob.toml").write_text(ECHO.replace("lead = ", "laed = "))
    for verb in (RUN, ("validate", "mob.toml")):
        refused(3, "mob.toml", "mob.laed: unknown key", "'lead'", done=mob(*verb, cwd=folder))


def test_all_mistakes_are_told_at_once_and_as_json(folder: Path) -> None:
    (folder / "mob.toml").write_text(ECHO.replace('"main"', '"man"') + "[wirring]\n")
    done = mob("validate", "mob.toml", "--json", cwd=folder)
    assert done.returncode == 3
    assert '"valid": false' in done.stdout
    assert '"path": "profiles.lead.model"' in done.stdout
    assert '"path": "wirring"' in done.stdout


def test_a_missing_mob_file_is_not_found(folder: Path) -> None:
    for verb in (("validate", "no.toml"), ("run", "no.toml", "--prompt", "x")):
        refused(4, "no.toml does not exist", "mob init", done=mob(*verb, cwd=folder))


def test_a_folder_in_place_of_a_mob_file_names_the_file_inside(folder: Path) -> None:
    refused(
        4, "is a directory", f"{folder}/mob.toml", done=mob("validate", str(folder), cwd=folder)
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("man=sim:echo", ("no model alias 'man'", "'main'")),
        ("main", ("ALIAS=PROVIDER:ID", "the aliases are: main")),
        ("main=", ("ALIAS=PROVIDER:ID",)),
    ],
)
def test_a_wrong_model_option_is_a_usage_error(
    folder: Path, option: str, words: tuple[str, ...]
) -> None:
    refused(2, *words, done=mob(*RUN, "--model", option, cwd=folder))
    assert not (folder / ".mob").exists()


def test_a_missing_api_key_is_a_providers_failure_that_says_which(folder: Path) -> None:
    real = ("--model", "all=openai:gpt-5-mini")
    refused(8, "forbidden here", done=mob(*RUN, *real, cwd=folder))
    done = mob(*RUN, *real, cwd=folder, MOB_FORBID_REAL_MODELS="")
    refused(8, "OPENAI_API_KEY", done=done)
    assert store_still_opens(folder)


def test_an_unknown_provider_is_a_providers_failure_that_lists_the_known(folder: Path) -> None:
    refused(8, "'opnai'", "'openai'", done=mob(*RUN, "--model", "all=opnai:x", cwd=folder))


def test_a_store_that_is_not_one_is_refused(folder: Path) -> None:
    state = folder / ".mob"
    state.mkdir()
    (state / "data.mdb").write_bytes(b"not a database " * 1000)
    for verb in (RUN, ("ls",), ("tree", "echo")):
        refused(1, "data.mdb is not a readable LMDB file", done=mob(*verb, cwd=folder))
    assert mob("doctor", cwd=folder).returncode == 1


def test_a_file_in_place_of_the_store_is_refused(folder: Path) -> None:
    (folder / ".mob").write_text("a file")
    for verb in (RUN, ("ls",)):
        refused(1, "a file is in the way", done=mob(*verb, cwd=folder))


def test_looking_where_no_store_is_finds_nothing(folder: Path) -> None:
    for verb in (("ls",), ("show", "echo"), ("tree", "echo")):
        refused(4, "there is no store at", "--state", done=mob(*verb, cwd=folder))
    assert not (folder / ".mob").exists()


def test_unknown_mobs_and_members_are_named_with_those_there_are(folder: Path) -> None:
    assert store_still_opens(folder)
    refused(4, "no mob 'eco'", "there are: echo", done=mob("tree", "eco", cwd=folder))
    refused(4, "session 'led'; there are: lead", done=mob("show", "echo/led", cwd=folder))
    refused(2, "names nothing", done=mob("show", "echo/", cwd=folder))


def test_a_store_in_use_is_refused_to_a_second_run_and_open_to_readers(tmp_path: Path) -> None:
    with run_team(tmp_path, latency_s=120) as first:
        first.wait_for("is asked")
        second = mob("run", "mob.toml", "--prompt", "x", cwd=tmp_path)
        refused(75, f"in use by process {first.process.pid}", done=second)
        seen = mob("ls", cwd=tmp_path)
        assert "team" in seen.stdout
        assert f"process {first.process.pid} has this store open" in seen.stderr
        assert mob("doctor", cwd=tmp_path).returncode == 0
        first.process.kill()
    assert finish_team(tmp_path).returncode == 0


def test_a_changed_definition_is_a_conflict_until_it_is_adopted(folder: Path) -> None:
    assert store_still_opens(folder)
    changed = ECHO.replace('model = "main"', 'model = "main"\ninstructions = "New."')
    (folder / "mob.toml").write_text(changed)
    refused(7, "profiles.lead", "--adopt", done=mob(*RUN, cwd=folder))
    assert mob(*RUN, "--adopt", cwd=folder).returncode == 0
    assert store_still_opens(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rum",), 'Did you mean "run"'),
        (("run", "mob.toml"), "--prompt"),
        (("run", "mob.toml", "--promt", "x"), "--prompt"),
        (("run", "mob.toml", "--prompt", "x", "--display", "3d"), "--display"),
        (("run", "mob.toml", "--prompt", "  "), "the prompt is empty"),
        (("show", "echo", "--messages", "many"), "--messages"),
    ],
)
def test_misuse_is_explained(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    refused(2, words, done=mob(*arguments, cwd=folder))


def test_a_turn_that_fails_ends_with_1_and_may_be_asked_again(folder: Path) -> None:
    impossible = '[profiles.lead.output_schema]\ntype = "object"\nrequired = ["x"]\n'
    (folder / "mob.toml").write_text(ECHO + impossible)
    for _ in range(2):
        done = mob(*RUN, "--json", cwd=folder)
        refused(1, "does not fit its schema", done=done)
        assert '"outcome": "failed"' in done.stdout


def test_nobody_reading_the_answer_is_no_traceback(folder: Path) -> None:
    with Running("run", "mob.toml", "--prompt", "x" * 100_000, cwd=folder) as running:
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.wait_for("turn ended")
        assert running.process.wait() == 1
    assert "Traceback" not in "".join(running.lines)
    again = mob("run", "mob.toml", "--prompt", "x" * 100_000, cwd=folder)
    assert "the answer not shown: here it is" in again.stderr
    assert len(again.stdout) == 100_001


def test_debugging_shows_the_traceback_too(folder: Path) -> None:
    done: subprocess.CompletedProcess[str] = mob("tree", "x", cwd=folder, MOB_DEBUG="1")
    assert done.returncode == 4
    assert "Traceback" in done.stderr
