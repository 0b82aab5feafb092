"""`mob show MOB@RECORD` and `mob tree MOB@LABEL`: what was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ECHO, TEAM, refused
from tests.cli.inside import Mob, mob_inside


@pytest.fixture
def inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Mob:
    return mob_inside(tmp_path, capsys, monkeypatch)


def test_a_mob_and_a_member_are_shown_as_they_were(tmp_path: Path, inside: Mob) -> None:
    """CONTRACTS 6.12."""
    (tmp_path / "mob.toml").write_text(ECHO)

    def told(*arguments: str) -> Any:
        found = inside(*arguments, "--json")
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout)

    def said(who: str, *more: str) -> list[str]:
        return [each["text"] for each in told("show", who, *more)["messages"]]

    told("run", "mob.toml", "--prompt", "one")
    told("tag", "echo", "at the start")
    told("spawn", "echo/r", "--profile", "lead")
    told("run", "mob.toml", "--prompt", "two")
    told("retire", "echo/r")
    now, then = told("show", "echo"), told("show", "echo@at the start")
    assert now["retired"] == ["r"]
    assert [each["turns"] for each in (*now["members"], *then["members"])] == [2, 1]
    assert (then["retired"], then["records"] < now["records"]) == ([], True)
    assert told("show", f"ec@{then['records']}") == then
    assert said("echo/le@at the start") == ["one", "one"]
    assert said("echo/lead@at the start", "--messages", "1") == ["one"]
    assert said("echo/lead") == ["one", "one", "two", "two"]
    assert said("echo/lead", "--messages", "3") == ["one", "two", "two"]
    tree = inside("tree", "echo@at the start")
    assert f"'echo' as it was at record {then['records']}" in tree.stderr
    assert told("tree", "echo@at the start")["turns"] == 1
    left = told("rewind", "echo", "at the start")["left"]["label"]
    assert said("echo/lead") == said("echo/lead@at the start")
    assert said(f"echo/lead@{left}") == ["one", "one", "two", "two"]
    refused(4, "there are: at the start", done=inside("show", "echo@nope"))
    refused(4, "numbered from 1", done=inside("tree", "echo@9999"))
    refused(4, "there are: lead", done=inside("show", "echo/r@at the start"))
    refused(2, "of a mob as a whole", done=inside("tree", "echo/lead"))


def test_a_turn_in_flight_is_shown_as_far_as_it_was(tmp_path: Path, inside: Mob) -> None:
    """Every record of a run with tools and children is a moment, and transcripts only grow."""
    (tmp_path / "mob.toml").write_text(TEAM % 0.001)
    for prompt in ("hello", "again"):
        assert inside("run", "mob.toml", "--prompt", prompt).returncode == 0
    last = json.loads(inside("show", "team", "--json").stdout)["records"]
    lengths: list[int] = []
    flights = set()
    for record in range(2, last + 1):
        found = inside("show", f"team/lead@{record}", "--json")
        if found.returncode:  # it has not joined yet
            assert lengths == [], found.stderr
        else:
            shape = json.loads(found.stdout)
            assert len(shape["messages"]) == shape["message_count"]
            lengths.append(shape["message_count"])
            flights.add(shape["turn_in_flight"])
            newest = inside("show", f"team/lead@{record}", "--json", "--messages", "3")
            assert json.loads(newest.stdout)["messages"] == shape["messages"][-3:]
    assert lengths == sorted(lengths)
    assert (lengths[0], flights) == (0, {False, True})
    assert lengths[-1] >= 8
