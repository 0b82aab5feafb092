"""The journal's records of comms. Kinds 48 to 55.

Owns: the record types of wiring and of requests. Must not: hold the text of a message, which is
that of its input.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from runtime.ids import InputId
from runtime.records import cold


@attrs.frozen
class MembersWired:
    """Each first of these pairs of members may send to its second from here on."""

    pairs: tuple[tuple[str, str], ...]
    at_ns: int


@attrs.frozen
class MembersUnwired:
    """Each first of these pairs may not send to its second any more; what was accepted before is
    delivered, and requests along them that wait for a reply are settled."""

    pairs: tuple[tuple[str, str], ...]
    at_ns: int


@attrs.frozen
class RequestSent:
    """The input `request_id`, in the same commit, asks the member `to` for a reply until
    `deadline_ns` of the wall clock. `sender` is a member, None for a caller."""

    request_id: InputId
    sender: str | None
    to: str
    deadline_ns: int
    at_ns: int


class Settled(enum.Enum):
    """How a request ended. The values are stored."""

    REPLIED = "replied"
    #: Its deadline has passed.
    PASSED = "passed"
    #: The edge along which it was sent was removed.
    UNWIRED = "unwired"
    #: The member it was sent to, or the one that sent it, has left.
    LEFT = "left"


@attrs.frozen
class RequestSettled:
    """The request has its reply, or its deadline has passed. What comes later is dropped. One whose
    edge or member goes is settled by the record of that."""

    request_id: InputId
    how: Settled
    text: str
    at_ns: int


COMMS_RECORDS: Final = (
    cold(48, MembersWired),
    cold(49, MembersUnwired),
    cold(50, RequestSent),
    cold(51, RequestSettled),
)
