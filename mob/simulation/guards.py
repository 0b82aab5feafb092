"""The real world, refused: a simulation that touched it would not run the same way twice.

Owns: `guarded`, and what is refused while it lasts: threads, real time, unseeded randomness,
files, processes, sockets. Must not: stay in force afterwards.

Two nets. Python's audit events catch what happens in C (files, sockets, processes, threads);
functions that have no such event are replaced in their modules for as long as the guard lasts. A
name that was copied before (``from time import time``) is not caught: import the module.

What is let through: imports, which read files; whoever shows a traceback; the logging module,
which stamps its records; Trio's and Hypothesis' own business. A refusal is an ordinary exception,
so that code under test may swallow it, and it is kept too: the run fails for it all the same.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, ClassVar, Final

import trio

#: Modules that may do what they like, and whatever works for them: what they read changes nothing.
_EXCUSED: Final = (
    "faulthandler",
    "hypothesis",
    "importlib",
    "linecache",
    "logging",
    "tokenize",
    "traceback",
    "warnings",
)

#: Modules whose own calls are let through, but not those of what they call.
_TRUSTED: Final = (*_EXCUSED, "_pytest", "mob.simulation", "pytest", "trio")

#: Above these on the stack is only what started the run.
_LOOP: Final = ("trio._core._run", "mob.simulation.pinning")

#: Audit events that are refused, by their beginnings.
_EVENTS: Final = (
    "_posixsubprocess",
    "_thread.start_new_thread",
    "fcntl.",
    "ftplib.",
    "glob.",
    "http.client",
    "open",
    "os.",
    "pathlib.",
    "pty.",
    "shutil.",
    "smtplib.",
    "socket.",
    "sqlite3.",
    "subprocess.",
    "tempfile.",
    "time.sleep",
    "urllib.",
    "webbrowser.",
)

#: Events of that kind that touch nothing outside.
_HARMLESS: Final = frozenset(
    {
        "os.add_dll_directory",
        "os.listdir",
        "os.putenv",
        "os.scandir",
        "os.unsetenv",
        "sqlite3.connect/handle",  # it is open: `sqlite3.connect` was before
    }
)

#: A database that is in no file is as deterministic as a dict.
_NO_FILE: Final = ":memory:"

_CLOCKS: Final = (
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "process_time_ns",
    "sleep",
    "thread_time",
    "thread_time_ns",
    "time",
    "time_ns",
)

#: Below this many frames nobody looks for who is to blame.
_DEPTH: Final = 200


class RealWorldRefused(RuntimeError):
    """Code under simulation reached for something real.

    `what` it was, and `who`: the file, line and function that asked.
    """

    def __init__(self, what: str, who: str) -> None:
        super().__init__(
            f"{what} is refused in a simulation: called at {who}; take it from a port (clock, ids,"
            " store, model, tool), or use what the world offers"
        )
        self.what = what
        self.who = who


class _Guard:
    """The list of refusals in force; None: nothing is refused."""

    refusals: list[RealWorldRefused] | None = None
    #: What is to be put back.
    replaced: ClassVar[list[tuple[Any, str, Callable[..., Any]]]] = []
    hooked = False


@contextmanager
def guarded() -> Iterator[list[RealWorldRefused]]:
    """Refuse the real world in the block; yields what was refused so far.

    Not reentrant, and for the whole process: other threads of it are refused too.
    """
    if _Guard.refusals is not None:
        raise RuntimeError("the real world is refused already: simulations do not nest")
    if not _Guard.hooked:
        sys.addaudithook(_audit)
        _Guard.hooked = True
    refusals: list[RealWorldRefused] = []
    _impose(refusals)
    try:
        yield refusals
    finally:
        _lift()


def suspend() -> Callable[[], None]:
    """Let the real world be for now; the function returned refuses it again.

    For a run that stands still while code that is no part of it goes on.
    """
    refusals = _Guard.refusals
    if refusals is None:
        return lambda: None
    _lift()
    return lambda: _impose(refusals)


def _impose(refusals: list[RealWorldRefused]) -> None:
    _Guard.replaced = [(owner, name, getattr(owner, name)) for owner, name, _ in _REPLACED]
    _Guard.refusals = refusals
    for owner, name, double in _REPLACED:
        setattr(owner, name, double)


def _lift() -> None:
    _Guard.refusals = None
    for owner, name, real in _Guard.replaced:
        setattr(owner, name, real)
    _Guard.replaced = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    # The first comparison is all that a process pays that does not simulate.
    if _Guard.refusals is None or not event.startswith(_EVENTS) or event in _HARMLESS:
        return
    if event == "sqlite3.connect" and args[0] == _NO_FILE:
        return
    frame = sys._getframe(1)
    if not _excused(frame):
        _refuse(event if event != "open" else f"open({args[0]!r})", frame)


def _double(owner: ModuleType | type, name: str, what: str) -> tuple[Any, str, Callable[..., Any]]:
    real = getattr(owner, name)

    def double(*args: Any, **options: Any) -> Any:
        frame = sys._getframe(1)
        if not _trusted(frame):
            _refuse(what, frame)
        return real(*args, **options)

    return owner, name, double


def _seeding(self: random.Random, *args: Any, **options: Any) -> None:
    """`random.Random.seed`, which draws from the machine when it is given nothing."""
    if (not args and not options) or (args and args[0] is None):
        frame = sys._getframe(1)
        if not _trusted(frame):
            _refuse("random.Random() without a seed", frame)
    _SEED(self, *args, **options)


_SEED: Final = random.Random.seed

_REPLACED: Final[list[tuple[Any, str, Callable[..., Any]]]] = [
    *(_double(time, name, f"time.{name}") for name in _CLOCKS),
    *(
        _double(random, name, f"random.{name}")
        for name in random.__all__
        if getattr(getattr(random, name), "__self__", None) is not None
    ),
    (random.Random, "seed", _seeding),
    _double(random, "_urandom", "os.urandom"),
    _double(os, "urandom", "os.urandom"),
    _double(os, "getrandom", "os.getrandom"),
    _double(threading.Thread, "start", "a thread"),
    _double(trio.to_thread, "run_sync", "trio.to_thread"),
]


def _trusted(frame: FrameType) -> bool:
    """Whether the code that asks, or the one that the `random` module asks for, is one of ours."""
    asking: FrameType | None = frame
    while asking is not None and asking.f_globals.get("__name__") == "random":
        asking = asking.f_back
    return asking is not None and _within(asking, _TRUSTED)


def _excused(frame: FrameType) -> bool:
    """Whether the code that asks works for one of ours: an import, somebody who shows an error."""
    asking: FrameType | None = frame
    for _ in range(_DEPTH):
        if asking is None or asking.f_globals.get("__name__") in _LOOP:
            return False
        if asking.f_code.co_filename.startswith("<frozen importlib") or _within(asking, _EXCUSED):
            return True
        asking = asking.f_back
    return False


def _within(frame: FrameType, packages: tuple[str, ...]) -> bool:
    name = frame.f_globals.get("__name__") or ""
    return name.startswith(packages) and any(
        name == each or name.startswith(each + ".") for each in packages
    )


def _refuse(what: str, frame: FrameType) -> None:
    """Raise for `what`, and blame the innermost caller outside the standard library."""
    blamed: FrameType | None = frame
    while blamed is not None and blamed.f_code.co_filename.startswith((_LIBRARY, "<frozen")):
        if "site-packages" in blamed.f_code.co_filename:
            break
        blamed = blamed.f_back
    code = (blamed or frame).f_code
    who = f"{code.co_filename}:{(blamed or frame).f_lineno} in {code.co_name}"
    refusal = RealWorldRefused(what, who)
    if _Guard.refusals is not None:
        _Guard.refusals.append(refusal)
    raise refusal


_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
