"""How each error of ours appears to whoever called from outside: exit code, HTTP status.

Owns: the one table of exit codes of library errors, and the HTTP status that goes with each. Must
not: print, or decide what is an error. Pure.

The codes are promises to scripts; the rows for sessions are `runtime.errors.SURFACES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mob.errors import (
    AddressAmbiguous,
    AddressInvalid,
    AddressUnknown,
    AskCycle,
    BoardMisuse,
    BoardTaskNotFound,
    DefinitionChanged,
    DefinitionInvalid,
    FlowKeyUsed,
    FlowNotFound,
    FlowParamsInvalid,
    FlowRunNotFound,
    MailboxFull,
    MemberExists,
    MemberFailed,
    MemberNotFound,
    MobBusy,
    MobInUse,
    MobNotFound,
    NotServed,
    NotWired,
    ProfileNotFound,
    RequestInvalid,
    StaleFence,
)
from mob.lifecycle import VerbRefused
from runtime.errors import (
    AgentError,
    ApprovalNotFound,
    ApprovalRefused,
    BudgetExceeded,
    LimitExceeded,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    NotRecorded,
    PointExists,
    PointNotFound,
    RealmExists,
    SessionError,
    Unusable,
    surface_of,
)
from stores import Conflict, StoreInUse, StoreLost

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

#: The exit code of each error that is not a session's, found by walking up its classes.
EXITS: Final[dict[type[BaseException], int]] = {
    DefinitionInvalid: INVALID,
    DefinitionChanged: CONFLICT,
    MobNotFound: NOT_FOUND,
    MemberNotFound: NOT_FOUND,
    MemberExists: CONFLICT,
    ProfileNotFound: NOT_FOUND,
    AskCycle: CONFLICT,
    NotWired: CONFLICT,
    MailboxFull: CONFLICT,
    StaleFence: CONFLICT,
    LimitExceeded: CONFLICT,
    BoardMisuse: CONFLICT,
    BoardTaskNotFound: NOT_FOUND,
    MobBusy: CONFLICT,
    PointNotFound: NOT_FOUND,
    PointExists: CONFLICT,
    RealmExists: CONFLICT,
    Unusable: USAGE,
    ApprovalNotFound: NOT_FOUND,
    ApprovalRefused: CONFLICT,
    FlowNotFound: NOT_FOUND,
    FlowRunNotFound: NOT_FOUND,
    FlowParamsInvalid: USAGE,
    FlowKeyUsed: CONFLICT,
    VerbRefused: CONFLICT,
    RequestInvalid: USAGE,
    AddressInvalid: USAGE,
    AddressAmbiguous: USAGE,
    AddressUnknown: NOT_FOUND,
    NotServed: IN_USE,
    ModelError: PROVIDER,
    Conflict: CONFLICT,
    MobInUse: IN_USE,
    StoreInUse: IN_USE,
    StoreLost: IN_USE,
}

#: The HTTP status that says the same; what is not here is 500.
STATUSES: Final = {
    USAGE: 400,
    INVALID: 422,
    NOT_FOUND: 404,
    CONFLICT: 409,
    PROVIDER: 502,
    IN_USE: 409,
}

#: How the reason of a turn begins that a provider's failure ended (`mob.activation` writes it).
_PROVIDER_REASONS: Final = tuple(
    f"{cls.__name__}: " for cls in (ModelError, ModelUnavailable, ModelRefused, NotRecorded)
)


def exit_code(error: BaseException, also: Mapping[type[BaseException], int] = EXITS) -> int:
    """The exit code for an error; `also` is the table to look it up in.

    1 for what is in no table.
    """
    if isinstance(error, AgentError) and _reason(error).startswith(_PROVIDER_REASONS):
        return PROVIDER
    if isinstance(error, BudgetExceeded):
        return BUDGET
    if isinstance(error, SessionError):
        return surface_of(error).exit
    for cls in type(error).__mro__:
        if cls in also:
            return also[cls]
    return FAILED


def http_status(error: BaseException) -> int:
    """The HTTP status for an error."""
    if isinstance(error, SessionError):
        return surface_of(error).http
    return STATUSES.get(exit_code(error), 500)


def _reason(error: AgentError) -> str:
    return error.reason if isinstance(error, MemberFailed) else str(error)
