"""From a request to what a session is, and from that to what its turns run with.

Owns: checking options, the spec they become, the built-in tools of a session, its `SessionConfig`.
Must not: create a session or run a turn.

A child that a session starts has no options of its own: it runs with those of the nearest session
above it that a caller built, one level deeper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs

from runtime.attempts import Route
from runtime.compaction import Compacting
from runtime.driver import SessionConfig
from runtime.errors import SessionError
from runtime.hooks import NO_HOOKS
from runtime.ids import SessionId
from runtime.memory import Memory, SearchMemory
from runtime.models.base import Emit, Model, ModelReply, ModelRequest
from runtime.models.registry import open_model
from runtime.models.watched import watched
from runtime.prices import Price, priced
from runtime.realm import Realm
from runtime.service.peers import check_name
from runtime.service.requests import NO_OPTIONS, CreateSessionRequest, SessionBuildOptions
from runtime.session import NO_SPEC, PeerCard, Provenance, SessionHead, SessionSpec
from runtime.skills import NO_SKILLS, LoadSkill, Skill, Skills
from runtime.structured import check_schema
from runtime.tools.agents import SpawnAgent
from runtime.tools.base import Tool, Toolbox
from runtime.tools.clock import CurrentTime
from runtime.tools.policy import Patterns
from runtime.tools.shell import ShellTool
from runtime.tools.tasks import task_tools
from runtime.turn import TurnRules

#: The groups of built-in tools that an ``override_`` option forces on or off.
GROUPS: Final = ("builtins", "shell", "subagents", "memory", "mob")


@attrs.frozen
class ServiceDefaults:
    """What sessions have whose options say None: which groups of built-in tools, and where a shell
    begins (None: the folder of the process). Peers' tools need a `comms_name` besides."""

    builtins: bool = False
    shell: bool = False
    subagents: bool = False
    memory: bool = False
    mob: bool = True
    shell_folder: Path | None = None


NO_DEFAULTS: Final = ServiceDefaults()


@attrs.frozen(eq=False)
class _Priced:
    """A model whose replies say what they cost."""

    model: Model
    price: Price

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def supports_tools(self) -> bool:
        return self.model.supports_tools

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        reply = await self.model.generate(request, emit)
        return attrs.evolve(reply, usage=priced(reply.usage, self.price))

    async def aclose(self) -> None:
        await self.model.aclose()


def spec_of(request: CreateSessionRequest) -> SessionSpec:
    """What the session of this request is, on top of the one it resumes, if it does.

    Raises:
        SessionError: an option cannot be used.
    """
    build = request.build
    _check(build)
    options = dict(build.provider_params)
    if request.max_tokens is not None:
        options["max_tokens"] = request.max_tokens
    forced = {name: getattr(build, f"override_{name}") for name in GROUPS}
    provenance = Provenance(
        build.realm_id, build.instance_id, build.backend, build.config_generation
    )
    spec = SessionSpec(
        reference_of(request.model, build.provider),
        request.system_prompt,
        None if build.output_schema is None else json.dumps(build.output_schema),
        build.structured_output_retries,
        options,
        build.fallback,
        build.budget_limits,
        build.tools,
        build.preload_skills,
        build.compaction,
        _card(build),
        None if provenance == Provenance() else provenance,
        {name: on for name, on in forced.items() if on is not None},
        request.host_mode,
        {} if build.price is None else _as_texts(build.price),
        _patterns(build.approve),
    )
    resumed = build.resume_session
    return spec if resumed is None else _laid_over(spec, resumed.spec)


def reference_of(model: str, provider: str | None) -> str:
    """``provider:id`` of a model, whose provider may be given apart."""
    if provider is None or model.startswith(f"{provider}:"):
        return model
    return f"{provider}:{model}"


def _check(build: SessionBuildOptions) -> None:
    if build.output_schema is not None:
        mistake = check_schema(build.output_schema)
        if mistake is not None:
            raise SessionError(f"output_schema is {mistake}; nothing was created")
    if build.structured_output_retries < 0:
        raise SessionError("structured_output_retries is 0 or more; nothing was created")
    budget = build.budget_limits
    if budget is not None and budget.nano_usd is not None and build.price is None:
        raise SessionError("budget_limits: no price is known here, so money has no limit")
    most = build.max_inline_peer_notifications
    if most is not None and most < -1:
        raise SessionError(
            f"max_inline_peer_notifications is a number of peers, 0 for never or -1 for always, not"
            f" {most}; nothing was created"
        )
    if build.comms_name is not None:
        check_name(build.comms_name)
    elif build.peer_meta is not None or build.silent_comms_intents or build.override_mob:
        raise SessionError(
            "peer_meta, silent_comms_intents and override_mob are for a session with a comms_name;"
            " nothing was created"
        )


def _patterns(given: Patterns | str) -> Patterns:
    if isinstance(given, str):
        raise SessionError(f"approve is a list of patterns, such as [{given[:80]!r}], not a text")
    return tuple(given)


def _as_texts(price: Price) -> dict[str, str]:
    fields = attrs.asdict(price)
    return {name: str(amount) for name, amount in fields.items() if amount is not None}


def _card(build: SessionBuildOptions) -> PeerCard | None:
    if build.comms_name is None:
        return None
    meta = build.peer_meta
    return PeerCard(
        build.comms_name,
        "" if meta is None else meta.description,
        {} if meta is None else dict(meta.labels),
        tuple(build.silent_comms_intents),
        build.max_inline_peer_notifications,
    )


def _laid_over(spec: SessionSpec, old: SessionSpec) -> SessionSpec:
    """`spec`, and what it does not say from `old`."""
    realm, was = (
        None if each.provenance is None else each.provenance.realm_id for each in (spec, old)
    )
    if realm is not None and was is not None and realm != was:
        raise SessionError(
            f"the session to resume belongs to realm {was!r}, not to {realm!r}; nothing was created"
        )
    silent = attrs.evolve(NO_SPEC, output_retries=NO_OPTIONS.structured_output_retries)
    kept = {
        field.name: getattr(old, field.name)
        for field in attrs.fields(SessionSpec)
        if getattr(spec, field.name) == getattr(silent, field.name)
    }
    if kept.get("output_retries", 0) is None:
        del kept["output_retries"]
    options = {**old.options, **spec.options}
    overrides = {**old.overrides, **spec.overrides}
    return attrs.evolve(spec, **{**kept, "options": options, "overrides": overrides})


class Builder:
    """What the turns of one service's sessions run with."""

    def __init__(
        self,
        realm: Realm,
        skills: Mapping[str, Skill],
        defaults: ServiceDefaults,
        peers: Callable[[SessionSpec], list[Tool]],
    ) -> None:
        self._realm = realm
        self._skills = dict(skills)
        self._defaults = defaults
        self._peers = peers
        self._models: dict[str, Model] = {}
        self._memory: Memory | None = None
        #: Whether children may go on beside the turns that started them.
        self.background = False
        #: The live objects of sessions that were built in this process.
        self.options: dict[SessionId, SessionBuildOptions] = {}

    def admit(self, request: CreateSessionRequest, spec: SessionSpec) -> None:
        """Look whether everything the session needs can be had.

        Raises:
            ModelUnavailable: a model cannot.
            SessionError: a skill is not known, or two tools have one name.
        """
        if request.build.llm_client_override is None:
            self.model(spec.model or "")
        for reference in spec.fallback:
            self.model(reference)
        if spec.compaction is not None and spec.compaction.model is not None:
            self.model(spec.compaction.model)
        self.check_skills((*spec.preload_skills, *request.skill_references), None)

    def check_skills(self, names: Iterable[str], session_id: SessionId | None) -> None:
        """Raises `SessionError` for a skill that is not offered here."""
        reason = Skills(self._skills).unknown(names)
        if reason is not None:
            raise SessionError(f"{reason}; nothing was begun", session_id)

    def configure(self, head: SessionHead) -> SessionConfig:
        """What a session of the service runs with."""
        origin = self._origin(head)
        spec = origin.spec
        build = self.options.get(origin.session_id, NO_OPTIONS)
        own = head is origin
        laid = spec if own else head.spec.below(spec)
        schema = spec.output_schema if own else head.spec.output_schema
        retries = 2 if spec.output_retries is None else spec.output_retries
        skills = Skills(self._skills, spec.preload_skills) if self._skills else NO_SKILLS
        instructions = spec.instructions if own else head.spec.instructions
        price = Price(**spec.price) if spec.price else None
        model = build.llm_client_override or self.model(spec.model or "")
        if price is not None:
            model = _Priced(model, price)
        compacting = None
        if (policy := spec.compaction) is not None:
            writes = model if policy.model is None else self.model(policy.model)
            compacting = Compacting(policy, writes, spec.options if writes is model else {})
        return SessionConfig(
            model,
            skills.prompt(instructions or ""),
            Toolbox(
                self._tools(head, origin, build, skills),
                policy=laid.tools,
                approve=laid.approve,
            ),
            TurnRules(None if schema is None else json.loads(schema), retries),
            spec.options,
            hooks=NO_HOOKS.overridden(build.hooks_override),
            skills=skills,
            compacting=compacting,
            fallback=tuple(Route(self.model(each), options=spec.options) for each in spec.fallback),
        )

    def model(self, reference: str) -> Model:
        """The client of ``provider:id``, opened on first use. Raises `ModelUnavailable`."""
        if reference not in self._models:
            self._models[reference] = watched(open_model(reference))
        return self._models[reference]

    async def aclose(self) -> None:
        """Close what was opened here: model clients, and the index of past turns."""
        if self._memory is not None:
            await self._memory.aclose()
        for model in self._models.values():
            await model.aclose()

    # -- inside ----------------------------------------------------------------------------

    def _origin(self, head: SessionHead) -> SessionHead:
        """The session whose options hold for this one: itself, or the nearest above it."""
        while head.spec.model is None and head.lineage.parent is not None:
            head = self._realm.state.heads[head.lineage.parent]
        return head

    def _has(self, group: str, spec: SessionSpec) -> bool:
        """Whether the session has this group of built-in tools."""
        on: bool = spec.overrides.get(group, getattr(self._defaults, group))
        return on

    def _tools(
        self, head: SessionHead, origin: SessionHead, build: SessionBuildOptions, skills: Skills
    ) -> list[Tool]:
        """The built-in tools of the session, and those that it was given."""
        spec = origin.spec
        tools: list[Tool] = [LoadSkill(skills)] if self._skills else []
        if self._has("builtins", spec):
            tools.append(CurrentTime(self._realm.ports.clock))
        if self._has("shell", spec):
            tools.append(ShellTool(self._defaults.shell_folder or Path.cwd()))
        if self._has("subagents", spec) and self._may_spawn(head):
            tools.append(SpawnAgent(background=self.background))
            tools += task_tools() if self.background else ()
        if self._has("memory", spec):
            tools.append(SearchMemory(self._remembering(), lambda asker: [asker]))
        if self._has("mob", spec) and head is origin:
            tools += self._peers(spec)
        return [*tools, *build.external_tools]

    def _remembering(self) -> Memory:
        """The index of past turns, made when the first session may search its own."""
        if self._memory is None:
            self._memory = Memory(self._realm)
        return self._memory

    def _may_spawn(self, head: SessionHead) -> bool:
        limits = self._realm.spawning.limits(head, head)
        return head.lineage.depth < limits.max_depth


def options_of(build: SessionBuildOptions) -> SessionBuildOptions:
    """What is kept of options in memory: the live objects, and no session."""
    return attrs.evolve(build, resume_session=None)
