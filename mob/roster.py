"""The roster: a mob's members and state as a fold of its journal. Pure.

Owns: `Member` rows, the mob's recorded state, reported runs. Must not: run anything. An idle
member is a row in here and nothing else: it holds no task.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from mob.folding import fold_on
from mob.lifecycle import MobState
from mob.records import (
    BlueprintAdopted,
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
    RunReported,
)
from runtime.heads import pack_row, unpack_row
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
    #: The session it joined with, if it has another one by now: it says when it joined.
    first: SessionId | None = None

    @property
    def joined(self) -> SessionId:
        """Rises in order of joining, over all generations."""
        return self.first or self.session_id


#: Bad exits that a mob remembers: what people look at, and what counts against the intensity of
#: restarts in the next process.
EXITS: Final = 256


class Roster:
    """The rows by name in order of joining, and what else the mob's journal says."""

    def __init__(self, state: RealmState) -> None:
        self._state = state
        self.members: dict[str, Member] = {}
        self.retired: dict[str, SessionId] = {}
        #: The sessions of earlier generations, and whose they were.
        self.former: dict[SessionId, str] = {}
        self.mob_state = MobState.CREATING
        self.mob_id: str | None = None
        self.blueprint: str | None = None
        self.created_at_ns = 0
        #: How often the answer to a run was reported, by its idempotency key.
        self.reported: set[str] = set()
        #: The latest bad exits of members, oldest first.
        self.exits: deque[MemberExited] = deque(maxlen=EXITS)
        #: Names of the rows that differ from what was last written (see `changed`).
        self._changed: set[bytes] = set()
        transitions: dict[type, Callable[[int, Any], None]] = {
            MobCreated: self._created,
            BlueprintAdopted: self._adopted,
            MobStateChanged: self._state_changed,
            MemberSpawned: self._spawned,
            MemberRetired: self._retired,
            MemberRespawned: self._respawned,
            MemberExited: self._exited,
            RunReported: self._reported,
        }
        for kind, transition in transitions.items():
            fold_on(state, kind, transition)

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write, as `runtime.parts.WholeRows` asks for them."""
        names, self._changed = self._changed, set()
        for name in sorted(names):
            kind, _, member = name.decode().partition("/")
            if kind == "mob":
                yield name, self._mob_row()
            elif kind == "exits":
                yield name, pack_row([attrs.astuple(each) for each in self.exits])
            elif kind == "former":
                yield name, pack_row(member, self.former[SessionId(member)], "former")
            elif member in self.members:
                yield name, pack_row(*_fields(self.members[member]))
            else:
                yield name, pack_row(member, self.retired[member])

    def load(self, name: bytes, row: bytes) -> None:
        """Take a row back. Members come back in the order of their sessions, which is theirs."""
        fields = unpack_row(row)
        if name == b"exits":
            self.exits.extend(MemberExited(*each) for each in fields[0])
        elif name == b"mob":
            self.mob_id, self.blueprint, self.created_at_ns, state, reported = fields
            self.mob_state = MobState(state)
            self.reported = set(reported)
        elif len(fields) == 2:
            self.retired[fields[0]] = fields[1]
        elif len(fields) == 3:
            self.former[SessionId(fields[0])] = fields[1]
        else:
            self.members[fields[0]] = Member(*fields)

    def loaded(self) -> None:
        """Call once after all rows: put the members in the order of joining."""
        rows = sorted(self.members.values(), key=lambda row: row.joined)
        self.members = {row.name: row for row in rows}

    def replayed(self) -> None:
        """Call once after the tail: a member whose session is lost has one that says so."""
        for row in self.members.values():
            if row.session_id not in self._state.heads:
                self._state.quarantine(
                    row.session_id, f"nothing is left of it but {row.name!r}'s row"
                )

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(name)

    def clear(self) -> None:
        """Forget the rows: others are loaded."""
        for each in (self.members, self.retired, self.former, self.reported, self.exits):
            each.clear()
        self._changed.clear()

    def _mob_row(self) -> bytes:
        return pack_row(
            self.mob_id,
            self.blueprint,
            self.created_at_ns,
            self.mob_state.value,
            sorted(self.reported),
        )

    # -- transitions -----------------------------------------------------------------------

    def _created(self, _seq: int, record: MobCreated) -> None:
        self.mob_id = record.mob_id
        self.blueprint = record.blueprint
        self.created_at_ns = record.at_ns
        self._changed.add(b"mob")

    def _adopted(self, _seq: int, record: BlueprintAdopted) -> None:
        self.blueprint = record.blueprint
        self._changed.add(b"mob")

    def _state_changed(self, _seq: int, record: MobStateChanged) -> None:
        self.mob_state = MobState(record.state)
        self._changed.add(b"mob")

    def _spawned(self, _seq: int, record: MemberSpawned) -> None:
        self.members[record.name] = Member(
            record.name, record.profile, record.session_id, record.generation
        )
        self._changed.add(_row_name(record.name))

    def _respawned(self, _seq: int, record: MemberRespawned) -> None:
        row = self.members.get(record.name)
        if row is None:
            return
        self.former[row.session_id] = row.name
        self.members[row.name] = Member(
            row.name,
            record.profile,
            record.session_id,
            record.generation,
            first=row.joined,
        )
        self._changed.update((_row_name(row.name), b"former/" + row.session_id.encode()))

    def _retired(self, _seq: int, record: MemberRetired) -> None:
        row = self.members.pop(record.name, None)
        if row is not None:
            self.retired[record.name] = row.session_id
            self._changed.add(_row_name(record.name))

    def _exited(self, _seq: int, record: MemberExited) -> None:
        self.exits.append(record)
        self._changed.add(b"exits")
        row = self.members.get(record.name)
        if row is not None and row.session_id == record.session_id:
            row.last_exit = record.cause
            if record.restart_in_s is not None:
                row.restarts += 1
            self._changed.add(_row_name(record.name))

    def _reported(self, _seq: int, record: RunReported) -> None:
        self.reported.add(record.key)
        self._changed.add(b"mob")


#: How many fields every row of a member has; later ones are written if they say something.
_OF_ALL: Final = 6


def _fields(row: Member) -> tuple[Any, ...]:
    fields = attrs.astuple(row)
    return fields if any(fields[_OF_ALL:]) else fields[:_OF_ALL]


def _row_name(member: str) -> bytes:
    return b"member/" + member.encode()


def renamed(row: bytes, mob_id: str) -> bytes:
    """The row ``mob`` for a mob of another id."""
    _, blueprint, *rest = unpack_row(row)
    if blueprint is not None:
        table = {**json.loads(blueprint), "id": mob_id}
        blueprint = json.dumps(table, sort_keys=True, ensure_ascii=False)
    return pack_row(mob_id, blueprint, *rest)
