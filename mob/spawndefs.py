"""What a mob file says of messages to members that are not there: the table ``[spawn]``.

Owns: reading it, what is wrong with it, and on which profile such a member joins. Must not: make a
member (`mob.joining` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from mob.errors import Mistake
from mob.tables import TableReader, nearest
from runtime.tools.policy import matches

if TYPE_CHECKING:
    from mob.definition import MobDefinition

REFUSE: Final = "refuse"


@attrs.frozen
class SpawnDefinition:
    """The table ``[spawn]``. A message to nobody is refused, or a member of a profile joins with
    it: that of the first of `rules`, patterns over its name, that fits, else that of `on_unknown`.
    No part of the blueprint."""

    on_unknown: str = REFUSE
    rules: Mapping[str, str] = attrs.field(factory=dict)

    def profile_for(self, name: str) -> str | None:
        """The profile on which a member of this name joins; None: it does not."""
        for pattern, profile in self.rules.items():
            if matches((pattern,), name):
                return None if profile == REFUSE else profile
        return None if self.on_unknown == REFUSE else self.on_unknown


NO_SPAWN: Final = SpawnDefinition()


def read_spawn(top: TableReader) -> SpawnDefinition:
    """The table ``[spawn]``."""
    table = top.table("spawn")
    rules = table.table("rules")
    spawn = SpawnDefinition(
        table.take("on_unknown", str, REFUSE),
        {pattern: rules.take(pattern, str, REFUSE) for pattern in rules.data},
    )
    table.done()
    return spawn


def spawn_mistakes(definition: MobDefinition) -> Iterable[Mistake]:
    """What does not hold, each with its path."""
    spawn, profiles = definition.spawn, definition.profiles
    named = {"on_unknown": spawn.on_unknown}
    named.update({f"rules.{pattern}": each for pattern, each in spawn.rules.items()})
    for key, profile in named.items():
        if profile != REFUSE and profile not in profiles:
            hint = nearest(profile, [REFUSE, *profiles])
            yield Mistake(f"spawn.{key}", f"there is no profile {profile!r}", hint)
