"""Typed Python functions as tools.

Owns: `FunctionTool`, the JSON Schema of a function's parameters, loading a function from a file.
Must not: accept an annotation it cannot check (it says which parameter and what to write instead).

The description comes from the docstring: its first paragraph describes the tool, and a line
``name: text`` under ``Args:`` describes a parameter. A sync function runs in a worker thread, an
async one in the calling task.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from runtime.models.base import Schema, ToolSpec
from runtime.tools.base import ToolContext

_PRIMITIVES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


@attrs.frozen
class FunctionTool:
    """A Python function the model may call. Make one with `tool`."""

    function: Callable[..., Any]
    spec: ToolSpec
    idempotent: bool = False
    timeout_s: float | None = None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Call the function. A sync one runs in a thread, which a cancellation leaves behind: the
        thread runs to its end, its result is dropped."""
        if inspect.iscoroutinefunction(self.function):
            return await self.function(**arguments)
        # In a tuple: a decorated function may return a coroutine, which Trio takes for our mistake.
        (made,) = await trio.to_thread.run_sync(
            lambda: (self.function(**arguments),), abandon_on_cancel=True
        )
        return await made if inspect.isawaitable(made) else made


def tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    idempotent: bool = False,
    timeout_s: float | None = None,
) -> FunctionTool:
    """Make a tool of `function`.

    `idempotent` promises that repeating a call is harmless, so that recovery may repeat one whose
    outcome is unknown.

    Raises:
        TypeError: a parameter has no annotation, or one that JSON cannot express.
    """
    summary, described = _read_docstring(function)
    spec = ToolSpec(
        name or function.__name__,
        summary or f"Call {function.__name__}.",
        _parameters(function, described),
    )
    return FunctionTool(function, spec, idempotent, timeout_s)


def load_function(path: Path, name: str) -> Callable[..., Any]:
    """The function called `name` in the Python file at `path`; runs the file.

    Raises:
        FileNotFoundError: there is no such file.
        AttributeError: the file defines no such function.
        Exception: whatever the file itself raises.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no Python file at {path}")
    module_name = f"mob_tools_{path.stem}_{abs(hash(str(path))):x}"
    module = sys.modules.get(module_name)
    if module is None:
        loader = importlib.util.spec_from_file_location(module_name, path)
        assert loader is not None
        assert loader.loader is not None
        module = importlib.util.module_from_spec(loader)
        sys.modules[module_name] = module
        try:
            loader.loader.exec_module(module)
        except Exception:
            del sys.modules[module_name]
            raise
    function = getattr(module, name, None)
    if not callable(function):
        raise AttributeError(f"{path.name} defines no function named {name!r}")
    return function  # type: ignore[no-any-return]


def _parameters(function: Callable[..., Any], described: Mapping[str, str]) -> Schema:
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter {parameter.name!r} of {function.__name__}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where} is variadic; a tool needs named parameters")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{where} is positional-only; a tool is called by name: remove the `/`")
        if parameter.name not in hints:
            raise TypeError(f"{where} has no annotation; write for example `{parameter.name}: str`")
        schema = dict(_schema_of(hints[parameter.name], where))
        if parameter.name in described:
            schema["description"] = described[parameter.name]
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            schema["default"] = parameter.default
        properties[parameter.name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _schema_of(annotation: Any, where: str) -> dict[str, Any]:
    if annotation in _PRIMITIVES:
        return _PRIMITIVES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple, set) or annotation in (list, tuple, set):
        inner = [argument for argument in arguments if argument is not ...]
        items = _schema_of(inner[0], where) if inner else {}
        return {"type": "array", "items": items}
    if origin is dict or annotation is dict:
        values = _schema_of(arguments[1], where) if arguments else {}
        return {"type": "object", "additionalProperties": values}
    if origin is typing.Union or origin is types.UnionType:
        return {"anyOf": [_schema_of(argument, where) for argument in arguments]}
    raise TypeError(
        f"{where} is annotated {annotation!r}, which JSON cannot express; use str, int, float,"
        " bool, Literal, list, dict or a union of these"
    )


def _read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    text = inspect.getdoc(function) or ""
    summary = " ".join(text.split("\n\n")[0].split())
    _, _, section = text.partition("Args:")
    section = re.split(r"\n\S", section)[0]
    return summary, {
        match[1]: match[2].strip() for match in re.finditer(r"^\s+(\w+):\s*(.+)$", section, re.M)
    }
