"""`--dry-run`: what would be done, or why nothing would, and nothing is; `-l` for MOB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ECHO, refused
from tests.cli.inside import Mob, mob_inside

LABELLED = ECHO.replace('lead = "lead"', 'lead = "lead"\nlabels = { team = "blue" }')


@pytest.fixture
def inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Mob:
    """In a folder with a mob of one label that has answered twice, beside one without labels."""
    found = mob_inside(tmp_path, capsys, monkeypatch)
    (tmp_path / "mob.toml").write_text(LABELLED)
    (tmp_path / "other.toml").write_text(ECHO.replace('"echo"', '"other"'))
    for file, prompt in (("mob", "one"), ("mob", "two"), ("other", "x")):
        assert found("run", f"{file}.toml", "--prompt", prompt).returncode == 0
    return found


def test_a_dry_run_says_what_would_be_done_and_does_nothing(inside: Mob) -> None:
    def records() -> int:
        return int(json.loads(inside("show", "echo", "--json").stdout)["records"])

    def tried(*arguments: str) -> str:
        before = records()
        done = inside(*arguments, "--dry-run")
        told = inside(*arguments, "--dry-run", "--json")
        assert (done.returncode, done.stdout, records()) == (0, "", before), done.stderr
        what = json.loads(told.stdout)
        assert (what["mob"], what["dry_run"]) == ("echo", True)
        if what["would"] is None:
            assert f"mob: nothing to do: {what['why']}" in done.stderr
            return f"not: {what['why']}"
        assert f"mob: would {what['would']}" in done.stderr
        return str(what["would"])

    for verb in (
        ("spawn", "echo/r", "--profile", "lead"),
        ("spawn", "echo/s", "--profile", "lead"),
    ):
        assert inside(*verb).returncode == 0
    assert tried("unwire", "echo/r", "s") == "not: 'r' and 's' may not send to each other as it is"
    assert inside("wire", "echo/r", "s", "--directed").returncode == 0
    assert tried("unwire", "echo/s", "r") == "unwire 's' and 'r' of 'echo'"
    assert tried("unwire", "echo/s", "r", "--directed").startswith("not: ")
    assert tried("retire", "echo/r") == "retire echo/r"
    assert inside("retire", "echo/r").returncode == 0
    assert tried("retire", "echo/r") == "not: 'r' has left already"
    again = inside("retire", "echo/r", "--json")
    assert (json.loads(again.stdout)["changed"], again.returncode) == (False, 0)
    assert tried("respawn", "echo/lead") == "respawn echo/lead"
    refused(4, "no profile 'x'", done=inside("respawn", "echo/lead", "--profile", "x", "--dry-run"))
    refused(4, "it was never rewound", done=inside("restore", "echo/lead", "--dry-run"))
    refused(4, "it was never rewound", done=inside("restore", "echo/lead"))
    refused(4, "never brought back", done=inside("restore", "echo", "--dry-run"))
    refused(4, "there are: none", done=inside("restore", "echo@nope", "--dry-run"))
    assert tried("restore", "echo@3") == "bring 'echo' back to 3, record 3"
    refused(7, "`mob retire echo/lead` first", done=inside("delete", "echo/lead", "--dry-run"))
    refused(7, "`mob retire echo/lead` first", done=inside("delete", "echo/lead", "--yes"))
    assert tried("delete", "echo/r") == "delete session r of 'echo': 0 turns, 0 child sessions"
    assert tried("stop", "echo") == "stop 'echo' in the store"
    assert inside("stop", "echo").returncode == 0
    refused(7, "stopped already", done=inside("stop", "echo", "--dry-run"))
    refused(7, "does not allow 'respawn'", done=inside("respawn", "echo/lead", "--dry-run"))
    assert inside("delete", "echo", "--yes").returncode == 0
    refused(7, "does not allow 'rewind'", done=inside("rewind", "echo", "3", "--dry-run"))
    assert tried("delete", "echo") == "not: mob 'echo' is deleted already"
    assert inside("delete", "echo").returncode == 0


def test_labels_stand_in_the_place_of_a_mob(tmp_path: Path, inside: Mob) -> None:
    blue = ("-l", "team=blue")

    def told(*arguments: str) -> Any:
        done = inside(*arguments, *blue, "--json")
        assert done.returncode == 0, (arguments, done.stderr)
        return json.loads(done.stdout)

    assert told("snapshot", "start")["points"][0]["label"] == "start"
    assert told("snapshot", "echo", "again")["mob"] == "echo"
    assert [each["label"] for each in told("snapshot")["points"]] == ["start", "again"]
    assert told("diff", "--from", "start")["members"] == {}
    assert [each["id"] for each in told("gc", "--dry-run")["mobs"]] == ["echo"]
    assert told("gc")["mobs"][0]["id"] == "echo"
    assert told("approvals")["approvals"] == []
    assert told("flow", "ls")["runs"] == []
    assert told("report")["mob"] == "echo"
    assert told("export", "-o", "out.jsonl")["mob"] == "echo"
    assert told("rewind", "start", "--dry-run")["differences"] == ["no difference"]
    idle = inside("interrupt", *blue, "--json")
    assert (idle.returncode, json.loads(idle.stdout)["member"]) == (7, "lead")
    assert told("rewind", "start")["left"]["label"] == "before-rewind-1"
    assert told("fork", "what-if")["new"] == "what-if"
    refused(2, "which mob with team=blue?", "echo, what-if", done=inside("snapshot", *blue, "x"))
    refused(2, "echo, what-if", done=inside("interrupt", *blue))
    assert told("fork", "ech", "more")["mob"] == "echo"
    for several in (("gc",), ("approvals",), ("flow", "ls")):
        refused(4, "no mob with team=red", done=inside(*several, "-l", "team=red"))
    refused(4, "no mob with team=red; there are: ", done=inside("snapshot", "-l", "team=red"))
    refused(2, "say whose turn", done=inside("interrupt"))
    refused(2, "say what the new mob is called", done=inside("fork", "echo"))
    refused(2, "say once where to", done=inside("rewind", "echo"))
    refused(2, "say once where to", done=inside("rewind", "echo@start", "3"))
    refused(2, "name two moments", done=inside("fork", "echo@start", "y", "--at", "3"))
    refused(2, "a label is KEY=VALUE", done=inside("gc", "-l", "team"))
    refused(4, "no run 'x' of a flow", done=inside("flow", "show", "x", *blue))
    assert inside("rewind", "echo@start").stdout == "before-rewind-2\n"
    assert json.loads(
        inside("diff", "echo@start", "--with", "echo@before-rewind-1", "--json").stdout
    )
