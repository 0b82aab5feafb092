"""From what went wrong to an exit code and a paragraph.

Owns: the one table of exit codes, the command line's own errors, unwrapping exception groups. Must
not: print, or decide what is an error.

The codes are promises to scripts; the rows for sessions are `runtime.errors.SURFACES`.
"""

from __future__ import annotations

from typing import Final

from cyclopts import CycloptsError

from mob.errors import (
    AskCycle,
    BoardMisuse,
    BoardTaskNotFound,
    DefinitionChanged,
    DefinitionInvalid,
    FlowKeyUsed,
    FlowNotFound,
    FlowParamsInvalid,
    FlowRunNotFound,
    MemberExists,
    MemberFailed,
    MemberNotFound,
    MobBusy,
    MobInUse,
    MobNotFound,
    StaleFence,
)
from mob.lifecycle import VerbRefused
from runtime.errors import (
    AgentError,
    ApprovalNotFound,
    ApprovalRefused,
    BudgetExceeded,
    LimitExceeded,
    MobError,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    NotRecorded,
    PointNotFound,
    SessionError,
    surface_of,
)
from stores import Conflict, StoreError, StoreFull, StoreInUse, StoreLost

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INVALID: Final = 3
NOT_FOUND: Final = 4
BUDGET: Final = 5
WAITING: Final = 6
CONFLICT: Final = 7
PROVIDER: Final = 8
REGRESSION: Final = 9
COUNTEREXAMPLE: Final = 10
IN_USE: Final = 75
INTERRUPTED: Final = 130


class UsageWrong(Exception):
    """The command was called in a way that cannot work; the message says how it can."""


class NothingThere(Exception):
    """What the command was to look at does not exist."""


class WouldOverwrite(Exception):
    """The command would replace something of the user's."""


class OutputClosed(Exception):
    """Whoever read our standard output has gone; there is nobody to tell."""


#: The exit code of each error that is not a session's, found by walking up its classes.
EXITS: Final[dict[type[BaseException], int]] = {
    UsageWrong: USAGE,
    CycloptsError: USAGE,
    NothingThere: NOT_FOUND,
    WouldOverwrite: CONFLICT,
    DefinitionInvalid: INVALID,
    DefinitionChanged: CONFLICT,
    MobNotFound: NOT_FOUND,
    MemberNotFound: NOT_FOUND,
    MemberExists: CONFLICT,
    AskCycle: CONFLICT,
    StaleFence: CONFLICT,
    LimitExceeded: CONFLICT,
    BoardMisuse: CONFLICT,
    BoardTaskNotFound: NOT_FOUND,
    MobBusy: CONFLICT,
    PointNotFound: NOT_FOUND,
    ApprovalNotFound: NOT_FOUND,
    ApprovalRefused: CONFLICT,
    FlowNotFound: NOT_FOUND,
    FlowRunNotFound: NOT_FOUND,
    FlowParamsInvalid: USAGE,
    FlowKeyUsed: CONFLICT,
    VerbRefused: CONFLICT,
    ModelError: PROVIDER,
    Conflict: CONFLICT,
    MobInUse: IN_USE,
    StoreInUse: IN_USE,
    StoreLost: IN_USE,
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
    OutputClosed,
    CycloptsError,
    OSError,
    KeyboardInterrupt,
)

#: How the reason of a turn begins that a provider's failure ended (`mob.activation` writes it).
_PROVIDER_REASONS: Final = tuple(
    f"{cls.__name__}: " for cls in (ModelError, ModelUnavailable, ModelRefused, NotRecorded)
)


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, AgentError) and _reason(error).startswith(_PROVIDER_REASONS):
        return PROVIDER
    if isinstance(error, BudgetExceeded):
        return BUDGET
    if isinstance(error, SessionError):
        return surface_of(error).exit
    for cls in type(error).__mro__:
        if cls in EXITS:
            return EXITS[cls]
    return FAILED


def paragraph(error: BaseException) -> str:
    """What was wrong, where and what to do, without the ``mob: error:`` in front."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, StoreFull):
        return f"{error}; then run the same command again, it goes on from what was acknowledged"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    text = str(error).strip() or type(error).__name__
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


def _reason(error: AgentError) -> str:
    return error.reason if isinstance(error, MemberFailed) else str(error)
