"""Every key that a mob file may have, found by watching the file being read.

Owns: `keys`, the keys of the definition with their types and defaults, and the JSON Schema of a mob
file made of them, for editors. Must not: say what a key means (`mob.meanings` does), or hold a list
of keys beside the code that reads them: there would be two, and one of them wrong.

A file that has every table is read by a reader that writes down what it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import attrs

from mob.definition import read_definition
from mob.meanings import MEANINGS
from mob.tables import TableReader

T = TypeVar("T")

#: Stands for a name that the file gives, in paths.
NAME: Final = "NAME"

#: A file with every table that has keys of its own; a table that is left out is not read.
_EVERY_TABLE: Final[dict[str, Any]] = {
    "mob": {"id": "m", "lead": NAME},
    "models": {NAME: {"model": "sim:echo", "price": {"input": 0, "output": 0}}},
    "profiles": {
        NAME: {
            "model": NAME,
            "subagents": {},
            "tools": {"allow": [], "deny": []},
            "shell": {},
            "skills": {"allow": []},
            "compaction": {},
            "memory": {},
        }
    },
    "members": {NAME: {"profile": NAME}},
    "tools": {NAME: {"function": "tools.py:tool"}},
    "mcp": {NAME: {}},
    "hooks": {NAME: {}},
    "groups": {NAME: {}},
    "flows": {
        NAME: {
            "params": {NAME: {}},
            "steps": {NAME: {"message": ""}},
            "repeat": {NAME: {"until": "true", "max_rounds": 1}},
        }
    },
}

#: What a key takes that the reader is given as it is, or in a form beside its table.
_FORMS: Final[dict[str, tuple[str, ...]]] = {
    "models.NAME.price.input": ("number", "string"),
    "models.NAME.price.output": ("number", "string"),
    "models.NAME.price.cached_input": ("number", "string"),
    "profiles.NAME.extends": ("string",),
    "profiles.NAME.output_schema": ("object", "string"),
    "profiles.NAME.tools": ("array", "string", "object"),
    "members.NAME.tools": ("array", "string", "object"),
    "profiles.NAME.skills": ("array", "string", "object"),
    "profiles.NAME.memory": ("boolean", "object"),
    "profiles.NAME.comms": ("boolean", "array", "string"),
    "flows.NAME.params": ("array", "string", "object"),
    "flows.NAME.params.NAME.default": (),
    "flows.NAME.steps.NAME.output_schema": ("object", "string"),
    "sim.latency_s": ("number", "array"),
    **{
        f"{owner}budget.{key}": ("number", "string") if key == "usd" else ("number",)
        for owner in ("", "profiles.NAME.")
        for key in ("tokens", "tool_calls", "seconds", "usd")
    },
}

#: Tables whose keys are anything: they are passed on, or named by the file.
_OPEN: Final = (
    "models.NAME.options",
    "profiles.NAME.options",
    "profiles.NAME.hooks",
    "profiles.NAME.output_schema",
    "flows.NAME.params.NAME.schema",
    "flows.NAME.steps.NAME.output_schema",
    "mcp.NAME.env",
    "mcp.NAME.headers",
    "mob.labels",
    "spawn.rules",
    "wiring.rules",
)

_TYPES: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
}


@attrs.frozen
class Key:
    """A key of a mob file. `types` are JSON's, none for anything; `default` is None if what holds
    without the key cannot be written as one."""

    path: str
    types: tuple[str, ...]
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The path of the table that it is in."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


class _Watching(TableReader):
    """A reader that notes what it is asked for."""

    found: dict[str, Key]

    def _note(self, key: str, kind: str | None, **more: Any) -> None:
        path = f"{self.path}.{key}" if self.path else key
        known = self.found.get(path, Key(path, _FORMS.get(path, ())))
        types = known.types
        if kind is not None and path not in _FORMS and kind not in types:
            types = (*types, kind)
        self.found[path] = attrs.evolve(known, types=types, **more)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T | None:  # type: ignore[override]
        self._note(key, _TYPES[kind], default=default)
        return super().take(key, kind, cast("T", default))

    def required(self, key: str, kind: type[T], default: T) -> T:
        value = super().required(key, kind, default)
        self._note(key, _TYPES[kind], default=None, required=True)
        return value

    def choice(self, key: str, default: str, allowed: Iterable[str]) -> str:
        value = super().choice(key, default, allowed)
        self._note(key, "string", choices=tuple(allowed))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        self._note(key, "array")
        self._note(key, "string")
        return super().texts(key)

    def raw(self, key: str) -> Any:
        self._note(key, None)
        return super().raw(key)

    def table(self, key: str) -> TableReader:
        inner = super().table(key)
        return self._below(inner.path, inner.data)

    def tables(self, key: str) -> dict[str, TableReader]:
        found = super().tables(key)
        return {name: self._below(each.path, each.data) for name, each in found.items()}

    def standing_for(self, data: Mapping[str, Any]) -> TableReader:
        return self._below(self.path, data)

    def _below(self, path: str, data: Mapping[str, Any]) -> _Watching:
        reader = _Watching(path, data, self.mistakes)
        reader.found = self.found
        return reader


def keys() -> dict[str, Key]:
    """Every key by its path, in the order of reading; tables are keys, too."""
    top = _Watching("", _EVERY_TABLE, [])
    top.found = {}
    read_definition(top, Path(), "every key")
    return {path: _plain(key) for path, key in top.found.items()}


def _plain(key: Key) -> Key:
    """`key` without a default that is only that there is none."""
    return attrs.evolve(key, default=None) if key.default in ({}, [], "") else key


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a mob file, for editors: what `mob validate` accepts it accepts.

    It knows keys, types and words; whether the parts fit together only `mob validate` says.
    """
    found = keys()
    root = _object("", found)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A mob file",
        **root,
    }


def _object(table: str, found: Mapping[str, Key]) -> dict[str, Any]:
    """The schema of the table at this path."""
    inside = [key for key in found.values() if key.table == table]
    below = f"{table}.{NAME}" if table else NAME
    if any(key.table == below for key in found.values()):
        return {"type": "object", "additionalProperties": _object(below, found)}
    made: dict[str, Any] = {"type": "object"}
    if inside:
        made["properties"] = {key.name: _value(key, found) for key in inside}
    needed = [key.name for key in inside if key.required]
    if needed and not table.startswith("profiles."):  # a profile may have it of the one it extends
        made["required"] = needed
    made["additionalProperties"] = table in _OPEN
    return made


def _value(key: Key, found: Mapping[str, Key]) -> dict[str, Any]:
    """The schema of a key's value."""
    forms = [_form(key, kind, found) for kind in key.types]
    made: dict[str, Any] = {"description": MEANINGS[key.path]} if key.path in MEANINGS else {}
    if len(forms) == 1:
        made |= forms[0]
    elif forms:
        made["anyOf"] = forms
    if key.default is not None:
        made["default"] = key.default
    return made


def _form(key: Key, kind: str, found: Mapping[str, Key]) -> dict[str, Any]:
    if kind == "object":
        return _object(key.path, found)
    if kind == "array" and "string" in key.types:
        return {"type": "array", "items": {"type": "string"}}
    if key.choices:
        return {"enum": list(key.choices)}
    return {"type": kind}
