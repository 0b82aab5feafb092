"""Supervised, durable, replayable swarms of LLM agents. Names that users need are here."""

from mob.app import open_mob
from mob.definition import MobDefinition

__all__ = ["MobDefinition", "open_mob"]
