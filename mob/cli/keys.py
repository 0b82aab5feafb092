"""Keys of a terminal, one by one, without waiting for Enter.

Owns: the mode of the terminal on stdin, in a block; what the bytes of keys are called. Must not:
know what a key does. Ctrl-C stays a signal.

What is pasted is one key (bracketed paste, as xterm has it): its lines are text, no Enters.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import trio

_SEQUENCES: Final = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left",
    "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end",
    "[5~": "pageup", "[6~": "pagedown", "[3~": "delete",
}  # fmt: skip
_NAMED: Final = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\t": "tab",
    "\x01": "home",
    "\x05": "end",
    "\x04": "c-d",
    "\x15": "c-u",
    "\x17": "c-w",
}
#: Seconds in which the rest of a key's sequence follows its escape.
_FOLLOWS_S: Final = 0.05
#: What follows an escape in one key (ECMA-48: CSI and SS3), known or not, or with Alt; and as far
#: as it has come.
_SEQUENCE: Final = re.compile(r"\[\[[A-E]|\[[0-?]*[ -/]*[@-~]|O[ -~]|[^\x1b\[O]", re.DOTALL)
_BEGUN: Final = re.compile(r"\[[0-?]*[ -/]*|O?")
_PASTED, _PASTED_END = "\x1b[200~", "\x1b[201~"
_PASTES_ON, _PASTES_OFF = b"\x1b[?2004h", b"\x1b[?2004l"


def keys_in(text: str) -> tuple[list[str], str]:
    """The keys that a piece of input is, and what at its end is the beginning of one.

    A key is a character, a name such as ``up`` and ``enter``, or ``paste:`` and what was pasted. A
    sequence that is not known, a key with Alt and other control characters are none.
    """
    found: list[str] = []
    place = 0
    while place < len(text):
        char = text[place]
        if text.startswith(_PASTED, place):
            end = text.find(_PASTED_END, place)
            if end < 0:
                return found, text[place:]
            found.append(f"paste:{text[place + len(_PASTED) : end]}")
            place = end + len(_PASTED_END)
            continue
        place += 1
        if char == "\x1b":
            sequence = _SEQUENCE.match(text, place)
            if sequence is not None:
                name = _SEQUENCES.get(sequence[0])
                found += [name] if name is not None else []
                place = sequence.end()
            elif _BEGUN.fullmatch(text, place):
                return found, text[place - 1 :]
            else:
                found.append("escape")
        elif char in _NAMED:
            found.append(_NAMED[char])
        elif char.isprintable():
            found.append(char)
    return found, ""


@contextmanager
def key_by_key() -> Iterator[None]:
    """In this block the terminal gives keys as they are pressed, and echoes none."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        os.write(sys.stdout.fileno(), _PASTES_ON)
        yield
    finally:
        os.write(sys.stdout.fileno(), _PASTES_OFF)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def keys() -> AsyncIterator[str]:
    """Keys as they are pressed, until the terminal is closed. Use it inside `key_by_key`."""
    descriptor = sys.stdin.fileno()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    while True:
        with trio.move_on_after(_FOLLOWS_S if rest else float("inf")) as waiting:
            await trio.lowlevel.wait_readable(descriptor)
        if waiting.cancelled_caught and not rest.startswith(_PASTED):
            if rest == "\x1b":
                yield "escape"  # nothing followed
            rest = ""
            continue
        if waiting.cancelled_caught:
            await trio.lowlevel.wait_readable(descriptor)  # what is pasted takes its time
        data = os.read(descriptor, 65536)
        if not data:
            return
        found, rest = keys_in(rest + decode(data))
        for key in found:
            yield key
