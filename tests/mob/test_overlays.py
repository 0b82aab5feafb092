"""What a session of a mob was created with is laid over its profile and member."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from mob.mob import Mob
from runtime.budget import Budget, tightest
from runtime.driver import SessionConfig
from runtime.errors import BudgetExceeded, MobError
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.messages import Usage
from runtime.models.base import ModelReply, ModelRequest
from runtime.session import CompactionPolicy, SessionSpec
from runtime.tools.policy import listed
from stores import MemoryStore
from tests.mob.mobs import define, opened

Clock = trio.testing.MockClock

MODELS = {"m": {"model": "sim:echo", "fallback": ["n"]}, "n": {"model": "sim:echo"}}
PROFILE = {
    "instructions": "Profile.",
    "options": {"temperature": 1, "seed": 3},
    "output_retries": 5,
    "subagents": {},
}


def definition(folder: Path | None = None, **parts: Any) -> Any:
    members = {"a": {"profile": "p", "instructions": "Member."}}
    return define("a", folder=folder, models=MODELS, profile=PROFILE, members=members, **parts)


async def made(mob: Mob, spec: SessionSpec, name: str = "p") -> SessionId:
    """A session of the member's profile and name that was created with `spec`."""
    runner = mob.realm.runner
    session = await runner.create_session(HarnessId(name), AgentId("a"), spec=spec)
    return session.session_id


async def configured(mob: Mob, spec: SessionSpec) -> SessionConfig:
    return mob.configure(mob.realm.state.heads[await made(mob, spec)])


async def test_session_overlays_agent_overlays_harness(autojump_clock: Clock) -> None:
    """CONTRACTS 1.11: every field of a spec does something, and nothing else changes."""
    async with opened(definition()) as mob:
        plain = await configured(mob, SessionSpec())
        assert plain.instructions == "Profile.\nMember."
        m, n = (route.model for route in plain.routes)

        given = await configured(mob, SessionSpec(instructions="Session."))
        assert given.instructions == "Session."
        assert (given.model, given.options, given.rules) == (m, plain.options, plain.rules)

        given = await configured(mob, SessionSpec(options={"temperature": 0}))
        assert [route.options for route in given.routes] == 2 * [{"temperature": 0, "seed": 3}]
        assert given.instructions == plain.instructions

        given = await configured(mob, SessionSpec(model="n"))
        assert [route.model for route in given.routes] == [n]
        given = await configured(mob, SessionSpec(model="n", fallback=("m",)))
        assert [route.model for route in given.routes] == [n, m]

        given = await configured(mob, SessionSpec(output_retries=0))
        assert (given.rules.output_retries, plain.rules.output_retries) == (0, 5)
        given = await configured(mob, SessionSpec(output_schema=json.dumps({"type": "object"})))
        assert given.rules.output_schema == {"type": "object"}

        given = await configured(mob, SessionSpec(compaction=CompactionPolicy(at_messages=4)))
        assert plain.compacting is None
        assert given.compacting is not None
        assert (given.compacting.policy.at_messages, given.compacting.model) == (4, m)

        given = await configured(mob, SessionSpec(tools=listed(())))
        assert plain.toolbox.policy.permits("spawn_agent")
        assert not given.toolbox.policy.permits("spawn_agent")
        assert await configured(mob, SessionSpec()) is plain


async def test_a_session_has_its_skills_beside_those_of_its_profile(tmp_path: Path) -> None:
    """CONTRACTS 1.11, 4.9: preload_skills."""
    for name in ("one", "two"):
        folder = tmp_path / "skills" / name
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: d\n---\nBody {name}.")
    profile = PROFILE | {"skills": {"allow": ["*"], "preload": ["one"]}}
    told = define("a", folder=tmp_path, profile=profile, skills={"folders": ["skills"]})
    async with opened(told) as mob:
        plain = await configured(mob, SessionSpec())
        given = await configured(mob, SessionSpec(preload_skills=("two", "one")))
    assert ("Body one." in plain.instructions, "Body two." in plain.instructions) == (True, False)
    assert given.instructions.count("Body one.") == given.instructions.count("Body two.") == 1


@pytest.mark.parametrize(
    "spec",
    [
        SessionSpec(model="x"),
        SessionSpec(fallback=("m", "x")),
        SessionSpec(compaction=CompactionPolicy(model="x")),
        SessionSpec(preload_skills=("x",)),
        SessionSpec(budget=Budget(nano_usd=1)),
    ],
)
async def test_a_session_that_asks_for_what_is_not_there_fails_its_turns(
    spec: SessionSpec, autojump_clock: Clock
) -> None:
    """CONTRACTS 1.2, 1.11: it says what there is; the mob goes on."""
    async with opened(definition()) as mob:
        session = await made(mob, spec)
        with pytest.raises(MobError, match=r"no model alias 'x'|no skill 'x'|models.m.price"):
            await mob.realm.runner.send_message(session, "x")
        assert (await mob.ask("a", "y")).text == "y"


async def test_the_budget_of_a_session_holds_beside_its_profile_s_and_after_a_restart(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 1.11, 6.15: the tightest wins."""
    assert tightest([Budget(5, seconds=2), Budget(7, 3)]) == Budget(5, 3, 2)

    def answer(request: ModelRequest) -> ModelReply:
        return ModelReply("ok", usage=Usage(2, 1))

    roomy = definition(profiles={"q": {"model": "m", "budget": {"tokens": 100_000}}})
    async with opened(roomy, answer) as mob:
        session = await made(mob, SessionSpec(budget=Budget(tokens=1)), "q")
        await mob.realm.runner.send_message(session, "x")
        with pytest.raises(BudgetExceeded, match="tokens"):
            await mob.realm.runner.send_message(session, "y")
    store = MemoryStore()
    async with opened(definition(), answer, store=store) as mob:  # nothing else has a budget
        session = await made(mob, SessionSpec(budget=Budget(tokens=1)))
        await mob.realm.runner.send_message(session, "x")
        child = await mob.realm.runner.create_session(
            HarnessId("p"), AgentId("a"), parent_session_id=session
        )
    async with opened(definition(), answer, store=store) as mob:
        with pytest.raises(BudgetExceeded, match="tokens"):
            await mob.realm.runner.send_message(child.session_id, "z")
        assert (await mob.ask("a", "y")).text == "ok"
