"""Supervised, durable, replayable swarms of LLM agents. Names that users need are here.

They are imported when they are first used (PEP 562): pytest loads `mob.pytest_plugin` at every
start, also where no test is ours, and `mob --help` runs no mob.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mob.app import open_mob, open_session_service, stored_mob
    from mob.collector import tuned_gc
    from mob.definition import MobDefinition
    from mob.errors import DefinitionChanged, DefinitionInvalid, MemberFailed, MemberNotFound
    from mob.flows.records import RunState
    from mob.flows.results import FlowResult
    from mob.flows.verbs import FlowRun
    from mob.mob import Mob
    from mob.receipts import Receipt, StopReport
    from runtime.errors import AgentError, MobError, ModelError
    from runtime.results import TurnResult

#: Where each name lives.
_HOMES: Final = {
    "AgentError": "runtime.errors",
    "DefinitionChanged": "mob.errors",
    "DefinitionInvalid": "mob.errors",
    "FlowResult": "mob.flows.results",
    "FlowRun": "mob.flows.verbs",
    "MemberFailed": "mob.errors",
    "MemberNotFound": "mob.errors",
    "Mob": "mob.mob",
    "MobDefinition": "mob.definition",
    "MobError": "runtime.errors",
    "ModelError": "runtime.errors",
    "Receipt": "mob.receipts",
    "RunState": "mob.flows.records",
    "StopReport": "mob.receipts",
    "TurnResult": "runtime.results",
    "open_mob": "mob.app",
    "open_session_service": "mob.app",
    "stored_mob": "mob.app",
    "tuned_gc": "mob.collector",
}

__all__ = [
    "AgentError",
    "DefinitionChanged",
    "DefinitionInvalid",
    "FlowResult",
    "FlowRun",
    "MemberFailed",
    "MemberNotFound",
    "Mob",
    "MobDefinition",
    "MobError",
    "ModelError",
    "Receipt",
    "RunState",
    "StopReport",
    "TurnResult",
    "open_mob",
    "open_session_service",
    "stored_mob",
    "tuned_gc",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mob' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
