"""The tasks of a run of Trio, as text: who is parked where, and who belongs to whom.

Owns: `parked`, `living_tasks`, `force`. Must not: touch a task of a run that has not failed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final, NoReturn

import trio

from mob.simulation.trace import SPEAKING, Incarnation

#: Frames that are shown of a task, from the innermost.
_FRAMES: Final = 4

_TRIO: Final = os.path.dirname(trio.__file__) + os.sep


def living_tasks(who: Incarnation) -> list[trio.lowlevel.Task]:
    """The tasks that the process `who` has started, wherever they are, and its callers."""
    return [task for _, task in _walk() if task.context.get(SPEAKING) is who]


def below(*roots: trio.lowlevel.Task) -> set[trio.lowlevel.Task]:
    """These tasks and all that they have started and still wait for."""
    return {task for _, task in _walk(*roots)} if roots else set()


def force(nursery: trio.Nursery, error: type[BaseException]) -> None:
    """Raise `error` wherever a task below `nursery` is parked, shielded or not."""

    def throw() -> NoReturn:
        raise error

    for _, task in _walk(*nursery.child_tasks):
        if task._abort_func is not None:
            task._attempt_abort(throw)


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
        if frame is not None and not in_trio(frame.f_code):
            frames.append(_spot(frame.f_code, frame.f_lineno))
        inside = getattr(inside, "cr_await", None) or getattr(inside, "gi_yieldfrom", None)
    return " > ".join(frames[-_FRAMES:]) or "in trio"


def in_trio(code: CodeType) -> bool:
    """Whether this is Trio's own code."""
    return code.co_filename.startswith(_TRIO)


def _spot(code: CodeType, line: int) -> str:
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line})"


def _walk(*roots: trio.lowlevel.Task) -> Iterator[tuple[int, trio.lowlevel.Task]]:
    """Every task at or below `roots`, or of the whole run, with its depth."""
    root = trio.lowlevel.current_root_task()
    ahead = [(0, each) for each in roots or (root,) if each is not None]
    while ahead:
        depth, task = ahead.pop()
        yield depth, task
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        # A nursery holds its tasks in a set; this is the order in which they were made.
        children.sort(key=lambda child: child._counter, reverse=True)
        ahead += [(depth + 1, child) for child in children]
