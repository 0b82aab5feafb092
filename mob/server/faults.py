"""Errors on their way over the socket: an object on one side, the same error on the other.

Owns: their JSON. Must not: decide what an error means (`mob.surfaces` does).

    {"error": {"type": "MemberNotFound", "message": "...", "exit": 4, "code": null,
               "fields": {"name": "x", "known": ["lead"]}}}

`type` is the class, `exit` the exit code of the command line, `code` that of a session's error. A
client has an error of the same class back, with those of its fields that are plain data.
"""

from __future__ import annotations

from typing import Any, Final

import mob.errors
import mob.lifecycle
import runtime.errors
import runtime.manager
import stores
from mob.errors import ServerFailed
from mob.lifecycle import MobState, VerbRefused
from mob.surfaces import exit_code, http_status
from runtime.errors import MobError, SessionError, words_of
from stores import StoreError

_HOMES: Final = (mob.errors, mob.lifecycle, runtime.errors, runtime.manager, stores)
_PLAIN: Final = (str, int, float, bool, type(None))


def fault_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the object for an error. What is no error of ours is not explained to
    whoever asked beyond its class and words."""
    ours = isinstance(error, MobError | StoreError)
    fields = {
        name: _plain(value)
        for name, value in (vars(error).items() if ours else ())
        if _is_plain(value) and not name.startswith("_")
    }
    told = {
        "type": type(error).__name__,
        "message": words_of(error),
        "exit": exit_code(error),
        "code": error.code if isinstance(error, SessionError) else None,
        "fields": fields,
    }
    return http_status(error), {"error": told}


def error_of(told: Any) -> Exception:
    """The error that an object stands for; `ServerFailed` for one that is not known here."""
    found = told.get("error") if isinstance(told, dict) else None
    if not isinstance(found, dict):
        return ServerFailed(f"an answer that cannot be read: {told!r:.200}")
    name, message = str(found.get("type")), str(found.get("message"))
    for home in _HOMES:
        cls = getattr(home, name, None)
        if isinstance(cls, type) and issubclass(cls, MobError | StoreError):
            error: Exception = cls.__new__(cls)
            Exception.__init__(error, message)
            fields = found.get("fields")
            for key, value in (fields if isinstance(fields, dict) else {}).items():
                setattr(error, key, _read(cls, key, value))
            return error
    return ServerFailed(f"{name}: {message}")


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(each, _PLAIN) for each in value)
    return isinstance(value, (*_PLAIN, MobState))


def _plain(value: Any) -> Any:
    if isinstance(value, MobState):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _read(cls: type, key: str, value: Any) -> Any:
    if cls is VerbRefused and key == "state":
        return MobState(value)
    return tuple(value) if isinstance(value, list) else value
