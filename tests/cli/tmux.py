"""A command under way in tmux: its screen as a person sees it, keys, another size.

Owns: a tmux server of its own for each command. Must not: import `mob`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.cli.commands import PATIENCE_S, environment

_LOOK_S = 0.05


class Tmux:
    """`mob ARGUMENTS` in a terminal of so many columns and lines."""

    def __init__(
        self, cwd: Path, *arguments: str, columns: int = 80, lines: int = 24, **env: str
    ) -> None:
        self._socket = cwd / f"tmux-{time.monotonic_ns()}"
        self._code = cwd / f"{self._socket.name}.code"
        command = shlex.join([sys.executable, "-m", "mob.cli", *arguments])
        # The shell is hit by Ctrl-C, too, and lives on to write the code down.
        code = shlex.quote(str(self._code))
        held = f"trap : INT; {command}; echo $? > {code}; sleep {PATIENCE_S:g}"
        variables = environment(TERM="tmux-256color", **env)
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines),
            "-c", str(cwd), "env", *(f"{name}={value}" for name, value in variables.items()),
            "sh", "-c", held,
        )  # fmt: skip

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            env=environment(TERM="xterm-256color", LC_ALL="C.UTF-8"),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        return done.stdout

    def captured(self, *, escapes: bool = False) -> str:
        """What is on the screen now."""
        return self._tmux("capture-pane", "-p", *(["-e"] if escapes else []))

    def until(self, words: str) -> str:
        """Wait until the screen has the words, which a line's end may divide; return it."""
        together = words.replace(" ", "")
        return self.until_that(
            lambda text: together in text.replace("\n", "").replace(" ", ""), words
        )

    def until_that(self, holds: Callable[[str], bool], what: str = "what was waited for") -> str:
        """Wait until that holds of the screen; return it."""
        begun = time.monotonic()
        while not holds(text := self.captured()):
            assert time.monotonic() - begun < PATIENCE_S, f"{what!r} was not shown:\n{text}"
            time.sleep(_LOOK_S)
        return text

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names for them: ``C-c``, ``Enter``, ``Escape``, ``Down``."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type the text as it is."""
        self._tmux("send-keys", "-l", text)

    def resize(self, columns: int, lines: int) -> None:
        """Make the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def code(self) -> int:
        """Wait for the command's end; return its exit code."""
        begun = time.monotonic()
        while not (self._code.exists() and self._code.read_text().strip()):
            assert time.monotonic() - begun < PATIENCE_S, self.captured()
            time.sleep(_LOOK_S)
        return int(self._code.read_text())

    def __enter__(self) -> Tmux:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tmux("kill-server")
