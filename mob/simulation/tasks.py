"""The tasks of a run of Trio, as text: who is parked where, and who belongs to whom.

Owns: `parked`, `living_tasks`. Must not: touch a task.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final

import trio

from mob.simulation.trace import SPEAKING, Incarnation

#: Frames that are shown of a task, from the innermost.
_FRAMES: Final = 4

_TRIO: Final = os.path.dirname(trio.__file__) + os.sep


def living_tasks(who: Incarnation) -> list[trio.lowlevel.Task]:
    """The tasks that belong to the process `who`, oldest first."""
    return [task for _, task in _walk() if task.context.get(SPEAKING) is who]


def parked() -> str:
    """Every task with the frames that it is parked in, innermost last, below the one it is in."""
    lines = []
    for depth, task in _walk():
        lines.append(f"{'  ' * depth}{task.name}: {where(task)}")
    return "\n".join(lines)


def where(task: trio.lowlevel.Task) -> str:
    """The innermost frames of `task` outside Trio, outermost first."""
    frames: list[str] = []
    inside: Any = task.coro
    while inside is not None:
        frame = getattr(inside, "cr_frame", None) or getattr(inside, "gi_frame", None)
        frame = frame or getattr(inside, "ag_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_TRIO):
            frames.append(_spot(frame.f_code, frame.f_lineno))
        inside = getattr(inside, "cr_await", None) or getattr(inside, "gi_yieldfrom", None)
    return " > ".join(frames[-_FRAMES:]) or "in trio"


def _spot(code: CodeType, line: int) -> str:
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line})"


def _walk() -> Iterator[tuple[int, trio.lowlevel.Task]]:
    root = trio.lowlevel.current_root_task()
    if root is None:
        return
    ahead = [(0, root)]
    while ahead:
        depth, task = ahead.pop()
        yield depth, task
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        # A nursery holds its tasks in a set; this is the order in which they were made.
        children.sort(key=lambda child: child._counter, reverse=True)
        ahead += [(depth + 1, child) for child in children]
