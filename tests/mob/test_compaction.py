"""Compaction in a mob: from the mob file to the context, in the journal and across restarts."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob import MobDefinition, open_mob
from mob.errors import DefinitionInvalid
from mob.lifecycle import VerbRefused
from runtime.contexts import ContextCompacted
from runtime.errors import CompactionDisabled, SessionBusy
from runtime.models.base import ModelReply
from runtime.models.scripted import ScriptedModel
from stores import MemoryStore


def definition(**compaction: Any) -> MobDefinition:
    writer = {"model": "main", "compaction": compaction} if compaction else {"model": "main"}
    return MobDefinition.from_table(
        {
            "mob": {"id": "long", "lead": "one"},
            "models": {"main": {"model": "sim:echo"}, "small": {"model": "sim:echo"}},
            "profiles": {"writer": writer},
            "members": {"one": {"profile": "writer"}},
        }
    )


async def test_another_model_writes_the_summaries_and_a_restart_keeps_them() -> None:
    """Compaction: in a mob, with a model of its own."""
    store = MemoryStore()
    small = ScriptedModel(lambda _: "the minutes", name="small:one")
    main = ScriptedModel(lambda request: ModelReply(f"re {request.messages[-1].text}"))
    models = {"main": main, "small": small}
    given = definition(at_messages=4, keep_turns=1, model="small")
    for texts in ("abc", "d"):
        async with open_mob(given, store=store, models=models) as mob:
            for text in texts:
                await mob.ask("one", text)
            records = [event.record for event in mob.realm.journal.read()]
    assert [each.text[-11:] for each in main.requests[2].messages] == [
        "the minutes",
        "b",
        "re b",
        "c",
    ]
    shown = [each.text for each in main.requests[3].messages]
    assert shown[1:] == ["c", "re c", "d"]
    assert len(small.requests) == 2
    assert [each.model for each in records if type(each) is ContextCompacted] == ["small:one"] * 2


async def test_a_member_is_compacted_now_and_what_is_asked_meanwhile_waits() -> None:
    """CONTRACTS 6.14; compaction: the code path of the threshold, which is not reached."""
    told, gate = trio.Event(), trio.Event()

    async def sum_up(_: Any) -> str:
        told.set()
        await gate.wait()
        return "the minutes"

    small = ScriptedModel(sum_up, name="small:one")
    main = ScriptedModel(lambda request: f"re {request.messages[-1].text}")
    given = definition(at_messages=1000, keep_turns=1, model="small")
    models = {"main": main, "small": small}
    async with open_mob(given, store=MemoryStore(), models=models) as mob:
        await mob.ask("one", "a")
        await mob.ask("one", "b")
        made: list[Any] = []

        async def compact() -> None:
            made.append(await mob.compact("one"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(compact)
            await told.wait()
            nursery.start_soon(mob.ask, "one", "c")
            await wait_all_tasks_blocked()
            assert len(main.requests) == 2
            with pytest.raises(SessionBusy):
                await mob.compact("one")
            gate.set()
        assert made[0].reason is None
        shown = [each.text for each in main.requests[2].messages]
        assert shown[0].endswith("the minutes")
        assert shown[1:] == ["b", "re b", "c"]
        history = mob.realm.messages(mob.session_of("one"), order="oldest")
        assert [each.text for each in history] == ["a", "re a", "b", "re b", "c", "re c"]


async def test_a_member_whose_profile_has_no_compaction_is_not_compacted() -> None:
    """CONTRACTS 4.7: SESSION_COMPACTION_DISABLED."""
    models = {"main": ScriptedModel(lambda _: "ok"), "small": ScriptedModel(lambda _: "ok")}
    async with open_mob(definition(), store=MemoryStore(), models=models) as mob:
        with pytest.raises(CompactionDisabled, match="give its profile") as found:
            await mob.compact("one")
        assert found.value.code == "SESSION_COMPACTION_DISABLED"
        await mob.stop()
        with pytest.raises(VerbRefused):
            await mob.compact("one")


async def test_changing_the_policy_needs_no_adoption() -> None:
    """Compaction is no part of the blueprint."""
    assert definition().blueprint() == definition(at_tokens=5).blueprint()


def test_mistakes_are_named_with_their_path() -> None:
    """Compaction: every mistake at once."""
    for given, path in (
        ({"keep_turns": 2}, "profiles.writer.compaction"),
        ({"at_tokens": 0}, "profiles.writer.compaction.at_tokens"),
        ({"at_messages": 9, "keep_turns": 4}, "profiles.writer.compaction.at_messages"),
        ({"at_tokens": 5, "keep_turns": -1}, "profiles.writer.compaction.keep_turns"),
        ({"at_tokens": 5, "model": "smal"}, "profiles.writer.compaction.model"),
        ({"at_tokens": 5, "at": 3}, "profiles.writer.compaction.at"),
        ({"at_tokens": "5", "at_messages": 20}, "profiles.writer.compaction.at_tokens"),
    ):
        with pytest.raises(DefinitionInvalid) as caught:
            definition(**given)
        assert [each.path for each in caught.value.mistakes] == [path]
