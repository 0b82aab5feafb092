"""What must hold of a definition beyond the types of its values.

Owns: every rule about names, numbers and references, for files and for definitions in Python alike.
Must not: read a file, or change a definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from mob.autonomy import REST
from mob.budgets import budget_mistakes
from mob.comms.settings import bounded_comms, comms_mistakes, edge_mistakes
from mob.context import context_mistakes
from mob.dependencies import dependency_mistakes
from mob.errors import Mistake
from mob.flows.checks import flow_mistakes
from mob.hooks import hook_mistakes
from mob.spawndefs import spawn_mistakes
from mob.tables import nearest
from mob.tooldefs import (
    ASK_PREFIX,
    BOARD_TOOLS,
    LOAD_SKILL,
    SEARCH_MEMORY,
    SHELL,
    SPAWN_AGENT,
    TASK_TOOLS,
    bounded_tools,
    check_tools,
)
from mob.workdefs import bounded_work, work_mistakes
from runtime.structured import check_schema
from runtime.tools.names import MCP_PREFIX
from runtime.tools.policy import matches

if TYPE_CHECKING:
    from mob.definition import MobDefinition, ProfileDefinition

#: Names of members, profiles, models and tools: they appear in tool names and paths.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
INF: Final = float("inf")
#: Members that one table may stand for: a million is what the design aims at in one process.
MAX_REPLICAS: Final = 1_000_000


def mistakes_of(definition: MobDefinition) -> Iterable[Mistake]:
    """What does not hold, each with its path."""
    yield from _check_names(definition)
    yield from _check_values(definition)
    yield from check_tools(definition)
    if all((member.replicas or 1) <= MAX_REPLICAS for member in definition.members.values()):
        yield from _check_references(definition)
    yield from budget_mistakes(definition)
    yield from hook_mistakes(definition)
    yield from context_mistakes(definition)
    yield from comms_mistakes(definition)
    yield from flow_mistakes(definition)
    for name, profile in definition.profiles.items():
        if profile.output_schema is not None:
            reason = check_schema(profile.output_schema)
            if reason is not None:
                yield Mistake(f"profiles.{name}.output_schema", reason)


def _check_names(definition: MobDefinition) -> Iterable[Mistake]:
    rule = "letters, digits, - and _, beginning with a letter or digit, at most 63"
    if not NAME.fullmatch(definition.id):
        yield Mistake("mob.id", f"{definition.id!r} is not a name", rule)
    for table in ("models", "profiles", "members", "tools", "mcp", "hooks", "flows"):
        for name in getattr(definition, table):
            if not NAME.fullmatch(name):
                yield Mistake(f"{table}.{name}", f"{name!r} is not a name", rule)


def _check_values(definition: MobDefinition) -> Iterable[Mistake]:
    for path, value, least, most in _bounded(definition):
        if value is not None and not least <= value <= most:
            bounds = f"at least {least:g}" if most == INF else f"{least:g} to {most:g}"
            yield Mistake(path, f"must be {bounds}, found {value:g}")


def _bounded(definition: MobDefinition) -> Iterable[tuple[str, float | None, float, float]]:
    """Every number with a bound: its path, its value, the least and the most it may be."""
    for name, model in definition.models.items():
        yield f"models.{name}.max_concurrency", model.max_concurrency, 1, INF
        yield f"models.{name}.timeout_s", model.timeout_s, 0.001, INF
        yield f"models.{name}.stall_s", model.stall_s, 0.001, INF
        for key in ("backoff_s", "max_backoff_s", "within_s"):
            yield f"models.{name}.retry.{key}", getattr(model.retry, key), 0, INF
    yield from bounded_tools(definition)
    yield from bounded_comms(definition)
    yield from bounded_work(definition)
    for name, profile in definition.profiles.items():
        path = f"profiles.{name}"
        yield f"{path}.output_retries", profile.output_retries, 0, INF
        yield f"{path}.max_steps", profile.max_steps, 1, INF
        if profile.subagents is not None:
            yield f"{path}.subagents.max_depth", profile.subagents.max_depth, 1, 16
            yield f"{path}.subagents.max_children", profile.subagents.max_children, 1, INF
        restart = profile.restart
        yield f"{path}.restart.max", restart.max_restarts, 0, INF
        yield f"{path}.restart.within_s", restart.within_s, 0.001, INF
        yield f"{path}.restart.backoff_s", restart.backoff_s, 0, INF
        yield f"{path}.restart.max_backoff_s", restart.max_backoff_s, 0, INF
    for name, member in definition.members.items():
        yield f"members.{name}.replicas", member.replicas, 1, MAX_REPLICAS
    checkpoint = definition.checkpoint
    for key in ("every_turns", "every_messages", "every_bytes", "max_tail"):
        yield f"checkpoint.{key}", getattr(checkpoint, key), 1, INF
    yield "checkpoint.every_s", checkpoint.every_s, 0.001, INF


def _check_members(definition: MobDefinition) -> Iterable[Mistake]:
    """No two tables may stand for the same member: one would take the other's place."""
    taken: dict[str, str] = {}
    for base, member in definition.members.items():
        for name in member.names(base):
            if taken.setdefault(name, base) != base:
                why = f"the name {name!r} is taken by members.{taken[name]}"
                yield Mistake(f"members.{base}", why, "rename one of them")
                break


def _check_references(definition: MobDefinition) -> Iterable[Mistake]:
    names = definition.member_names()
    if not definition.members:
        yield Mistake("members", "a mob needs at least one member", "add [members.NAME]")
    elif definition.lead not in names:
        yield _unknown("mob.lead", "member", definition.lead, names)
    yield from _check_members(definition)
    yield from _check_fallbacks(definition)
    for name, profile in definition.profiles.items():
        path = f"profiles.{name}"
        if profile.model not in definition.models:
            yield _unknown(f"{path}.model", "model alias", profile.model, definition.models)
        child = profile.subagents.profile if profile.subagents is not None else None
        if child is not None and child not in definition.profiles:
            yield _unknown(f"{path}.subagents.profile", "profile", child, definition.profiles)
        yield from _check_choices(definition, name, profile)
    for name, member in definition.members.items():
        if member.profile not in definition.profiles:
            yield _unknown(
                f"members.{name}.profile", "profile", member.profile, definition.profiles
            )
    yield from edge_mistakes(definition, [*definition.members, *names])
    yield from work_mistakes(definition, names)
    yield from dependency_mistakes(definition, names)
    yield from spawn_mistakes(definition)


def _check_fallbacks(definition: MobDefinition) -> Iterable[Mistake]:
    for name, model in definition.models.items():
        path = f"models.{name}.fallback"
        for alias in model.fallback:
            if alias not in definition.models:
                yield _unknown(path, "model alias", alias, definition.models)
            elif alias == name or model.fallback.count(alias) > 1:
                why = "is the model itself" if alias == name else "is listed more than once"
                yield Mistake(path, f"{alias!r} {why}")
                break


def _check_choices(
    definition: MobDefinition, name: str, profile: ProfileDefinition
) -> Iterable[Mistake]:
    """A forced tool must be one that some session of this profile is offered."""
    offered = {"auto", "none", "required"}
    offered.update(
        name for name in definition.tools if all(matches(layer, name) for layer in profile.allowed)
    )
    if profile.subagents is not None:
        offered.add(SPAWN_AGENT)
        offered.update(TASK_TOOLS if profile.subagents.background else ())
    if profile.shell is not None:
        offered.add(SHELL)
    if profile.skills.allow or profile.skills.preload:
        offered.add(LOAD_SKILL)
    if profile.memory is not None:
        offered.add(SEARCH_MEMORY)
    if profile.autonomy is not None:
        offered.add(REST)
    if profile.board:
        offered.update(BOARD_TOOLS)
    offered.update(f"{ASK_PREFIX}{other}" for other in definition.profiles)
    offered.update(profile.comms.all_tools)
    for choice in profile.tool_choice:
        server = choice.removeprefix(MCP_PREFIX).partition(".")[0]
        if choice.startswith(MCP_PREFIX) and server in definition.mcp:
            continue  # what a server offers is known when it runs
        if choice not in offered:
            yield _unknown(f"profiles.{name}.tool_choice", "tool", choice, offered)


def _unknown(path: str, what: str, word: str, known: Iterable[str]) -> Mistake:
    return Mistake(path, f"there is no {what} {word!r}", nearest(word, known))
