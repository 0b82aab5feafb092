"""Looking at a running mob: which of its rows are another than in the frame before.

Owns: `Source`. Must not: slow the mob down, read its history, decide how anything looks.

It is told of each committed record, notes whose it is, and makes that member's row anew when the
next frame is asked for. What no record tells (a model call that begins, a tool that is done) shows
in a number that each session counts up (`runtime.live.LiveSession.activity`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Final

import attrs
import trio

from mob.console.rows import Frame, Row, Totals
from mob.console.words import left_text, one_line, shown
from mob.mob import Mob
from mob.records import MemberExited, MemberRespawned, MemberRetired, MemberSpawned
from mob.view import FINISHED_CHILDREN, last_words, resting
from runtime.budget import Account, Spent
from runtime.ids import SessionId
from runtime.messages import NO_USAGE, Usage
from runtime.models.redaction import remembered
from runtime.points import RealmRewound
from runtime.records import TurnEnded
from runtime.results import last_text
from runtime.session import SessionHead
from runtime.watching import TextDelta

#: Seconds between two frames at least: more often than about four times a second nobody reads.
EVERY_S: Final = 0.25
#: A frame may take a twentieth of the time: whoever makes frames rests so many times as long.
RESTS: Final = 19
#: Seconds between two frames of a mob at work that differ in their ages only.
AGES_S: Final = 1.0
#: Rows made for one frame at most, about 30 ms.
ROWS: Final = 2000
#: Members up to which live text is listened to: of more nobody could read it.
_LISTENED: Final = 64
#: Characters kept of it, and of a session's last words.
_TAIL: Final = 160
#: Children of a session that are looked at, the latest, and how deep.
_CHILDREN: Final = 24
_DEEP: Final = 4

_MEMBERS: Final = (MemberSpawned, MemberRetired, MemberRespawned, MemberExited)


class Source:
    """Gives frames, in the block that it is. For one reader."""

    def __init__(self, mob: Mob, rows: int = ROWS) -> None:
        """A frame has at most so many rows; the others are in those that follow."""
        self._mob = mob
        self._rows = rows
        self._whole = True
        self._events = 0
        self._stirred = trio.Event()
        self._begin()

    def _begin(self) -> None:
        """Know nothing of what was before."""
        heads = self._mob.realm.state.heads
        members = self._mob.roster.members
        #: Whose session it is, by session; names by session as they stand in the roster.
        self._names = {row.session_id: name for name, row in members.items()}
        self._sessions = {name: row.session_id for name, row in members.items()}
        self._owners: dict[SessionId, str | None] = {}
        #: What each session has spent, each member with all below it, and all together.
        self._own: dict[SessionId, Usage] = {}
        self._spent: dict[str, Usage] = {}
        self._usage, self._turns = NO_USAGE, 0
        self._counted: dict[SessionId, int] = {}
        for head in heads.values():
            self._count(head)
        self._changed: dict[SessionId, None] = {}
        self._due: dict[str, None] = dict.fromkeys(members)
        self._at_work: dict[str, None] = {}
        self._acting: dict[str, tuple[int, ...]] = {}
        self._below: dict[str, tuple[SessionId, ...]] = {}
        self._restarts: dict[str, tuple[float, float]] = {}
        self._said: dict[str, str] = {}
        self._ended: dict[SessionId, TurnEnded] = {}
        self._streams: dict[SessionId, tuple[int, str]] = {}

    def __enter__(self) -> Source:
        self._mob.realm.journal.listen(self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mob.realm.journal.unlisten(self._hear)

    def _hear(self, _: int, record: Any) -> None:
        self._events += 1
        session_id = getattr(record, "session_id", None)
        if session_id is not None:
            self._changed[session_id] = None
        kind = type(record)
        if kind is TurnEnded:
            self._ended[record.session_id] = record
        elif kind in _MEMBERS:
            self._due[record.name] = None
            if kind is MemberExited and record.restart_in_s is not None:
                now = trio.current_time()
                self._restarts[record.name] = (now, now + record.restart_in_s)
        elif kind is RealmRewound:
            self._whole = True
        self._stirred.set()

    # -- frames ----------------------------------------------------------------------------

    def stir(self) -> None:
        """End a wait for something to happen."""
        self._stirred.set()

    @property
    def restless(self) -> bool:
        """Whether ages pass, or rows are due that the last frame had no room for."""
        return bool(self._at_work or self._due or self._mob.realm.background.running)

    async def stirred(self) -> None:
        """Park until something was committed since the last frame, or `stir` was called."""
        await self._stirred.wait()

    def frame(self) -> Frame:
        """What is another since the last frame. The first one is whole."""
        self._stirred = trio.Event()
        mob, whole = self._mob, self._whole
        if whole:
            self._begin()
            self._whole = False
        gone = self._joined_and_left()
        self._take_in()
        self._look_at_work()
        rows = []
        for key in list(islice(self._due, self._rows)):
            del self._due[key]
            row = self._row(key)
            if row is None:
                gone.append(key)
            else:
                rows.append(row)
        totals = Totals(
            mob.id, mob.state.value, self._usage, self._turns, self._events, self._left()
        )
        return Frame(trio.current_time(), totals, tuple(rows), tuple(gone), whole)

    def _joined_and_left(self) -> list[str]:
        """Bring the names up to date with the roster; return those that left."""
        gone = []
        for name in self._due:
            row = self._mob.roster.members.get(name)
            before = self._sessions.pop(name, None)
            if before is not None and self._names.get(before) == name:
                del self._names[before]
            if row is not None:
                self._names[row.session_id] = name
                self._sessions[name] = row.session_id
                if before is not None and before != row.session_id:
                    self._spent[name] = NO_USAGE  # another session: what is below it is counted
                    self._owners.clear()
            elif before is not None:
                gone.append(name)
        for name in gone:
            del self._due[name]
            self._spent.pop(name, None)
            self._owners.clear()
        return gone

    def _take_in(self) -> None:
        """What records said of sessions since the last frame."""
        heads = self._mob.realm.state.heads
        for session_id in self._changed:
            head = heads.get(session_id)
            if head is not None:
                self._count(head)
            owner = self._owner(session_id)
            if owner is not None:
                self._due[owner] = None
            ended = self._ended.get(session_id)
            if ended is not None and session_id in self._names:
                self._said[self._names[session_id]] = shown(last_text(ended), _TAIL)
        self._changed.clear()
        self._ended.clear()

    def _count(self, head: SessionHead) -> None:
        session_id = head.session_id
        own = head.usage if head.partial is None else head.usage + head.partial.usage
        before = self._own.get(session_id, NO_USAGE)
        self._turns += head.turns - self._counted.get(session_id, 0)
        self._counted[session_id] = head.turns
        if own == before:
            return
        more = (Spent(own) - Spent(before)).usage
        self._own[session_id] = own
        self._usage = self._usage + more
        owner = self._owner(session_id)
        if owner is not None:
            self._spent[owner] = self._spent.get(owner, NO_USAGE) + more

    def _owner(self, session_id: SessionId) -> str | None:
        """Whose row shows the session; None if nobody's does."""
        if session_id in self._owners:
            return self._owners[session_id]
        heads = self._mob.realm.state.heads
        here: SessionId | None = session_id
        while here is not None and here not in self._names:
            head = heads.get(here)
            here = None if head is None else head.lineage.parent
        owner = None if here is None else self._names[here]
        if owner is None and session_id in self._mob.realm.state.tasks:
            owner = session_id  # what it worked for has ended, and it goes on
        if session_id in heads:
            self._owners[session_id] = owner
        return owner

    def _look_at_work(self) -> None:
        """What members at work do that no record tells."""
        running = self._mob.realm.running
        before, self._at_work = self._at_work, dict.fromkeys(self._mob.at_work)
        for name in self._at_work:
            session_id = self._sessions.get(name)
            if session_id is None:
                continue
            found = running(session_id)
            acting: tuple[int, ...] = (-1 if found is None else found.activity,)
            for child in self._below.get(name, ()):
                found = running(child)
                acting += (-1 if found is None else found.activity,)
            if self._acting.get(name) != acting:
                self._acting[name] = acting
                self._due[name] = None
        for name in before:
            if name not in self._at_work and name in self._sessions:
                self._acting.pop(name, None)
                self._restarts.pop(name, None)
                self._due[name] = None

    # -- rows ------------------------------------------------------------------------------

    def _row(self, key: str) -> Row | None:
        member = self._mob.roster.members.get(key)
        heads = self._mob.realm.state.heads
        if member is None:
            head = heads.get(SessionId(key))
            if head is None or SessionId(key) not in self._mob.realm.state.tasks:
                return None
            return self._session(head, key, 0)
        head = heads[member.session_id]
        row = self._session(head, key, 0)
        self._below[key] = tuple(SessionId(each.key) for each in row.children)
        row = attrs.evolve(
            row,
            key=key,
            name=key,
            usage=self._spent.get(key, NO_USAGE),
            restarts=member.restarts,
            left=self._left_of(head),
        )
        if (row.since_s is None or row.state == "waiting") and key in self._at_work:
            since_s, until_s = self._restarts.get(key, (0.0, 0.0))
            if until_s > trio.current_time():
                return attrs.evolve(row, state="restarting", since_s=since_s, until_s=until_s)
            if row.state in ("idle", "queued", "unfinished"):
                return attrs.evolve(row, state="starting")
        return row

    def _session(self, head: SessionHead, key: str, deep: int) -> Row:
        session_id = head.session_id
        live = self._mob.realm.running(session_id)
        since_s = until_s = None
        if live is None:
            state = resting(head)
            asked = self._mob.realm.state.approvals.current(session_id)
            waiting = [each for each in asked if each.waits]
            detail = ", ".join(dict.fromkeys(each.tool for each in waiting))
            if waiting:
                now_ns = self._mob.realm.ports.clock.now_ns()
                waited_s = (now_ns - min(each.asked_at_ns for each in waiting)) / 1e9
                since_s = trio.current_time() - max(waited_s, 0.0)
            words = self._said.get(key, "")
        else:
            state = live.doing.value if live.doing.value != "idle" else "starting"
            detail, since_s = live.detail, live.since
            until_s = live.until_s if live.until_s < float("inf") else None
            call, text = self._streams.get(session_id, (-1, ""))
            if call == live.activity:
                words = one_line(remembered().text(text)[-_TAIL:], _TAIL)
            else:
                words = shown(last_words(live.history), _TAIL)
        below = head.children or ()
        children: list[Row] = []
        done = 0
        for child in reversed(below[-_CHILDREN:]) if deep < _DEEP else ():
            of = self._mob.realm.state.heads[child]
            done += of.archived
            if not of.archived or done <= FINISHED_CHILDREN:
                children.append(self._session(of, child, deep + 1))
        return Row(
            session_id,
            head.title or head.agent_id or session_id,
            head.harness_id,
            state,
            detail,
            since_s,
            until_s,
            head.turns,
            self._own.get(session_id, NO_USAGE),
            len(head.inputs or ()),
            words=words,
            children=tuple(reversed(children)),
            more=len(below) - len(children),
        )

    # -- budgets and text ------------------------------------------------------------------

    def _left_of(self, head: SessionHead) -> str:
        budgets = self._mob.realm.budgets
        if budgets is None:
            return ""
        own = self._mob.budget_of(head)
        if own is None:
            return ""
        spent = Spent(budgets.ledger.total(head.session_id), budgets.seconds(head.session_id))
        return left_text([Account(*own, spent)])

    def _left(self) -> str:
        budgets = self._mob.realm.budgets
        if budgets is None:
            return ""
        whole = budgets.ledger.whole
        return left_text(
            Account(
                each.scope,
                each.budget,
                Spent(whole, budgets.seconds(each.session_id)) - each.base,
            )
            for each in budgets.grants
        )

    async def listen(self) -> None:
        """Have what models stream in the rows, without end, if the mob is small."""
        if len(self._mob.roster.members) > _LISTENED:
            return
        with self._mob.watch() as watch:
            async for seen in watch:
                if isinstance(seen, TextDelta):
                    call, text = self._streams.get(seen.session_id, (seen.call, ""))
                    text = text if call == seen.call else ""
                    self._streams[seen.session_id] = (seen.call, (text + seen.text)[-4 * _TAIL :])
                    owner = self._owner(seen.session_id)
                    if owner is not None:
                        self._due[owner] = None


@asynccontextmanager
async def open_source(mob: Mob, rows: int = ROWS) -> AsyncIterator[Source]:
    """A source that listens to live text, too, for this block."""
    with Source(mob, rows) as source:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.listen)
            try:
                yield source
            finally:
                nursery.cancel_scope.cancel()
