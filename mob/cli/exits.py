"""From what went wrong to an exit code and a paragraph.

Owns: the command line's own errors, unwrapping exception groups. Must not: print, or decide what is
an error. The codes of the library's errors are in `mob.surfaces`.
"""

from __future__ import annotations

from typing import Final

from cyclopts import CycloptsError

from mob import surfaces
from mob.lifecycle import MobState, VerbRefused
from mob.surfaces import (
    BUDGET,
    CONFLICT,
    COUNTEREXAMPLE,
    DONE,
    FAILED,
    IN_USE,
    INTERRUPTED,
    INVALID,
    NOT_FOUND,
    PROVIDER,
    REGRESSION,
    USAGE,
    WAITING,
)
from runtime.errors import MobError
from stores import StoreError, StoreFull, StoreInUse

__all__ = [
    "BUDGET",
    "CONFLICT",
    "COUNTEREXAMPLE",
    "DONE",
    "EXITS",
    "FAILED",
    "INTERRUPTED",
    "INVALID",
    "IN_USE",
    "NOT_FOUND",
    "PROVIDER",
    "REGRESSION",
    "USAGE",
    "WAITING",
    "NothingThere",
    "OutputClosed",
    "StillRunning",
    "UsageWrong",
    "WouldOverwrite",
    "exit_code",
    "paragraph",
    "unwrap",
]


class UsageWrong(Exception):
    """The command was called in a way that cannot work; the message says how it can."""


class NothingThere(Exception):
    """What the command was to look at does not exist."""


class WouldOverwrite(Exception):
    """The command would replace something of the user's."""


class StillRunning(Exception):
    """A process runs what the command needs at rest; nothing was changed."""


class OutputClosed(Exception):
    """Whoever read our standard output has gone; there is nobody to tell."""


#: The exit code of each error that is not a session's, found by walking up its classes.
EXITS: Final[dict[type[BaseException], int]] = {
    **surfaces.EXITS,
    UsageWrong: USAGE,
    CycloptsError: USAGE,
    NothingThere: NOT_FOUND,
    WouldOverwrite: CONFLICT,
    StillRunning: CONFLICT,
    FileNotFoundError: NOT_FOUND,
    KeyboardInterrupt: INTERRUPTED,
}

#: Errors whose message was written for users; any other is a bug of ours and says so.
_EXPLAINED: Final = (
    MobError,
    StoreError,
    UsageWrong,
    NothingThere,
    WouldOverwrite,
    StillRunning,
    OutputClosed,
    CycloptsError,
    OSError,
    KeyboardInterrupt,
)


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    return surfaces.exit_code(error, EXITS)


def paragraph(error: BaseException) -> str:
    """What was wrong, where and what to do, without the ``mob: error:`` in front."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, StoreFull):
        return f"{error}; then run the same command again, it goes on from what was acknowledged"
    if isinstance(error, StoreInUse):  # its own words are for a program that opens stores
        who = "another process" if error.pid is None else f"process {error.pid}"
        return (
            f"the store at {error.path} is in use by {who}, and this needs it alone: wait for that"
            " to end, `mob stop` what it runs (`mob ls` lists it), or name another store with"
            " --state; a mob that it runs takes `mob ask` and `mob send`"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, VerbRefused) and error.state is MobState.STOPPED:
        what = "the mob is stopped already" if error.verb == "stop" else text
        text = f"{what}; `mob resume` lets it run again"
    if isinstance(error, _EXPLAINED):
        return text
    return (
        f"unexpected {type(error).__name__}: {text}; this is a bug in mob: please report it with"
        " the output of the same command under MOB_DEBUG=1"
    )


def unwrap(error: BaseException) -> BaseException:
    """The error to report out of a possibly nested group: one we can explain, if there is one."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, _EXPLAINED):
            return leaf
    return leaves[0] if leaves else error


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
