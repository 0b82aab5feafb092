"""The MCP example: a member calls a tool of a program beside the file, which ends with the mob."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.cli.commands import ROOT, mob


def running_in(folder: Path) -> list[str]:
    """The command lines of processes whose working folder is `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has just ended, or is somebody else's
    return found


def test_a_tool_of_the_server_is_called_and_the_server_ends_with_the_mob(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "mcp", tmp_path / "mcp")
    folder = (tmp_path / "mcp").resolve()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the file says "python"
    prompt = "Tell me how one of the lighthouses flashes."
    done = mob("run", "mcp/mob.toml", "--prompt", prompt, cwd=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "lights__character_of said: " in done.stdout
    assert " white every " in done.stdout
    assert running_in(folder) == []
