"""Programs in process groups of their own, none of which outlives the block that started it.

Owns: `open_group`. Must not: interpret what a program prints, or pass the environment on (callers
say what is in it).

Linux only, for one reason: a group may be killed by its number only while that number cannot have
been given away, which is as long as its leader has not been reaped. So the leader's end is watched
through a pidfd (pidfd_open(2)), the rest of the group is killed while the leader is a zombie, and
only then is it reaped. A program that starts a session of its own (setsid(2)) leaves the group and
is not found again.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

#: Seconds between SIGTERM and SIGKILL: an interrupt is to be prompt, and a program that has more
#: to put in order than this takes does it when it is next started.
GRACE_S: Final = 0.5
#: Seconds that a killed program may take to go. One that waits for a broken disk does not go.
KILL_S: Final = 2.0


class Group:
    """A program that runs, and everything it started that stayed with it.

    `stdin` is None unless asked for. `stderr` is None if it goes where `stdout` goes.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self.pid: Final = process.pid
        self.stdin = _stream(process.stdin)
        self.stderr = _stream(process.stderr)
        stdout = _stream(process.stdout)
        assert stdout is not None
        self.stdout: trio.lowlevel.FdStream = stdout
        self._gone = False

    async def wait(self) -> None:
        """Park until the program itself has ended; what it started may run on. One waiter."""
        if not self._gone:
            await trio.lowlevel.wait_readable(self._pidfd)
            self._gone = True

    def kill(self) -> None:
        """Kill all that is left of the group, at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # not reaped, so the number is still the group's
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    async def end(self, grace_s: float = GRACE_S) -> int | None:
        """End the whole group: ask it, then kill it. The program's exit code, None if it stays.

        Bounded by `grace_s` and `KILL_S`. Idempotent.
        """
        if not self._gone:
            self._signal(signal.SIGTERM)
            with trio.move_on_after(grace_s):
                await self.wait()
        self.kill()
        with trio.move_on_after(KILL_S):
            await self.wait()
        return self._process.poll()

    def close(self) -> None:
        """Close the pipes and the watch on the program."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


@asynccontextmanager
async def open_group(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bool = False,
    separate_stderr: bool = False,
    grace_s: float = GRACE_S,
) -> AsyncIterator[Group]:
    """Run `command` while the block runs; nothing of it is left afterwards.

    Raises:
        OSError: the program cannot be started.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if separate_stderr else subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )

    # Not abandoned when cancelled: the program that it started would be lost. It takes no longer
    # than exec(2) does, and there is no checkpoint between it and the `try`.
    group = Group(await trio.to_thread.run_sync(start))
    try:
        yield group
    finally:
        # Shielded, bounded by its own deadlines: whoever cancels counts on nothing being left.
        with trio.CancelScope(shield=True):
            await group.end(grace_s)
        group.close()


def _stream(pipe: object) -> trio.lowlevel.FdStream | None:
    """Trio's stream over a pipe, which it takes from Python's file object."""
    if pipe is None:
        return None
    fd = os.dup(pipe.fileno())  # type: ignore[attr-defined]
    pipe.close()  # type: ignore[attr-defined]
    return trio.lowlevel.FdStream(fd)
