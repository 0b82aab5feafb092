"""Made-up values that fit a JSON Schema.

Owns: the choice of a value for the schemas tools and outputs are written in, and of words for the
strings in it. Must not: draw
randomness itself (`draw` arrives as an argument) or promise that a value is valid: keywords
unknown here (`pattern`, `not`, `if`, ...) are passed over, so the caller validates.

A walk over the schema that gives way as it gets deep: optional properties, array items and nested
alternatives are dropped, which ends recursive schemas wherever they can be ended at all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

#: ``draw(n)`` is an integer in ``[0, n)``.
Draw: TypeAlias = Callable[[int], int]
#: ``text(property_name, index)`` is what a string there should say; differs by index.
TextFor: TypeAlias = Callable[[str, int], str]

#: Beyond this depth only what is required is made; beyond the second the schema has no end.
_SHALLOW = 4
_DEEPEST = 24
#: How often to draw again for an item that repeats where items must differ.
_UNIQUE_TRIES = 16


class NoInstance(ValueError):
    """No value could be made; the message says where and why."""


def make_instance(schema: Any, draw: Draw, text_for: TextFor, *, optional: bool) -> Any:
    """A JSON value meant to fit `schema`; `optional` includes properties that may be left out.

    Raises:
        NoInstance: the schema admits nothing, has no end, or points outside itself.
    """
    return _Maker(schema, draw, text_for, optional).make(schema, "", 0, 0)


_DULL_WORDS = """
    a about all an and answer any are as at be been by can could did do does for from give had has
    have how i if in into is it its me my of on or our please say should so tell than that the
    their them then there these they this to us use was we were what when where which who whose
    why will with would you your
"""
_DULL = frozenset(_DULL_WORDS.split())
_WHOLE_TEXT = (
    "prompt", "task", "message", "instruction", "question", "text", "content", "body", "input",
)  # fmt: skip
_SHORT_NAME = ("name", "id", "slug", "label", "key", "file", "path")


class Subject:
    """What a text is about: the words that strings are made of."""

    def __init__(self, text: str, draw: Draw) -> None:
        self.text = text
        found = [word for word in re.findall(r"\w[\w'-]*", text) if word.lower() not in _DULL]
        self.words = list(dict.fromkeys(found)) or ["nothing", "in", "particular"]
        self._turn = draw(len(self.words))

    def keywords(self, count: int, shift: int = 0) -> list[str]:
        """Up to `count` words in the user's order; another `shift` starts elsewhere."""
        start = shift % len(self.words)
        return (self.words[start:] + self.words[:start])[:count]

    def text_for(self, name: str, index: int) -> str:
        """A string for the property `name`; another `index` gives another where words allow."""
        lower = name.lower()
        if any(part in lower for part in _WHOLE_TEXT) and self.text and index == 0:
            return self.text[:400]
        if any(lower == part or lower.endswith("_" + part) for part in _SHORT_NAME):
            words = self.keywords(2, self._turn + index)
            return "-".join(words).lower() + (f"-{index}" if index >= len(self.words) else "")
        # A search for the first words finds more than one for all of them.
        words = self.keywords(3, index)
        return " ".join(words) + (f" {index}" if index >= len(self.words) else "")


class _Maker:
    def __init__(self, root: Any, draw: Draw, text_for: TextFor, optional: bool) -> None:
        self._root = root
        self._draw = draw
        self._text_for = text_for
        self._optional = optional

    def make(self, schema: Any, name: str, index: int, depth: int) -> Any:
        if schema is True:
            return self._text_for(name, index)
        if schema is False:
            raise NoInstance(f"nothing is allowed at {name or 'the top'!r}")
        if depth > _DEEPEST:
            raise NoInstance(f"the schema nests without end at {name!r}")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self.make(_merged(self._resolve(schema["$ref"]), rest), name, index, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._pick(schema["enum"], name)
        if "allOf" in schema:
            whole: Any = {key: value for key, value in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                whole = _merged(whole, self._inlined(part, depth))
            return self.make(whole, name, index, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._alternative(schema, keyword, name, index, depth)
        if schema.get("examples") and schema.get("type") == "string":
            return self._pick(schema["examples"], name)
        return self._typed(schema, name, index, depth)

    def _typed(self, schema: Mapping[str, Any], name: str, index: int, depth: int) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, name, index, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return self._integer(schema, name)
            case "number":
                return self._number(schema, name)
            case "boolean":
                return self._draw(2) == 1
            case "null":
                return None
            case "string":
                return self._string(schema, name, index)
            case other:
                raise NoInstance(f"unknown type {other!r} at {name or 'the top'!r}")

    def _pick(self, values: Any, name: str) -> Any:
        if not values:
            raise NoInstance(f"the list of allowed values at {name or 'the top'!r} is empty")
        return values[self._draw(len(values))]

    def _alternative(
        self, schema: Mapping[str, Any], keyword: str, name: str, index: int, depth: int
    ) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        ways = [_merged(self._inlined(way, depth), rest) for way in schema[keyword]]
        if not ways:
            raise NoInstance(f"{keyword} at {name or 'the top'!r} is empty")
        # An alternative with something to say before null, until the depth asks for brevity.
        if depth > _SHALLOW or not self._optional:
            order = sorted(range(len(ways)), key=lambda at: (_weight(ways[at]), at))
        else:
            start = self._draw(len(ways))
            turned = [*range(start, len(ways)), *range(start)]
            order = sorted(turned, key=lambda at: _is_null(ways[at]))
        failure: NoInstance | None = None
        for at in order:
            try:
                return self.make(ways[at], name, index, depth + 1)
            except NoInstance as error:
                failure = error
        assert failure is not None
        raise failure

    def _object(
        self, schema: Mapping[str, Any], name: str, index: int, depth: int
    ) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required: list[str] = list(schema.get("required", ()))
        others = schema.get("additionalProperties", True)
        made: dict[str, Any] = {}
        for key, part in properties.items():
            if key in required:
                made[key] = self.make(part, key, index, depth + 1)
            elif self._optional and depth < _SHALLOW:
                try:
                    made[key] = self.make(part, key, index, depth + 1)
                except NoInstance:
                    continue  # It may be left out, so an impossible one is.
        for key in required:
            if key not in made:
                made[key] = self.make(others, key, index, depth + 1)
        least = schema.get("minProperties", 0)
        if not made and self._optional and depth < _SHALLOW and isinstance(others, Mapping):
            least = max(least, 1)
        for key in (*properties, *(f"item{at}" for at in range(1, least + 1))):
            if len(made) >= least:
                break
            if key not in made:
                made[key] = self.make(properties.get(key, others), key, index, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        prefix = list(schema.get("prefixItems", ()))
        items = schema.get("items", not prefix)
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, len(prefix), 3))
        count = least
        if depth < _SHALLOW:
            wished = max(least, len(prefix), 1 + self._draw(3))
            count = min(most, wished, len(prefix) if items is False else wished)
        made: list[Any] = []
        seen: set[str] = set()
        unique = schema.get("uniqueItems", False)
        for at in range(count):
            part = prefix[at] if at < len(prefix) else items
            for attempt in range(_UNIQUE_TRIES):
                value = self.make(part, name, at + attempt, depth + 1)
                form = json.dumps(value, sort_keys=True) if unique else ""
                if not unique or form not in seen:
                    seen.add(form)
                    made.append(value)
                    break
        if len(made) < least:
            raise NoInstance(f"found only {len(made)} different items at {name or 'the top'!r}")
        return made

    def _string(self, schema: Mapping[str, Any], name: str, index: int) -> str:
        text = self._text_for(name, index)
        least: int = schema.get("minLength", 0)
        if len(text) < least:
            text = (text + " " + "and more " * (least // 9 + 1))[: max(least, len(text))]
        most = schema.get("maxLength")
        return text if most is None else text[:most]

    def _integer(self, schema: Mapping[str, Any], name: str) -> int:
        low, high = _bounds(schema)
        step: float = schema.get("multipleOf", 1)
        if step == int(step):
            first = math.ceil(low / step)
            last = math.floor(high / step)
        else:  # Whole multiples of a fraction: whole numbers are tried, and validated later.
            step, first, last = 1, math.ceil(low), math.floor(high)
        if low == schema.get("exclusiveMinimum") and first * step == low:
            first += 1
        if high == schema.get("exclusiveMaximum") and last * step == high:
            last -= 1
        if first > last:
            raise NoInstance(f"no integer lies within the bounds at {name or 'the top'!r}")
        return int((first + self._draw(min(last - first + 1, 10))) * step)

    def _number(self, schema: Mapping[str, Any], name: str) -> float:
        low, high = _bounds(schema)
        if low > high:
            raise NoInstance(f"no number lies within the bounds at {name or 'the top'!r}")
        step: float | None = schema.get("multipleOf")
        if step is not None:
            return math.ceil(low / step + 1e-9) * step
        # Strictly inside, so that exclusive bounds hold too; short where a short one fits.
        exact = low + (high - low) * (1 + self._draw(98)) / 99
        short = round(exact, 2)
        return short if low < short < high else exact

    def _inlined(self, schema: Any, depth: int) -> Any:
        """`schema` with the references at its top followed."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                return schema
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = _merged(self._resolve(schema["$ref"]), rest)
        raise NoInstance("a reference of the schema leads back to itself")

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise NoInstance(f"only references within the schema are followed, not {reference!r}")
        found = self._root
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, ValueError):
                raise NoInstance(f"the schema has no {reference!r}") from None
        return found


def _merged(first: Any, second: Any) -> Any:
    """A schema that asks for both, as far as it goes without reasoning."""
    if first is True or second is False:
        return second
    if second is True or first is False:
        return first
    both: dict[str, Any] = {**first, **second}
    if "properties" in first and "properties" in second:
        both["properties"] = dict(first["properties"])
        for key, part in second["properties"].items():
            known = both["properties"].get(key, True)
            both["properties"][key] = _merged(known, part)
    if "required" in first and "required" in second:
        both["required"] = list(dict.fromkeys((*first["required"], *second["required"])))
    if "enum" in first and "enum" in second:
        both["enum"] = [value for value in first["enum"] if value in second["enum"]]
    if "allOf" in first and "allOf" in second:
        both["allOf"] = [*first["allOf"], *second["allOf"]]
    for pick, keywords in (
        (max, ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")),
        (min, ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")),
    ):
        for keyword in keywords:
            if keyword in first and keyword in second:
                both[keyword] = pick(first[keyword], second[keyword])
    return both


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list) and kind:
        return next((str(each) for each in kind if each != "null"), "null")
    for implied, keywords in (
        ("object", ("properties", "required", "additionalProperties", "minProperties")),
        ("array", ("items", "prefixItems", "minItems", "maxItems")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(keyword in schema for keyword in keywords):
            return implied
    return "string"


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _weight(schema: Any) -> int:
    """How much making a value of this costs: scalars first, then null, arrays, objects."""
    if not isinstance(schema, Mapping):
        return 0
    if any(keyword in schema for keyword in ("anyOf", "oneOf", "allOf")):
        return 4
    return {"null": 1, "array": 2, "object": 3}.get(_type_of(schema), 0)


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    """The inclusive range to choose from; ten wide where the schema leaves a side open."""
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    if lows and highs:
        return max(lows), min(highs)
    if lows:
        return max(lows), max(lows) + 10
    if highs:
        return min(highs) - 10 if min(highs) < 1 else min(1, min(highs) - 1), min(highs)
    return 1, 10
