"""Small mobs for the tests of this folder.

Owns: a definition made in one call, models that a test steers, what a journal says. Must not:
hide a mob's behaviour behind a fixture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import trio

from mob import open_mob
from mob.definition import MobDefinition
from mob.mob import Mob
from mob.records import MOB_RECORDS
from runtime.ids import RealmId
from runtime.journal import Event, Journal
from runtime.messages import UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import RUNTIME_RECORDS, InputAbandoned, InputAccepted, TurnEnded
from stores import Store

Said: TypeAlias = str | ModelReply | Exception
Answer: TypeAlias = Callable[[ModelRequest], Said | Awaitable[Said]]


def table(names: tuple[str, ...] = ("a", "b", "c"), **parts: Any) -> dict[str, Any]:
    """A mob file as parsed TOML: members of one profile ``p`` on the model ``m``, all wired.

    `restart`, `profile` and `profiles` bend the profiles; anything else is a top-level table.
    """
    profile = {"model": "m", **parts.pop("profile", {})}
    profile["restart"] = {"backoff_s": 1.0, "within_s": 60.0, **parts.pop("restart", {})}
    made: dict[str, Any] = {
        "mob": {"id": "t", "lead": names[0]},
        "models": {"m": {"model": "sim:echo"}},
        "profiles": {"p": profile, **parts.pop("profiles", {})},
        "members": {name: {"profile": "p"} for name in names},
        "wiring": {"default": "allow"},
    }
    made.update(parts)
    return made


def define(
    *names: str, folder: Path | None = None, lead: str | None = None, **parts: Any
) -> MobDefinition:
    """A checked definition; see `table`."""
    data = table(names or ("a", "b", "c"), **parts)
    if lead is not None:
        data["mob"]["lead"] = lead
    return MobDefinition.from_table(data, folder=folder)


def pair(**parts: Any) -> MobDefinition:
    """Members `a` and `b` of profiles `pa` and `pb`, who may ask each other one by one."""
    restart = {"backoff_s": 1.0, **parts.pop("restart", {})}
    more = parts.pop("profile", {})
    profiles = {
        name: {"model": name[1], "restart": restart, **more} for name in ("pa", "pb")
    } | parts.pop("profiles", {})
    members = {"a": {"profile": "pa"}, "b": {"profile": "pb"}, **parts.pop("members", {})}
    models = {alias: {"model": "sim:echo"} for alias in ("a", "b")} | parts.pop("models", {})
    return MobDefinition.from_table(
        {
            "mob": {"id": "t", "lead": "a"},
            "models": models,
            "profiles": profiles,
            "members": members,
            "wiring": {"default": "allow"},
            **parts,
        }
    )


def models(answer: Answer, **more: Answer) -> Mapping[str, ScriptedModel]:
    """A client for the alias ``m`` that answers with `answer`, and one for each further alias."""
    return {alias: ScriptedModel(each) for alias, each in {"m": answer, **more}.items()}


def echo(request: ModelRequest) -> str:
    """Say the last user's words again."""
    return asked(request)


def asked(request: ModelRequest) -> str:
    """The text that the turn was begun with."""
    users = [m for m in request.messages if isinstance(m, UserMessage)]
    return users[-1].text


def member(request: ModelRequest) -> str:
    """The member (or the path below it) whose call this is: keys are ``mob/member/...``."""
    return request.key.split("/")[1]


class Stuck:
    """A model that parks every call until it is let go, and counts the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.entered = trio.Event()
        self.gate = trio.Event()

    async def __call__(self, request: ModelRequest) -> Said:
        self.calls.append(asked(request))
        self.entered.set()
        await self.gate.wait()
        return f"done {asked(request)}"


def journal(store: Store, mob_id: str = "t") -> list[Event]:
    """Every event of the mob's journal; fails if the numbers have a gap."""
    read = Journal(
        store, RealmId(mob_id), (*RUNTIME_RECORDS, *MOB_RECORDS), lambda _seq, _record: None
    )
    events = read.read(0, 1_000_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return events


def records(store: Store, kind: type, mob_id: str = "t") -> list[Any]:
    """The journal's records of one type."""
    return [event.record for event in journal(store, mob_id) if isinstance(event.record, kind)]


def check_inputs(store: Store, mob_id: str = "t") -> None:
    """No input was consumed twice, or both consumed and abandoned; none came from nowhere.

    In each session they were consumed in the order in which they were accepted (CONTRACTS 6.7).
    """
    accepted: list[str] = []
    fates: list[str] = []
    queues: defaultdict[str, list[str]] = defaultdict(list)
    done: defaultdict[str, list[str]] = defaultdict(list)
    # Read once: on a disk more may be committed between one read and the next.
    for record in [event.record for event in journal(store, mob_id)]:
        if isinstance(record, InputAccepted):
            accepted.append(record.input_id)
            queues[record.session_id].append(record.input_id)
        elif isinstance(record, InputAbandoned):
            fates.append(record.input_id)
            queues[record.session_id].remove(record.input_id)
        elif isinstance(record, TurnEnded):
            fates += record.input_ids
            done[record.session_id] += record.input_ids
    assert len(set(accepted)) == len(accepted)
    assert len(set(fates)) == len(fates)
    assert set(fates) <= set(accepted)
    for session, consumed in done.items():
        assert sorted(consumed) == sorted(queues[session][: len(consumed)])


def state_of(mob: Mob) -> tuple[Any, ...]:
    """Everything that the fold of a mob's journal knows, for comparing two of them."""
    state, roster = mob.realm.state, mob.roster
    inputs = records(mob.realm.store, InputAccepted, mob.id)
    keys = {record.idempotency_key for record in inputs if record.idempotency_key is not None}
    return (
        state.heads,
        {key: state.find_key(key) for key in keys},
        state.spawned,
        state.descendants,
        roster.members,
        roster.retired,
        roster.mob_state,
        roster.blueprint,
        roster.reported,
    )


#: What the tools of a `tool_file` do; a test sets its own.
TOOLS: dict[str, Callable[..., Awaitable[Any]]] = {}

_TOOL = '''
async def {name}(text: str) -> str:
    """Do what the test says."""
    from tests.mob.mobs import TOOLS

    return await TOOLS["{name}"](text)
'''


def tool_file(folder: Path, **idempotent: bool) -> dict[str, Any]:
    """Write a file of tools that call `TOOLS`; return the [tools] table for them."""
    (folder / "tools.py").write_text("".join(_TOOL.format(name=name) for name in idempotent))
    return {
        name: {"function": f"tools.py:{name}", "idempotent": again}
        for name, again in idempotent.items()
    }


@asynccontextmanager
async def opened(
    definition: MobDefinition, answer: Answer = echo, *, store: Any = None, **more: Any
) -> AsyncIterator[Mob]:
    """`open_mob` with a scripted model, which fails if it takes an hour of the virtual clock.

    Further answers may be given by alias; the rest goes to `open_mob`.
    """
    answers = {alias: more.pop(alias) for alias in list(more) if alias in definition.models}
    with trio.fail_after(3600):
        async with open_mob(
            definition, store=store, models=models(answer, **answers), **more
        ) as mob:
            yield mob
