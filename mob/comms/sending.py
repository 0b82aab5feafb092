"""The verbs that send: to one member, or to many.

Owns: `send`, `broadcast` on the handle. Must not: wait for an answer (`ask` and `request` do).

A message is one input of the recipient's session, on disk before its sender is told so. What one
sends to one recipient is worked on in the order in which it was let in, and senders that wait for
room stand in line, so that order is the order of the calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from mob.comms.letters import QUEUE, STEER, Letter
from mob.comms.settings import RAISE, WAIT
from mob.errors import MailboxFull
from mob.jobs import size_of
from mob.messaging import MessageVerbs
from mob.receipts import MemberHandle, Receipt
from mob.roster import Member
from runtime import peering
from runtime.addenda import is_of
from runtime.errors import ContextConflict, MobError, Unusable
from runtime.inputs import Admission, context_key


class SendVerbs(MessageVerbs):
    """What `mob.mob.Mob` has of this module."""

    async def send(
        self,
        to: str,
        text: str,
        *,
        sender: str | None = None,
        mode: str = QUEUE,
        intent: str = peering.MESSAGE,
        when_full: str | None = None,
        idempotency_key: str | None = None,
        fence: MemberHandle | None = None,
        skills: Sequence[str] = (),
    ) -> Receipt:
        """Send `text` to a member and return once it is on disk; the answer is not waited for.

        `sender` is the member that sends it; without one it comes from outside and needs no edge.
        With the mode ``steer`` the turn in flight takes it in before its next model call, in the
        same commit that consumes it; if none is in flight, or that makes no further call, it begins
        a turn as with ``queue``. It overtakes no earlier message of the same sender. A message with
        an `intent` that the recipient's profile wants silence about is recorded, wakes nobody and
        goes with the next turn.

        If the mailbox is full the sender waits for room, in line, or is refused: as the mob file
        says, or as `when_full` (``wait`` or ``raise``). What wakes nobody never waits. Cancelling
        while it waits for room sends nothing; after that the message may be sent. A key that was
        used before joins that message.

        Raises:
            MemberNotFound, StaleFence, NotWired, VerbRefused: nothing was sent.
            MailboxFull: there is no room, and nothing was sent.
            AskCycle: the sender's turn is in flight, and the recipient's waits for it.
            SessionError: the recipient has no such skill (see `ask`); nothing was sent.
        """
        self._admit("send")
        _check_mode(mode)
        named = self._known_skills(self._row_or_newcomer(to, fence), skills) if skills else ()
        letter = Letter(sender, text, intent, mode, idempotency_key, named)
        return await self.post("send", to, letter, when_full=when_full, fence=fence)

    async def broadcast(
        self,
        text: str,
        *,
        sender: str | None = None,
        to: Sequence[str] | None = None,
        intent: str = peering.MESSAGE,
        when_full: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Receipt | MobError]:
        """Send `text` to each of `to` (None: all members, or the peers of `sender`); say for each,
        in that order, what became of it: a receipt, or the error that `send` would have raised.

        Those with room have it in one commit, before anybody is waited for; those without are
        waited for one after the other, if that is asked for. One name given twice counts once. A
        key is one for each recipient, so a repeated broadcast reaches those that it had not.

        Raises:
            MemberNotFound: the sender is no member.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("broadcast")
        if sender is not None:
            self._row(sender)
        if to is None:
            to = tuple(self.wiring.names) if sender is None else self.wiring.peers_of(sender)
        found: dict[str, Receipt | MobError] = dict.fromkeys(to, MobError("not sent"))
        rows: list[tuple[Member, Letter]] = []
        full: list[tuple[str, Letter]] = []
        for name in found:
            key = None if idempotency_key is None else f"{idempotency_key}:{name}"
            letter = Letter(sender, text, intent, QUEUE, key)
            try:
                row = self._recipient(name, letter)
                self._check_newcomers([row, *[each for each, _ in rows]])
                if self._is_silent(row, letter) or self._is_known(row, letter):
                    full.append((name, letter))  # one by one: it waits for nobody
                else:
                    self.mailboxes.check(row, size_of(peering.worded(intent, text)))
                    if self._limits is not None:
                        self._limits.check_turn(row, len(rows))
                    rows.append((row, letter))
            except MailboxFull as error:
                found[name] = error
                full.append((name, letter))
            except MobError as error:
                found[name] = error
        found.update(await self._post_all(rows))
        for name, letter in full:
            try:
                self._admit("broadcast")  # the mob may have been stopped since the one before
                found[name] = await self.post("broadcast", name, letter, when_full=when_full)
            except MobError as error:
                found[name] = error
        return found

    async def post(
        self,
        verb: str,
        to: str,
        letter: Letter,
        *,
        when_full: str | None = None,
        fence: MemberHandle | None = None,
    ) -> Receipt:
        """Send a letter, also from inside its sender's turn; return once it is on disk. Raises as
        `send`, but for `VerbRefused`: turns that are drained still send."""
        _check_full(when_full)
        row = self._recipient(to, letter, fence)
        if self._is_silent(row, letter):
            admission = self._put_aside(row, letter)
        else:
            text = peering.worded(letter.intent, letter.text)
            steer = letter.mode == STEER

            def put(row: Member, *, granted: bool) -> tuple[Member, Admission]:
                accepted, _ = self._accept(
                    row,
                    text,
                    letter.sender,
                    letter.key,
                    nested=False,
                    skills=letter.skills,
                    granted=granted,
                    steer=steer,
                )
                return row, accepted

            row, admission = await self._when_room(
                verb, row, text, put, sender=letter.sender, when_full=when_full, fence=fence
            )
        return await self._receipt(row, admission)

    # -- inside ----------------------------------------------------------------------------

    async def _post_all(self, letters: Sequence[tuple[Member, Letter]]) -> dict[str, Receipt]:
        """Send letters, for which there is room, in one commit."""
        with self._entering([row for row, _ in letters]) as before:
            admissions = self.realm.inputs.accept_all(
                [
                    (row.session_id, peering.worded(each.intent, each.text), each.sender, each.key)
                    for row, each in letters
                ],
                before,
            )
        for (row, _), admission in zip(letters, admissions, strict=True):
            self._queued(row, admission, nested=False)
        return {
            row.name: await self._receipt(row, admission)
            for (row, _), admission in zip(letters, admissions, strict=True)
        }

    async def _receipt(self, row: Member, admission: Admission) -> Receipt:
        if admission.ticket is not None:
            await admission.ticket.wait()
        else:
            await self.realm.store.barrier()
        accepted = admission.pending or admission.settled
        assert accepted is not None
        return Receipt(accepted.input_id, admission.session_id, row.name)

    def _recipient(self, to: str, letter: Letter, fence: MemberHandle | None = None) -> Member:
        """The row of the recipient, to whom the letter may go: one that was sent before, with its
        key, is joined whatever became of the wiring. Raises as `send`."""
        row = self._row_or_newcomer(to, fence)
        if letter.sender is not None:
            self._row(letter.sender)
            if not self._is_known(row, letter):
                self._check_edge(letter.sender, to, row)
        return row

    def _is_known(self, row: Member, letter: Letter) -> bool:
        if letter.key is None:
            return False
        known = self.realm.inputs.known
        aside = context_key(row.session_id, letter.key)
        return known(row.session_id, letter.key) or known(row.session_id, aside)

    def _is_silent(self, row: Member, letter: Letter) -> bool:
        """Whether the letter is to wake nobody."""
        return letter.intent in self._silent.get(row.profile, ())

    def _put_aside(self, row: Member, letter: Letter) -> Admission:
        """Record a letter without waking anybody. Raises `MailboxFull`, `ContextConflict`."""
        text = peering.aside(letter.sender, letter.intent, letter.text)
        known = self._is_known(row, letter)
        if not known:
            self._asides.check(row, size_of(text), self._boxes[row.profile])
        with self._entering((row,)) as before:
            admission = self.realm.inputs.accept_context(
                row.session_id, text, letter.sender, letter.key, before
            )
        accepted = admission.pending or admission.settled
        assert accepted is not None
        if letter.key is not None and not is_of(accepted.input_id, text):
            raise ContextConflict(row.session_id, letter.key)
        if not known:
            self._asides.add(row.session_id, accepted.input_id, size_of(text))
        return admission


def _check_mode(mode: str) -> None:
    if mode not in (QUEUE, STEER):
        raise Unusable(f"{mode!r} is no mode of a message: {QUEUE!r} or {STEER!r}")


def _check_full(when_full: str | None) -> None:
    if when_full not in (None, WAIT, RAISE):
        raise Unusable(f"{when_full!r} is nothing to do when a mailbox is full: 'wait' or 'raise'")
