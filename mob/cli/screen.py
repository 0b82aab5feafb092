"""Lines that stay at the bottom of a terminal and are drawn over: only those that changed.

Owns: the escape sequences, colours (NO_COLOR), what is written above the lines, resizing. Must not:
know what the lines say.

The cursor rests below the last line. So what others write there, such as the two characters that a
terminal echoes for Ctrl-C, moves nothing.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final, TextIO

from rich.cells import cell_len

from mob.console.picture import Line
from mob.console.words import safe

_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "italic": "3",
    "reverse": "7",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
#: What remains of styles where colours are not wanted.
_PLAIN: Final = ("bold", "dim", "reverse")


def terminal(stream: TextIO) -> bool:
    """Whether lines can be drawn over on it."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


class Screen:
    """The lines of one terminal, in the block that it is. What is printed meanwhile on stderr, and
    on a stdout that is the same terminal, appears above them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colours = not os.environ.get("NO_COLOR")
        self._shown: list[str] = []
        self._sizes: list[int] = []
        self._width = 0
        self._kept: tuple[TextIO, TextIO] | None = None
        self.paused = False

    def __enter__(self) -> Screen:
        self._kept = (sys.stdout, sys.stderr)
        sys.stderr = _Above(self)
        if sys.stdout.isatty():
            sys.stdout = _Above(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._kept is not None
        sys.stdout, sys.stderr = self._kept
        self._shown, self._sizes = [], []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return max(columns, 1) if columns else 80, lines or 24

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines instead of those before."""
        if self.paused:
            return
        width, _ = self.size
        new = [self._styled(line) for line in lines]
        written = []
        if width != self._width or len(new) < len(self._shown):
            written.append(self._erased(width))
            self._shown = []
        self._width = width
        before = len(self._shown)
        for place, text in enumerate(new):
            if place >= before:
                written.append(f"{text}\x1b[K\r\n")
            elif text != self._shown[place]:
                up = before - place
                written.append(f"\x1b[{up}A\r{text}\x1b[K\x1b[{up}B\r")
        self._shown, self._sizes = new, [cell_len(line.text) for line in lines]
        self._write("".join(written))

    def above(self, text: str) -> None:
        """Write whole lines above those that stay."""
        if self.paused:
            self._write(text)
            return
        text = text.replace("\n", "\r\n")
        shown = "".join(f"{line}\x1b[K\r\n" for line in self._shown)
        self._write(f"{self._erased(self.size[0])}{text}{shown}")

    def leave(self) -> None:
        """Let what is shown stand where it is, and go on below."""
        self._shown, self._sizes = [], []

    def _erased(self, width: int) -> str:
        """What takes the lines away, also where a terminal that became narrower wraps them."""
        rows = sum(max(1, -(-size // width)) for size in self._sizes[: len(self._shown)])
        return f"\x1b[{rows}A\r\x1b[J" if rows else ""

    def _styled(self, line: Line) -> str:
        found = []
        for text, style in line.spans:
            names = style.split()
            codes = [_CODES[each] for each in names if self._colours or each in _PLAIN]
            text = safe(text)
            found.append(f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text)
        return "".join(found)

    def _write(self, text: str) -> None:
        if text:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (BrokenPipeError, BlockingIOError):
                pass  # whoever looked has gone


class _Above(io.TextIOBase):
    """Standard output or error while lines stay: whole lines go above them."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._begun = ""

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._screen._stream.fileno()

    def write(self, text: str) -> int:
        if self._screen.paused:  # somebody is asked, on a line that is not whole yet
            self._screen.above(self._begun + text)
            self._begun = ""
            return len(text)
        whole, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._screen.above(whole + newline)
        return len(text)
