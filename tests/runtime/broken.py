"""Managers that break one rule each, for the suite to find.

Owns: `BROKEN_MANAGERS`. Must not: break two rules in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from runtime.ids import SessionId
from runtime.manager import RealmSessions
from runtime.session import NO_LINEAGE, Session, SessionHead, SessionMetadata


class ForksUsage(RealmSessions):
    """A fork begins with what its source spent."""

    async def fork(self, session_id: SessionId, new_name: str | None = None) -> SessionMetadata:
        row = await super().fork(session_id, new_name)
        head = self._realm.state.head(row.session_id)
        head.usage = self._realm.state.head(session_id).usage
        return head.metadata()


class ForgetsLineage(RealmSessions):
    """A fork comes from nowhere."""

    async def fork(self, session_id: SessionId, new_name: str | None = None) -> SessionMetadata:
        row = await super().fork(session_id, new_name)
        head = self._realm.state.head(row.session_id)
        head.lineage = NO_LINEAGE
        return head.metadata()


class OneNameForAllCopies(RealmSessions):
    """The second copy is called like the first."""

    def _fork_name(self, name: str | None) -> str | None:
        return name and f"{name} (fork)"


class DropsTheTail(RealmSessions):
    """What a rewind cuts off is gone."""

    async def rewind(self, session_id: SessionId, turn_index: int) -> Session:
        head = self._realm.state.head(session_id)
        before = head.branches
        session = await super().rewind(session_id, turn_index)
        head.branches = before
        return session


class RewindsTooFar(RealmSessions):
    """The turn that is named goes too."""

    async def rewind(self, session_id: SessionId, turn_index: int) -> Session:
        return await super().rewind(session_id, turn_index - (turn_index > 0))


class ClampsTheRange(RealmSessions):
    """A rewind beyond the end is a rewind to the end."""

    async def rewind(self, session_id: SessionId, turn_index: int) -> Session:
        turns = self._realm.state.head(session_id).turns
        if turn_index >= turns > 0:
            return await self.resume(session_id)
        return await super().rewind(session_id, turn_index)


class LosesWhereItWas(RealmSessions):
    """A restore puts nothing aside."""

    async def restore(self, session_id: SessionId, branch: int = -1) -> Session:
        session = await super().restore(session_id, branch)
        head = self._realm.state.head(session_id)
        head.branches = head.branches[:-1]
        return session


class SortsTheTags(RealmSessions):
    """Tags are kept in the order of the alphabet."""

    async def _label(self, session_id: SessionId, title: str | None, tags: Any) -> None:
        await super()._label(session_id, title, tuple(sorted(tags)))


class LosesATag(RealmSessions):
    """Reads, waits, writes."""

    async def tag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        title, now = self._labelled(session_id)
        await trio.lowlevel.checkpoint()
        await self._label(session_id, title, tuple(dict.fromkeys((*now, *tags))))


class TakesAnyTag(RealmSessions):
    """A saved tag may have any length."""

    async def save(self, session: Session) -> SessionMetadata:
        tags = tuple(tag[:64] for tag in session.tags if tag)
        return await super().save(attrs.evolve(session, tags=tags))


class LeavesChildren(RealmSessions):
    """Children outlive their parent."""

    def _subtree(self, head: SessionHead) -> Any:
        return [head]


class TakesWhatIsStale(RealmSessions):
    """The last save wins."""

    async def save(self, session: Session) -> SessionMetadata:
        head = self._realm.state.heads.get(session.session_id)
        if head is not None:
            session = attrs.evolve(session, revision=head.applied)
        return await super().save(session)


class SavesTwice(RealmSessions):
    """Checks the revision, waits for its turn, writes."""

    lock: trio.Lock

    async def save(self, session: Session) -> SessionMetadata:
        head = self._realm.state.heads.get(session.session_id)
        if head is None or head.applied != session.revision:
            return await super().save(session)
        self.lock = getattr(self, "lock", None) or trio.Lock()
        async with self.lock:
            return await super().save(attrs.evolve(session, revision=head.applied))


class SavesWithoutATime(RealmSessions):
    """Saving is no update."""

    async def save(self, session: Session) -> SessionMetadata:
        await super().save(session)
        head = self._realm.state.head(session.session_id)
        head.updated_at_ns = session.updated_at_ns
        return head.metadata()


class IgnoresTheLocale(RealmSessions):
    """What cannot be changed is passed over."""

    async def save(self, session: Session) -> SessionMetadata:
        return await super().save(attrs.evolve(session, locale="en"))


class ListsById(RealmSessions):
    """The order of creation."""

    async def list(self) -> Any:
        return sorted(await super().list(), key=lambda row: row.session_id)


class SharesTheSpec(RealmSessions):
    """What is read is what is kept."""

    async def resume(self, session_id: SessionId) -> Session:
        spec = self._realm.state.head(session_id).spec
        return attrs.evolve(await super().resume(session_id), spec=spec)


class NeverBusy(RealmSessions):
    """A turn in flight is nobody's business."""

    def _at_rest(self, session_id: SessionId, verb: str, *, sound: bool = True) -> SessionHead:
        return self._realm.state.head(session_id)


class RenamesNobody(RealmSessions):
    """An unknown id is passed over."""

    async def rename(self, session_id: SessionId, new_name: str) -> None:
        if session_id in self._realm.state.heads:
            await super().rename(session_id, new_name)


class ComparesNothing(RealmSessions):
    """Two histories have nothing in common."""

    def _shared_turns(self, one: SessionHead, other: SessionHead) -> int:
        return 0


BROKEN_MANAGERS = [
    ClampsTheRange,
    ComparesNothing,
    DropsTheTail,
    ForgetsLineage,
    ForksUsage,
    IgnoresTheLocale,
    LeavesChildren,
    ListsById,
    LosesATag,
    LosesWhereItWas,
    NeverBusy,
    OneNameForAllCopies,
    RenamesNobody,
    RewindsTooFar,
    SavesTwice,
    SavesWithoutATime,
    SharesTheSpec,
    SortsTheTags,
    TakesAnyTag,
    TakesWhatIsStale,
]
