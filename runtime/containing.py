"""What code of others raises, told apart: what stays where it happened, and what must go on.

Owns: `contained`, `Contained`; `abandon`, for what does not end, and `ends`. Must not: hide a
cancellation, or somebody's Ctrl-C.

A tool, a hook or a model's client may raise anything: `SystemExit` out of a command line parser,
`KeyboardInterrupt` by its own hand, a group with such things in it, `trio.Cancelled` though nobody
cancels. None of it may end more than the call. What does go through is a cancellation that is under
way, a Ctrl-C that a signal brought, and the closing of a coroutine.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from runtime.errors import describe
from runtime.ids import SessionId
from runtime.live import Doing

if TYPE_CHECKING:
    from runtime.realm import Realm


def contained(error: BaseException) -> str | None:
    """What was raised, in words, if it stays where it happened; None if it must go on. Call it
    where it was caught, outside of any scope that belongs to the call."""
    if any(_goes_on(leaf) for leaf in _leaves(error)):
        return None
    return describe(error)


class Contained:
    """Around a call of somebody's code, outside of every scope that belongs to the call: what is no
    `Exception` stays here, as `said` in words, if it may. Used once."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said: str | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        if error is None or isinstance(error, Exception):
            return False
        self.said = contained(error)
        return self.said is not None


def abandon(realm: Realm, session_id: SessionId) -> None:
    """Give up on a turn in flight that does not unwind, and on those below it: whatever still runs
    of them writes nothing any more, and they are continued as after a crash."""
    for child in realm.state.heads[session_id].children or ():
        abandon(realm, child)
    live = realm.running(session_id)
    realm._held.discard(session_id)
    if live is not None:
        live.abandoned = True
        if live.interrupted is not None:
            realm.decisions.keep(session_id, live.interrupted)
        del realm._live[session_id]


def ends(realm: Realm, session_id: SessionId) -> bool:
    """Whether the turn in flight has ended, and waits for the disk alone."""
    live = realm.running(session_id)
    return live is not None and live.doing is Doing.SAVING


def _goes_on(leaf: BaseException) -> bool:
    if isinstance(leaf, trio.Cancelled):
        # Under a scope that is cancelled the deadline has passed for ever.
        return trio.current_effective_deadline() == float("-inf")
    if isinstance(leaf, KeyboardInterrupt):
        return _by_signal(leaf.__traceback__)
    return isinstance(leaf, GeneratorExit)


def _by_signal(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame is that of the signal's handler, as it is with Trio's. Python's
    own has no frame, so under that one nothing can be told apart."""
    handler = signal.getsignal(signal.SIGINT)
    if traceback is None or handler is signal.default_int_handler:
        return True
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code is getattr(handler, "__code__", None)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
