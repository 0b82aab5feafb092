"""Children being made: their limits, and the slots they hold before the fold knows them.

Owns: `SpawnLimits`, the reservations and the spawn keys under way. Must not: append anything.

A creation that is queued happens, also if nobody waits for it any more. So a slot, and the key it
is made under, are given back when the fold learns of the session (which counts it from then on)
and not when its creator goes away; otherwise a cap could be passed, or one key make two children.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from runtime.errors import LimitExceeded
from runtime.ids import SessionId
from runtime.records import SessionCreated
from runtime.session import SessionHead
from runtime.state import RealmState
from stores import Ticket


@attrs.frozen
class SpawnLimits:
    """Bounds on a tree of child sessions (CONTRACTS 1.8).

    `max_depth` counts generations below the root, at most 16; `max_active` counts descendants of
    one root that are not archived, `max_total` all that were ever made.
    """

    max_depth: int = attrs.field(default=2)
    max_active: int = 16
    max_total: int = 200

    @max_depth.validator
    def _check_depth(self, _: Any, value: int) -> None:
        if not 0 <= value <= 16:
            raise ValueError(f"max_depth must be 0 to 16, not {value}")


#: Which bounds hold for a child of the first session in the tree of the second.
LimitsFor: TypeAlias = Callable[[SessionHead, SessionHead], SpawnLimits]


class Spawning:
    """The sessions of one realm that are queued to be created."""

    def __init__(self, state: RealmState, limits: SpawnLimits | LimitsFor) -> None:
        self.limits: LimitsFor = (
            (lambda _, __: limits) if isinstance(limits, SpawnLimits) else limits
        )
        self._state = state
        #: Invariant: exactly the sessions that are reserved and not in the fold.
        self.creating: dict[SessionId, SessionCreated] = {}
        #: Those among them that outlive their parent.
        self._detached: set[SessionId] = set()
        #: Those among them that have a spawn key.
        self.keyed: dict[str, tuple[SessionId, Ticket]] = {}
        #: How many of the children among them count against each root.
        self._reserved: dict[SessionId, int] = {}

    @property
    def taken(self) -> int:
        """How many sessions are under way, or slots of roots reserved, whichever are more."""
        return max(len(self.creating), sum(self._reserved.values()))

    def made(
        self,
        record: SessionCreated,
        append: Callable[[], Ticket],
        *,
        detached: bool = False,
        archived: bool = False,
    ) -> Ticket:
        """Check the limits, take a slot and queue what makes the session with `append`, in one
        breath. One that is made `archived` is not held against those that are active.

        Raises:
            LimitExceeded: depth or count; no slot was taken and nothing queued.
        """
        self._reserve(record, detached, archived)
        queued = False
        try:
            ticket = append()
            queued = True
        finally:
            if not queued:
                self.release(record.session_id)
        # A store without a queue has told the fold already.
        if record.spawn_key is not None and record.session_id in self.creating:
            self.keyed[record.spawn_key] = (record.session_id, ticket)
        return ticket

    def _reserve(self, record: SessionCreated, detached: bool, archived: bool) -> None:
        root = _root(record)
        if root is not None:
            self._check(record, root, archived)
            self._reserved[root] = self._reserved.get(root, 0) + 1
        self.creating[record.session_id] = record
        if detached:
            self._detached.add(record.session_id)

    def release(self, session_id: SessionId) -> None:
        """Give the slot back: the fold knows the session now, or it was never queued."""
        record = self.creating.pop(session_id, None)
        if record is None:
            return
        self._detached.discard(session_id)
        root = _root(record)
        if root is not None:
            self._reserved[root] -= 1
            if not self._reserved[root]:
                del self._reserved[root]
        if record.spawn_key is not None:
            self.keyed.pop(record.spawn_key, None)

    def below(self, parent: SessionId) -> list[SessionId]:
        """The sessions under way whose parent is this one."""
        return [made.session_id for made in self.creating.values() if made.lineage.parent == parent]

    def linked(self, parent: SessionId) -> list[SessionId]:
        """Those among them that end with their parent."""
        return [each for each in self.below(parent) if each not in self._detached]

    def _check(self, record: SessionCreated, root: SessionId, archived: bool) -> None:
        lineage = record.lineage
        assert lineage.parent is not None
        parent = self._state.heads[lineage.parent]
        limits = self.limits(parent, self._state.heads.get(root, parent))
        if lineage.depth > limits.max_depth:
            raise LimitExceeded(
                f"a child at depth {lineage.depth} is deeper than max_depth = {limits.max_depth}",
                limit="max_depth",
                allowed=limits.max_depth,
            )
        reserved = self._reserved.get(root, 0)
        active, total = self._state.descendants.get(root, (0, 0))
        for name, count, allowed in (
            ("max_active", active, limits.max_active),
            ("max_total", total, limits.max_total),
        ):
            if archived and name == "max_active":
                continue
            if count + reserved >= allowed:
                raise LimitExceeded(
                    f"{count + reserved} children stand under session {root} and {name} is"
                    f" {allowed}; archive some or raise the limit",
                    limit=name,
                    allowed=allowed,
                )


def _root(record: SessionCreated) -> SessionId | None:
    """Whose tree the session is a child in. One that is only charged to another is none."""
    return None if record.lineage.parent is None else record.lineage.budget_root
