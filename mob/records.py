"""The journal's records of a mob: roster, state, exits, task board. Kinds begin at 32.

Owns: the record types of the mob floor. Must not: repeat what the runtime's records say (a
member's turns are its session's).
"""

from __future__ import annotations

from typing import Final

import attrs

from mob.comms.records import COMMS_RECORDS
from mob.flows.records import FLOW_RECORDS
from runtime.ids import SessionId
from runtime.records import cold


@attrs.frozen
class MobCreated:
    """The mob exists. `blueprint` is the definition it was made from, as canonical JSON."""

    mob_id: str
    blueprint: str
    at_ns: int


@attrs.frozen
class BlueprintAdopted:
    """A changed definition was taken over on request."""

    blueprint: str
    at_ns: int


@attrs.frozen
class MobStateChanged:
    """The mob is in another state of `mob.lifecycle.MobState` (its value) from here on."""

    state: str
    reason: str
    at_ns: int


@attrs.frozen
class MemberSpawned:
    """A member has joined under `name`; its session is created in the same commit."""

    name: str
    profile: str
    session_id: SessionId
    generation: int
    at_ns: int


@attrs.frozen
class MemberRetired:
    """A member has left; its session is archived in the same commit."""

    name: str
    reason: str
    at_ns: int


@attrs.frozen
class MemberRespawned:
    """A member has another session from here on, and the next generation. The one before is
    archived in the same commit, in which what waited for it is accepted again for the new one."""

    name: str
    profile: str
    session_id: SessionId
    generation: int
    reason: str
    at_ns: int


@attrs.frozen
class MemberExited:
    """A member's activation ended badly. `restart_in_s` is None if the supervisor gave up."""

    name: str
    session_id: SessionId
    cause: str
    restart_in_s: float | None
    at_ns: int


@attrs.frozen
class RunReported:
    """The answer to the run with this idempotency key has been shown to whoever asked."""

    key: str
    at_ns: int


@attrs.frozen
class BoardTaskAdded:
    """A task is on the board, open. `key` is the idempotency key of the verb, here and below."""

    task_id: str
    title: str
    detail: str
    blocked_by: tuple[str, ...]
    key: str | None
    at_ns: int


@attrs.frozen
class BoardTaskMoved:
    """`verb` has brought a task to `state` (a value of `mob.board.BoardState`). `owner` is whose it
    is now, `result` what came of it or why it was cancelled."""

    task_id: str
    verb: str
    state: str
    owner: str | None
    result: str
    key: str | None
    at_ns: int


@attrs.frozen
class BoardTaskBlocked:
    """An open task waits for other tasks than before."""

    task_id: str
    blocked_by: tuple[str, ...]
    key: str | None
    at_ns: int


MOB_RECORDS: Final = (
    cold(32, MobCreated),
    cold(33, BlueprintAdopted),
    cold(34, MobStateChanged),
    cold(35, MemberSpawned),
    cold(36, MemberRetired),
    cold(37, MemberExited),
    cold(38, RunReported),
    cold(39, MemberRespawned),
    cold(72, BoardTaskAdded),
    cold(73, BoardTaskMoved),
    cold(74, BoardTaskBlocked),
    *COMMS_RECORDS,
    *FLOW_RECORDS,
)
