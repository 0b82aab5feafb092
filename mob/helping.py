"""The verbs by which a member gets a helper: a member that is made for one question.

Owns: `spawn_helper`, `fork_helper` on the handle; that a helper leaves when its question has been
answered, and what becomes of helpers that an earlier process left. Must not: run a turn.

A helper is made in one commit with its question, and is a member like others while it works on
that: supervised, limited, on the roster. Nobody sends to it and it sends to nobody. With a key its
answer can be fetched again at any time, because it stays in the journal when the helper has left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import trio

from mob.errors import MemberExists
from mob.generations import GenerationVerbs
from mob.helpers import KEY, helper_name, is_helper
from mob.jobs import Job
from mob.joining import Newcomer
from mob.lifecycle import MobState
from mob.messaging import MessageVerbs
from mob.records import MemberSpawned
from runtime.errors import MobError, SessionError
from runtime.forking import fork_records
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.results import TurnResult
from runtime.session import NO_SPEC
from stores import StoreError


@attrs.define(eq=False)
class Help:
    """A helper at work in this process: set `gone` once it has left, or is left for later."""

    name: str
    key: str | None
    #: None if nobody waits for it.
    job: Job | None
    leaving: bool = False
    gone: trio.Event = attrs.field(factory=trio.Event)


class HelperVerbs(GenerationVerbs, MessageVerbs):
    """What `mob.mob.Mob` has of this module."""

    async def spawn_helper(
        self,
        of: str,
        text: str,
        *,
        profile: str | None = None,
        name: str | None = None,
        key: str | None = None,
    ) -> TurnResult:
        """Ask `text` of a new member that is made for it, and leaves when it has answered; return
        the answer. It begins with an empty history, runs on `profile` (None: that of the member
        `of`) with what the member's table says, and is called ``of~1``, or with a `name`
        ``of~name``.

        Helper and question are one commit. With a `key` that was used before no helper is made: the
        answer is that of the first, also if it has left, and in another process. Cancelling the
        wait retires the helper, unless it has a key: then it works on and leaves by itself. One
        without a key does not outlive its process: the next opening retires it. Called while the
        turn of `of` is in flight, it is taken for a question of that turn: it is answered also in a
        mob that drains, and takes no slot.

        Raises:
            MemberNotFound, VerbRefused: nothing was asked.
            MemberExists: there is such a helper at work.
            Unusable, ProfileNotFound: as `spawn`.
            LimitExceeded: too many members or turns; nothing was asked.
            MailboxFull: no mailbox of the profile holds so long a text.
            MemberFailed: the supervisor gave the turn up.
            AgentError: the turn failed, was interrupted, or used its budget up.
        """

        def made(helper: str, runs_on: str) -> tuple[SessionId, Sequence[Any]]:
            created = self.realm.describe_session(
                HarnessId(runs_on), AgentId(helper), helper, None, None, NO_SPEC, None
            )
            return created.session_id, (created,)

        return await self._help(of, text, profile, name, key, made)

    async def fork_helper(
        self,
        of: str,
        text: str,
        *,
        history: str | int = "full",
        name: str | None = None,
        key: str | None = None,
    ) -> TurnResult:
        """As `spawn_helper`, but the helper knows what the member knows: its session is a fork of
        the member's, as it was committed last. With a number as `history` its model is shown the
        last so many turns of that only, and reads no others. Making it costs the same at ten turns
        and at a hundred thousand. What it spends counts for its member too.

        Raises:
            As `spawn_helper`, and:
            MobError: `history` is neither ``full`` nor a number of turns.
            SessionQuarantined: the member's history cannot be read; nothing was asked.
        """
        if history != "full" and (type(history) is not int or history < 0):
            raise MobError(f"a history of {history!r} is neither 'full' nor a number of turns")
        turns = None if isinstance(history, str) else history

        def made(helper: str, _: str) -> tuple[SessionId, Sequence[Any]]:
            source = self.realm.state.head(self._row(of).session_id)
            records = fork_records(self.realm, source, AgentId(helper), turns)
            return records[0].session_id, records

        return await self._help(of, text, None, name, key, made)

    # -- inside ----------------------------------------------------------------------------

    async def _help(
        self,
        of: str,
        text: str,
        profile: str | None,
        word: str | None,
        key: str | None,
        made: Callable[[str, str], tuple[SessionId, Sequence[Any]]],
    ) -> TurnResult:
        self._admit("ask")
        key = None if key is None else f"{KEY}{key}"
        help_ = None if key is None else self._helping.get(key)
        if help_ is None and key is not None:
            known = self.realm.inputs.find(key)
            if known is not None and known.settled is not None:
                await self.realm.store.barrier()
                return self.realm.inputs.result(known.settled)
            if known is not None:
                raise SessionError("the helper with this key leaves now", known.session_id)
        if help_ is None:
            while of in self._renewing:
                await self._renewing[of].wait()
                self._admit("ask")
            help_ = self._begin_help(of, text, profile, word, key, made)
        assert help_.job is not None, "only what is begun here is awaited"
        try:
            result = await help_.job.result()
        except trio.Cancelled:
            if key is None:
                self._dismiss(help_)
            raise
        except Exception:
            await help_.gone.wait()
            raise
        await help_.gone.wait()
        return result

    def _begin_help(
        self,
        of: str,
        text: str,
        profile: str | None,
        word: str | None,
        key: str | None,
        made: Callable[[str, str], tuple[SessionId, Sequence[Any]]],
    ) -> Help:
        """Queue a helper with its question."""
        row = self._row(of)
        if is_helper(of):
            raise MobError(f"{of!r} is a helper, and helpers have none")
        if profile is not None:
            self._check_profile(profile)
        if word is not None:
            self._check_names([word])
        runs_on = profile or row.profile

        def taken(name: str) -> bool:
            return name in self.roster.members or name in self._joining

        name = helper_name(of, taken, word)
        if taken(name):
            raise MemberExists(name)
        session_id, records = made(name, runs_on)
        joined = MemberSpawned(name, runs_on, session_id, 1, self.realm.ports.clock.now_ns())
        newcomer = Newcomer(name, runs_on, session_id, 1, records=(*records, joined))
        nested = self.realm.running(row.session_id) is not None
        _, job = self._accept(newcomer, text, None, key, nested=nested)
        assert job is not None, "the input is a new one"
        return self._attend(name, key, job)

    def _attend(self, name: str, key: str | None, job: Job) -> Help:
        """From now on the helper leaves when the job is settled."""
        help_ = self._helping[key or name] = Help(name, key, job)
        if job.settled:
            self._answered(help_)
        else:
            job.then = lambda: self._answered(help_)
        return help_

    def _answered(self, help_: Help) -> None:
        leaves = self.state in (MobState.RUNNING, MobState.STOPPED) and not self._closed
        if leaves and self._changing != "rewind":
            self._dismiss(help_)
        else:
            self._forget_help(help_)  # the next opening sees to it, or it is not there any more

    def _dismiss(self, help_: Help) -> None:
        """Have the helper leave. The mob is not quiet before it has, so it completes after that."""
        if help_.leaving or self._closed:
            return
        help_.leaving = True
        self._activations.begun()
        self._nursery.start_soon(self._depart, help_, name=f"{help_.name} leaves")

    async def _depart(self, help_: Help) -> None:
        name = help_.name
        try:
            while name in self._renewing:
                await self._renewing[name].wait()
            # A store that fails has told the callers by itself; the next opening sees to it.
            with suppress(StoreError):
                if name in self._leaving or name in self.roster.members:
                    await self._leave(name, "it has answered")
        finally:
            self._forget_help(help_)
            self._activations.rested()

    def _forget_help(self, help_: Help) -> None:
        if self._helping.get(help_.key or help_.name) is help_:
            del self._helping[help_.key or help_.name]
        help_.gone.set()

    def _sweep_helpers(self) -> None:
        """Before work goes on: helpers that an earlier process left go on if somebody can fetch
        their answer, and leave otherwise."""
        if self.state is not MobState.RUNNING:
            return
        at_work = {each.name for each in self._helping.values()}
        for name in [each for each in self.members if is_helper(each) and each not in at_work]:
            live = self._activations.live(self.roster.members[name])
            for job in live.jobs:
                key = job.pending.idempotency_key
                if key is not None and key.startswith(KEY):
                    self._attend(name, key, job)
                    break
            else:
                live.gone = True
                self._dismiss(Help(name, None, None))
