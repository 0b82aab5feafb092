"""What a session service shows of sessions: values, made from committed state.

Owns: the views (seed: meerkat-core). Must not: read a store.
"""

from __future__ import annotations

import attrs

from runtime.ids import SessionId
from runtime.messages import Usage
from runtime.session import PeerCard, Provenance, SessionHead


@attrs.frozen
class SessionSummary:
    """One line of a list. Times are nanoseconds since the epoch."""

    session_id: SessionId
    title: str | None
    created_at_ns: int
    updated_at_ns: int
    message_count: int
    total_tokens: int
    is_active: bool
    #: What is damaged of it, None if nothing is known to be; then the rest may be empty.
    quarantined: str | None = None
    external_id: str | None = None


@attrs.frozen
class SessionInfo:
    """The state half of a view. `staged_context` counts texts that no model call has seen yet."""

    session_id: SessionId
    created_at_ns: int
    updated_at_ns: int
    message_count: int
    is_active: bool
    is_archived: bool
    last_assistant_text: str | None
    external_id: str | None = None
    peer: PeerCard | None = None
    provenance: Provenance | None = None
    host_mode: bool = False
    staged_context: int = 0


@attrs.frozen
class SessionUsage:
    """The billing half of a view."""

    total_tokens: int
    usage: Usage


@attrs.frozen
class SessionView:
    """What `read` returns: committed state, and what it has cost."""

    state: SessionInfo
    billing: SessionUsage

    @property
    def session_id(self) -> SessionId:
        """Whose view this is."""
        return self.state.session_id


def summary_of(head: SessionHead, *, busy: bool) -> SessionSummary:
    """The line of a session; `busy` is whether a turn of it is in flight."""
    return SessionSummary(
        head.session_id,
        head.title,
        head.created_at_ns,
        head.updated_at_ns,
        head.message_count,
        head.usage.total_tokens,
        busy,
        head.quarantined,
        head.external_id,
    )


def view_of(head: SessionHead, text: str | None, staged: int, *, busy: bool) -> SessionView:
    """The view of a session whose last answer is `text`."""
    spec = head.spec
    info = SessionInfo(
        head.session_id,
        head.created_at_ns,
        head.updated_at_ns,
        head.message_count,
        busy,
        head.archived,
        text,
        head.external_id,
        spec.peer,
        spec.provenance,
        spec.host_mode,
        staged,
    )
    return SessionView(info, SessionUsage(head.usage.total_tokens, head.usage))
