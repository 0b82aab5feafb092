"""What must hold of the state that a process recovers.

Owns: comparing it with the fold of the whole journal and with the ledger, what was erased with what
is reached. Must not: run at every commit: all of this costs what the journal is long, and is asked
when a mob is opened and at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import attrs
import msgpack

from mob.app import stored_mob
from mob.folds import MobFolds
from mob.roster import Roster
from mob.simulation.facts import KnownMember, KnownSession
from mob.simulation.ledger import Ledger
from runtime.ids import SessionId
from runtime.keyed import KeyedInput
from runtime.messages import Usage
from runtime.session import SessionHead
from runtime.state import RealmState
from stores import Store

#: What one fold knows, part by part; two folds of the same records know the same.
Known = dict[str, Any]

_HEAD: Final = tuple(field.name for field in attrs.fields(SessionHead))


@attrs.frozen
class Recovered:
    """A state that some process recovered from the disk, or could now. `committed` is how many
    records the journal had when that process had fenced off the others."""

    state: RealmState
    roster: Roster
    committed: int = 0


def known(state: RealmState, roster: Roster, keys: Iterable[str]) -> Known:
    """Everything that a fold knows, as values; `keys` are the idempotency keys to look up."""
    found: Known = {}
    for session_id, head in state.heads.items():
        for name in _HEAD:
            found[f"session {session_id}: {name}"] = getattr(head, name)
        found[f"session {session_id}: order of inputs"] = list(head.inputs or ())
    for key in keys:
        found[f"key {key}"] = state.find_key(key)
    for key, session_id in state.spawned.items():
        found[f"spawn key {key}"] = session_id
    for root, counts in state.descendants.items():
        if counts != (0, 0):
            found[f"descendants of {root}"] = counts
    for name, row in roster.members.items():
        found[f"member {name}"] = attrs.astuple(row)
    found["order of members"] = list(roster.members)
    for name, session_id in roster.retired.items():
        if name not in roster.members:
            found[f"retired member {name}"] = session_id
    found["mob"] = (roster.mob_id, roster.mob_state, roster.blueprint, roster.created_at_ns)
    found["reported"] = set(roster.reported)
    found["approvals"] = [attrs.astuple(each) for each in state.approvals]
    found["failed attempts"] = {key: dict(each) for key, each in state.runs.attempts.items()}
    return {name: value for name, value in found.items() if value is not None}


def difference(one: Known, other: Known) -> str | None:
    """The first thing that two folds disagree about."""
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            return f"{name}: {one.get(name)!r:.300}, and {other.get(name)!r:.300}"
    return None


def fold(ledger: Ledger, last: int) -> tuple[RealmState, Roster]:
    """The production fold of the first `last` records, from the first on and without any row."""
    state = RealmState()
    roster = MobFolds(state).roster
    for written in ledger.written[ledger.voyages.base_of(last) : last]:
        state.apply(written.seq, written.record)
    return state, roster


def loaded(store: Store, mob_id: str) -> Recovered:
    """What a process that reads `store` now would recover."""
    stored = stored_mob(store, mob_id)
    state = stored.state

    def lookup(key: str) -> KeyedInput | None:
        name = hashlib.sha256(key.encode()).digest()
        for era in state.eras(mob_id):
            written = b"" if not era.number else b"\xff" + era.number.to_bytes(8, "big")
            found = state.keyed_before.get(era.number, {}).get(key) if era.realm == mob_id else None
            row = store.get(b"fold/" + era.realm.encode() + b"/k/" + name + written)
            if found is None and row is not None:
                _, _, session_id, input_id, turn, abandoned, *rest = msgpack.unpackb(row)
                found = KeyedInput(session_id, input_id, turn, abandoned, rest[0] if rest else turn)
            if found is not None and found.seq <= era.until:
                return found
        return None

    state.lookup = lookup
    return Recovered(state, stored.roster)


def recovery_follows_the_fence(ledger: Ledger, recovered: Recovered) -> str | None:
    """CONTRACTS 6.9, 6.12: what was committed before a process fenced off the others, it knows."""
    if recovered.state.applied >= recovered.committed:
        return None
    return (
        f"the process begins from record {recovered.state.applied}, and there were"
        f" {recovered.committed} when it took the store"
    )


def the_fold_is_recovered_whole(ledger: Ledger, recovered: Recovered) -> str | None:
    """CONTRACTS 6.9: rows and the tail behind them make the same state as the whole journal folded
    from its first record."""
    whole, roster = fold(ledger, recovered.state.applied)
    # What a fork began with and a rewind went back to has its keys in rows, which no fold reads.
    keys = [] if ledger.voyages.went or ledger.voyages.bases else list(ledger.keys)
    return difference(known(recovered.state, recovered.roster, keys), known(whole, roster, keys))


def the_fold_agrees_with_the_ledger(ledger: Ledger, recovered: Recovered) -> str | None:
    """CONTRACTS 6.9: what was recovered is what the ledger says, which shares no code with it."""
    state, roster = recovered.state, recovered.roster
    if state.applied != ledger.last:
        return None  # something was committed meanwhile; the whole fold was compared
    living = {session.session_id: session for session in ledger.living()}
    if living.keys() != state.heads.keys():
        return f"sessions: {sorted(state.heads)}, the ledger has {sorted(living)}"
    for session_id, session in living.items():
        one, other = _told(state.heads[SessionId(session_id)]), _plain(ledger, session)
        for name, value in one.items():
            if value != other[name]:
                return f"session {session_id}: {name} is {value!r:.300}, not {other[name]!r:.300}"
    members = {row.name: attrs.astuple(row) for row in ledger.members.values()}
    known = [field.name for field in attrs.fields(KnownMember)]
    told = {
        name: tuple([getattr(row, each) for each in known]) for name, row in roster.members.items()
    }
    if told != members:
        return f"members: {roster.members!r:.300}, not {members!r:.300}"
    if (roster.mob_state.value, roster.reported) != (ledger.state, ledger.reported):
        return f"the mob is {roster.mob_state.value}, not {ledger.state}, or runs differ"
    running = {each.session_id for each in living.values() if each.stands == "running"}
    if state.tasks.keys() != running:
        return f"background children: {sorted(state.tasks)}, not {sorted(running)}"
    if state.spawned != ledger.spawned:
        return f"spawn keys: {state.spawned!r:.300}, not {ledger.spawned!r:.300}"
    slots = {root: (ledger.active[root], count) for root, count in ledger.descendants.items()}
    counted = {str(root): counts for root, counts in state.descendants.items()}
    for root in slots.keys() | counted.keys():
        if counted.get(root, (0, 0)) != slots.get(root, (0, 0)):
            return f"descendants of {root}: {counted.get(root)}, not {slots.get(root)}"
    return _questions(ledger, state) or _keys(ledger, state)


def _questions(ledger: Ledger, state: RealmState) -> str | None:
    for session in ledger.living():
        asked = {} if session.partial is None or session.archived else session.partial.asked
        found = {
            each.call_id: "begun"
            if each.begun
            else "waiting"
            if each.verdict is None
            else each.verdict.value
            for each in state.approvals.current(SessionId(session.session_id))
        }
        if found != asked:
            return f"session {session.session_id}: calls are {found}, not {asked}"
    return None


def _keys(ledger: Ledger, state: RealmState) -> str | None:
    for key, meant in ledger.keys.items():
        if ledger.sessions[meant.session_id].deleted:
            continue
        found = state.find_key(key)
        fate = None if found is None else (found.input_id, found.turn, found.abandoned is not None)
        if fate != (meant.input_id, meant.turn, meant.abandoned is not None):
            return f"key {key!r}: {found!r}, not {meant!r:.300}"
    return None


def _told(head: SessionHead) -> dict[str, Any]:
    partial = head.partial
    return {
        "harness": head.harness_id,
        "agent": head.agent_id,
        "title": head.title,
        "external_id": head.external_id,
        "parent": head.lineage.parent,
        "status": head.status.value,
        "head": head.head,
        "turns": head.turns,
        "messages": head.message_count,
        "usage": head.usage,
        "inputs": [
            (each.input_id, each.text, each.sender, each.idempotency_key)
            for each in (head.inputs or {}).values()
        ],
        "turn in flight": None
        if partial is None
        else (partial.run_id, partial.input_ids, partial.messages, partial.usage, partial.step),
        "children": list(head.children or ()),
        "branches": [each.head for each in head.branches],
        "compactions": [
            0 if each is None else each.seq
            for each in (*[branch.compaction for branch in head.branches], head.compaction)
        ],
        "rewinds": head.branch,
        "tags": head.tags,
        "links": head.links,
        "revision": head.applied,
        "updated": head.updated_at_ns,
        "task": None
        if head.task is None
        else (
            head.task.lifetime.value == "detached",
            head.task.state.value,
            head.task.turn,
            head.task.error,
        ),
    }


def _plain(ledger: Ledger, session: KnownSession) -> dict[str, Any]:
    partial = session.partial
    return {
        "harness": session.harness,
        "agent": session.agent,
        "title": session.title,
        "external_id": session.external_id,
        "parent": session.parent,
        "status": session.status,
        "head": session.head,
        "turns": session.turns,
        "messages": session.total,
        "usage": session.usage,
        "inputs": [
            (each.input_id, each.text, each.sender, each.key) for each in session.pending.values()
        ],
        "turn in flight": None
        if partial is None
        else (partial.run_id, partial.inputs, partial.messages, partial.usage, partial.step),
        "children": list(session.children),
        "branches": session.branches,
        "compactions": [*session.aside, session.compaction],
        "rewinds": session.branch,
        "tags": session.tags,
        "links": ledger.links(session.head),
        "revision": session.revision,
        "updated": session.updated_at_ns,
        "task": None
        if session.stands is None
        else (session.detached, session.stands, session.answer, session.reason),
    }


def usage_adds_up_over_the_tree(ledger: Ledger, recovered: Recovered) -> str | None:
    """CONTRACTS 1.7, 3.4, 4.8, 6.15: a session has spent what its turns and summaries spent, a
    fork's begins at zero, and so a tree has spent what all of them did."""
    if recovered.state.applied != ledger.last:
        return None
    spent: dict[str, Usage] = {}
    for turn in ledger.turns.values():
        spent[turn.session_id] = spent.get(turn.session_id, Usage()) + turn.usage
    for session_id, usage in ledger.summaries.items():
        spent[session_id] = spent.get(session_id, Usage()) + usage
    for session_id, head in recovered.state.heads.items():
        if head.usage != spent.get(session_id, Usage()):
            return (
                f"session {session_id} says it spent {head.usage}, its turns and summaries"
                f" {spent.get(session_id)}"
            )
    return None


def nothing_needed_is_erased(ledger: Ledger, _: Recovered) -> str | None:
    """CONTRACTS 3.5, 3.7: what a history, a branch, a context, a key or unfinished work reaches
    stays."""
    if not ledger.erased:
        return None
    reached: set[int] = set()
    ends = [head for each in ledger.living() for head in (each.head, *each.branches)]
    ends += [
        each.turn for each in ledger.keys.values() if not ledger.sessions[each.session_id].deleted
    ]
    for end in ends:
        while end and end not in reached:
            reached.add(end)
            end = ledger.turns[end].prev
    for session in ledger.living():
        for compaction in (session.compaction, *session.aside):
            while compaction and compaction not in reached:
                reached.add(compaction)
                compaction = ledger.compactions[compaction].before
    reached.update(each.seq for session in ledger.living() for each in session.pending.values())
    lost = sorted(reached & ledger.erased)
    return f"records {lost} are erased, and something reaches them" if lost else None
