"""Harnesses: what a session of a profile runs with.

Owns: turning profiles into `SessionConfig`s, once per profile, depth and member. Must not: open
models (they are handed in) or run anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.boardtools import board_tools
from mob.budgets import check_run_budget, open_budgets
from mob.comms.tools import comms_tools
from mob.context import LoadedSkills
from mob.definition import MemberDefinition, MobDefinition, ProfileDefinition
from mob.errors import DefinitionInvalid, Mistake
from mob.going import REST_TOOL
from mob.helpers import member_of
from mob.hooks import LoadedHooks
from mob.peers import ask_peers
from mob.tooldefs import ASK, SHELL, ShellDefinition
from runtime.attempts import Route
from runtime.budget import Budget, tightest
from runtime.compaction import Compacting
from runtime.driver import SessionConfig
from runtime.errors import MobError
from runtime.hooks import Body
from runtime.ids import HarnessId, SessionId
from runtime.memory import Embedder, Found, Memory, SearchMemory
from runtime.models.base import Model
from runtime.session import NO_SPEC, SessionHead, SessionSpec
from runtime.skills import LoadSkill, Skills
from runtime.spawning import SpawnLimits
from runtime.tools.agents import SpawnAgent
from runtime.tools.base import Tool, Toolbox
from runtime.tools.function import load_function, tool
from runtime.tools.names import MCP_PREFIX, qualified_name, wire_name
from runtime.tools.policy import EVERY_TOOL, Patterns, ToolPolicy, may_match
from runtime.tools.shell import ShellTool
from runtime.tools.source import ToolSource
from runtime.tools.tasks import task_tools
from runtime.turn import TurnRules

if TYPE_CHECKING:
    from mob.mob import Mob


#: What of a spec is laid over a configuration that was made for others too.
_LAID_LATER: Final[dict[str, Any]] = {
    "tools": EVERY_TOOL,
    "approve": (),
    "output_schema": None,
    "budget": None,
}


#: The place of a member's name for those of a profile that are told and offered the same. No
#: member is called so.
_ANY: Final = ""


class Harnesses:
    """The configurations of one mob's sessions, made on first use and kept.

    Configurations of members differ in the peers they may ask, so they are kept per member, but
    for those without: these share one, and so do all children of one profile at one depth.
    """

    def __init__(
        self,
        definition: MobDefinition,
        models: Mapping[str, Model],
        tools: Mapping[str, Tool],
        sources: Mapping[str, ToolSource],
        hooks: Mapping[str, Body],
        remembers: tuple[Path | None, Embedder | None] = (None, None),
    ) -> None:
        self._definition = definition
        self._models = models
        self._tools = tools
        self._hooks = LoadedHooks(definition, hooks)
        self._skills = LoadedSkills(definition)
        self._remembers = remembers
        self._memory: Memory | None = None
        self._sources = sources
        self._told = definition.member_details()
        self._configs: dict[tuple[str, str | None, int], SessionConfig] = {}

    def profile(self, name: str) -> ProfileDefinition:
        """The profile called `name`, which the definition has checked to exist."""
        return self._definition.profiles[name]

    def configure(self, mob: Mob, head: SessionHead) -> SessionConfig:
        """What the session of `head` runs with: its profile, what its member says laid over that,
        and what it was created with over both.

        Raises:
            MobError: it was created with something that this mob has not.
        """
        if head.spec.budget is not None:
            check_run_budget(self._definition, head.spec.budget)
            open_budgets(mob)
        depth = head.lineage.depth
        key = (head.harness_id, None if depth else head.agent_id, depth)
        config = self._configs.get(key)
        spec = head.spec
        if spec is not NO_SPEC and attrs.evolve(head.spec, **_LAID_LATER) != NO_SPEC:
            config = self._make(mob, *key, spec=head.spec)
        elif config is None:
            config = self._configs[key] = self._shared(mob, *key)
        if head.spec.output_schema is not None:  # asked for by whoever spawned it
            schema = json.loads(head.spec.output_schema)
            config = attrs.evolve(config, rules=attrs.evolve(config.rules, output_schema=schema))
        told = self._told_of(head.agent_id)
        laid = head.spec.tools if told is None else told.tools.policy & head.spec.tools
        if (laid is EVERY_TOOL or laid == EVERY_TOOL) and not head.spec.approve:
            return config
        toolbox = config.toolbox.restricted(laid, head.spec.approve)
        return attrs.evolve(config, toolbox=toolbox)

    def _shared(self, mob: Mob, profile_name: str, member: str | None, depth: int) -> SessionConfig:
        """What sessions of a profile run with: one for all whose member adds nothing of its own.
        It has 4 KB, and is made in the time of a turn."""
        profile = self._definition.profiles[profile_name]
        if member is None or self._told_of(member) or profile.comms.all_tools or profile.board:
            return self._make(mob, profile_name, member, depth)
        if mob.wiring.peers_of(member):
            return self._make(mob, profile_name, member, depth)
        plain = (profile_name, _ANY, depth)
        if plain not in self._configs:
            self._configs[plain] = self._make(mob, profile_name, member, depth)
        return self._configs[plain]

    def _make(
        self,
        mob: Mob,
        profile_name: str,
        member: str | None,
        depth: int,
        spec: SessionSpec = NO_SPEC,
    ) -> SessionConfig:
        """What sessions of a profile run with, `spec` laid over it."""
        profile = self._laid_over(self._definition.profiles[profile_name], spec)
        skills = self._skills.of(profile_name)
        if (unknown := skills.unknown(spec.preload_skills)) is not None:
            raise MobError(unknown)
        skills = skills.preloading(spec.preload_skills)
        toolbox = self._toolbox(mob, profile_name, member, depth)
        told = self._told_of(member)
        instructions = spec.instructions
        if instructions is None:
            own = "" if told is None else told.instructions
            instructions = f"{profile.instructions}\n{own}".strip()
        first, *fallback = self._routes(profile, spec.fallback)
        return SessionConfig(
            first.model,
            skills.prompt(instructions),
            toolbox,
            TurnRules(
                profile.output_schema,
                profile.output_retries,
                tuple(map(_called, profile.tool_choice)),
                profile.max_steps,
            ),
            first.options,
            "" if told is None else told.brief,
            first.retry,
            tuple(fallback),
            self._hooks.of(profile_name),
            skills,
            self._compacting(profile, first),
        )

    def _told_of(self, member: str | None) -> MemberDefinition | None:
        """What the table of a member says; of a helper, that of its member."""
        return self._told.get(member_of(member)) if member is not None and self._told else None

    def skills_of(self, profile: str) -> Skills:
        """The skills that sessions of a profile may load."""
        return self._skills.of(profile)

    def memory(self, mob: Mob) -> Memory:
        """The memory of the mob, made when it is first asked for."""
        if self._memory is None:
            self._memory = Memory(mob.realm, *self._remembers)
        return self._memory

    async def search(self, mob: Mob, query: str, asker: SessionId | None, limit: int) -> Found:
        """Past turns that fit `query`, of those that `asker` may read, or with None of all."""
        heads = list(mob.realm.state.heads)
        readable = heads if asker is None else self.readable(mob, asker)
        return await self.memory(mob).search(query, readable, limit)

    def readable(self, mob: Mob, asker: SessionId) -> list[SessionId]:
        """Whose turns a session may search: its own, and with the scope ``mob`` those of all
        sessions whose profile has that scope too."""
        profiles, heads = self._definition.profiles, mob.realm.state.heads
        shares = {name for name, profile in profiles.items() if profile.memory == "mob"}
        if asker not in heads or heads[asker].harness_id not in shares:
            return [asker]
        return [each for each, head in heads.items() if head.harness_id in shares]

    async def aclose(self) -> None:
        """Close the index of the memory."""
        if self._memory is not None:
            await self._memory.aclose()

    def _compacting(self, profile: ProfileDefinition, own: Route) -> Compacting | None:
        policy = profile.compaction
        if policy is None:
            return None
        if policy.model is None:
            return Compacting(policy, own.model, own.options)
        return Compacting(
            policy, self._models[policy.model], self._definition.models[policy.model].options
        )

    def _toolbox(self, mob: Mob, profile_name: str, member: str | None, depth: int) -> Toolbox:
        """All there is, and what of it the profile may call: a model that asks for something else
        is told that it may not, and not that there is no such thing."""
        profile = self._definition.profiles[profile_name]
        own: list[Tool] = []
        if profile.subagents is not None and depth < profile.subagents.max_depth:
            child = profile.subagents.profile
            harness_id = None if child is None else HarnessId(child)
            own.append(SpawnAgent(harness_id, profile.subagents.background))
            if profile.subagents.background:
                own.extend(task_tools())
        if profile.shell is not None:
            own.append(self._tools.get(SHELL) or self._shell(profile.shell))
        if (skills := self._skills.of(profile_name)).offered:
            own.append(LoadSkill(skills))
        if profile.memory is not None:
            own.append(SearchMemory(self.memory(mob), lambda asker: self.readable(mob, asker)))
        if member is not None:
            own.extend(self._peer_tools(mob, member))
            if profile.autonomy is not None:
                own.append(REST_TOOL)
            own.extend(comms_tools(mob, member, profile.comms))
            own.extend(board_tools(mob.board, member) if profile.board else ())
        library = [each for name, each in self._tools.items() if name != SHELL]
        turned_on = tuple(each.spec.name for each in own)
        wanted = [
            source
            for name, source in self._sources.items()
            if all(_may_have(layer, name) for layer in profile.allowed)
        ]
        layers = tuple((*layer, *turned_on) for layer in profile.allowed)
        asked = [name for name, each in self._definition.tools.items() if each.approve == ASK]
        return Toolbox(
            [*library, *own],
            policy=ToolPolicy(layers, profile.tools_deny),
            sources=wanted,
            approve=(*profile.approve, *asked),
        )

    def _shell(self, shell: ShellDefinition) -> ShellTool:
        folder = self._definition.folder / shell.cwd
        return ShellTool(folder, shell.timeout_s, shell.max_output_bytes, shell.env)

    def _laid_over(self, profile: ProfileDefinition, spec: SessionSpec) -> ProfileDefinition:
        """`profile` with what a session was created with in the place of what it says.

        Raises `MobError` if that names what this mob has not: it fails the session's turns.
        """
        if spec == NO_SPEC:
            return profile
        compacting = spec.compaction.model if spec.compaction is not None else None
        for alias in (spec.model, *spec.fallback, compacting):
            if alias is not None and alias not in self._models:
                known = ", ".join(self._models)
                raise MobError(f"there is no model alias {alias!r} here; there are: {known}")
        retries = spec.output_retries
        return attrs.evolve(
            profile,
            model=spec.model or profile.model,
            output_retries=profile.output_retries if retries is None else retries,
            options={**profile.options, **spec.options},
            compaction=spec.compaction or profile.compaction,
        )

    def _routes(self, profile: ProfileDefinition, fallback: tuple[str, ...] = ()) -> list[Route]:
        """The chain of models of a profile, its own first, then `fallback` or the model's own."""
        models = self._definition.models
        return [
            Route(
                self._models[alias],
                models[alias].retry,
                {**models[alias].options, **profile.options},
            )
            for alias in (profile.model, *(fallback or models[profile.model].fallback))
        ]

    def _peer_tools(self, mob: Mob, member: str) -> list[Tool]:
        by_profile: dict[str, list[str]] = {}
        for peer in mob.wiring.peers_of(member):
            by_profile.setdefault(mob.wiring.profile(peer) or "", []).append(peer)
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
        of_profile = None if profile is None else profile.budget
        given = [each for each in (of_profile, head.spec.budget) if each is not None]
        if not given:
            return None
        kind = "member" if head.lineage.parent is None else "child"
        whose = f"{kind} {head.title or head.agent_id or head.session_id!r}"
        return whose, tightest(given)

    def description_of(self, name: str, profile: str) -> str:
        """What the other members are told about a member."""
        told = self._told.get(name)
        own = "" if told is None else told.peer_description
        return own or self._definition.profiles[profile].peer_description

    def forget(self) -> None:
        """Make configurations anew from now on: the roster has changed."""
        self._configs.clear()

    def limits(self, parent: SessionHead, root: SessionHead) -> SpawnLimits:
        """The bounds on a child of `parent` in the tree of `root`: the parent's profile says how
        deep it may be, the member's how many may be active in the tree."""
        profiles = self._definition.profiles
        own = profiles[parent.harness_id].subagents if parent.harness_id in profiles else None
        top = profiles[root.harness_id].subagents if root.harness_id in profiles else None
        most = top or own
        default = SpawnLimits()
        return SpawnLimits(
            default.max_depth if own is None else own.max_depth,
            default.max_active if most is None else most.max_children,
        )


def _may_have(patterns: Patterns, server: str) -> bool:
    """Whether `patterns` list a tool of an MCP server, perhaps."""
    return any(may_match(pattern, qualified_name(server, "")) for pattern in patterns)


def _called(choice: str) -> str:
    """What models call the tool that a mob file calls `choice`."""
    server, dot, tool_name = choice.removeprefix(MCP_PREFIX).partition(".")
    return wire_name(server, tool_name) if choice.startswith(MCP_PREFIX) and dot else choice


def load_tools(definition: MobDefinition, given: Mapping[str, Tool]) -> dict[str, Tool]:
    """The [tools.X] functions of a definition, loaded from their files except for those given.

    One given as ``shell`` stands in for the shell of every profile that has one.

    Raises:
        DefinitionInvalid: a file or function is missing, fails to load, or has a parameter that
            JSON cannot express, or one is given that has no table or calls itself something
            else; all such mistakes are listed.
    """
    tools: dict[str, Tool] = {}
    mistakes: list[Mistake] = []
    for name, own in given.items():
        if name == SHELL and any(each.shell for each in definition.profiles.values()):
            tools[SHELL] = own
        elif name not in definition.tools:
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
