"""The roster: a mob's members and state as a fold of its journal. Pure.

Owns: `Member` rows, the mob's recorded state, reported runs. Must not: run anything. An idle
member is a row in here and nothing else: it holds no task.
"""

from __future__ import annotations

import attrs

from mob.lifecycle import MobState
from mob.records import (
    BlueprintAdopted,
    MemberExited,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
    RunReported,
)
from runtime.ids import SessionId
from runtime.state import RealmState


@attrs.define
class Member:
    """One row. Invariant: `name` is unique among the rows; retired members have none."""

    name: str
    profile: str
    session_id: SessionId
    generation: int
    restarts: int = 0
    #: The cause of the latest bad exit, for people; None if there was none.
    last_exit: str | None = None


class Roster:
    """The rows by name in order of joining, and what else the mob's journal says."""

    def __init__(self, state: RealmState) -> None:
        self.members: dict[str, Member] = {}
        self.retired: dict[str, SessionId] = {}
        self.mob_state = MobState.CREATING
        self.mob_id: str | None = None
        self.blueprint: str | None = None
        self.created_at_ns = 0
        #: How often the answer to a run was reported, by its idempotency key.
        self.reported: set[str] = set()
        state.transitions.update(
            {
                MobCreated: self._created,
                BlueprintAdopted: self._adopted,
                MobStateChanged: self._state_changed,
                MemberSpawned: self._spawned,
                MemberRetired: self._retired,
                MemberExited: self._exited,
                RunReported: self._reported,
            }
        )

    def _created(self, _: int, record: MobCreated) -> None:
        self.mob_id = record.mob_id
        self.blueprint = record.blueprint
        self.created_at_ns = record.at_ns

    def _adopted(self, _: int, record: BlueprintAdopted) -> None:
        self.blueprint = record.blueprint

    def _state_changed(self, _: int, record: MobStateChanged) -> None:
        self.mob_state = MobState(record.state)

    def _spawned(self, _: int, record: MemberSpawned) -> None:
        self.members[record.name] = Member(
            record.name, record.profile, record.session_id, record.generation
        )

    def _retired(self, _: int, record: MemberRetired) -> None:
        row = self.members.pop(record.name, None)
        if row is not None:
            self.retired[record.name] = row.session_id

    def _exited(self, _: int, record: MemberExited) -> None:
        row = self.members.get(record.name)
        if row is not None:
            row.last_exit = record.cause
            if record.restart_in_s is not None:
                row.restarts += 1

    def _reported(self, _: int, record: RunReported) -> None:
        self.reported.add(record.key)
