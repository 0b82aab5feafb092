"""`mob snapshot`, `fork`, `rewind` and `diff` as processes."""

from __future__ import annotations

import json
from pathlib import Path

from stores import open_lmdb
from tests.cli.commands import ECHO, mob, refused


def run(cwd: Path, prompt: str, mob_id: str = "echo") -> str:
    (cwd / f"{mob_id}.toml").write_text(ECHO.replace('id = "echo"', f'id = "{mob_id}"'))
    done = mob("run", f"{mob_id}.toml", "--prompt", prompt, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(cwd: Path, mob_id: str = "echo") -> list[str]:
    done = mob("show", f"{mob_id}/lead", "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [each["text"] for each in json.loads(done.stdout)["messages"]]


def test_there_and_back_and_both_ways(tmp_path: Path) -> None:
    """CONTRACTS 6.12: over a store that nobody runs."""
    run(tmp_path, "one")
    made = mob("snapshot", "echo", "start", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("start  record ")
    run(tmp_path, "two")
    done = mob("diff", "echo", "--from", "start", cwd=tmp_path)
    assert "~ member lead: turns 1 -> 2" in done.stdout
    told = json.loads(mob("diff", "echo", "--from", "start", "--json", cwd=tmp_path).stdout)
    assert told["members"]["lead"]["turns"] == [1, 2]
    assert told["wires"] == []
    assert mob("fork", "echo", "other", "--at", "start", cwd=tmp_path).stdout == "other\n"
    back = mob("rewind", "echo", "start", cwd=tmp_path)
    assert (back.returncode, back.stdout) == (0, "before-rewind-1\n"), back.stderr
    assert said(tmp_path) == ["one", "one"]
    run(tmp_path, "three", "other")
    assert said(tmp_path, "other") == ["one", "one", "three", "three"]
    assert (
        "histories part"
        in mob("diff", "echo", "--from", "before-rewind-1", "--with", "other", cwd=tmp_path).stdout
    )
    assert mob("rewind", "echo", "before-rewind-1", cwd=tmp_path).returncode == 0
    assert said(tmp_path) == ["one", "one", "two", "two"]
    points = json.loads(mob("snapshot", "echo", "--json", cwd=tmp_path).stdout)["points"]
    assert [each["label"] for each in points] == ["start", "before-rewind-1", "before-rewind-2"]
    assert [each["kept"] for each in points] == [False, True, True]
    assert mob("doctor", cwd=tmp_path).returncode == 0
    assert mob("gc", "--keep-events", "0", cwd=tmp_path).returncode == 0
    assert mob("doctor", cwd=tmp_path).returncode == 0
    assert said(tmp_path, "other") == ["one", "one", "three", "three"]
    assert mob("backup", "copy", cwd=tmp_path).returncode == 0
    assert mob("restore-backup", "copy", "--state", "again", cwd=tmp_path).returncode == 0
    done = mob("show", "other/lead", "--state", "again", "--json", cwd=tmp_path)
    assert len(json.loads(done.stdout)["messages"]) == 4


async def test_what_cannot_be_says_why(tmp_path: Path) -> None:
    """CONTRACTS 3.2."""
    run(tmp_path, "one")
    refused(4, "there are: none", done=mob("rewind", "echo", "start", cwd=tmp_path))
    refused(4, "numbered from 1", done=mob("fork", "echo", "x", "--at", "999", cwd=tmp_path))
    refused(4, "no mob 'nobody'", done=mob("snapshot", "nobody", "x", cwd=tmp_path))
    refused(7, "has 'echo' already", "another id", done=mob("fork", "echo", "echo", cwd=tmp_path))
    async with open_lmdb(tmp_path / ".mob"):
        refused(75, "in use", done=mob("rewind", "echo", "1", cwd=tmp_path))
        assert mob("diff", "echo", "--from", "5", cwd=tmp_path).returncode == 0
