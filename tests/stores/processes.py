"""Python in processes of its own, for what only another process can show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_python(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run `program` in a process of its own, from the root of the repository."""
    with start_python(program, *args) as process:
        stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def start_python(program: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen[str]) -> str:
    """Send a line, return the line that comes back."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("look\n")
    process.stdin.flush()
    return process.stdout.readline()
