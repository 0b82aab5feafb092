"""Particulars: what callers may change of a session that is there: its external id, its spec. Pure.

Owns: the records of such changes and their transitions. Must not: decide who may change them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from runtime.ids import SessionId
from runtime.session import SessionSpec

if TYPE_CHECKING:
    from runtime.state import RealmState


@attrs.frozen
class SessionTracked:
    """What whoever tracks the session elsewhere calls it from here on."""

    session_id: SessionId
    external_id: str | None
    at_ns: int


@attrs.frozen
class SessionRespecified:
    """The session is asked to be something else from here on: it was resumed with other options."""

    session_id: SessionId
    spec: SessionSpec
    at_ns: int


def tracked(state: RealmState, seq: int, record: SessionTracked) -> None:
    """The external id."""
    head = state.touch(seq, record.session_id)
    if head is not None:
        head.external_id = record.external_id
        head.updated_at_ns = record.at_ns


def respecified(state: RealmState, seq: int, record: SessionRespecified) -> None:
    """The spec."""
    head = state.touch(seq, record.session_id)
    if head is not None:
        head.spec = record.spec
        head.updated_at_ns = record.at_ns


def particular_transitions(state: RealmState) -> dict[type, Callable[[int, Any], None]]:
    """The part of a realm's table that this module owns."""
    return {
        SessionTracked: partial(tracked, state),
        SessionRespecified: partial(respecified, state),
    }
