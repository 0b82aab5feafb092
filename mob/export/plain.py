"""Values of ours as plain JSON, without secrets. Pure.

Owns: how records look to other programs. Must not: show bytes, which nobody can look through for
secrets (rows of a snapshot, for one): they become their number.
"""

from __future__ import annotations

import datetime
import enum
from typing import Any

import attrs

from runtime.messages import ToolCall
from runtime.models.redaction import Redactor


def plain(value: Any, redactor: Redactor) -> Any:
    """`value` as JSON can hold it: attrs classes become objects, enumerations lower-case words,
    and of what is named like a secret in a mapping nothing is left."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, str):
        return redactor.written(value)
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        return {each.name: plain(getattr(value, each.name), redactor) for each in fields}
    if isinstance(value, dict):
        made = {str(key): plain(each, redactor) for key, each in value.items()}
        return redactor.options(made)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each, redactor) for each in value]
    return redactor.text(str(value))


def call_of(call: ToolCall, clean: Redactor) -> dict[str, str]:
    """A tool call without secrets. Its arguments stay the text that the model wrote."""
    arguments = clean.written(call.arguments)
    return {"id": clean.text(call.id), "name": clean.text(call.name), "arguments": arguments}


def rfc3339(at_ns: int) -> str:
    """A moment in UTC to the nanosecond: ``2026-11-21T13:00:00.123456789Z``."""
    seconds, rest = divmod(at_ns, 10**9)
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)  # noqa: DTZ001 UTC
    return f"{when.isoformat(timespec='seconds')}.{rest:09}Z"
