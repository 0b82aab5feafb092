"""Supervised, durable, replayable swarms of LLM agents. Names that users need are here."""

from mob.app import open_mob, open_session_service
from mob.definition import MobDefinition
from mob.errors import DefinitionChanged, DefinitionInvalid, MemberFailed, MemberNotFound
from mob.mob import Mob
from mob.receipts import Receipt, StopReport
from runtime.errors import AgentError, MobError, ModelError
from runtime.results import TurnResult

__all__ = [
    "AgentError",
    "DefinitionChanged",
    "DefinitionInvalid",
    "MemberFailed",
    "MemberNotFound",
    "Mob",
    "MobDefinition",
    "MobError",
    "ModelError",
    "Receipt",
    "StopReport",
    "TurnResult",
    "open_mob",
    "open_session_service",
]
