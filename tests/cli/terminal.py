"""A command under way on a terminal of its own: what it shows, what is typed, Ctrl-C.

Owns: the pseudo-terminal and its reader. Must not: import `mob`: what is under test is the command.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from select import select
from types import TracebackType

from tests.cli.commands import PATIENCE_S, environment

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

#: The terminal on stdin becomes that of the new session, so that Ctrl-C is a signal for it.
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "mob.cli", *sys.argv[1:]])
"""


class Terminal:
    """`mob ARGUMENTS` in a session of its own, whose terminal is its stdin and stderr, as in a
    shell; stdout goes into a pipe."""

    def __init__(self, *arguments: str, cwd: Path, term: str = "dumb") -> None:
        self._ours, theirs = pty.openpty()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _ON_TERMINAL, *arguments],
                cwd=cwd,
                env=environment(TERM=term),
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self.shown = ""

    def wait_for(self, words: str) -> None:
        """Read on until `words` are shown behind what was waited for before."""
        begun = time.monotonic()
        place = len(self.shown)
        while words not in self.shown[place:]:
            left = begun + PATIENCE_S - time.monotonic()
            assert self._read(left), f"ended before {words!r} was shown:\n{self.shown}"

    def _read(self, patience_s: float) -> bool:
        ready, _, _ = select([self._ours], [], [], max(patience_s, 0.0))
        assert ready, f"nothing more was shown behind:\n{self.shown}"
        try:
            data = os.read(self._ours, 4096)
        except OSError:  # nobody has the other side open any more
            return False
        self.shown += _COLOURS.sub("", data.decode()).replace("\r\n", "\n")
        return bool(data)

    def type(self, keys: str) -> None:
        """Type `keys`; "\\x03" is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return exit code and stdout."""
        while self._read(PATIENCE_S):
            pass
        assert self.process.stdout is not None
        out = self.process.stdout.read().decode()
        return self.process.wait(PATIENCE_S), out

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        assert self.process.stdout is not None
        self.process.stdout.close()
