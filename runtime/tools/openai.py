"""Function schemas of OpenAI: tools taken from them, and tools written as them.

Owns: the two shapes there are, that of chat completions (a ``function`` inside) and that of
responses (flat). Must not: call anything; it only changes the form.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from runtime.models.base import Schema, ToolSpec
from runtime.structured import check_schema
from runtime.tools.base import Tool
from runtime.tools.function import FunctionTool

_NOTHING: Schema = {"type": "object", "properties": {}, "additionalProperties": False}


def to_openai_schema(tool: Tool, shape: Literal["chat", "responses"] = "chat") -> dict[str, Any]:
    """How a request to OpenAI, or to a server that speaks its language, describes `tool`."""
    spec = tool.spec
    function = {
        "name": spec.name,
        "description": spec.description,
        "parameters": dict(spec.parameters),
    }
    if shape == "chat":
        return {"type": "function", "function": function}
    return {"type": "function", **function}


def from_openai_schema(
    schema: Mapping[str, Any],
    function: Callable[..., Any],
    *,
    idempotent: bool = False,
    timeout_s: float | None = None,
) -> FunctionTool:
    """A tool that is described by `schema`, of either shape, and done by `function`.

    `function` is called with the arguments as they are in JSON, by name; its annotations are not
    looked at. Without ``parameters`` it is called with none. ``strict`` is a matter of the provider
    and is left out: arguments are always checked here.

    Raises:
        TypeError: `schema` is not the schema of a function, or `function` does not take what it
            describes.
    """
    inner = schema.get("function", schema)
    if schema.get("type", "function") != "function" or not isinstance(inner, Mapping):
        raise TypeError(f"this is not the schema of a function: {dict(schema)!r}")
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise TypeError(f"the schema of a function has no name: {dict(schema)!r}")
    parameters = inner.get("parameters") or _NOTHING
    if not isinstance(parameters, Mapping):
        raise TypeError(f"the parameters of {name!r} are not a JSON Schema: {parameters!r}")
    mistake = check_schema(parameters)
    if mistake is not None:
        raise TypeError(f"the parameters of {name!r} are {mistake}")
    _check_taken(name, parameters, function)
    description = inner.get("description") or inspect.getdoc(function) or f"Call {name}."
    return FunctionTool(function, ToolSpec(name, description, parameters), idempotent, timeout_s)


def _check_taken(name: str, parameters: Schema, function: Callable[..., Any]) -> None:
    """Bind what must and what may be given: a mismatch is found now and not by a model."""
    signature = inspect.signature(function)
    properties = parameters.get("properties", {})
    for given in (parameters.get("required", ()), properties):
        try:
            signature.bind(**dict.fromkeys(given))
        except TypeError as error:
            raise TypeError(f"the function for {name!r} does not fit its schema: {error}") from None
