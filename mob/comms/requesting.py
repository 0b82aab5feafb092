"""The verbs about requests: asking a member for a reply until a deadline, and replying.

Owns: `request`, `reply`, `requests` on the handle, who waits for which reply, and ending requests
whose deadline has passed. Must not: know what a reply is made of; a turn's answer is none.

`ask` waits for the answer of the turn that a message begins. A request waits for whoever replies to
it by its id, in that turn or in a later one, or from outside. It and its deadline are in the
journal, in one commit with the message, so they outlive the process; so does the reply.
"""

from __future__ import annotations

import hashlib
from typing import Final

from mob.comms.records import RequestSent, Settled
from mob.comms.requests import OpenRequest
from mob.comms.sending import SendVerbs
from mob.comms.settings import RAISE
from mob.errors import AskCycle, DeadlinePassed, RequestFailed, RequestNotOpen
from mob.roster import Member
from runtime.errors import Unusable, encodable
from runtime.ids import InputId

#: The most seconds that a request may wait: more is a slip of the pen. A year.
MOST_S: Final = 366 * 86_400.0


class RequestVerbs(SendVerbs):
    """What `mob.mob.Mob` has of this module."""

    @property
    def requests(self) -> tuple[OpenRequest, ...]:
        """The requests that wait for a reply, oldest first."""
        return tuple(self.folds.requests.open.values())

    async def request(
        self,
        sender: str | None,
        to: str,
        text: str,
        deadline_s: float,
        *,
        when_full: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Send `text` as a request and wait for the reply to it, `deadline_s` seconds at most.

        The recipient sees ``[request ID] text``. Room, order and edges are as for `send`. The
        deadline is one of the wall clock, from now on, for any process. A key that was used before
        joins that request, its deadline included. Cancelling the wait does not take it back.

        Raises:
            MemberNotFound, NotWired, MailboxFull, VerbRefused: nothing was sent.
            AskCycle: the recipient's turn waits for the sender's, which is in flight.
            DeadlinePassed: nobody replied in time.
            RequestFailed: the edge between them was removed, or one of them has left.
        """
        self._admit("request")
        if sender is not None:
            self._row(sender)
        request_id = await self._sent_request(
            sender, to, text, deadline_s, idempotency_key, when_full=when_full
        )
        return await self._replied(request_id)

    async def reply(self, request_id: str, text: str, *, sender: str | None = None) -> None:
        """Reply to a request and return once that is on disk. `sender`, if given, must be the
        member that was asked. The same reply once more changes nothing.

        Raises:
            RequestNotOpen: there is no such request, it was sent to another member, or it has ended
                otherwise: with another reply, late, or because of who left or was unwired.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("reply")
        await self._reply(InputId(request_id), text, sender)

    async def request_inside(
        self, asker: str, to: str, text: str, deadline_s: float, key: str
    ) -> str:
        """As `request`, from inside `asker`'s turn, which never waits for room."""
        request_id = await self._sent_request(
            asker, to, text, deadline_s, key, nested=True, when_full=RAISE
        )
        with self.waiting(asker, (to,)):
            return await self._replied(request_id)

    async def reply_inside(self, member: str, request_id: str, text: str) -> None:
        """As `reply`, from inside the turn of `member`."""
        await self._reply(InputId(request_id), text, member)

    # -- inside ----------------------------------------------------------------------------

    async def _sent_request(
        self,
        sender: str | None,
        to: str,
        text: str,
        deadline_s: float,
        key: str | None,
        *,
        nested: bool = False,
        when_full: str | None = None,
    ) -> InputId:
        """Send a request, or find the one with this key; return its id."""
        if not 0 < deadline_s <= MOST_S:
            raise Unusable(f"a deadline of {deadline_s!r} s is not in 0 to {MOST_S:.0f}")
        text = encodable(text)
        if key is None:
            request_id = InputId(f"r-{self.realm.ports.ids.new()}")
        else:
            request_id = InputId(f"r-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
            if self._awaiting.knows(request_id):
                return request_id
        row = self._row_or_newcomer(to)
        if sender is not None:
            self._check_edge(sender, to, row)
            if nested and self._activations.waits_for(to, sender):
                raise AskCycle(sender, to)
        whole = f"[request {request_id}] {text}"

        def put(row: Member, *, granted: bool) -> None:
            if self._awaiting.knows(request_id):
                return  # somebody with the same key had room before
            now = self.realm.ports.clock.now_ns()
            late_ns = now + int(deadline_s * 1e9)
            sent = RequestSent(request_id, sender, to, late_ns, now)
            with self._awaiting.sending(request_id):
                self._accept(row, whole, sender, None, nested=nested, granted=granted, also=(sent,))

        await self._when_room("request", row, whole, put, sender=sender, when_full=when_full)
        return request_id

    async def _replied(self, request_id: InputId) -> str:
        """Wait for the end of a request; its reply. Raises as `request`."""
        end = await self._awaiting.end(request_id)
        if end.how is Settled.REPLIED:
            return end.text
        error = DeadlinePassed if end.how is Settled.PASSED else RequestFailed
        raise error(request_id, end.request.to, end.text)

    async def _reply(self, request_id: InputId, text: str, sender: str | None) -> None:
        text = encodable(text)
        book = self.folds.requests
        end = book.end(request_id)
        request = book.open.get(request_id) if end is None else end.request
        if request is None:
            raise RequestNotOpen(request_id, None)
        if sender not in (None, request.to):
            raise RequestNotOpen(request_id, f"it was sent to {request.to!r}, not to {sender!r}")
        said = self._awaiting.settling.get(request_id) if end is None else (end.how, end.text)
        if said is None:
            await self._awaiting.settle(request_id, Settled.REPLIED, text).wait()
        elif said == (Settled.REPLIED, text):
            await self.realm.store.barrier()
        else:
            raise RequestNotOpen(request_id, f"it has ended: {said[0].value}")
        end = book.end(request_id)
        if end is not None and end.how is not Settled.REPLIED:  # by what was on its way before
            raise RequestNotOpen(request_id, f"it has ended: {end.how.value}")
