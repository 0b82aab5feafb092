"""`mob run --detach`: a mob in a process of its own, that outlives the terminal.

Owns: starting that process, its log, waiting until its mob is up. Must not: run a mob.

The process is the same command without ``--detach``, in a session of its own, its output in a log
file. It says over a pipe that the mob is up; if the pipe ends without a word it has failed, and the
end of the log says why.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from mob.cli.output import narrate, result, result_json
from mob.cli.staying import LAUNCH_FD, LAUNCH_LOG

#: Lines of the log that are shown if the mob did not come up.
_TAIL: Final = 20


async def detached(
    mob_id: str, arguments: Sequence[str], prompt: str | None, state: Path, *, as_json: bool
) -> int:
    """Run ``mob ARGUMENTS`` in a process of its own, print its launch record, return the exit code.

    `prompt` goes through a pipe: arguments can be read by every user of the machine. Cancelling
    before the mob is up ends that process.
    """
    log = _log_file(state, mob_id)
    process, reading = _started(arguments, log)
    told: bytes | None = None
    try:
        told = await trio.to_thread.run_sync(
            _handed_over, process, prompt or "", reading, abandon_on_cancel=True
        )
    finally:
        if told is None:
            process.terminate()
    if not told:
        code = await trio.to_thread.run_sync(process.wait)
        for line in log.read_text(errors="replace").splitlines()[-_TAIL:]:
            narrate(line)
        narrate(f"mob: {mob_id!r} did not come up; its log is {log}")
        return code or 1
    process.returncode = 0  # it is not waited for: it outlives this one
    _print(json.loads(told), as_json=as_json)
    return 0


def _started(arguments: Sequence[str], log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where its launch record can be read."""
    reading, writing = os.pipe()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "mob.cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=(writing,),
            env={**os.environ, LAUNCH_FD: str(writing), LAUNCH_LOG: str(log)},
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
        os.close(writing)
    return process, reading


def _handed_over(process: subprocess.Popen[bytes], prompt: str, reading: int) -> bytes:
    """Give the process its prompt, and wait for what it says of itself: nothing if it failed."""
    assert process.stdin is not None
    try:
        process.stdin.write(prompt.encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has failed, and its log says why
    with open(reading, "rb") as pipe:
        return pipe.read()


def _print(launch: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        result_json(launch)
        return
    result(f"{launch['mob']}: up, process {launch['pid']}, log {launch['log']}")
    if launch["socket"] is None:
        narrate(
            "mob: other terminals do not reach it: pip install 'trio-mob[server]'; it ends with"
            f" kill {launch['pid']}"
        )


def _log_file(state: Path, mob_id: str) -> Path:
    """A new file for the output, for its user alone."""
    folder = state / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return folder.absolute() / f"{mob_id}-{now}-{os.getpid()}.log"
