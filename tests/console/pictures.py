"""The pictures that the tests expect, one file each: what a person would see.

Owns: where they are; `python -m tests.console.pictures` draws them anew, to be looked at by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from mob.console.picture import picture
from mob.console.rows import Frame
from tests.console.mobs import NOW_S, large, model_of, small

FOLDER: Final = Path(__file__).parent / "pictures"
HEIGHT: Final = 16
CASES: Final[list[tuple[str, Callable[[], Frame], int]]] = [
    (f"{name}-{width}", frame, width)
    for name, frame in (("small", small), ("large", large))
    for width in (40, 80, 200)
]


def drawn(frame: Frame, width: int) -> str:
    """The picture as text."""
    shown = picture(model_of(frame), NOW_S, width, HEIGHT)
    return "".join(f"{line.text}\n" for line in shown.lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, frame, width in CASES:
        (FOLDER / f"{name}.txt").write_text(drawn(frame(), width), encoding="utf-8")
