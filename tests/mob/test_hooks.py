"""Hooks as a mob file says them: which profile has which, and every mistake by its path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, MemberFailed
from mob.hooks import LoadedHooks
from runtime.errors import AgentError
from runtime.hooks import Deny, HookEvent
from runtime.records import HookReported
from stores import MemoryStore
from tests.mob.mobs import define, opened, records, table

DENY = """
def no(event):
    return {"decision": "deny", "reason": "no"}

def broken(event):
    raise RuntimeError("broken")
"""
GUARD = {"on": ["before_model"], "python": "h.py:no", "mode": "guardrail"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "h.py").write_text(DENY)
    return tmp_path


async def test_the_hooks_of_a_mob_hold_for_its_members(folder: Path) -> None:
    store = MemoryStore()
    definition = define("a", folder=folder, hooks={"guard": GUARD})
    async with opened(definition, store=store) as mob:
        with pytest.raises(AgentError, match="denied by hook 'guard': no") as found:
            await mob.ask("a", "x")
        assert not isinstance(found.value, MemberFailed), "a denial is no crash"
        assert mob.roster.members["a"].restarts == 0
    assert [(r.hook, r.what) for r in records(store, HookReported)] == [("guard", "denied")]


async def test_a_failing_observer_breaks_nothing(folder: Path) -> None:
    store = MemoryStore()
    hooks = {"o": {"on": ["before_model"], "python": "h.py:broken"}}
    async with opened(define("a", folder=folder, hooks=hooks), store=store) as mob:
        assert (await mob.ask("a", "x")).text == "x"
    assert [(r.hook, r.what) for r in records(store, HookReported)] == [("o", "failed")]


@pytest.mark.parametrize(
    ("hooks", "profile", "names"),
    [
        ({"g": GUARD}, {}, ["g"]),
        ({"g": GUARD}, {"g": False}, []),
        ({"g": GUARD}, {"g": True}, ["g"]),
        ({"g": {**GUARD, "enabled": False}}, {}, []),
        ({"g": {**GUARD, "enabled": False}}, {"g": True}, ["g"]),
        ({"g": GUARD}, {"h": GUARD}, ["g", "h"]),
        ({"g": GUARD, "h": GUARD}, {"g": {**GUARD, "timeout_s": 1}}, ["g", "h"]),
        ({}, {"h": {**GUARD, "enabled": False}}, []),
    ],
)
def test_a_profile_has_the_mobs_hooks_unless_it_says_otherwise(
    hooks: Any, profile: Any, names: list[str], folder: Path
) -> None:
    definition = define("a", folder=folder, hooks=hooks, profile={"hooks": profile})
    made = LoadedHooks(definition).of("p")
    assert ([] if made is None else [hook.name for hook in made.hooks]) == names
    assert (made is None) == (names == [])


def test_hooks_change_no_blueprint(folder: Path) -> None:
    plain = define("a").blueprint()
    parts: Any = {"hooks": {"g": GUARD}, "profile": {"hooks": {"g": False}}}
    assert define("a", folder=folder, **parts).blueprint() == plain


@pytest.mark.parametrize(
    ("hook", "path", "message"),
    [
        ({**GUARD, "moed": "x"}, "hooks.g.moed", "unknown key"),
        ({"on": ["before_tool"]}, "hooks.g", "exactly one of python, command and url"),
        ({**GUARD, "url": "http://x"}, "hooks.g", "exactly one of python, command and url"),
        ({**GUARD, "on": []}, "hooks.g.on", "is missing"),
        ({**GUARD, "on": ["before_tol"]}, "hooks.g.on", "there is no point 'before_tol'"),
        ({**GUARD, "on": ["run_failed"]}, "hooks.g.on", "there is nothing to guard"),
        ({**GUARD, "mode": "gard"}, "hooks.g.mode", "'gard' is not possible"),
        ({**GUARD, "on_error": "x"}, "hooks.g.on_error", "'x' is not possible"),
        ({**GUARD, "python": "h.no"}, "hooks.g.python", "not of the form"),
        ({**GUARD, "timeout_s": 0}, "hooks.g.timeout_s", "more than 0"),
        ({"on": ["before_tool"], "url": "x.org"}, "hooks.g.url", "does not start with"),
    ],
)
def test_a_hook_that_cannot_be_is_named(hook: Any, path: str, message: str) -> None:
    with pytest.raises(DefinitionInvalid) as found:
        MobDefinition.from_table(table(("a",), hooks={"g": hook}))
    assert [mistake.path for mistake in found.value.mistakes] == [path]
    assert message in found.value.mistakes[0].message


@pytest.mark.parametrize("how", [True, False, 3])
def test_an_override_of_nothing_is_named(how: Any) -> None:
    with pytest.raises(DefinitionInvalid) as found:
        define("a", profile={"hooks": {"g": how}})
    assert [mistake.path for mistake in found.value.mistakes] == ["profiles.p.hooks.g"]


async def test_a_function_that_cannot_be_loaded_is_told_when_the_mob_is_opened(
    folder: Path,
) -> None:
    for wrong in ("h.py:nobody", "none.py:no"):
        definition = define("a", folder=folder, hooks={"g": {**GUARD, "python": wrong}})
        with pytest.raises(DefinitionInvalid, match=r"hooks\.g\.python"):
            async with opened(definition):
                pass


async def test_what_stands_in_for_a_hook_is_run_and_its_file_not_loaded(folder: Path) -> None:
    async def no(event: HookEvent) -> Deny:
        return Deny(f"by {event.point.value}")

    hooks = {"g": {**GUARD, "python": "none.py:no"}}
    for own in ({}, {"hooks": hooks}):  # the mob's, and a profile's instead of it
        definition = define("a", folder=folder, hooks=hooks, profile=own)
        async with opened(definition, hooks={"g": no}) as mob:
            with pytest.raises(AgentError, match="by before_model"):
                await mob.ask("a", "x")


async def test_a_command_of_the_file_guards_a_turn(folder: Path) -> None:
    program = 'print(\'{"decision": "deny", "reason": "by command"}\')'
    hook = {"on": ["run_started"], "mode": "guardrail", "command": [sys.executable, "-c", program]}
    async with opened(define("a", folder=folder, hooks={"g": hook})) as mob:
        with pytest.raises(AgentError, match="by command"):
            await mob.ask("a", "x")
