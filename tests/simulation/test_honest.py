"""Runs of the real mob in which all is as it must be: the oracle has nothing to say."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation.oracle import Oracle
from mob.simulation.promises import (
    Answered,
    Deleted,
    Failed,
    Forked,
    Interrupted,
    Labelled,
    Restored,
    Resumed,
    Retired,
    Rewound,
    SavedSession,
    Saw,
    Sent,
    Spawned,
    Stopped,
    Subscribed,
)
from runtime.errors import AgentError, ModelError
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from tests.mob.mobs import Said, asked, member
from tests.simulation.watched import Watched

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def definition(**parts: object) -> MobDefinition:
    restart = {"backoff_s": 1.0, "max": 2, "within_s": 10.0}
    profile = {"model": "m", "restart": restart, "subagents": {"max_children": 3}}
    return MobDefinition.from_table(
        {
            "mob": {"id": "t", "lead": "a"},
            "models": {"m": {"model": "sim:echo"}},
            "profiles": {
                "p": profile,
                "q": {"model": "m", "restart": restart},
                "s": {"model": "m", "output_schema": SCHEMA, "output_retries": 1},
            },
            "members": {
                "a": {"profile": "p"},
                "b": {"profile": "q", "brief": "Be brief."},
                "s": {"profile": "s"},
            },
            "wiring": {"default": "allow"},
            "checkpoint": {"every_turns": 2},
            **parts,
        }
    )


class Script:
    """What the members say, by the first word they are asked."""

    def __init__(self) -> None:
        self.crashes = 0
        self.gate = trio.Event()
        self.entered = trio.Event()

    async def __call__(self, request: ModelRequest) -> Said:
        text = asked(request)
        step = int(request.key.rsplit(".", 1)[1])
        word = text.split()[0]
        if member(request) == "s":
            return '{"n": 1}' if step > 1 or word != "retry" else "not that"
        if word == "peer" and step == 1:
            return calling(("ask_q", {"message": f"echo {text}"}))
        if word == "child" and step == 1:
            task = {"name": "kid", "instructions": f"echo {text}"}
            return calling(("spawn_agent", task), ("spawn_agent", {**task, "name": "kit"}))
        if word == "crash" and self.crashes < 2:
            self.crashes += 1
            raise KeyError("crash")
        if word == "bad":
            raise ModelError("never", provider="test", retryable=False)
        if word == "dies":
            raise ModelError("again", provider="test", retryable=True)
        if word == "slow" or "slow child" in text:
            self.entered.set()
            await self.gate.wait()
        return f"done {text}"


async def ask(oracle: Oracle, mob: Mob, name: str, text: str, key: str | None = None) -> None:
    try:
        result = await mob.ask(name, text, idempotency_key=key)
    except AgentError as error:
        oracle.promised(Failed(name, text, error))
    else:
        oracle.promised(Answered(name, text, result, key))


async def follow(oracle: Oracle, mob: Mob, name: str, after: int = 0) -> None:
    oracle.promised(Subscribed(name, after))
    async for event in mob.events(after):
        oracle.promised(Saw(name, event))


@pytest.fixture
def watched(autojump_clock: MockClock) -> Watched:
    return Watched()


async def test_messages_peers_children_failures(watched: Watched) -> None:
    oracle = watched.oracle
    script = Script()
    model = {"m": ScriptedModel(script)}
    async with watched.open(definition(), model) as mob, trio.open_nursery() as nursery:
        nursery.start_soon(follow, oracle, mob, "first")
        for text in ("peer 1", "child 2", "crash 3", "bad 4", "dies 5", "plain 6"):
            await ask(oracle, mob, "a", text)
        for text in ("retry 1", "plain 2"):
            await ask(oracle, mob, "s", text)
        await ask(oracle, mob, "b", "once", "key")
        await ask(oracle, mob, "b", "once", "key")
        receipt = await mob.send("b", "told")
        oracle.promised(Sent(receipt, "told"))
        await mob.wait_idle()
        oracle.ended(mob, healed=True)
        nursery.cancel_scope.cancel()
    assert oracle.commits > 30
    oracle.ended(healed=True)


async def test_interrupt_stop_resume_restart_and_retire(watched: Watched) -> None:
    oracle = watched.oracle
    script = Script()
    model = {"m": ScriptedModel(script)}
    async with watched.open(definition(), model, grace_s=0) as mob, trio.open_nursery() as nursery:
        nursery.start_soon(ask, oracle, mob, "a", "slow 1")
        await script.entered.wait()
        assert mob.interrupt("a")
        oracle.promised(Interrupted("a", mob.session_of("a"), watched.process))
        await mob.wait_idle()
        await mob.send("a", "child slow child")
        await mob.send("b", "slow 2")
        await trio.testing.wait_all_tasks_blocked()
        await mob.stop(0.0)
        oracle.promised(Stopped())
        await mob.retire("s")
        oracle.promised(Retired("s"))
        await mob.resume()
        oracle.promised(Resumed())
        oracle.promised(Spawned("x", "p", await mob.spawn("x", profile="p")))
        await mob.send("x", "slow 3")
        await trio.testing.wait_all_tasks_blocked()
    script.gate.set()
    async with watched.open(definition(), model) as mob:
        await mob.wait_idle()
        await mob.retire("x")
        oracle.ended(mob, healed=True)
    async with watched.open(definition(), model) as mob:
        await mob.stop()
    async with watched.open(definition(), model) as mob:
        assert mob.state.value == "stopped"
    oracle.ended()
    assert oracle.recoveries == 4


async def test_histories_are_rearranged(watched: Watched, tmp_path: Path) -> None:
    oracle = watched.oracle
    model = {"m": ScriptedModel(Script())}
    async with watched.open(definition(), model) as mob:
        for n in range(5):
            await ask(oracle, mob, "a", f"echo {n}")
        one = mob.session_of("a")
        fork = await mob.sessions.fork(one)
        oracle.promised(Forked(one, fork.session_id, 5))
        await mob.sessions.rewind(one, 1)
        oracle.promised(Rewound(one, 2))
        await ask(oracle, mob, "a", "echo more")
        await mob.sessions.restore(one)
        oracle.promised(Restored(one, 5))
        await mob.sessions.tag(fork.session_id, ["x", "y"])
        oracle.promised(Labelled(fork.session_id, "a (fork)", ("x", "y")))
        session = await mob.sessions.resume(fork.session_id)
        messages = tuple(session.messages)[:4]
        await mob.sessions.save(attrs.evolve(session, messages=messages))
        oracle.promised(SavedSession(fork.session_id, messages))
        await mob.sessions.rewind(fork.session_id, 0)
        await mob.sessions.fork(fork.session_id)
        await mob.sessions.delete(fork.session_id)
        oracle.promised(Deleted(fork.session_id))
        oracle.ended(mob, healed=True)
    async with watched.open(definition(), model) as mob:
        await ask(oracle, mob, "a", "echo after")
    oracle.ended()
