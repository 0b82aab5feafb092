"""What holds of every verb, read from the table of commands."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cyclopts import App

from mob.cli.app import VERBS
from mob.cli.completing import members, mobs, newcomers, whole_or_members

#: Verbs without --json, and why.
WITHOUT_JSON = {
    "attach": "people sit at it",
    "completion": "it prints a script",
    "demo": "people watch it",
    "events": "it prints JSON lines, always",
    "schema": "it prints JSON, always",
}
#: Verbs that take away or put back what people may want to keep.
DESTRUCTIVE = {
    *("stop", "retire", "respawn", "unwire", "rewind", "restore", "delete", "gc", "flow cancel"),
}


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command with its function, those of verbs that have some of their own too."""
    for verb in VERBS:
        python = verb.replace("-", "_")
        found = getattr(importlib.import_module(f"mob.cli.{python}"), python)
        if isinstance(found, App):
            for name in found:
                if not name.startswith("-"):
                    yield f"{verb} {name}", found[name].default_command
        else:
            yield verb, found


COMMANDS = dict(commands())


def option(verb: str, python: str) -> str | None:
    """How the annotated type of a parameter says that its option is called; None without it."""
    found = inspect.signature(COMMANDS[verb], eval_str=True).parameters.get(python)
    if found is None:
        return None
    (parameter,) = found.annotation.__metadata__
    name = parameter.name or f"--{python.replace('_', '-')}"
    return name if isinstance(name, str) else " ".join(name)


def test_programs_can_read_what_every_verb_says() -> None:
    without = {verb for verb in COMMANDS if option(verb, "json") != "--json"}
    assert without == WITHOUT_JSON.keys()


def test_destructive_verbs_can_be_tried() -> None:
    assert {verb for verb in COMMANDS if option(verb, "dry_run")} == {*DESTRUCTIVE, "flow run"}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_mob_is_named_alike_everywhere(verb: str) -> None:
    """Whoever takes MOB or MOB/... takes labels in its place, and shells complete it."""
    parameters = inspect.signature(COMMANDS[verb], eval_str=True).parameters.values()
    named = {
        each: str(parameter.name)
        for each in parameters
        if each.kind is inspect.Parameter.POSITIONAL_ONLY
        for parameter in each.annotation.__metadata__
    }
    mine = [each for each, name in named.items() if "MOB" in name]
    assert len(mine) <= 1
    for each in mine:
        (parameter,) = each.annotation.__metadata__
        assert parameter.completer in (mobs, members, newcomers, whole_or_members)
        assert option(verb, "label") == "--label -l"
    if any("RUN" in name for name in named.values()):
        assert option(verb, "label") == "--label -l"
