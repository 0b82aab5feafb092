"""The command line inside the test's own process: half a second less than one of its own.

Owns: calling it. For what needs no signal, no kill and no second process.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import TypeAlias

import pytest

from mob.cli.app import run_command_line

Mob: TypeAlias = Callable[..., CompletedProcess[str]]


def mob_inside(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Mob:
    """A function that runs ``mob ARGUMENTS`` in `folder` and returns what it wrote and its code."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MOB_FORBID_REAL_MODELS", "1")

    def mob(*arguments: str, stdin: str = "") -> CompletedProcess[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        monkeypatch.setattr("sys.argv", ["mob", *arguments])
        capsys.readouterr()
        code = run_command_line(arguments)
        out, err = capsys.readouterr()
        return CompletedProcess(arguments, code, out, err)

    return mob
