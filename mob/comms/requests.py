"""Requests: messages that ask for a reply until a deadline, as a fold of the mob's journal. Pure.

Owns: which requests are open, how the others ended, `RequestBook`. Must not: read a clock, wait.

    (sent) --RequestSettled--> REPLIED, PASSED
    (sent) --MembersUnwired--> UNWIRED     along this edge nothing comes back any more
    (sent) --MemberRetired---> LEFT        the one that asked, or the one that was asked
    (sent) --MobStateChanged-> LEFT        the mob was destroyed

The first of these counts and what comes later is dropped. How a request ended is kept in memory
until the next checkpoint and is read from its row after that, because a call that a crash cut off
asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from mob.comms.records import MembersUnwired, RequestSent, RequestSettled, Settled
from mob.folding import fold_on
from mob.lifecycle import MobState
from mob.records import MemberRetired, MobStateChanged
from runtime.heads import pack_row, unpack_row
from runtime.ids import InputId
from runtime.points import marked
from runtime.state import RealmState


@attrs.frozen
class OpenRequest:
    """A request that waits for its reply. `deadline_ns` is on the wall clock."""

    request_id: InputId
    sender: str | None
    to: str
    deadline_ns: int


@attrs.frozen
class RequestEnd:
    """How a request ended: `text` is the reply, or why there is none."""

    request: OpenRequest
    how: Settled
    text: str


_WHY: Final = {
    Settled.UNWIRED: "the edge from {sender!r} to {to!r} was removed",
    Settled.LEFT: "{name!r} has left",
}


class RequestBook:
    """The requests of one mob."""

    def __init__(self, state: RealmState) -> None:
        #: By id, in the order in which they were sent.
        self.open: dict[InputId, OpenRequest] = {}
        #: Numbers of the open ones that rise in this order; their ids, made of keys, do not.
        self._places: dict[InputId, int] = {}
        #: The open ones that a member sent or is to answer.
        self._of: dict[str, dict[InputId, None]] = {}
        self._ends: dict[InputId, RequestEnd] = {}
        self._writing: dict[InputId, RequestEnd] = {}
        #: The record that ended each of those that are not rows yet.
        self._ended_at: dict[InputId, int] = {}
        self._changed: set[InputId] = set()
        self.lookup: Callable[[InputId], bytes | None] = lambda _: None
        #: Told of each request that is sent, and of each that ends, once that is committed.
        self.heard: Callable[[OpenRequest], None] = lambda _: None
        self.ended: Callable[[RequestEnd], None] = lambda _: None
        fold_on(state, RequestSent, lambda _, record: self._sent(record))
        fold_on(state, RequestSettled, self._settled)
        fold_on(state, MembersUnwired, lambda seq, record: self._unwired(seq, record.pairs))
        fold_on(state, MemberRetired, lambda seq, record: self._left(seq, record.name))
        fold_on(state, MobStateChanged, lambda seq, record: self._mob_is(seq, record.state))

    def end(self, request_id: InputId) -> RequestEnd | None:
        """How the request ended; None if it is open or there never was one."""
        known = self._ends.get(request_id) or self._writing.get(request_id)
        if known is not None or request_id in self.open:
            return known
        row = self.lookup(request_id)
        return None if row is None else _unpacked(row)

    def _sent(self, record: RequestSent) -> None:
        request = OpenRequest(record.request_id, record.sender, record.to, record.deadline_ns)
        last = self._places[next(reversed(self.open))] if self.open else 0
        self._enter(request, last + 1)
        self._changed.add(request.request_id)
        self.heard(request)

    def _enter(self, request: OpenRequest, place: int) -> None:
        self.open[request.request_id] = request
        self._places[request.request_id] = place
        for name in _parties(request):
            self._of.setdefault(name, {})[request.request_id] = None

    def _settled(self, seq: int, record: RequestSettled) -> None:
        if record.request_id in self.open:
            self._close(seq, record.request_id, record.how, record.text)

    def _unwired(self, seq: int, pairs: tuple[tuple[str, str], ...]) -> None:
        for sender, to in pairs:
            why = _WHY[Settled.UNWIRED].format(sender=sender, to=to)
            for request_id in list(self._of.get(sender, ())):
                request = self.open[request_id]
                if (request.sender, request.to) == (sender, to):
                    self._close(seq, request_id, Settled.UNWIRED, why)

    def _left(self, seq: int, name: str) -> None:
        for request_id in list(self._of.get(name, ())):
            self._close(seq, request_id, Settled.LEFT, _WHY[Settled.LEFT].format(name=name))

    def _mob_is(self, seq: int, state: str) -> None:
        if state == MobState.DESTROYED.value:
            for request_id in list(self.open):
                self._close(seq, request_id, Settled.LEFT, "the mob was destroyed")

    def _close(self, seq: int, request_id: InputId, how: Settled, text: str) -> None:
        request = self.open.pop(request_id)
        del self._places[request_id]
        for name in _parties(request):
            del self._of[name][request_id]
            if not self._of[name]:
                del self._of[name]
        end = self._ends[request_id] = RequestEnd(request, how, text)
        self._ended_at[request_id] = seq
        self._changed.add(request_id)
        self.ended(end)

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows of open requests to write."""
        changed, self._changed = self._changed, set()
        for request_id in sorted(changed):
            request, row = self.open.get(request_id), None
            if request is not None:
                row = pack_row(*_fields(request), self._places[request_id])
            yield request_id.encode(), row

    def load(self, _name: bytes, row: bytes) -> None:
        """Take the row of an open request back; they come in the order of their ids."""
        request_id, sender, to, deadline_ns, *place = unpack_row(row)  # rows of old have no place
        self._enter(OpenRequest(request_id, sender, to, deadline_ns), place[0] if place else 0)

    def loaded(self) -> None:
        """All rows are there: put them in the order in which they were sent."""
        here = sorted(self.open.values(), key=lambda each: self._places[each.request_id])
        self.open.clear()
        self._of.clear()
        for request in here:
            self._enter(request, self._places[request.request_id])

    def clear(self) -> None:
        """Forget everything: other rows are loaded next."""
        for known in (self.open, self._places, self._of, self._ends, self._writing, self._changed):
            known.clear()
        self._ended_at.clear()

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(InputId(name.decode()))

    def ends(self) -> list[tuple[bytes, bytes | None]]:
        """The rows of requests that have ended. Those handed out before are on disk by now."""
        self._writing, self._ends = self._ends, {}
        ended_at, self._ended_at = self._ended_at, {}
        return [
            (
                request_id.encode(),
                marked(
                    pack_row(*_fields(end.request), end.how.value, end.text), ended_at[request_id]
                ),
            )
            for request_id, end in self._writing.items()
        ]


def _parties(request: OpenRequest) -> tuple[str, ...]:
    sender, to = request.sender, request.to
    return (to,) if sender is None else (sender, to)


def _fields(request: OpenRequest) -> tuple[InputId, str | None, str, int]:
    return (request.request_id, request.sender, request.to, request.deadline_ns)


def _unpacked(row: bytes) -> RequestEnd:
    *fields, how, text = unpack_row(row)
    return RequestEnd(OpenRequest(*fields), Settled(how), text)
