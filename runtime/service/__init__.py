"""SessionService: sessions for callers that run no mob.

Owns: the names that callers import. The rooms: `port` is the protocol, `requests` and `views` the
values it takes and gives, `building` what options become, `realm_service` the implementations,
`events` and `channel` who hears what, `peers` and `hosting` the sessions that live by themselves.
Must not: hold any behaviour.
"""

from runtime.service.building import ServiceDefaults
from runtime.service.channel import ScopedEvent, ScopedEventSink
from runtime.service.checkpointer import SessionCheckpointer
from runtime.service.port import SessionService
from runtime.service.realm_service import (
    HARNESS,
    REALM,
    EphemeralSessionService,
    PersistentSessionService,
    RealmSessionService,
)
from runtime.service.requests import (
    AppendSystemContext,
    ContextStatus,
    CreateSessionRequest,
    InitialTurnPolicy,
    PeerMessage,
    PeerMeta,
    SessionBuildOptions,
    SessionQuery,
    StartTurnRequest,
)
from runtime.service.views import SessionInfo, SessionSummary, SessionUsage, SessionView
from runtime.subscribing import StreamTruncated

__all__ = [
    "HARNESS",
    "REALM",
    "AppendSystemContext",
    "ContextStatus",
    "CreateSessionRequest",
    "EphemeralSessionService",
    "InitialTurnPolicy",
    "PeerMessage",
    "PeerMeta",
    "PersistentSessionService",
    "RealmSessionService",
    "ScopedEvent",
    "ScopedEventSink",
    "ServiceDefaults",
    "SessionBuildOptions",
    "SessionCheckpointer",
    "SessionInfo",
    "SessionQuery",
    "SessionService",
    "SessionSummary",
    "SessionUsage",
    "SessionView",
    "StartTurnRequest",
    "StreamTruncated",
]
