"""Skills in a mob file: who has which, and every mistake with its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mob import MobDefinition, open_mob
from mob.errors import DefinitionInvalid
from mob.service import sessions_of
from runtime.errors import SessionError
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.service import StartTurnRequest


def definition(folder: Path, lists: Any, **more: Any) -> MobDefinition:
    for name in ("notes", "style"):
        (folder / "skills" / name).mkdir(parents=True, exist_ok=True)
        (folder / "skills" / name / "SKILL.md").write_text(
            f"---\nname: {name}\ndescription: about {name}\n---\nthe text of {name}"
        )
    table = {
        "mob": {"id": "skilled", "lead": "one"},
        "models": {"main": {"model": "sim:echo"}},
        "skills": {"folders": ["skills"]},
        "profiles": {"writer": {"model": "main", "skills": lists}, "plain": {"model": "main"}},
        "members": {"one": {"profile": "writer"}, "other": {"profile": "plain"}},
        **more,
    }
    return MobDefinition.from_table(table, folder=folder)


async def asked(given: MobDefinition, member: str) -> ModelRequest:
    requests: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        requests.append(request)
        return "done"

    async with open_mob(given, models={"main": ScriptedModel(answer)}) as mob:
        await mob.ask(member, "hello")
    return requests[0]


async def test_a_profile_has_the_skills_it_lists_and_no_others(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: by profile."""
    given = definition(tmp_path, {"allow": ["no*"], "preload": ["style"]})
    request = await asked(given, "one")
    assert [tool.name for tool in request.tools] == ["load_skill"]
    assert "- notes: about notes" in request.instructions
    assert "the text of style" in request.instructions
    assert "the text of notes" not in request.instructions
    other = await asked(given, "other")
    assert (other.tools, other.instructions) == ((), "")
    short = await asked(definition(tmp_path, ["notes"]), "one")
    assert "style" not in short.instructions


@pytest.mark.parametrize("way", ["ask", "send", "service"])
async def test_a_skill_is_referred_to_for_one_turn(way: str, tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: of those that the profile has; no other is sent with."""
    requests: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        requests.append(request)
        return "done"

    given = definition(tmp_path, ["notes"])
    async with open_mob(given, models={"main": ScriptedModel(answer)}) as mob:
        if way == "ask":
            await mob.ask("one", "hello", skills=["notes"])
        elif way == "send":
            await mob.send("one", "hello", skills=["notes"])
            await mob.wait_idle()
        else:
            turn = StartTurnRequest("hello", ("notes",))
            await sessions_of(mob).start_turn(mob.session_of("one"), turn)
        await mob.ask("one", "again")
        assert ["the text of notes" in each.instructions for each in requests] == [True, False]
        for wrong in (["style"], ["notes", "gone"]):
            with pytest.raises(SessionError, match="there is no skill"):
                await mob.send("one", "hello", skills=wrong)
        with pytest.raises(SessionError, match="nothing was sent"):
            await mob.ask("other", "hello", skills=["notes"])
        await mob.wait_idle()
        assert len(requests) == 2


def test_mistakes_are_named_with_their_path(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: every mistake at once."""
    with pytest.raises(DefinitionInvalid) as caught:
        definition(tmp_path, {"allow": ["notes"], "preloaded": []}, tools={"load_skill": {}})
    assert {each.path for each in caught.value.mistakes} >= {
        "profiles.writer.skills.preloaded",
        "tools.load_skill",
    }


async def test_what_is_not_in_the_folders_is_named(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: every mistake at once."""
    lists = {"allow": ["notes", "nites"], "preload": ["x"]}
    given = definition(tmp_path, lists, skills={"folders": ["skills", "gone"]})
    with pytest.raises(DefinitionInvalid) as caught:
        async with open_mob(given):
            pass
    told = {each.path: each.hint for each in caught.value.mistakes}
    assert set(told) == {
        "skills.folders[1]",
        "profiles.writer.skills.allow",
        "profiles.writer.skills.preload",
    }
    assert told["profiles.writer.skills.allow"] == "did you mean 'notes'?"


def test_a_mob_that_gives_no_skills_has_the_blueprint_it_always_had(tmp_path: Path) -> None:
    plain = definition(tmp_path, [], skills={})
    assert "skills" not in plain.blueprint().replace('"id": "skilled"', "")
    assert '"skills": {"allow"' in definition(tmp_path, ["notes"]).blueprint()
