"""Python in processes of its own, for what only another process can show."""

from __future__ import annotations

import os
import signal
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


def stop(process: subprocess.Popen[str]) -> None:
    """Stop `process` wherever it is; return when it stands still."""
    process.send_signal(signal.SIGSTOP)
    wait_until_stopped(process)


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Return when `process` stands still."""
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def ask(process: subprocess.Popen[str]) -> str:
    """Send a line, return the line that comes back."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("look\n")
    process.stdin.flush()
    return process.stdout.readline()
