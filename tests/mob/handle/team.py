"""The mob that the tests of this folder act on, and everything public about it as plain values.

Owns: `DEFINITION`, `open_team`, `seen`. Must not: have a verb (`tests.mob.handle.verbs` has those
that are killed, `tests.mob.handle.plain` those that are played).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from mob import open_mob
from mob.app import stored_mob, stored_mobs
from mob.comms.records import RequestSettled
from mob.mob import Mob
from mob.records import MemberRespawned, MemberSpawned
from runtime.contexts import ContextCompacted
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import InputAbandoned, InputAccepted, SessionArchived, TurnEnded
from stores import Store
from tests.mob.mobs import asked, define, journal, records
from tests.runtime.fakes import Doing, asking, call

FLOWS = {
    "report": {
        "params": ["topic"],
        "steps": {
            "plan": {"member": "a", "message": "plan {{params.topic}}"},
            "find": {"profile": "p", "message": "find it, {{member}}", "needs": ["plan"]},
            "write": {"member": "b", "message": "write {{steps.plan.output}}", "needs": ["find"]},
        },
    },
    "wait": {"steps": {"one": {"member": "a", "message": "slow step"}}},
}

DEFINITION = define(
    "a",
    "b",
    profile={
        "silent_comms_intents": ["fyi"],
        "comms": ["reply"],
        "max_inline_peer_notifications": 0,
    },
    profiles={
        "t": {"model": "m", "comms": True, "mob": True, "board": True},
        "q": {"model": "m", "tools": ["pay"], "compaction": {"at_messages": 1000, "keep_turns": 1}},
    },
    members={
        "a": {"profile": "p"},
        "b": {"profile": "p"},
        "c": {"profile": "q"},
        "t": {"profile": "t"},
    },
    tools={"pay": {"function": "x.py:pay", "approve": "ask", "idempotent": True}},
    restart={"backoff_s": 0.0, "max_backoff_s": 0.0, "max": 1000},
    wiring={"default": "deny", "edges": [["a", "b"], ["t", "b"]]},
    flows=FLOWS,
)


class Models:
    """Answers at once, but for what begins with ``slow``: that waits for `gate`. ``call TOOL JSON``
    makes a call, and a request for an answer is replied to."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.stalled = trio.Event()

    async def __call__(self, request: ModelRequest) -> str | ModelReply:
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            return f"was told {last.text}"
        text = asked(request)
        if text.startswith("slow"):
            self.stalled.set()
            await self.gate.wait()
        if text.startswith("pay"):
            return asking(call(f"call {text}", "pay"))
        if text.startswith("call "):
            _, tool, arguments = text.split(" ", 2)
            return asking(call(f"call {tool}", tool, arguments))
        if text.startswith("[request ") and text.endswith("answer me"):
            arguments = json.dumps({"request_id": text.split()[1].rstrip("]"), "text": "yes"})
            return asking(call(f"call {text}", "reply", arguments))
        return f"done {text}"


@asynccontextmanager
async def open_team(store: Store, models: Models, **options: Any) -> AsyncIterator[Mob]:
    """The mob, with these models; leaving lets nothing finish."""
    tools = {"pay": Doing(lambda _: "paid", "pay", idempotent=True)}
    async with open_mob(
        DEFINITION,
        store=store,
        models={"m": ScriptedModel(models)},
        tools=tools,
        grace_s=0.0,
        **options,
    ) as mob:
        yield mob


def seen(mob: Mob) -> dict[str, Any]:
    """Everything public that verbs change, without ids and times: equal for equal mobs."""
    names = mob.members
    return {
        "state": mob.state.value,
        "members": [
            (name, mob.roster.members[name].profile, mob.fence(name).generation) for name in names
        ],
        "edges": {
            (a, b): mob.may_send(a, b).name
            for a in names
            for b in names
            if mob.may_send(a, b).allows
        },
        "peers": {name: mob.peers_of(name) for name in names},
        "board": [
            (task.task_id, task.title, task.state.value, task.owner, task.result, task.blocked_by)
            for task in mob.board.list()
        ],
        "flows": [_run(run.now()) for run in mob.flow_runs()],
        "exits": [(each.name, each.cause) for each in mob.exits()],
        "approvals": [(each.tool, each.arguments) for each in mob.approvals()],
        "points": [point.label for point in mob.points()],
        "mobs": list(stored_mobs(mob.realm.store)),
        "requests": [(each.sender, each.to) for each in mob.requests],
    }


def seen_whole(mob: Mob) -> dict[str, Any]:
    """That, and what the sessions say; of a mob that was never rewound."""
    return {
        **seen(mob),
        "forks": [_fork(mob.realm.store, each) for each in stored_mobs(mob.realm.store)],
        "replies": [
            (record.how.value, record.text)
            for record in records(mob.realm.store, RequestSettled, mob.id)
        ],
        "sessions": sessions(mob.realm.store, mob.id),
    }


def _fork(store: Store, mob_id: str) -> tuple[Any, ...]:
    stored = stored_mob(store, mob_id)
    return mob_id, stored.roster.mob_state, tuple(stored.roster.members), len(stored.state.heads)


def _run(run: Any) -> tuple[Any, ...]:
    steps = {
        name: (step.state.value, step.output, step.error, step.attempts, step.round)
        for name, step in run.steps.items()
    }
    return run.flow, run.state.value, run.output, run.error, steps, dict(run.params)


def sessions(store: Store, mob_id: str) -> list[Any]:
    """What the sessions of members say, in the order of joining: whose, the generation, whether it
    is archived, its turns, and what of its inputs was abandoned or waits."""
    found: dict[str, dict[str, Any]] = {}
    texts: dict[str, str] = {}
    for event in journal(store, mob_id):
        match event.record:
            case MemberSpawned() | MemberRespawned() as joined:
                found[joined.session_id] = {
                    "member": (joined.name, joined.profile, joined.generation),
                    "archived": None,
                    "turns": [],
                    "waiting": [],
                    "abandoned": [],
                    "summaries": [],
                }
            case InputAccepted() as record:
                texts[record.input_id] = plain(record.text)
                if record.session_id in found:
                    found[record.session_id]["waiting"].append(plain(record.text))
            case InputAbandoned() as record:
                found[record.session_id]["waiting"].remove(texts[record.input_id])
                found[record.session_id]["abandoned"].append(texts[record.input_id])
            case TurnEnded() as turn:
                for each in turn.input_ids:
                    found[turn.session_id]["waiting"].remove(texts[each])
                said = [plain(getattr(message, "text", "")) for message in turn.messages]
                found[turn.session_id]["turns"].append((turn.outcome.value, said, turn.error))
            case ContextCompacted() as record:
                found[record.session_id]["summaries"].append(record.summary)
            case SessionArchived() as record:
                found[record.session_id]["archived"] = record.reason
    return list(found.values())


def plain(text: str) -> str:
    """The text without ids."""
    return re.sub(r"[0-9a-f]{32}", "ID", text)
