"""Memory in a mob: who may search whose turns, by tool and in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mob import MobDefinition, open_mob
from mob.errors import DefinitionInvalid
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from stores import open_memory


def definition(**memories: Any) -> MobDefinition:
    """A member for each profile, called as it is."""
    return MobDefinition.from_table(
        {
            "mob": {"id": "mindful", "lead": next(iter(memories))},
            "models": {"main": {"model": "sim:echo"}},
            "profiles": {
                name: {"model": "main", **({} if given is None else {"memory": given})}
                for name, given in memories.items()
            },
            "members": {name: {"profile": name} for name in memories},
        }
    )


def say(request: ModelRequest) -> ModelReply | str:
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return last.text
    if last.text.startswith("find "):
        return calling(("search_memory", {"query": last.text.removeprefix("find ")}))
    return "noted"


GIVEN = {
    "own": True,
    "shares": {"scope": "mob"},
    "too": {"scope": "mob"},
    "plain": None,
    "off": False,
}


async def test_a_member_finds_its_own_turns_and_those_that_are_shared(tmp_path: Path) -> None:
    """Memory: one member does not read another's private turns unless that one shares them."""
    index = tmp_path / "memory.sqlite"
    model = ScriptedModel(say)
    async with open_mob(definition(**GIVEN), models={"main": model}, memory_index=index) as mob:
        for name in GIVEN:
            await mob.ask(name, f"the code of {name}")

        async def found(member: str) -> set[str]:
            answer = (await mob.ask(member, "find code")).text
            return {each["text"].partition("\n")[0].split()[-1] for each in json.loads(answer)}

        assert await found("own") == {"own"}
        assert await found("shares") == {"shares", "too"}
        everywhere = await mob.search("code of", limit=20)
        assert {each.text.split()[3] for each in everywhere if each.turn == 1} == set(GIVEN)
        (mine,) = await mob.search("code of plain", member="plain")
        assert mine.session_id == mob.session_of("plain")
    assert index.exists()
    offered = {tuple(tool.name for tool in request.tools) for request in model.requests}
    assert offered == {(), ("search_memory",)}


async def test_without_a_search_there_is_no_index(tmp_path: Path) -> None:
    """Memory: off by default, and costs nothing until it is searched."""
    index = tmp_path / "memory.sqlite"
    model = ScriptedModel(say)
    async with open_mob(definition(**GIVEN), models={"main": model}, memory_index=index) as mob:
        await mob.ask("shares", "hello")
    assert not index.exists()


async def test_who_was_deleted_is_found_when_a_rewind_brings_it_back(tmp_path: Path) -> None:
    """Memory: an index that has forgotten a session, or given its turns to a fork, and one that is
    made anew behind all that, find what is in the histories there are now."""
    model = {"main": ScriptedModel(say)}
    made = definition(**GIVEN)
    async with open_memory() as store:
        first = tmp_path / "first"
        async with open_mob(made, store=store, models=model, memory_index=first) as mob:

            async def found() -> list[tuple[str, int]]:
                return [(e.session_id, e.turn) for e in await mob.search("code", limit=20)]

            await mob.ask("too", "code one")
            await mob.ask("own", "code two")
            too, own = mob.session_of("too"), mob.session_of("own")
            both = await found()
            assert sorted(both) == sorted([(too, 1), (own, 1)])
            await mob.snapshot("before")
            await mob.sessions.fork(own)
            for name, session in (("too", too), ("own", own)):
                await mob.retire(name)
                await mob.sessions.delete(session)
            assert not {too, own} & {session for session, _ in await found()}
            left = await mob.rewind("before")
            assert await found() == both
            await mob.rewind(left.label)
            assert not {too, own} & {session for session, _ in await found()}
            await mob.rewind("before")
        for index in (first, tmp_path / "second"):
            async with open_mob(made, store=store, models=model, memory_index=index) as mob:
                assert await found() == both


def test_mistakes_are_named_with_their_path() -> None:
    """Memory: mistakes in the mob file."""
    for given, path in (
        ({"scope": "all"}, "profiles.one.memory.scope"),
        ({"scop": "mob"}, "profiles.one.memory.scop"),
        ("yes", "profiles.one.memory"),
    ):
        with pytest.raises(DefinitionInvalid) as caught:
            definition(one=given)
        assert [each.path for each in caught.value.mistakes] == [path]


def test_a_mob_without_memory_has_the_blueprint_it_always_had() -> None:
    assert "memory" not in definition(one=None).blueprint()
    assert definition(one=True).blueprint() != definition(one=None).blueprint()
