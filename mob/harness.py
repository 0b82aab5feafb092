"""Harnesses: what a session of a profile runs with.

Owns: turning profiles into `SessionConfig`s, once per profile, depth and member. Must not: open
models (they are handed in) or run anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mob.definition import MobDefinition, ProfileDefinition
from mob.errors import DefinitionInvalid, Mistake
from mob.hooks import LoadedHooks
from mob.peers import ask_peers
from runtime.attempts import Route
from runtime.budget import Budget
from runtime.driver import SessionConfig
from runtime.ids import HarnessId
from runtime.models.base import Model
from runtime.session import SessionHead
from runtime.spawning import SpawnLimits
from runtime.tools.agents import SpawnAgent
from runtime.tools.base import Tool, Toolbox
from runtime.tools.function import load_function, tool
from runtime.turn import TurnRules

if TYPE_CHECKING:
    from mob.mob import Mob


class Harnesses:
    """The configurations of one mob's sessions, made on first use and kept.

    Configurations of members differ in the peers they may ask, so they are kept per member; all
    children of one profile at one depth share theirs.
    """

    def __init__(
        self, definition: MobDefinition, models: Mapping[str, Model], tools: Mapping[str, Tool]
    ) -> None:
        self._definition = definition
        self._models = models
        self._tools = tools
        self._hooks = LoadedHooks(definition)
        self._peers = definition.peers()
        self._told = definition.member_details()
        self._configs: dict[tuple[str, str | None, int], SessionConfig] = {}

    def profile(self, name: str) -> ProfileDefinition:
        """The profile called `name`, which the definition has checked to exist."""
        return self._definition.profiles[name]

    def configure(self, mob: Mob, head: SessionHead) -> SessionConfig:
        """What the session of `head` runs with."""
        depth = head.lineage.depth
        key = (head.harness_id, None if depth else head.agent_id, depth)
        config = self._configs.get(key)
        if config is None:
            config = self._configs[key] = self._make(mob, *key)
        return config

    def _make(self, mob: Mob, profile_name: str, member: str | None, depth: int) -> SessionConfig:
        profile = self._definition.profiles[profile_name]
        offered: list[Tool] = [self._tools[name] for name in profile.tools]
        if profile.subagents is not None and depth < profile.subagents.max_depth:
            child = profile.subagents.profile
            offered.append(SpawnAgent(harness_id=None if child is None else HarnessId(child)))
        if member is not None:
            offered.extend(self._peer_tools(mob, member))
        toolbox = Toolbox(offered)
        names = {spec.name for spec in toolbox.specs} | {"auto", "none"}
        names |= {"required"} if len(toolbox) else set()
        told = self._told.get(member) if member is not None else None
        own = "" if told is None else told.instructions
        first, *fallback = self._routes(profile)
        return SessionConfig(
            first.model,
            f"{profile.instructions}\n{own}".strip(),
            toolbox,
            TurnRules(
                profile.output_schema,
                profile.output_retries,
                tuple(choice if choice in names else "auto" for choice in profile.tool_choice),
                profile.max_steps,
            ),
            first.options,
            "" if told is None else told.brief,
            first.retry,
            tuple(fallback),
            self._hooks.of(profile_name),
        )

    def _routes(self, profile: ProfileDefinition) -> list[Route]:
        """The chain of models of a profile, its own first."""
        models = self._definition.models
        return [
            Route(
                self._models[alias],
                models[alias].retry,
                {**models[alias].options, **profile.options},
            )
            for alias in (profile.model, *models[profile.model].fallback)
        ]

    def _peer_tools(self, mob: Mob, member: str) -> list[Tool]:
        by_profile: dict[str, list[str]] = {}
        for peer in self._peers.get(member, ()):
            row = mob.roster.members.get(peer)
            if row is not None:
                by_profile.setdefault(row.profile, []).append(peer)
        return [
            ask_peers(
                mob,
                member,
                profile,
                self._definition.profiles[profile].peer_description,
                tuple(names),
            )
            for profile, names in by_profile.items()
        ]

    @property
    def bounded(self) -> bool:
        """Whether anything here has a budget."""
        mine = self._definition
        return mine.budget is not None or any(p.budget for p in mine.profiles.values())

    def budget_of(self, head: SessionHead) -> tuple[str, Budget] | None:
        """The budget of a session's profile, and whose it is in words."""
        profile = self._definition.profiles.get(head.harness_id)
        if profile is None or profile.budget is None:
            return None
        kind = "member" if head.lineage.parent is None else "child"
        return f"{kind} {head.title or head.agent_id or head.session_id!r}", profile.budget

    def forget(self) -> None:
        """Make configurations anew from now on: the roster has changed."""
        self._configs.clear()

    def limits(self) -> SpawnLimits:
        """The bounds on child sessions that hold for every tree of the mob: the widest asked for.

        Depth is bounded per profile besides, because a profile at its depth is not offered
        `spawn_agent` at all.
        """
        asked = [p.subagents for p in self._definition.profiles.values() if p.subagents is not None]
        if not asked:
            return SpawnLimits()
        return SpawnLimits(
            max(one.max_depth for one in asked), max(one.max_children for one in asked)
        )


def load_tools(definition: MobDefinition, given: Mapping[str, Tool]) -> dict[str, Tool]:
    """The [tools.X] functions of a definition, loaded from their files except for those given.

    Raises:
        DefinitionInvalid: a file or function is missing, fails to load, or has a parameter that
            JSON cannot express, or one is given that has no table or calls itself something
            else; all such mistakes are listed.
    """
    tools: dict[str, Tool] = {}
    mistakes: list[Mistake] = []
    for name, own in given.items():
        if name not in definition.tools:
            mistakes.append(Mistake(f"tools.{name}", "a tool was given that has no table"))
        elif own.spec.name != name:
            mistakes.append(Mistake(f"tools.{name}", f"the tool given is named {own.spec.name!r}"))
    for name, described in definition.tools.items():
        if name in given:
            tools[name] = given[name]
            continue
        file_name, _, function_name = described.function.partition(":")
        try:
            function = load_function(definition.folder / file_name, function_name)
            tools[name] = tool(
                function,
                name=name,
                idempotent=described.idempotent,
                timeout_s=described.timeout_s,
            )
        except Exception as error:  # noqa: BLE001 whatever the user's file raises is a mistake in it
            mistakes.append(Mistake(f"tools.{name}.function", f"{type(error).__name__}: {error}"))
    if mistakes:
        raise DefinitionInvalid(definition.source, tuple(mistakes))
    return tools
