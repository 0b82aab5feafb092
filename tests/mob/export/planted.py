"""A mob in whose work keys turn up, wherever keys do.

Owns: the keys, the mob and its work. Must not: look for them (the tests of each export do).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from mob.definition import MobDefinition
from mob.mob import Mob
from runtime.errors import AgentError, ModelError
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from stores import Store
from tests.mob.mobs import TOOLS, asked, define, opened, tool_file

#: Looks like a key.
LOOKS: Final = "sk-proj-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5"
#: Does not; the mob file names its variable as that of a model's key.
NAMED: Final = "correct horse battery staple"
#: Does not; its variable's name says that it is secret.
CALLED: Final = "open, sesame and barley"
#: Only the name of the argument says so.
ARGUMENT: Final = "hunter2 hunter2"
KEYS: Final = (LOOKS, NAMED, CALLED, ARGUMENT)
EVERYWHERE: Final = f"{LOOKS} {NAMED} {CALLED}"


def plant(patch: pytest.MonkeyPatch) -> None:
    """Put the keys into the environment."""
    patch.setenv("TEAM_LOGIN", NAMED)
    patch.setenv("WIKI_TOKEN", CALLED)


def team(folder: Path) -> MobDefinition:
    """Members `a` and `b`; `a` has a tool."""
    return define(
        "a",
        "b",
        folder=folder,
        models={"m": {"model": "sim:echo", "api_key_env": "TEAM_LOGIN"}},
        profile={"tools": ["log_in"]},
        restart={"policy": "never"},
        tools=tool_file(folder, log_in=True),
    )


async def log_in(text: str) -> str:
    """Say all it was told, and more."""
    return f"logged in with {text} {EVERYWHERE}"


def answer(request: ModelRequest) -> str | ModelReply | Exception:
    """`a` logs in and tells; `b` fails with a key in the error."""
    if request.key.startswith("t/b"):
        return ModelError(f"401: {EVERYWHERE} is refused", provider="p", retryable=False)
    if type(request.messages[-1]).__name__ == "ToolResult":
        return f"I was told {EVERYWHERE}"
    text = asked(request)
    wrong = ("log_in", {"text": text, "password": ARGUMENT})
    return calling(("log_in", {"text": text}), wrong, (LOOKS, {}))


@asynccontextmanager
async def worked(folder: Path, store: Store | None = None) -> AsyncIterator[Mob]:
    """The mob when it has done its work: three turns, of which two failed."""
    TOOLS["log_in"] = log_in
    more: dict[str, Any] = {} if store is None else {"store": store}
    async with opened(team(folder), answer, **more) as mob:
        await mob.ask("a", f"log in with {EVERYWHERE}")
        for _ in range(2):
            with pytest.raises(AgentError):
                await mob.ask("b", f"and you? {EVERYWHERE}")
        yield mob


def leaked(text: str) -> list[str]:
    """The keys that stand in `text`."""
    return [key for key in KEYS if key in text]
