"""What callers ask of a session service.

Owns: the requests and `SessionBuildOptions` (seed: meerkat-core). Must not: resolve or run
anything.

What of a request is a value is persisted with the session (`runtime.session.SessionSpec`); live
objects hold until the process ends, and whoever resumes the session in another one gives them
again (`resume_session`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from runtime.budget import Budget
from runtime.hooks import Hook
from runtime.models.base import Model, Schema
from runtime.prices import Price
from runtime.service.channel import ScopedEventSink
from runtime.service.checkpointer import SessionCheckpointer
from runtime.session import CompactionPolicy, Session
from runtime.tools.base import Tool
from runtime.tools.policy import EVERY_TOOL, Patterns, ToolPolicy


class InitialTurnPolicy(enum.Enum):
    """Whether `create_session` runs a turn on its prompt."""

    RUN_IMMEDIATELY = "run-immediately"
    DEFER = "defer"


@attrs.frozen
class PeerMeta:
    """What other sessions see of one besides its name."""

    description: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class SessionBuildOptions:
    """How a session is built, beyond model and prompts.

    Values, persisted with the session: `output_schema` and `structured_output_retries` bind every
    answer; `provider_params` go with each model call; `fallback` are further models, as
    ``provider:id``, that a call goes to in their order when the session's own cannot answer;
    `budget_limits` bound the session with everything it starts, over all its turns (money needs
    `price`); `tools` says which tools the session and those below it may call, and `approve` which
    calls of them wait for a decision (patterns; `service.decisions` has them); `preload_skills` are
    skills of the service whose text the prompt holds; `compaction` says when the context is summed
    up (its model is ``provider:id``). `provider` is the part of ``provider:id``
    that `model` leaves out.

    `comms_name` and `peer_meta` are what other sessions of the same `realm_id` see.
    `silent_comms_intents` are intents of peers' messages that are recorded without waking the
    model. `max_inline_peer_notifications` says up to how many peers the session is told who joins
    and leaves: None is the service's (50), 0 never, -1 always.

    The `override_` flags force a group of built-in tools on or off; None inherits what the service
    has. `realm_id` isolates, and `instance_id`, `backend` and `config_generation` say by whom and
    from what the session was made.

    Live objects, not persisted: `llm_client_override`, `external_tools` (composed with the built-in
    ones), `hooks_override` (by name), `checkpointer` (saves while a `host_mode` session lives), and
    `scoped_event_tx`, which gets the events of the session and all below it, each with its path
    behind `scoped_event_path`.

    `resume_session` is a full session to go on from; what the request gives itself wins.
    """

    output_schema: Schema | None = None
    structured_output_retries: int = 2
    provider_params: Mapping[str, Any] = attrs.field(factory=dict)
    llm_client_override: Model | None = None
    external_tools: Iterable[Tool] = ()
    fallback: tuple[str, ...] = ()
    budget_limits: Budget | None = None
    hooks_override: Mapping[str, bool | Hook] = attrs.field(factory=dict)
    tools: ToolPolicy = EVERY_TOOL
    approve: Patterns = ()
    preload_skills: tuple[str, ...] = ()
    compaction: CompactionPolicy | None = None
    provider: str | None = None
    price: Price | None = None
    comms_name: str | None = None
    peer_meta: PeerMeta | None = None
    resume_session: Session | None = None
    scoped_event_tx: ScopedEventSink | None = None
    scoped_event_path: tuple[str, ...] | None = None
    override_builtins: bool | None = None
    override_shell: bool | None = None
    override_subagents: bool | None = None
    override_memory: bool | None = None
    override_mob: bool | None = None
    realm_id: str | None = None
    instance_id: str | None = None
    backend: str | None = None
    config_generation: int | None = None
    checkpointer: SessionCheckpointer | None = None
    silent_comms_intents: tuple[str, ...] = ()
    max_inline_peer_notifications: int | None = None


NO_OPTIONS: Final = SessionBuildOptions()


@attrs.frozen
class CreateSessionRequest:
    """A new session: `model` is ``provider:id``; `max_tokens` bounds each reply; `skill_references`
    are for the first turn, as in `StartTurnRequest`.

    A `host_mode` session stays alive between turns: messages of peers begin turns of it, and it is
    checkpointed after each. `external_id` is what whoever tracks it elsewhere calls it.
    """

    model: str
    prompt: str = ""
    system_prompt: str | None = None
    max_tokens: int | None = None
    title: str | None = None
    initial_turn: InitialTurnPolicy = InitialTurnPolicy.RUN_IMMEDIATELY
    build: SessionBuildOptions = NO_OPTIONS
    skill_references: tuple[str, ...] = ()
    host_mode: bool = False
    external_id: str | None = None


@attrs.frozen
class StartTurnRequest:
    """A turn of an existing session. `skill_references` are skills whose text is in its prompt."""

    prompt: str
    skill_references: tuple[str, ...] = ()


@attrs.frozen
class SessionQuery:
    """Which part of the list: skip `offset`, return at most `limit`; of one `realm_id` only, if
    that is given."""

    limit: int | None = None
    offset: int = 0
    realm_id: str | None = None


EVERY_SESSION: Final = SessionQuery()


@attrs.frozen
class AppendSystemContext:
    """Text that the application says to a session's model; `source` names who says it. A repeated
    `idempotency_key` says nothing again."""

    text: str
    source: str | None = None
    idempotency_key: str | None = None


class ContextStatus(enum.Enum):
    """What became of an appended text, which is on disk in each case.

    No model call of the session comes before one that is applied. One that is staged came while a
    turn was in flight: it is applied at that turn's next model call, or at the next turn's first.
    """

    APPLIED = "applied"
    STAGED = "staged"
    DUPLICATE = "duplicate"


@attrs.frozen
class PeerMessage:
    """What one session says to another by its `comms_name`; `intent` is a word for what it is
    about. `key` makes it idempotent."""

    to: str
    text: str
    sender: str
    intent: str = "message"
    key: str | None = None
