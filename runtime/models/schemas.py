"""JSON Schemas made out of others: moved into a larger one, closed, bounded.

Owns: rewriting schemas as data. Must not: validate, or make values (`structured` and `instances`
do). Pure; what it returns shares unchanged parts with what it was given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from runtime.models.base import Schema

#: Most array items asked for where a schema sets no bound.
_MAX_ITEMS = 8
#: Keywords whose value is data, in which a key that looks like a keyword is none.
_DATA = frozenset(("const", "default", "enum", "examples"))
#: Keywords whose value maps names to schemas, so that its keys are names, not keywords.
_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))


def closed(properties: Schema) -> Schema:
    """An object of exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def without_title(schema: Schema) -> Schema:
    """`schema` without what only says where it comes from."""
    return {k: v for k, v in schema.items() if k not in ("$schema", "title")}


def without(schema: Schema, names: Collection[str]) -> Schema:
    """The object `schema` without these properties."""
    if not names:
        return schema
    properties = {k: v for k, v in schema.get("properties", {}).items() if k not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    return {**schema, "properties": properties, "required": required}


def moved(schema: Any, at: str) -> Any:
    """`schema` with its references leading to where it now stands in another schema."""
    if isinstance(schema, list):
        return [moved(part, at) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str) and value.startswith("#"):
            made[key] = at + value[1:]
        elif key in _NAMED and isinstance(value, Mapping):
            made[key] = {name: moved(part, at) for name, part in value.items()}
        else:
            made[key] = value if key in _DATA else moved(value, at)
    return made


def bounded(schema: Any, longest: int) -> Any:
    """`schema` with an end to every string and array that has none."""
    if isinstance(schema, list):
        return [bounded(part, longest) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            made[key] = {name: bounded(part, longest) for name, part in value.items()}
        else:
            made[key] = value if key in _DATA else bounded(value, longest)
    if schema.get("type") == "string" and not made.keys() & {"maxLength", "enum", "const"}:
        made["maxLength"] = max(longest, schema.get("minLength", 0))
    if schema.get("type") == "array" and "maxItems" not in made:
        made["maxItems"] = max(_MAX_ITEMS, schema.get("minItems", 0))
    return made
