"""What keys do to what somebody wants to see: moving, folding, looking for a part of a name. Pure.

Owns: the table of keys of `mob watch`. Must not: read a key, draw.
"""

from __future__ import annotations

from typing import Final

import attrs

from mob.console.picture import Aim, Picture
from mob.console.words import one_line

#: What moves, and by how many lines.
_MOVES: Final = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "pageup": -10,
    "pagedown": 10,
    "home": -(10**9),
    "end": 10**9,
}
#: What is pasted is one key: this, and the text.
PASTE: Final = "paste:"
#: What is said of the keys below the picture.
HELP: Final = "q quit  ↑↓ move  ←→ enter fold  / find"


def aimed(aim: Aim, key: str, shown: Picture) -> Aim | None:
    """What is wanted after `key` was pressed on the picture `shown`; None: to quit."""
    if aim.typing:
        return _typed(aim, key)
    if key == "q":
        return None
    if key in _MOVES:
        # The first press only shows where one is.
        at = 0 if shown.at is None else shown.at + _MOVES[key]
        return attrs.evolve(aim, at=max(0, min(at, shown.entries - 1)))
    if key == "/":
        return attrs.evolve(aim, find="", typing=True, at=0)
    if key == "escape":
        return attrs.evolve(aim, find="", at=None)
    if not shown.key or key not in ("left", "right", "enter"):
        return aim
    opened, folded = aim.opened - {shown.key}, aim.folded - {shown.key}
    if key == "right" or (key == "enter" and shown.key not in aim.opened | aim.folded):
        opened |= {shown.key}
    elif key == "left" or shown.key in aim.opened:
        folded |= {shown.key}
    return attrs.evolve(aim, opened=opened, folded=folded)


def _typed(aim: Aim, key: str) -> Aim:
    if key == "enter":
        return attrs.evolve(aim, typing=False)
    if key == "escape":
        return attrs.evolve(aim, typing=False, find="", at=None)
    if key == "backspace":
        return attrs.evolve(aim, find=aim.find[:-1])
    if key.startswith(PASTE):
        return attrs.evolve(aim, find=aim.find + one_line(key.removeprefix(PASTE)))
    return attrs.evolve(aim, find=aim.find + key) if len(key) == 1 else aim


def note_of(aim: Aim) -> str:
    """The line below the picture."""
    if aim.typing:
        return f"find: {aim.find}_"
    return f"find: {aim.find}  (escape: all)" if aim.find else HELP
