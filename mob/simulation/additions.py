"""What a part of the simulation adds to the default workload, all in one place.

Owns: `Addition`, `Player`. Must not: know any addition (`added` lists them).

An addition draws from streams of its own, so a run of another seed or without it stays as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from mob.definition import MobDefinition
from mob.simulation.kinds import FaultKind
from mob.simulation.steps import Step

if TYPE_CHECKING:
    from mob.simulation.client import Client
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Carries one step out.
Verb: TypeAlias = Callable[[Step], Awaitable[object]]
#: Breaks out at a step; the number in [0, 1) says how much.
Storm: TypeAlias = Callable[[Step, float], Awaitable[None]]


@attrs.frozen
class Player:
    """What an addition does in one run: its verbs by name, its storms by their faults."""

    verbs: Mapping[str, Verb] = attrs.field(factory=dict)
    storms: Mapping[FaultKind, Storm] = attrs.field(factory=dict)


@attrs.frozen
class Addition:
    """`vary` changes the table of the default mob (or leaves it), `steps` says which verbs a run of
    this definition has more, `play` makes what carries them out."""

    name: str
    vary: Callable[[dict[str, Any], Random], None]
    steps: Callable[[MobDefinition, Random], list[str]]
    play: Callable[[World, Client, Machine], Player]
