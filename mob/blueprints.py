"""From the blueprint that a stored mob remembers back to a definition.

Owns: `definition_of`. Must not: be used to run a mob: models, servers, budgets and bounds are no
part of a blueprint, so what it gives is good for verbs that begin no turn (`mob.resting`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mob.definition import MobDefinition
from mob.hooks import HookDefinition
from runtime.errors import MobError

if TYPE_CHECKING:
    from cattrs import Converter

#: What of a blueprint says how turns run and nothing about who is there.
_OF_TURNS: Final = ("tools", "flows", "skills")
_OF_TURNS_IN_PROFILES: Final = ("hooks", "compaction", "autonomy", "shell", "options", "skills")


def definition_of(blueprint: str, source: str) -> MobDefinition:
    """The definition that a stored mob runs on, without what a blueprint does not say and without
    what only turns need. `source` says in messages where it is from.

    Raises:
        MobError: it was written by a later version.
    """
    table: dict[str, Any] = json.loads(blueprint)
    for key in _OF_TURNS:
        table.pop(key, None)
    for profile in table["profiles"].values():
        for key in _OF_TURNS_IN_PROFILES:
            profile.pop(key, None)
    try:
        return _converter().structure({**table, "models": {}, "source": source}, MobDefinition)
    except Exception as error:
        raise MobError(
            f"the definition of the mob in {source} cannot be read: it was written by another"
            f" version of trio-mob; give the mob file with --file ({error!r:.300})"
        ) from error


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    made = Converter(forbid_extra_keys=True)
    made.register_structure_hook(bool | HookDefinition, lambda value, _: bool(value))
    made.register_structure_hook_func(
        lambda kind: kind == Mapping[str, bool | HookDefinition], lambda *_: {}
    )
    return made
