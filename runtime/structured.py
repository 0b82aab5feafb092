"""JSON answers: found in what the model said, and checked against their schema.

Owns: parsing and validation of structured output, and the words that tell a model what was wrong.
Must not: call a model or decide about retries (the turn does). Pure: no clock, no randomness.

Models wrap JSON in a fence or a sentence even when told not to; asking again costs a whole call,
so exactly one embedded object is taken for the answer, and anything ambiguous is not.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from runtime.models.base import Schema

if TYPE_CHECKING:
    from jsonschema.exceptions import SchemaError, ValidationError
    from jsonschema.protocols import Validator

#: How many mistakes one reason lists: a small model corrects few at once.
_MAX_MISTAKES = 3
#: Longest rendering of an offending value or message within a reason, in characters.
_MAX_SHOWN = 120
#: How many brackets may begin nothing before the search for a document is given up. Each costs a
#: parse of what follows: 100,000 opening brackets took 11 s without a limit.
_MAX_FAILURES = 200


@attrs.frozen
class Parsed:
    """The text holds one JSON document that fits; `value` is it, parsed."""

    value: Any


@attrs.frozen
class Invalid:
    """The text does not fit; `reason` is written for the model to correct itself by."""

    reason: str


Output: TypeAlias = Parsed | Invalid


def parse_output(schema: Schema, text: str) -> Output:
    """Find the JSON document in `text` and check it against `schema` (Draft 2020-12).

    Accepts the bare document, one ``` fence, or prose around exactly one JSON object (or array,
    if there is no object).

    Raises:
        ValueError: `schema` is not a valid schema; `check_schema` says so beforehand.
    """
    found = parse_json(text)
    if isinstance(found, Invalid):
        return found
    reason = mistakes_in(schema, found.value)
    return found if reason is None else Invalid(reason)


def parse_json(text: str) -> Output:
    """The one JSON document in `text`, under the rules of `parse_output`, unchecked."""
    stripped = text.strip()
    if not stripped:
        return Invalid("The answer is empty. Answer with one JSON document.")
    try:
        return Parsed(_loads(stripped))
    except ValueError as error:
        failure = error
    fenced = _fenced(stripped)
    if fenced is not None:
        try:
            return Parsed(_loads(fenced))
        except ValueError as error:
            return Invalid(f"The fenced block is not JSON: {_json_error(error)}.")
    documents = _embedded(stripped)
    if len(documents) == 1:
        return Parsed(documents[0])
    if documents:
        return Invalid(
            f"The answer contains {len(documents)} JSON documents."
            " Answer with exactly one and nothing else."
        )
    return Invalid(f"The answer is not JSON: {_json_error(failure)}. Answer with JSON only.")


def mistakes_in(schema: Schema, value: Any) -> str | None:
    """Why the parsed `value` does not fit `schema`, or None if it does.

    Raises:
        ValueError: `schema` is not a valid schema.
    """
    errors = sorted(_validator(schema).iter_errors(value), key=_rank)
    if not errors:
        return None
    lines = [_mistake(error) for error in errors[:_MAX_MISTAKES]]
    if len(errors) > _MAX_MISTAKES:
        lines.append(f"and {len(errors) - _MAX_MISTAKES} more")
    return "The JSON does not fit its schema: " + "; ".join(lines) + "."


def check_schema(schema: Schema) -> str | None:
    """Why `schema` cannot be used as a JSON Schema (Draft 2020-12), or None if it can."""
    content = repr(schema)  # not as JSON, which does not tell a tuple from a list
    if content in _SOUND:
        return None
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        return f"not a JSON Schema: {_mistake(error)}"
    unresolved = _unresolved(schema)
    if unresolved is None:
        if len(_SOUND) >= _MAX_CACHED:
            _SOUND.clear()
        _SOUND.add(content)
    return unresolved


def _unresolved(schema: Schema) -> str | None:
    """A reference that leads nowhere or away: jsonschema would only notice while validating."""
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
            continue
        if not isinstance(part, dict):
            continue
        reference = part.get("$ref")
        if isinstance(reference, str) and not _resolves(schema, reference):
            return f"$ref {reference!r} does not lead to a part of this schema"
        # Values of these are data, in which a key "$ref" means nothing.
        waiting.extend(v for k, v in part.items() if k not in ("const", "enum", "default"))
    return None


def _resolves(schema: Schema, reference: str) -> bool:
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    found: Any = schema
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return False
    return True


# Two caches: finding a validator by the schema's identity costs nothing, but a dict has no hash
# and may be equal to another, so behind it stands one by content. The first keeps the schema
# alive with its validator, so that an id cannot come to mean another schema.
_BY_ID: dict[int, tuple[Schema, Validator]] = {}
#: The content of schemas that were found sound: looking takes 5 ms, and a mob that is opened again,
#: or children of one harness, come with the same ones.
_SOUND: set[str] = set()
#: Schemas are written by people: a realm with more than this many builds them at run time.
_MAX_CACHED = 256


def _validator(schema: Schema) -> Validator:
    known = _BY_ID.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    validator = _validator_of_text(json.dumps(schema, sort_keys=True))
    if len(_BY_ID) >= _MAX_CACHED:
        _BY_ID.clear()
    _BY_ID[id(schema)] = (schema, validator)
    return validator


@functools.lru_cache(maxsize=_MAX_CACHED)
def _validator_of_text(text: str) -> Validator:
    # Imported here: 0.1 s that a run without schemas does not pay.
    import jsonschema

    schema = json.loads(text)
    reason = check_schema(schema)
    if reason is not None:
        raise ValueError(reason)
    return jsonschema.Draft202012Validator(schema)


def _rank(error: ValidationError) -> tuple[int, str]:
    return (len(error.absolute_path), error.json_path)


def _mistake(error: ValidationError | SchemaError) -> str:
    # "$.items[2].name" without the dollar that means nothing to a model.
    path = error.json_path[1:].removeprefix(".")
    message = error.message
    if len(message) > _MAX_SHOWN and error.validator is not None:
        shown = json.dumps(error.instance, ensure_ascii=False, default=str)
        short = shown if len(shown) <= 40 else shown[:37] + "..."
        asked = json.dumps(error.validator_value, ensure_ascii=False, default=str)
        message = f"{short} does not satisfy {error.validator} {asked}"
    if len(message) > _MAX_SHOWN:
        message = message[: _MAX_SHOWN - 3] + "..."
    return f"at {path}: {message}" if path else message


def _json_error(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return str(error)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_constant)


def _loads(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None


def _fenced(text: str) -> str | None:
    """What is inside the only ``` fence of `text`, or None if there is not exactly one."""
    parts = text.split("```")
    if len(parts) != 3:
        return None
    inside = parts[1]
    first, newline, rest = inside.partition("\n")
    is_label = newline and first.strip().isalnum() and first.strip() not in ("true", "false")
    return rest if is_label else inside.removeprefix("json")


def _embedded(text: str) -> list[Any]:
    """The outermost objects in `text`; the outermost arrays if it holds no object."""
    return _outermost(text, "{") or _outermost(text, "[")


def _outermost(text: str, opening: str) -> list[Any]:
    found: list[Any] = []
    failures = 0
    at = text.find(opening)
    while at != -1 and failures < _MAX_FAILURES:
        try:
            value, at = _DECODER.raw_decode(text, at)
            found.append(value)
        except (ValueError, RecursionError):
            failures += 1
            at += 1
        at = text.find(opening, at)
    return found
