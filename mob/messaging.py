"""The verbs about messages: asking members, sending to them, cutting their turns off.

Owns: `ask`, `question`, `interrupt`, `kill`, `compact` on the handle, and letting an input in where
there is room for it. Must not: run turns (activations do), know where an input is
kept (`runtime.inputs` does). The other verbs about messages are in `mob.comms.sending`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from mob.comms.settings import WAIT
from mob.errors import AskCycle, MailboxFull, NotWired
from mob.jobs import Job, size_of
from mob.joining import Joining, Newcomer
from mob.receipts import MemberHandle
from mob.roster import Member
from runtime.compaction import Compacted, compact_now
from runtime.driver import SessionConfig
from runtime.errors import SessionError
from runtime.inputs import Admission
from runtime.results import TurnResult

T = TypeVar("T")


class MessageVerbs(Joining):
    """What `mob.mob.Mob` has of this module."""

    async def ask(
        self,
        member: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        fence: MemberHandle | None = None,
        skills: Sequence[str] = (),
    ) -> TurnResult:
        """Send `text` to a member, wait for its turn, return the answer.

        The turn is on disk before this returns. Cancelling the wait does not cancel the turn; while
        it is for room in the member's mailbox, nothing is sent. A key that was used before joins
        that question's answer, also across restarts. `skills` are of those that the member's
        profile has; their text is in the prompt of this one turn.

        Raises:
            MailboxFull: there is no room, and the mob file says not to wait for it.
            MemberNotFound, StaleFence, VerbRefused: nothing was sent.
            SessionError: it has no such skill; nothing was sent.
            MemberFailed: the supervisor gave the turn up.
            AgentError: the turn failed or was interrupted.
        """
        self._admit("ask")
        row = self._row_or_newcomer(member, fence)
        named = self._known_skills(row, skills)

        put = partial(
            self._question, text=text, sender=None, key=idempotency_key, nested=False, skills=named
        )
        try:
            answer = put(row)
        except MailboxFull as full:
            answer = await self._in_line(full, "ask", row, text, put, fence=fence)
        return await answer()

    def question(
        self, asker: str, names: Sequence[str], text: str, key: str
    ) -> dict[str, Callable[[], Awaitable[TurnResult]]]:
        """Send a question from inside `asker`'s turn to `names`; return their answers-to-be.

        All are sent or none. One that was sent before, with the same key, is joined whatever became
        of the wiring.

        Raises:
            AskCycle: one of them waits for `asker` already.
            MemberNotFound, NotWired: one of them has left, or is not wired to `asker` any more.
            MailboxFull: one of them has no room; a turn never waits for that, or two could for
                each other.
        """
        for name in names:
            if self._activations.waits_for(name, asker):
                raise AskCycle(asker, name)
        rows = [self._row(name) for name in names]
        for row in rows:
            if not self.realm.inputs.known(row.session_id, f"{key}:{row.name}"):
                self._check_edge(asker, row.name)
                self.mailboxes.check(row, size_of(text))
        return {
            row.name: self._question(row, text, asker, f"{key}:{row.name}", nested=True)
            for row in rows
        }

    @contextmanager
    def waiting(self, asker: str, names: Sequence[str]) -> Iterator[None]:
        """Note that `asker`'s turn waits for `names`, so that a circle of questions is refused."""
        waiting_for = self._activations.live(self._row(asker)).waiting_for
        waiting_for.update(names)
        try:
            yield
        finally:
            waiting_for.subtract(names)
            for name in names:
                if not waiting_for[name]:
                    del waiting_for[name]

    def interrupt(self, member: str, *, fence: MemberHandle | None = None) -> bool:
        """Cancel the member's turn in flight; it ends as interrupted, and so do the children that
        are linked to it. False if it had none. Comes back at once: the turn ends promptly, and one
        that is begun afterwards is not hit.

        Raises:
            MemberNotFound, VerbRefused: nothing was done.
            StaleFence: another generation than that of `fence` is there.
        """
        self._admit("interrupt")
        return self.realm.interrupt(self._row(member, fence).session_id)

    def kill(
        self, member: str, cause: str = "killed", *, fence: MemberHandle | None = None
    ) -> bool:
        """Crash the member's turn in flight; its supervisor decides what follows. False if idle.

        The turn in flight is continued by the restarted activation from what is journalled.

        Raises:
            MemberNotFound, VerbRefused: nothing was done.
            StaleFence: another generation than that of `fence` is there.
        """
        self._admit("kill")
        return self._activations.kill(self._activations.live(self._row(member, fence)), cause)

    async def compact(self, member: str) -> Compacted:
        """Have the member's context summed up now, whatever its length, as its profile's
        `compaction` says; the history stays whole. Why there is no summary is part of what is
        returned. A turn that is due waits for it.

        Raises:
            MemberNotFound, VerbRefused: nothing was done.
            CompactionDisabled: its profile has no `compaction`.
            SessionBusy: its turn is in flight.
        """
        self._admit("compact")
        row = self._row(member)
        return await compact_now(self.realm, row.session_id, self._configured(row).compacting)

    # -- inside ----------------------------------------------------------------------------

    def _check_edge(self, sender: str, to: str, row: Member | None = None) -> None:
        """Raises `NotWired` if the member may not send to the other, whose row may be one to be."""
        wiring = self.wiring
        if isinstance(row, Newcomer):
            wiring = wiring.of({sender: self._row(sender).profile, to: row.profile})
        rule = wiring.may_send(sender, to)
        if not rule.allows:
            raise NotWired(sender, to, rule.value)

    def _known_skills(self, row: Member, skills: Sequence[str]) -> tuple[str, ...]:
        if not skills:
            return ()
        if isinstance(row, Newcomer):
            reason = self._harnesses.skills_of(row.profile).unknown(skills)
        else:
            reason = self._configured(row).skills.unknown(skills)
        if reason is not None:
            raise SessionError(f"{reason}; nothing was sent", row.session_id)
        return tuple(skills)

    def _configured(self, row: Member) -> SessionConfig:
        assert self.realm.configure is not None, "a mob says what its sessions run with"
        return self.realm.configure(self.realm.state.head(row.session_id))

    async def _when_room(
        self,
        verb: str,
        row: Member,
        text: str,
        put: Callable[..., T],
        *,
        sender: str | None = None,
        when_full: str | None = None,
        fence: MemberHandle | None = None,
    ) -> T:
        """Do `put`, which lets an input of `text` in for `row`; if it finds the mailbox full, wait
        for room first, unless that is not asked for. No checkpoint if there is room."""
        try:
            return put(row, granted=False)
        except MailboxFull as full:
            return await self._in_line(
                full, verb, row, text, put, sender=sender, when_full=when_full, fence=fence
            )

    async def _in_line(
        self,
        full: MailboxFull,
        verb: str,
        row: Member,
        text: str,
        put: Callable[..., T],
        *,
        sender: str | None = None,
        when_full: str | None = None,
        fence: MemberHandle | None = None,
    ) -> T:
        """As `_when_room`, whose mailbox was found `full`."""
        wait = self.mailboxes.waits(row) if when_full is None else when_full == WAIT
        size = size_of(text)
        if not wait or not self.mailboxes.fits_ever(row, size):
            raise full
        name = row.name
        with ExitStack() as stack:
            if sender is not None and self.realm.running(self._row(sender).session_id):
                if self._activations.waits_for(name, sender):
                    raise AskCycle(sender, name)
                stack.enter_context(self.waiting(sender, (name,)))
            stack.enter_context(await self.mailboxes.wait(row, size))
            self._admit(verb)
            if sender is not None:
                self._check_edge(sender, name)
            return put(self._row(name, fence), granted=True)

    def _accept(
        self,
        row: Member,
        text: str,
        sender: str | None,
        key: str | None,
        *,
        nested: bool,
        skills: tuple[str, ...] = (),
        granted: bool = False,
        steer: bool = False,
        also: Sequence[Any] = (),
    ) -> tuple[Admission, Job | None]:
        """Let an input in and queue its job, or find the job of the input it joins. With `granted`
        there is room for it. Raises `MailboxFull`, `LimitExceeded`."""
        if not granted and (key is None or not self.realm.inputs.known(row.session_id, key)):
            self.mailboxes.check(row, size_of(text))
        if self._limits is not None and (
            key is None or not self.realm.inputs.known(row.session_id, key)
        ):
            self._limits.check_turn(row)

        def accept(before: Sequence[Any] = ()) -> Admission:
            return self.realm.inputs.accept(
                row.session_id,
                text,
                sender=sender,
                idempotency_key=key,
                skills=skills,
                steer=steer,
                also=also,
                before=before,
            )

        if isinstance(row, Newcomer):
            with self._entering((row,)) as before:
                admission = accept(before)
        else:
            admission = accept()
        return admission, self._queued(row, admission, nested=nested)

    def _queued(self, row: Member, admission: Admission, *, nested: bool) -> Job | None:
        """The job of an input that was let in, queued if it is a new one."""
        pending = admission.pending
        if pending is None:
            return None
        live = self._activations.live(row)
        dependencies = self._activations.supervisors.dependencies
        if nested and dependencies is not None:
            dependencies.release(live)
        if pending.idempotency_key is not None:
            for job in live.jobs:
                if job.pending.input_id == pending.input_id:
                    job.nested = job.nested or nested
                    self._activations.start(live)
                    return job
        live.steered = live.steered or pending.steer
        job = Job(pending, nested)
        self._activations.enqueue(live, job)
        return job

    def _question(
        self,
        row: Member,
        text: str,
        sender: str | None,
        key: str | None,
        *,
        nested: bool,
        skills: tuple[str, ...] = (),
        granted: bool = False,
    ) -> Callable[[], Awaitable[TurnResult]]:
        admission, job = self._accept(
            row, text, sender, key, nested=nested, granted=granted, skills=skills
        )
        if job is not None:
            return job.result
        settled = admission.settled
        assert settled is not None

        async def recorded() -> TurnResult:
            await trio.lowlevel.checkpoint()
            return self.realm.inputs.result(settled)

        return recorded
