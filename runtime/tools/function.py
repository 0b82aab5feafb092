"""Typed Python functions as tools.

Owns: `FunctionTool`, the JSON Schema of a function's parameters, loading a function from a file.
Must not: accept an annotation it cannot check (it says which parameter and what to write instead).

The description comes from the docstring: its first paragraph describes the tool, and what it says
of a parameter describes that. A sync function runs in a worker thread, an async one in the calling
task.

A thread cannot be stopped. When its call is cancelled or late, the turn goes on at once and the
thread runs to its end, its result dropped; a function that may take long asks
`trio.from_thread.check_cancelled` now and then. Threads left behind count against a limit that is
the tools' own: at worst calls of sync functions wait for them (as long as their own deadline
allows), never the store.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from runtime.errors import describe
from runtime.models.base import Schema, ToolSpec
from runtime.tools.annotations import Load, Shape, merged, shape_of, to_json
from runtime.tools.base import ToolContext, ToolFailed
from runtime.tools.docstrings import read_docstring

#: Sync functions that run at the same time, those left behind included. Trio's own limit is 40, and
#: the store's writer counts against that one.
MOST_THREADS: Final = 40

_threads: Final[trio.lowlevel.RunVar[trio.CapacityLimiter]] = trio.lowlevel.RunVar("tool threads")


@attrs.frozen
class FunctionTool:
    """A Python function the model may call. Make one with `tool`.

    `loads` make the Python values of arguments that have one; `context` names the parameter that
    is given the `ToolContext`, if the function has one.
    """

    function: Callable[..., Any]
    spec: ToolSpec
    idempotent: bool = False
    timeout_s: float | None = None
    loads: Mapping[str, Load] = attrs.field(factory=dict, repr=False)
    context: str | None = None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Call the function; see the module about one that runs in a thread.

        Raises:
            ToolFailed: an argument fits the schema and not the function's own types.
        """
        given = {name: self._loaded(name, value) for name, value in arguments.items()}
        if self.context is not None:
            given[self.context] = context
        if inspect.iscoroutinefunction(self.function):
            return to_json(await self.function(**given))
        # In a tuple: a decorated function may return a coroutine, which Trio takes for our mistake.
        (made,) = await trio.to_thread.run_sync(
            lambda: (self.function(**given),), abandon_on_cancel=True, limiter=_limiter()
        )
        return to_json(await made if inspect.isawaitable(made) else made)

    def _loaded(self, name: str, value: Any) -> Any:
        load = self.loads.get(name)
        if load is None:
            return value
        try:
            return load(value)
        except Exception as error:  # the user's classes check themselves as they like
            raise ToolFailed(f"the argument {name!r} does not fit: {describe(error)}") from error


@typing.overload
def tool(
    function: Callable[..., Any] | FunctionTool,
    *,
    name: str | None = None,
    idempotent: bool = False,
    timeout_s: float | None = None,
) -> FunctionTool: ...
@typing.overload
def tool(
    *,
    name: str | None = None,
    idempotent: bool = False,
    timeout_s: float | None = None,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(
    function: Callable[..., Any] | FunctionTool | None = None,
    *,
    name: str | None = None,
    idempotent: bool = False,
    timeout_s: float | None = None,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a tool of `function`, also as a decorator, with options or without.

    `idempotent` promises that repeating a call is harmless, so that recovery may repeat one whose
    outcome is unknown. A parameter annotated `ToolContext` is not the model's: it is told who
    calls. What is a tool already is given the name and options that it has not.

    Raises:
        TypeError: a parameter has no annotation, or one that JSON cannot express.
    """
    if function is None:
        return functools.partial(tool, name=name, idempotent=idempotent, timeout_s=timeout_s)
    if isinstance(function, FunctionTool):
        return attrs.evolve(
            function,
            spec=attrs.evolve(function.spec, name=name or function.spec.name),
            idempotent=idempotent or function.idempotent,
            timeout_s=function.timeout_s if timeout_s is None else timeout_s,
        )
    said = read_docstring(function)
    shapes, context = _shapes(function)
    spec = ToolSpec(
        name or function.__name__,
        said.summary or f"Call {function.__name__}.",
        _parameters(function, shapes, said.parameters),
    )
    loads = {each: shape.load for each, shape in shapes.items()}
    return FunctionTool(function, spec, idempotent, timeout_s, loads, context)


def _limiter() -> trio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        made = trio.CapacityLimiter(MOST_THREADS)
        _threads.set(made)
        return made


def load_function(path: Path, name: str) -> Callable[..., Any] | FunctionTool:
    """The function or tool called `name` in the Python file at `path`; runs the file.

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
    if not callable(function) and not isinstance(function, FunctionTool):
        raise AttributeError(f"{path.name} defines no function named {name!r}")
    return function  # type: ignore[no-any-return]


def _shapes(function: Callable[..., Any]) -> tuple[dict[str, Shape], str | None]:
    """The shape of each parameter that is the model's, and the one that is given the context."""
    hints = typing.get_type_hints(function, include_extras=True)
    shapes: dict[str, Shape] = {}
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter {parameter.name!r} of {function.__name__}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where} is variadic; a tool needs named parameters")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{where} is positional-only; a tool is called by name: remove the `/`")
        if parameter.name not in hints:
            raise TypeError(f"{where} has no annotation; write for example `{parameter.name}: str`")
        if hints[parameter.name] is ToolContext:
            context = parameter.name
        else:
            shapes[parameter.name] = shape_of(hints[parameter.name], where)
    return shapes, context


def _parameters(
    function: Callable[..., Any], shapes: Mapping[str, Shape], described: Mapping[str, str]
) -> Schema:
    properties: dict[str, Any] = {}
    required: list[str] = []
    signature = inspect.signature(function)
    for name, shape in shapes.items():
        schema = dict(shape.schema)
        if name in described:
            schema.setdefault("description", described[name])
        default = signature.parameters[name].default
        if default is inspect.Parameter.empty:
            required.append(name)
        elif _can_be_told(default):
            schema["default"] = to_json(default)
        properties[name] = schema
    made: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    definitions = merged(list(shapes.values()))
    return {**made, "$defs": definitions} if definitions else made


def _can_be_told(default: Any) -> bool:
    """Whether a default can be said in JSON."""
    try:
        json.dumps(to_json(default))
    except (TypeError, ValueError):
        return False
    return True
