"""Keys of a terminal, one by one, without waiting for Enter.

Owns: the mode of the terminal on stdin, in a block; what the bytes of keys are called. Must not:
know what a key does. Ctrl-C stays a signal.
"""

from __future__ import annotations

import codecs
import os
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


def keys_in(text: str) -> list[str]:
    """The keys that a piece of input is: characters, and names such as ``up`` and ``enter``. An
    escape with nothing known behind it is the key ``escape``. Other control characters are none."""
    found = []
    place = 0
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\x1b":
            name = next((each for each in _SEQUENCES if text.startswith(each, place)), None)
            if name is not None:
                found.append(_SEQUENCES[name])
                place += len(name)
            else:
                found.append("escape")
        elif char in _NAMED:
            found.append(_NAMED[char])
        elif char.isprintable():
            found.append(char)
    return found


@contextmanager
def key_by_key() -> Iterator[None]:
    """In this block the terminal gives keys as they are pressed, and echoes none."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def keys() -> AsyncIterator[str]:
    """Keys as they are pressed, until the terminal is closed. Use it inside `key_by_key`."""
    descriptor = sys.stdin.fileno()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        data = os.read(descriptor, 1024)
        if not data:
            return
        text = decode(data)
        if text.endswith("\x1b"):
            with trio.move_on_after(_FOLLOWS_S):
                await trio.lowlevel.wait_readable(descriptor)
                text += decode(os.read(descriptor, 1024))
        for key in keys_in(text):
            yield key
