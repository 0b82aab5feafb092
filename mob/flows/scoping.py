"""Which values the templates and conditions of a flow may name. Pure.

Owns: looking up every path of a flow: whether its step has ended when it is read, and whether the
schema of an output has such a part. Must not: need a run.

A step sees what has ended when it begins: what it waits for, over however many others. In a loop it
also sees the steps that wait for it, as they were in the round before (nothing, in the first). What
a schema does not tell is not refused: then the run finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from mob.flows.conditions import read_condition
from mob.flows.definition import Collect, FlowDefinition
from mob.flows.graph import Graph
from mob.flows.paths import OF_STEP, ROOTS, FlowMistake, Path, read_path
from mob.flows.templates import read_template
from mob.tables import nearest

Schema: TypeAlias = Mapping[str, Any]

#: What text fits: what a step without a schema answers.
TEXT: Final[Schema] = {"type": "string"}
#: What nothing is known of.
UNKNOWN: Final[Schema] = {}

_SCALARS: Final = {
    "string": "text",
    "number": "a number",
    "integer": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


@attrs.frozen
class _Reader:
    """Who reads: which steps it sees, and which roots besides `params` and `steps` it has."""

    sees: frozenset[str]
    roots: frozenset[str]
    item: Schema = UNKNOWN


class Scoping:
    """The paths of one flow without circles. `schemas` are those of one answer to each step."""

    def __init__(
        self, flow: FlowDefinition, graph: Graph, schemas: Mapping[str, Schema | None]
    ) -> None:
        self._flow = flow
        self._graph = graph
        self._schemas = schemas
        self._ancestors = {name: graph.ancestors(name) for name in flow.steps}

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Each path in the flow at which something is wrong, and what."""
        for name, step in self._flow.steps.items():
            path = f"steps.{name}"
            reader = self._reader(name)
            if step.condition is not None:
                yield from self._try(f"{path}.condition", reader, _of_condition, step.condition)
            item = UNKNOWN
            if step.for_each is not None:
                yield from self._try(f"{path}.for_each", reader, _of_path, step.for_each)
                item = yield from self._item(name, reader, step.for_each)
            roots = reader.roots | {"member"} | ({"item", "index"} if step.fans_out else set())
            if step.for_each is None:
                roots -= {"item"}
            reader = attrs.evolve(reader, roots=frozenset(roots), item=item)
            yield from self._try(f"{path}.message", reader, _of_message, step.message)
        for name, loop in self._flow.repeats.items():
            body = [each for each in loop.steps if each in self._flow.steps]
            sees = frozenset(body).union(*(self._ancestors[each] for each in body))
            reader = _Reader(sees, frozenset({"round"}))
            yield from self._try(f"repeat.{name}.until", reader, _of_condition, loop.until)

    def _reader(self, name: str) -> _Reader:
        sees = self._ancestors[name]
        loop = self._graph.loop_of.get(name)
        if loop is None:
            return _Reader(sees, frozenset())
        body = self._flow.repeats[loop].steps
        later = [each for each in body if name in self._ancestors.get(each, ())]
        return _Reader(sees | {name, *later}, frozenset({"round"}))

    def _try(
        self, path: str, reader: _Reader, read: Callable[[str], tuple[Path, ...]], text: str
    ) -> Iterator[tuple[str, str]]:
        try:
            for each in dict.fromkeys(read(text)):
                self._schema_at(each, reader)
        except FlowMistake as mistake:
            yield path, str(mistake)

    def _item(self, name: str, reader: _Reader, over: str) -> Any:
        try:
            schema = self._schema_at(read_path(over), reader)
        except FlowMistake:
            return UNKNOWN  # it has been told
        kind = schema.get("type")
        if kind in _SCALARS or kind == "object":
            what = _SCALARS.get(kind, "a table")
            hint = ": give its step an output_schema of type array" if schema is TEXT else ""
            yield f"steps.{name}.for_each", f"{over} is {what} and not a list{hint}"
        most, quorum = schema.get("maxItems"), self._flow.steps[name].quorum
        if isinstance(most, int) and quorum is not None and quorum > most:
            yield (
                f"steps.{name}.quorum",
                f"{quorum} answers cannot come from at most {most} items",
            )
        items = schema.get("items")
        return items if isinstance(items, Mapping) else UNKNOWN

    def _schema_at(self, path: Path, reader: _Reader) -> Schema:
        """What is known of the value at `path`. Raises `FlowMistake` if there cannot be one."""
        root, *rest = path.parts
        if root not in ROOTS:
            raise FlowMistake(f"{path}: a path begins with {', '.join(ROOTS)}; not with {root!r}")
        if root == "params":
            return self._of_param(path, rest)
        if root == "steps":
            return self._of_step(path, rest, reader)
        if root not in reader.roots:
            raise FlowMistake(f"{path}: {_WHERE[root]}")
        known = {"item": reader.item, "member": TEXT}.get(root, {"type": "integer"})
        return walk(known, rest, path, 1)

    def _of_param(self, path: Path, rest: list[str]) -> Schema:
        params = self._flow.params
        if not rest or rest[0] not in params:
            what = f"there is no parameter {rest[0]!r}" if rest else "say which parameter"
            raise FlowMistake(f"{path}: {what}; {nearest(rest[0] if rest else '', params)}")
        return walk(params[rest[0]].schema or UNKNOWN, rest[1:], path, 2)

    def _of_step(self, path: Path, rest: list[str], reader: _Reader) -> Schema:
        known = [*self._flow.steps, *self._graph.branches, *self._flow.repeats]
        if not rest or rest[0] not in known:
            what = f"there is no step {rest[0]!r}" if rest else "say which step"
            raise FlowMistake(f"{path}: {what}; {nearest(rest[0] if rest else '', known)}")
        name, *of = rest
        if not set(self._graph.steps_of(name)) <= reader.sees:
            raise FlowMistake(
                f"{path}: {name!r} need not have ended then; add it to needs or after"
            )
        if not of or of[0] not in OF_STEP:
            ways = ", ".join(f"steps.{name}.{each}" for each in OF_STEP)
            raise FlowMistake(f"{path}: say which of {ways}")
        if of[0] != "output":
            return walk(TEXT, of[1:], path, 3)
        steps = self._graph.steps_of(name)
        if name in self._flow.repeats:
            steps = steps[-1:]
        found = [walk(self._of_output(each), of[1:], path, 3) for each in steps]
        return found[0] if len(found) == 1 else UNKNOWN

    def _of_output(self, name: str) -> Schema:
        step = self._flow.steps[name]
        schema = self._schemas[name]
        one = TEXT if schema is None else schema
        if not step.fans_out or step.collect is Collect.ANY:
            return one
        return {"type": "array", "items": one}


def _of_condition(text: str) -> tuple[Path, ...]:
    return read_condition(text).paths


def _of_message(text: str) -> tuple[Path, ...]:
    return read_template(text).paths


def _of_path(text: str) -> tuple[Path, ...]:
    return (read_path(text),)


_WHERE: Final = {
    "item": "there is an item only in the message of a step with for_each",
    "index": "there is an index only in the message of a step with a profile or for_each",
    "member": "who is asked is known only in a message",
    "round": "there are rounds only in a loop",
}


def walk(schema: Schema, parts: list[str], path: Path, at: int) -> Schema:
    """What is known of the part of a value that fits `schema`; `at` is where in `path` it begins.

    Raises:
        FlowMistake: a value that fits has no such part.
    """
    for part in parts:
        here = ".".join(path.parts[:at])
        kind = schema.get("type")
        if kind in _SCALARS:
            why = ", because it has no output_schema" if schema is TEXT and at == 3 else ""
            raise FlowMistake(f"{path}: {here} is {_SCALARS[kind]}{why}, and has no {part!r}")
        if kind == "array":
            if not part.isdigit():
                raise FlowMistake(f"{path}: {here} is a list: {part!r} is no place in it, 0 is")
            inner = schema.get("items")
        elif "properties" in schema:
            inner = _property(schema, part, path, here)
        else:
            return UNKNOWN
        if not isinstance(inner, Mapping):
            return UNKNOWN
        schema = inner
        at += 1
    return schema


def _property(schema: Schema, part: str, path: Path, here: str) -> Any:
    properties = schema["properties"]
    if part in properties:
        return properties[part]
    # Others are possible if nothing is said of them, but then they are said to be, or it is a slip.
    if schema.get("additionalProperties") or any(
        key in schema for key in ("patternProperties", "anyOf", "oneOf", "allOf", "$ref")
    ):
        return None
    raise FlowMistake(f"{path}: {here} has no {part!r}; {nearest(part, properties)}")
