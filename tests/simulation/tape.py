"""Journals written by hand, for what no run of the real mob would ever write.

Owns: `Tape`, which commits records to an oracle, and the records of a small mob in one call each.
Must not: be right about anything the tests are about.
"""

from __future__ import annotations

import json
from typing import Any

from mob.records import MOB_RECORDS, MemberExited, MemberSpawned, MobCreated, MobStateChanged
from mob.simulation.disk import Commit
from mob.simulation.oracle import Oracle
from runtime.ids import HarnessId, InputId, RunId, SessionId
from runtime.messages import AssistantMessage, Message, Usage, UserMessage
from runtime.records import (
    RUNTIME_RECORDS,
    InputAccepted,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.session import Lineage, SessionSpec
from stores import Append, Operation

_TYPES = {each.cls: each for each in (*RUNTIME_RECORDS, *MOB_RECORDS)}

RESTART = {"when": "on-failure", "max_restarts": 2, "within_s": 10.0, "backoff_s": 1.0}
PROFILE = {
    "restart": {**RESTART, "max_backoff_s": 30.0},
    "subagents": {"profile": None, "max_depth": 2, "max_children": 2},
}
ONE = Usage(1, 1, 1, 0)


def blueprint(**profile: Any) -> str:
    return json.dumps({"profiles": {"p": {**PROFILE, **profile}}})


def created(session: str = "s", agent: str | None = "a", **given: Any) -> SessionCreated:
    lineage = Lineage(
        parent=given.get("parent"),
        budget_root=given.get("root", given.get("parent")),
        depth=given.get("depth", 1 if given.get("parent") else 0),
    )
    return SessionCreated(
        SessionId(session),
        HarnessId("p"),
        agent,  # type: ignore[arg-type]
        agent,
        None,
        lineage,
        SessionSpec(),
        given.get("spawn_key"),
        1,
    )


def spawned(name: str = "a", session: str = "s") -> MemberSpawned:
    return MemberSpawned(name, "p", SessionId(session), 1, 1)


def accepted(
    input_id: str = "i",
    text: str = "hi",
    *,
    session: str = "s",
    sender: str | None = None,
    key: str | None = None,
) -> InputAccepted:
    return InputAccepted(SessionId(session), InputId(input_id), text, sender, key, 2)


def archived(session: str = "s") -> SessionArchived:
    return SessionArchived(SessionId(session), "because", 3)


def deleted(session: str = "s") -> SessionDeleted:
    return SessionDeleted(SessionId(session), 3)


def exited(delay: float | None = 1.0, cause: str = "boom", session: str = "s") -> MemberExited:
    return MemberExited("a", SessionId(session), cause, delay, 3)


def said(text: str = "hi", reply: str = "yes", sender: str | None = None) -> tuple[Message, ...]:
    return (UserMessage(text, sender), AssistantMessage(reply, usage=ONE))


def ended(
    *inputs: str,
    session: str = "s",
    run: str = "r",
    prev: int = 0,
    messages: tuple[Message, ...] | None = None,
    usage: Usage = ONE,
    outcome: TurnOutcome = TurnOutcome.COMPLETED,
    error: str | None = None,
    place: tuple[int, int, int, int] = (1, 2, 0, 0),
) -> TurnEnded:
    turn, total, skip, skip_turn = place
    return TurnEnded(
        SessionId(session),
        RunId(run),
        prev,
        outcome,
        said() if messages is None else messages,
        usage,
        tuple(map(InputId, inputs)),
        None,
        error,
        4,
        5,
        turn,
        total,
        skip,
        skip_turn,
    )


def progressed(
    *messages: Message,
    inputs: tuple[str, ...] = ("i",),
    run: str = "r",
    session: str = "s",
    usage: Usage = ONE,
) -> TurnProgressed:
    return TurnProgressed(
        SessionId(session), RunId(run), tuple(map(InputId, inputs)), messages, usage, 1, 3
    )


class Tape:
    """Commits to an oracle as a disk would tell them. Process 1 has opened it."""

    def __init__(self, oracle: Oracle | None = None, *, mob: bool = True, **profile: Any) -> None:
        self.oracle = oracle or Oracle()
        self.process = 1
        self.generation = 1
        self.at_s = 0.0
        self._last = 0
        self._numbers = 0
        self.oracle.opened(1, 1)
        if mob:  # records 1 to 4
            self.commit(
                MobCreated("t", blueprint(**profile), 1),
                created(),
                spawned(),
                MobStateChanged("running", "created", 1),
            )

    def commit(self, *records: Any, also: tuple[Operation, ...] = ()) -> None:
        """One batch of these records and other operations."""
        appends = []
        for record in records:
            kind = _TYPES[type(record)]
            appends.append(Append(b"realm/t", kind.kind, kind.pack(record), kind.version))
        sequences = tuple(range(self._last + 1, self._last + 1 + len(records)))
        self._last += len(records)
        self.operations(*appends, *also, sequences=sequences)

    def operations(self, *operations: Operation, sequences: tuple[int, ...] = ()) -> None:
        self._numbers += 1
        self.oracle.committed(
            Commit(
                self._numbers,
                self._numbers,
                self.at_s,
                self.process,
                self.generation,
                operations,
                sequences,
            )
        )

    def open(self, process: int, generation: int) -> None:
        """Another process takes the disk."""
        self.oracle.opened(process, generation, self.at_s)
        self.process, self.generation = process, generation
