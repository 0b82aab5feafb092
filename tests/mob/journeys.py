"""Mobs that travel in time, and what a fold knows, for comparing.

Owns: engines, small teams, a life with something of everything. Must not: test anything.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest

from mob.app import stored_mob
from mob.definition import MobDefinition
from mob.folds import MobFolds
from mob.mob import Mob
from mob.records import MOB_RECORDS
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import RUNTIME_RECORDS
from runtime.state import RealmState
from stores import Store, open_lmdb, open_memory
from tests.mob.mobs import asked, define

Engine: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def on_disk(folder: Path) -> AsyncIterator[Store]:
    async with open_lmdb(folder / "store") as store:
        yield store


@asynccontextmanager
async def in_memory(_: Path) -> AsyncIterator[Store]:
    async with open_memory() as store:
        yield store


ENGINES = pytest.mark.parametrize("engine", [in_memory, on_disk])


def team(mob_id: str = "t", *names: str, **parts: Any) -> MobDefinition:
    found = define(*(names or ("a", "b")), **parts)
    return attrs.evolve(found, id=mob_id)


def known(state: RealmState, folds: MobFolds) -> dict[str, Any]:
    """What a fold knows, as values: but for revisions and for the marks of two histories."""
    heads = {
        each.session_id: attrs.evolve(each, applied=0, branch=0)
        for each in copy.deepcopy(state.heads).values()
    }
    return {
        "heads": heads,
        "order": list(heads),
        "spawned": dict(state.spawned),
        "descendants": {root: n for root, n in state.descendants.items() if any(n)},
        "tasks": dict(state.tasks),
        "members": copy.deepcopy(folds.roster.members),
        "retired": {
            name: session
            for name, session in folds.roster.retired.items()
            if name not in folds.roster.members
        },
        "reported": set(folds.roster.reported),
        "state": folds.roster.mob_state,
        "board": dict(folds.board.tasks),
        "wires": folds.graph.pairs(),
        "flows": dict(folds.flows.running),
        "requests": dict(folds.requests.open),
        "asked": [*state.approvals],
    }


def prefix(store: Store, mob_id: str, until: int) -> dict[str, Any]:
    """The fold of the first `until` records, by itself."""
    state = RealmState()
    folds = MobFolds(state)
    types = (*RUNTIME_RECORDS, *MOB_RECORDS)
    journal = Journal(store, RealmId(mob_id), types, state.apply)
    for event in journal.read(0, until):
        state.apply(event.seq, event.record)
    return known(state, folds)


def stored(store: Store, mob_id: str) -> dict[str, Any]:
    found = stored_mob(store, mob_id)
    return known(found.state, found.folds)


def of(mob: Mob) -> dict[str, Any]:
    return known(mob.realm.state, mob.folds)


def said(mob: Mob, member: str) -> list[str]:
    return [each.text for each in mob.realm.snapshot(mob.session_of(member)).messages]


def working(request: ModelRequest) -> ModelReply | str:
    """A model that starts a child when it is asked to, and otherwise says the words again."""
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return f"told {last.text}"
    if last.text.startswith("child"):
        return calling(("spawn_agent", {"name": "kid", "instructions": "dig"}))
    return asked(request)


async def a_life(mob: Mob) -> None:
    """Something of everything that a journal can say."""
    await mob.ask("a", "one", idempotency_key="k1")
    await mob.board.add("dig")
    await mob.ask("b", "child please")
    await mob.board.claim("t1", "b")
    await mob.spawn("c", profile="p")
    await mob.ask("a", "two")
    await mob.sessions.rewind(mob.session_of("a"), 0)
    await mob.ask("c", "three")
    await mob.unwire("a", "b")
    await mob.retire("b")
    await mob.stop()
    await mob.resume()
    await mob.ask("a", "four", idempotency_key="k2")


CHILDREN = {"subagents": {"max_depth": 2}}
