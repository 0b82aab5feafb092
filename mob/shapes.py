"""Our values as JSON can hold them.

Owns: `jsonable`, `event_shape`. Must not: write, or hide anything. Pure.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import attrs

from runtime.messages import Usage
from runtime.prices import cost_usd

if TYPE_CHECKING:
    from runtime.journal import Event


def event_shape(event: Event) -> dict[str, Any]:
    """A record of a journal: ``{"type", "seq", ...its fields}``."""
    return {"type": type(event.record).__name__, "seq": event.seq, **jsonable(event.record)}


def jsonable(value: Any) -> Any:
    """`value` as JSON can hold it: attrs classes become objects, enumerations lower-case words."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, Usage):
        return _usage(value)
    if attrs.has(type(value)):
        return {
            field.name: jsonable(getattr(value, field.name)) for field in attrs.fields(type(value))
        }
    if isinstance(value, dict):
        return {str(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _usage(usage: Usage) -> dict[str, Any]:
    """What was spent. The cost is text, because it is exact, and null if nothing had a price."""
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "model_calls": usage.model_calls,
        "tool_calls": usage.tool_calls,
        "cost_usd": cost_usd(usage),
        "unpriced_calls": usage.unpriced_calls,
    }
