"""Python annotations as JSON: the schema that models are told, and the way back to Python values.

Owns: `Shape`, which is both, `shape_of` and `to_json`. Must not: accept an annotation that it
cannot check, or import pydantic: a class of it is known by its own methods, and is there only if
the user's own code imported it.

A class (dataclass, attrs, TypedDict) is an object whose fields have shapes of their own. One that
contains itself is refused: providers understand references badly. Pydantic's classes describe and
check themselves.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from runtime.structured import mistakes_in

Load: TypeAlias = Callable[[Any], Any]


def _as_it_is(value: Any) -> Any:
    return value


@attrs.frozen
class Shape:
    """`schema` describes a value as JSON; `load` makes the Python value of one that fits it.

    `definitions` are what `schema` refers to as ``#/$defs/NAME``. `load` raises whatever the
    user's classes raise.
    """

    schema: dict[str, Any]
    load: Load = _as_it_is
    definitions: Mapping[str, Any] = attrs.field(factory=dict)


_PRIMITIVES: dict[Any, Shape] = {
    str: Shape({"type": "string"}),
    int: Shape({"type": "integer"}, int),
    float: Shape({"type": "number"}, float),
    bool: Shape({"type": "boolean"}),
    type(None): Shape({"type": "null"}),
    Any: Shape({}),
    object: Shape({}),
}


def shape_of(annotation: Any, where: str, inside: tuple[Any, ...] = ()) -> Shape:
    """The shape of what `annotation` describes. `inside` are the classes around it.

    Raises:
        TypeError: JSON cannot express it; the message says what `where` is and what to write.
    """
    if isinstance(annotation, typing.NewType):
        return shape_of(annotation.__supertype__, where, inside)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _annotated(arguments, where, inside)
    if origin in (typing.Required, typing.NotRequired):
        return shape_of(arguments[0], where, inside)
    if _hashable(annotation) and annotation in _PRIMITIVES:
        return _PRIMITIVES[annotation]
    if origin is Literal:
        return _literal(arguments)
    if origin is typing.Union or origin is types.UnionType:
        return _union(arguments, where, inside)
    kind = origin or annotation
    if kind in (list, set, frozenset, Sequence) or (kind is tuple and _is_row(arguments)):
        return _array(kind, arguments, where, inside)
    if kind is tuple:
        return _tuple(arguments, where, inside)
    if kind in (dict, Mapping):
        return _mapping(arguments, where, inside)
    if isinstance(annotation, type):
        return _class(annotation, where, inside)
    raise _inexpressible(annotation, where)


def to_json(value: Any) -> Any:
    """A Python value as what `json.dumps` takes; what it does not know it leaves alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if attrs.has(type(value)):
        return {each.name: to_json(getattr(value, each.name)) for each in attrs.fields(type(value))}
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if isinstance(value, Mapping):
        return {str(to_json(key)): to_json(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_json(each) for each in value), key=repr)
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value


def merged(shapes: Sequence[Shape]) -> dict[str, Any]:
    """The definitions of several shapes together. Raises `TypeError` if two names clash."""
    together: dict[str, Any] = {}
    for shape in shapes:
        for name, definition in shape.definitions.items():
            if together.setdefault(name, definition) != definition:
                raise TypeError(f"two different classes are called {name!r}; rename one of them")
    return together


def _annotated(arguments: tuple[Any, ...], where: str, inside: tuple[Any, ...]) -> Shape:
    """The type, described by the text beside it (or by what has a `description`)."""
    shape = shape_of(arguments[0], where, inside)
    for extra in arguments[1:]:
        said = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(said, str):
            return attrs.evolve(shape, schema={**shape.schema, "description": said})
    return shape


def _literal(values: tuple[Any, ...]) -> Shape:
    """Enumeration members are told by their values."""
    told = [to_json(value) for value in values]
    return Shape({"enum": told}, lambda given: values[_place(told, given)])


def _enumeration(annotation: type[enum.Enum], where: str) -> Shape:
    members = list(annotation)
    told = [to_json(member) for member in members]
    if not all(isinstance(each, str | int | float | bool | None) for each in told):
        raise _inexpressible(annotation, where)
    return Shape({"enum": told}, lambda given: members[_place(told, given)])


def _place(told: list[Any], given: Any) -> int:
    """Where `given` is: True is not 1 here, as it is not in JSON."""
    for place, each in enumerate(told):
        if each == given and isinstance(each, bool) == isinstance(given, bool):
            return place
    raise ValueError(f"{given!r} is none of {told}")


def _union(arguments: tuple[Any, ...], where: str, inside: tuple[Any, ...]) -> Shape:
    arms = [shape_of(argument, where, inside) for argument in arguments]
    definitions = merged(arms)
    closed = [{**arm.schema, "$defs": definitions} if definitions else arm.schema for arm in arms]

    def load(value: Any) -> Any:
        for schema, arm in zip(closed, arms, strict=True):
            if mistakes_in(schema, value) is None:
                return arm.load(value)
        raise ValueError(f"{value!r} fits none of what is possible")

    return Shape({"anyOf": [arm.schema for arm in arms]}, load, definitions)


def _is_row(arguments: tuple[Any, ...]) -> bool:
    return not arguments or (len(arguments) == 2 and arguments[1] is ...)


def _array(kind: Any, arguments: tuple[Any, ...], where: str, inside: tuple[Any, ...]) -> Shape:
    item = shape_of(arguments[0], where, inside) if arguments else Shape({})
    schema: dict[str, Any] = {"type": "array", "items": item.schema}
    if kind in (set, frozenset):
        schema["uniqueItems"] = True
    make = list if kind is Sequence else kind
    return Shape(schema, lambda value: make(map(item.load, value)), item.definitions)


def _tuple(arguments: tuple[Any, ...], where: str, inside: tuple[Any, ...]) -> Shape:
    items = [shape_of(argument, where, inside) for argument in arguments]
    schema = {
        "type": "array",
        "prefixItems": [item.schema for item in items],
        "minItems": len(items),
        "maxItems": len(items),
    }

    def load(value: Any) -> Any:
        return tuple(item.load(each) for item, each in zip(items, value, strict=True))

    return Shape(schema, load, merged(items))


def _mapping(arguments: tuple[Any, ...], where: str, inside: tuple[Any, ...]) -> Shape:
    if arguments and arguments[0] not in (str, Any):
        raise TypeError(f"{where} is a dict whose keys are not str; JSON has no other keys")
    item = shape_of(arguments[1], where, inside) if arguments else Shape({})
    schema = {"type": "object", "additionalProperties": item.schema}

    def load(value: Any) -> Any:
        return {key: item.load(each) for key, each in value.items()}

    return Shape(schema, load, item.definitions)


def _class(annotation: type, where: str, inside: tuple[Any, ...]) -> Shape:
    if issubclass(annotation, enum.Enum):
        return _enumeration(annotation, where)
    if _is_pydantic(annotation):
        return _pydantic(annotation)
    fields = _fields(annotation)
    if fields is None:
        raise _inexpressible(annotation, where)
    if annotation in inside:
        raise TypeError(f"{where} contains {annotation.__name__} again, which cannot be described")
    described = _described(annotation)
    shapes: dict[str, Shape] = {}
    for name in fields:
        at = f"field {name!r} of {annotation.__name__}, in {where}"
        shape = shape_of(fields[name].annotation, at, (*inside, annotation))
        extra: dict[str, Any] = {}
        if name in described and "description" not in shape.schema:
            extra["description"] = described[name]
        if fields[name].has_default:
            extra["default"] = fields[name].default
        shapes[name] = attrs.evolve(shape, schema={**shape.schema, **extra}) if extra else shape
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: shape.schema for name, shape in shapes.items()},
        "required": [name for name, each in fields.items() if each.required],
        "additionalProperties": False,
    }

    def load(value: Any) -> Any:
        given = {name: shapes[name].load(each) for name, each in value.items()}
        return annotation(**{fields[name].argument: each for name, each in given.items()})

    return Shape(schema, load, merged(list(shapes.values())))


@attrs.frozen
class _Field:
    annotation: Any
    required: bool
    argument: str
    has_default: bool = False
    default: Any = None


def _fields(annotation: type) -> dict[str, _Field] | None:
    """What `annotation` is made with, None if it is no class that says so."""
    if typing.is_typeddict(annotation):
        required: frozenset[str] = getattr(annotation, "__required_keys__", frozenset())
        hints = typing.get_type_hints(annotation, include_extras=True)
        return {
            name: _Field(hint, _is_required(hint, name in required), name)
            for name, hint in hints.items()
        }
    found: dict[str, _Field] = {}
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        for field in dataclasses.fields(annotation):
            if field.init:
                bare = field.default is dataclasses.MISSING
                required_ = bare and field.default_factory is dataclasses.MISSING
                told = (False, None) if bare else _default(field.default)
                found[field.name] = _Field(hints[field.name], required_, field.name, *told)
        return found
    if attrs.has(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        for attribute in attrs.fields(annotation):
            if attribute.init:
                bare = attribute.default is attrs.NOTHING
                made = isinstance(attribute.default, attrs.Factory)  # type: ignore[arg-type]
                told = (False, None) if bare or made else _default(attribute.default)
                hint = hints.get(attribute.name, Any)
                found[attribute.name] = _Field(hint, bare, attribute.alias, *told)
        return found
    return None


def _is_required(hint: Any, otherwise: bool) -> bool:
    """Whether a TypedDict's key must be there. `__required_keys__` does not know it where
    annotations are text (``from __future__ import annotations``)."""
    origin = typing.get_origin(hint)
    return origin is typing.Required or (otherwise and origin is not typing.NotRequired)


def _default(value: Any) -> tuple[bool, Any]:
    """Whether a default can be told as JSON, and how."""
    told = to_json(value)
    return isinstance(told, str | int | float | bool | list | dict | None), told


def _described(annotation: type) -> Mapping[str, str]:
    from runtime.tools.docstrings import read_docstring

    text = annotation.__doc__
    # What dataclasses write themselves is the signature, which is told already.
    if not text or text.startswith(f"{annotation.__name__}("):
        return {}
    return read_docstring(annotation).parameters


def _is_pydantic(annotation: type) -> bool:
    return hasattr(annotation, "model_json_schema") and hasattr(annotation, "model_validate")


def _pydantic(annotation: Any) -> Shape:
    schema = dict(annotation.model_json_schema())
    definitions = schema.pop("$defs", {})

    def load(value: Any) -> Any:
        # From JSON, where a date is text, also if the class is strict.
        return annotation.model_validate_json(json.dumps(value))

    return Shape(schema, load, definitions)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _inexpressible(annotation: Any, where: str) -> TypeError:
    return TypeError(
        f"{where} is annotated {annotation!r}, which JSON cannot express; use str, int, float,"
        " bool, Literal, Enum, list, dict, a dataclass, an attrs or pydantic class, a TypedDict, or"
        " a union of these"
    )
