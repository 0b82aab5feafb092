"""A run's key, and what a run came to as the journal tells it."""

from __future__ import annotations

import pytest

from mob import open_mob
from mob.runs import past, read_run, run_key
from runtime.errors import AgentError
from runtime.messages import NO_USAGE
from runtime.models.scripted import ScriptedModel
from runtime.records import TurnOutcome
from stores import open_memory
from tests.mob.mobs import define


def test_a_key_counts_the_reported_runs_of_the_same_prompt() -> None:
    first = run_key("hello", set())
    assert first == "run:2cf24dba5fb0a30e:0"
    assert run_key("hello", {first, run_key("other", set())}) == "run:2cf24dba5fb0a30e:1"
    assert run_key("other", {first}).endswith(":0")


async def test_a_run_ends_where_its_answer_does_and_counts_all_turns_until_then() -> None:
    async with open_memory() as store, open_mob(define("a", "b"), store=store) as mob:
        key = run_key("hello", mob.roster.reported)
        await mob.ask("b", "before")
        await mob.ask("a", "hello", idempotency_key=key)
        await mob.ask("b", "after")
        report = read_run(mob.id, key, past(mob.realm.journal), mob.realm.state.heads)
        assert report is not None
        assert (report.text, report.outcome, report.error) == (
            "hello",
            TurnOutcome.COMPLETED,
            None,
        )
        assert (report.mob, report.member, report.prompt) == ("t", "a", "hello")
        assert [(part.name, part.turns) for part in report.members] == [("a", 1)]
        assert report.usage == report.members[0].usage != NO_USAGE
        other = run_key("never asked", mob.roster.reported)
        events = past(mob.realm.journal)
        assert read_run(mob.id, other, events, mob.realm.state.heads) is None


async def test_a_reported_run_gives_way_to_the_next() -> None:
    async with open_memory() as store, open_mob(define("a"), store=store) as mob:
        key = run_key("hello", mob.roster.reported)
        await mob.report_run(key)
        assert run_key("hello", mob.roster.reported) == f"{key[:-1]}1"


async def test_a_failed_run_is_told_with_its_reason() -> None:
    definition = define("a", restart={"policy": "never"})
    models = {"m": ScriptedModel([RuntimeError("broken")])}
    async with open_memory() as store, open_mob(definition, store=store, models=models) as mob:
        with pytest.raises(AgentError):
            await mob.ask("a", "hello", idempotency_key="k")
        report = read_run(mob.id, "k", past(mob.realm.journal), mob.realm.state.heads)
        assert report is not None
        assert report.outcome is TurnOutcome.FAILED
        assert "broken" in (report.error or "")
