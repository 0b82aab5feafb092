"""The definition of a mob: what it is made of, in Python or in a TOML file.

Owns: the definition types, reading and checking a mob file, and the blueprint (the part that a
stored mob remembers). Must not: open a model, run a tool's code, touch a store.

Blueprint and bindings. Who the members are, what they are told and how they are wired is the
blueprint: it is journalled when the mob is created, and a stored mob is never rewritten because a
file was edited. Which model serves an alias is a binding: it may differ from run to run. So are
budgets, which people raise when they are used up, hooks, and when a context is compacted.

A Python definition goes through the same checks as a file (`MobDefinition.check`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from mob.autonomy import Autonomy
from mob.budgets import read_budget
from mob.checks import mistakes_of
from mob.comms.settings import (
    DEFAULT_MAILBOX,
    NO_COMMS,
    CommsDefinition,
    MailboxDefinition,
    WiringDefinition,
    read_comms,
    read_mailbox,
    read_wiring,
)
from mob.comms.wiring import Wiring
from mob.context import (
    NO_SKILL_LISTS,
    UNGIVEN,
    SkillLists,
    read_compaction,
    read_memory,
    read_skill_folders,
    read_skill_lists,
)
from mob.errors import DefinitionInvalid, Mistake
from mob.extending import read_profiles, told_once
from mob.flows.definition import FlowDefinition, plain
from mob.flows.reading import read_flows
from mob.hooks import HookDefinition, Overrides, read_hooks, read_overrides
from mob.limits import NO_LIMITS, LimitsDefinition, read_limits
from mob.modeldefs import ModelDefinition, read_model
from mob.sim_table import DEFAULT_SIM, SimDefinition, read_sim
from mob.spawndefs import NO_SPAWN, SpawnDefinition, read_spawn
from mob.supervision import DEFAULT_POLICY, RestartPolicy, RestartWhen
from mob.tables import TableReader
from mob.tooldefs import (
    NO_LISTS,
    UNASKED,
    McpDefinition,
    ShellDefinition,
    ToolDefinition,
    ToolLists,
    read_lists,
    read_mcp,
    read_shell,
    read_tool,
)
from mob.workdefs import (
    DEFAULT_SUPERVISION,
    GroupDefinition,
    SupervisionDefinition,
    read_autonomy,
    read_groups,
    read_supervision,
)
from runtime.budget import Budget
from runtime.checkpoint import CheckpointPolicy
from runtime.session import CompactionPolicy
from runtime.turn import MAX_STEPS

#: When a member at rest is told that a child of its has ended.
NEXT_TURN: Final = "next-turn"
WAKE: Final = "wake"


@attrs.frozen
class SubagentDefinition:
    """Whether and how sessions of a profile may start child sessions.

    Children run on `profile` (None: the same one). Depth counts from the member (CONTRACTS 1.8).
    With `background` they may also work beside their parent; when one ends while its parent is at
    rest, a member is told at its ``next-turn``, or is begun a turn for it (``wake``).
    """

    profile: str | None = None
    max_depth: int = 2
    max_children: int = 16
    background: bool = False
    notify: str = NEXT_TURN


@attrs.frozen
class ProfileDefinition:
    """What members and children of one kind have in common. `budget` is for each session of it with
    everything below it. `tools` are patterns of what it is offered of the tables ``[tools.X]`` and
    ``[mcp.X]``, `tools_deny` of what it may not call, whatever offers it, `approve` of what waits
    for an approval when it calls it. `tools_within` are the lists of the profiles that it extends:
    what it is offered is in each of them as well. With `board` its members have the tools of the
    task board; with `autonomy` they go on by themselves."""

    model: str
    instructions: str = ""
    peer_description: str = ""
    tools: tuple[str, ...] = ()
    tool_choice: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    output_retries: int = 2
    max_steps: int = MAX_STEPS
    subagents: SubagentDefinition | None = None
    restart: RestartPolicy = DEFAULT_POLICY
    options: dict[str, Any] = attrs.field(factory=dict)
    budget: Budget | None = None
    hooks: Overrides = attrs.field(factory=dict)
    tools_deny: tuple[str, ...] = ()
    shell: ShellDefinition | None = None
    skills: SkillLists = NO_SKILL_LISTS
    compaction: CompactionPolicy | None = None
    approve: tuple[str, ...] = ()
    memory: str | None = None
    tools_within: tuple[tuple[str, ...], ...] = ()
    board: bool = False
    comms: CommsDefinition = NO_COMMS
    autonomy: Autonomy | None = None

    @property
    def allowed(self) -> tuple[tuple[str, ...], ...]:
        """Every allow list that it stands under."""
        return (self.tools, *self.tools_within)


@attrs.frozen
class MemberDefinition:
    """A member, or with `replicas` n members called ``name-0`` to ``name-(n-1)``.

    `instructions` are added to those of the profile, `brief` to every message it is sent: what
    small models are told once they forget, and what they are to pass on must stand in the message.
    `tools` are laid over the lists of the profile, for the member and its children;
    `peer_description` takes the place of the profile's. `depends_on` says who goes on before it.
    """

    profile: str
    replicas: int | None = None
    instructions: str = ""
    brief: str = ""
    tools: ToolLists = NO_LISTS
    peer_description: str = ""
    depends_on: tuple[str, ...] = ()

    def names(self, base: str) -> tuple[str, ...]:
        """The names that the table ``[members.BASE]`` stands for."""
        if self.replicas is None:
            return (base,)
        return tuple([f"{base}-{index}" for index in range(self.replicas)])


@attrs.frozen
class MobDefinition:
    """A whole mob. `lead` is the member that `mob run` asks. Paths are relative to `folder`."""

    id: str
    lead: str
    models: Mapping[str, ModelDefinition]
    profiles: Mapping[str, ProfileDefinition]
    members: Mapping[str, MemberDefinition]
    tools: Mapping[str, ToolDefinition] = attrs.field(factory=dict)
    mcp: Mapping[str, McpDefinition] = attrs.field(factory=dict)
    wiring: WiringDefinition = WiringDefinition()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    budget: Budget | None = None
    hooks: Mapping[str, HookDefinition] = attrs.field(factory=dict)
    sim: SimDefinition = DEFAULT_SIM
    skills: tuple[str, ...] = ()
    mailbox: MailboxDefinition = DEFAULT_MAILBOX
    flows: Mapping[str, FlowDefinition] = attrs.field(factory=dict)
    groups: Mapping[str, GroupDefinition] = attrs.field(factory=dict)
    supervision: SupervisionDefinition = DEFAULT_SUPERVISION
    limits: LimitsDefinition = NO_LIMITS
    spawn: SpawnDefinition = NO_SPAWN
    labels: Mapping[str, str] = attrs.field(factory=dict)
    folder: Path = attrs.field(factory=Path, eq=False)
    source: str = attrs.field(default="definition", eq=False)

    @classmethod
    def load(cls, path: str | Path) -> MobDefinition:
        """Read and check the mob file at `path`.

        Raises:
            FileNotFoundError: there is no such file.
            DefinitionInvalid: it is not TOML, or not a valid definition; every mistake is listed.
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DefinitionInvalid(
                str(path), (Mistake("file", f"not valid TOML: {error}"),)
            ) from None
        return cls.from_table(data, folder=path.parent, source=str(path))

    @classmethod
    def from_table(
        cls, data: Mapping[str, Any], *, folder: Path | None = None, source: str = "definition"
    ) -> MobDefinition:
        """Build and check a definition from tables as TOML has them (docs/reference/mob-file.md).
        Paths in it are relative to `folder` (default: the current one); `source` is what errors
        call it.

        Raises:
            DefinitionInvalid: it is not valid; every mistake is listed, in the order of the file.
        """
        mistakes: list[Mistake] = []
        definition = read_definition(TableReader("", data, mistakes), folder or Path(), source)
        # Where a value was wrong another stands in for it, about which there is nothing to say.
        told = {mistake.path for mistake in mistakes}
        mistakes.extend(each for each in definition.mistakes() if each.path not in told)
        if mistakes:
            raise DefinitionInvalid(source, tuple(told_once(mistakes, data)))
        return definition

    def check(self) -> None:
        """Raise `DefinitionInvalid` if the parts do not fit together."""
        mistakes = tuple(self.mistakes())
        if mistakes:
            raise DefinitionInvalid(self.source, mistakes)

    def member_names(self) -> dict[str, str]:
        """Every member's name and profile, replicas written out, in order of the definition."""
        return {
            name: member.profile
            for base, member in self.members.items()
            for name in member.names(base)
        }

    def member_details(self) -> dict[str, MemberDefinition]:
        """The tables of members that are told something beyond their profile, by name."""
        return {
            name: member
            for base, member in self.members.items()
            if member.instructions
            or member.brief
            or member.peer_description
            or member.tools != NO_LISTS
            for name in member.names(base)
        }

    def peers(self) -> dict[str, tuple[str, ...]]:
        """To whom each member may send at first, in order of the definition."""
        profiles = self.member_names()
        place = {name: index for index, name in enumerate(profiles)}
        wiring = Wiring(self, profiles.get, lambda: profiles, place.__getitem__)
        return {name: wiring.peers_of(name) for name in profiles}

    def blueprint(self) -> str:
        """The part a stored mob remembers, as canonical JSON. Bindings (models, ...) are not."""
        table = attrs.asdict(
            attrs.evolve(self, models={}, mcp={}, flows={}, folder=Path(), source=""),
            value_serializer=lambda _i, _a, value: getattr(value, "value", value),
        )
        for key in (
            "models",
            "mcp",
            "folder",
            "source",
            "budget",
            "hooks",
            "sim",
            "supervision",
            "limits",
            "spawn",
            "mailbox",
        ):
            del table[key]
        # What was not given is not in it, so that a key of later versions changes no stored mob.
        for profile in table["profiles"].values():
            del profile["budget"], profile["hooks"], profile["compaction"]
            del profile["comms"]["mailbox"]
            _only_given(
                profile["comms"], tools=(), manages=False, silent_intents=(), inline_peers=None
            )
            _only_given(profile, comms={})
            if profile["subagents"] is not None:
                _only_given(profile["subagents"], background=False, notify=NEXT_TURN)
            _only_given(profile, tools_deny=(), tools_within=(), shell=None, approve=(), **UNGIVEN)
        for tool in table["tools"].values():
            _only_given(tool, approve=UNASKED)
        for member in table["members"].values():
            lists = {"allow": None, "deny": ()}
            _only_given(member, peer_description="", tools=lists, depends_on=())
        _only_given(table, skills=(), flows={}, groups={}, labels={})
        _only_given(table["wiring"], directed=(), rules={})
        if self.flows:
            table["flows"] = {name: plain(flow) for name, flow in self.flows.items()}
        given = table["checkpoint"].items()
        table["checkpoint"] = {key: value for key, value in given if value is not None}
        return json.dumps(table, sort_keys=True, ensure_ascii=False, default=str)

    def mistakes(self) -> Iterable[Mistake]:
        """What does not fit together, each with its path."""
        return mistakes_of(self)


def _only_given(table: dict[str, Any], **defaults: Any) -> None:
    for key, default in defaults.items():
        if table[key] == default:
            del table[key]


def changed_parts(old: str, new: str) -> tuple[str, ...]:
    """The dotted paths, two deep, in which two blueprints differ."""
    before, now = json.loads(old), json.loads(new)
    paths: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            inner = sorted(one.keys() | other.keys())
            paths.extend(f"{key}.{name}" for name in inner if one.get(name) != other.get(name))
        else:
            paths.append(key)
    return tuple(paths)


def read_definition(top: TableReader, folder: Path, source: str) -> MobDefinition:
    """The definition that a table says. Mistakes are noted in the table."""
    mob = top.table("mob")
    definition = MobDefinition(
        id=mob.required("id", str, "mob"),
        lead=mob.required("lead", str, ""),
        labels=mob.table("labels").all_texts(),
        models={name: read_model(table) for name, table in top.tables("models").items()},
        profiles=read_profiles(top.tables("profiles"), partial(_read_profile, folder)),
        members={name: _read_member(table) for name, table in top.tables("members").items()},
        tools={name: read_tool(table) for name, table in top.tables("tools").items()},
        mcp={name: read_mcp(table) for name, table in top.tables("mcp").items()},
        wiring=read_wiring(top.table("wiring")),
        checkpoint=_read_checkpoint(top.table("checkpoint")),
        budget=read_budget(top.table("budget")),
        hooks=read_hooks(top),
        sim=read_sim(top.table("sim")),
        skills=read_skill_folders(top),
        mailbox=read_mailbox(top, DEFAULT_MAILBOX),
        flows=read_flows(top, partial(_read_schema, folder=folder)),
        groups=read_groups(top),
        supervision=read_supervision(top),
        limits=read_limits(top),
        spawn=read_spawn(top),
        folder=folder,
        source=source,
    )
    mob.done()
    top.done()
    return definition


def _read_profile(folder: Path, table: TableReader) -> tuple[ProfileDefinition, bool]:
    """A table [profiles.X], and whether it has an allow list of tools."""
    table.raw("extends")
    subagents = _read_subagents(table.table("subagents")) if "subagents" in table else None
    table.raw("subagents")
    lists = read_lists(table)
    profile = ProfileDefinition(
        model=table.required("model", str, ""),
        instructions=_read_instructions(table, folder),
        peer_description=table.take("peer_description", str, ""),
        tools=lists.allow or (),
        tool_choice=table.texts("tool_choice"),
        output_schema=_read_schema(table, folder),
        output_retries=table.take("output_retries", int, 2),
        max_steps=table.take("max_steps", int, MAX_STEPS),
        subagents=subagents,
        restart=_read_restart(table.table("restart")),
        options=table.take("options", dict, {}),
        budget=read_budget(table.table("budget")),
        hooks=read_overrides(table),
        tools_deny=lists.deny,
        shell=read_shell(table),
        skills=read_skill_lists(table),
        compaction=read_compaction(table),
        memory=read_memory(table),
        approve=table.texts("approve"),
        board=table.take("board", bool, False),
        comms=read_comms(table),
        autonomy=read_autonomy(table),
    )
    table.done()
    return profile, lists.allow is not None


def _read_instructions(table: TableReader, folder: Path) -> str:
    text = table.take("instructions", str)
    name = table.take("instructions_file", str)
    if text is not None and name is not None:
        table.wrong("instructions_file", "give instructions or instructions_file, not both")
    if name is None:
        return text or ""
    return _read_text(table, "instructions_file", folder / name)


def _read_schema(table: TableReader, folder: Path) -> dict[str, Any] | None:
    value = table.raw("output_schema")
    if isinstance(value, str):
        text = _read_text(table, "output_schema", folder / value)
        try:
            value = json.loads(text) if text else {}
        except ValueError as error:
            table.wrong("output_schema", f"{folder / value} is not valid JSON: {error}")
            return None
    if value is None or isinstance(value, dict):
        return value
    table.wrong("output_schema", "expected a JSON Schema table or the path of a .json file")
    return None


def _read_text(table: TableReader, key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        table.wrong(key, f"cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        table.wrong(key, f"{path} is not UTF-8 text")
    return ""


def _read_subagents(table: TableReader) -> SubagentDefinition:
    subagents = SubagentDefinition(
        profile=table.take("profile", str),
        max_depth=table.take("max_depth", int, 2),
        max_children=table.take("max_children", int, 16),
        background=table.take("background", bool, False),
        notify=table.choice("notify", NEXT_TURN, (NEXT_TURN, WAKE)),
    )
    table.done()
    return subagents


def _read_restart(table: TableReader) -> RestartPolicy:
    default = DEFAULT_POLICY
    policies = [when.value for when in RestartWhen]
    restart = RestartPolicy(
        when=RestartWhen(table.choice("policy", default.when.value, policies)),
        max_restarts=table.take("max", int, default.max_restarts),
        within_s=table.take("within_s", float, default.within_s),
        backoff_s=table.take("backoff_s", float, default.backoff_s),
        max_backoff_s=table.take("max_backoff_s", float, default.max_backoff_s),
    )
    table.done()
    return restart


def _read_member(table: TableReader) -> MemberDefinition:
    member = MemberDefinition(
        table.required("profile", str, ""),
        table.take("replicas", int),
        table.take("instructions", str, ""),
        table.take("brief", str, ""),
        read_lists(table),
        table.take("peer_description", str, ""),
        table.texts("depends_on"),
    )
    table.done()
    return member


def _read_checkpoint(table: TableReader) -> CheckpointPolicy:
    checkpoint = CheckpointPolicy(
        every_turns=table.take("every_turns", int, CheckpointPolicy().every_turns),
        every_messages=table.take("every_messages", int),
        every_bytes=table.take("every_bytes", int),
        every_s=table.take("every_s", float),
        max_tail=table.take("max_tail", int),
    )
    table.done()
    return checkpoint
