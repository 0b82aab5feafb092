"""Which secrets this process holds, for whatever leaves it.

Owns: reading them out of the environment, by what a mob file says of it and by what they look like.
Must not: decide what is taken out of a text (`runtime.models.redaction` does).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

from mob.definition import MobDefinition
from runtime.models.redaction import (
    Redactor,
    random_among,
    remember,
    remembered,
    secrets_among,
)

#: A variable in a value of a mob file's tables [mcp.X]: ``${NAME}``.
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


def learn_secrets(definition: MobDefinition) -> None:
    """Remember the values of the variables that `definition` names, and of those called secret."""
    remember(secrets_among(os.environ, _named(definition)))


def redactor_here(named: Iterable[str] = ()) -> Redactor:
    """A redactor of all secrets that this process can know of, those in the variables `named` and
    every value that looks random: of a mob that is not open here nobody says which hold keys."""
    remember((*secrets_among(os.environ, named), *random_among(os.environ)))
    return remembered()


def _named(definition: MobDefinition) -> Iterator[str]:
    for model in definition.models.values():
        if model.api_key_env is not None:
            yield model.api_key_env
    for server in definition.mcp.values():
        for value in (*server.env.values(), *server.headers.values()):
            yield from _VARIABLE.findall(value)
