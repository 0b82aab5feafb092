"""Finding and checking the JSON in an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.structured import Invalid, Parsed, check_schema, parse_json, parse_output

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada"}',
        ' \n{"name": "Ada"}\n',
        '```json\n{"name": "Ada"}\n```',
        '```\n{"name": "Ada"}\n```',
        '```json {"name": "Ada"}```',
        'Here it is:\n```json\n{"name": "Ada"}\n```\nHope that helps!',
        'Sure! {"name": "Ada"} is the answer.',
        'A set {x} is not JSON, {"name": "Ada"} is.',
    ],
)
def test_one_document_is_found_whatever_surrounds_it(text: str) -> None:
    assert parse_output(PERSON, text) == Parsed({"name": "Ada"})


def test_an_array_in_prose_is_found_if_there_is_no_object() -> None:
    assert parse_json("The list: [1, 2].") == Parsed([1, 2])
    assert parse_json('Of [1], take {"a": [2]}') == Parsed({"a": [2]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "The answer is empty"),
        ("no idea", "not JSON: Expecting value at line 1 column 1. Answer with JSON only"),
        ('{"name": "Ada"} or {"name": "Bob"}', "contains 2 JSON documents"),
        ('{"name": "Ad', "not JSON: Unterminated string"),
        ('```json\n{"name": }\n```', "fenced block is not JSON"),
        ('{"name": 3}', "at name: 3 is not of type 'string'"),
        ('{"age": 3}', "'name' is a required property"),
        ('{"name": "A", "age": -1}', "at age: -1 is less than the minimum of 0"),
        ("NaN", "NaN is not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_reason_tells_the_model_what_to_change(text: str, says: str) -> None:
    result = parse_output(PERSON, text)
    assert isinstance(result, Invalid)
    assert says in result.reason
    assert len(result.reason) < 500


def test_reasons_carry_the_path_and_stay_short() -> None:
    schema = {"type": "object", "properties": {"people": {"type": "array", "items": PERSON}}}
    people = [{"name": n} for n in range(9)]
    result = parse_output(schema, json.dumps({"people": people}))
    assert isinstance(result, Invalid)
    assert "at people[2].name: 2 is not of type 'string'" in result.reason
    assert result.reason.endswith("and 6 more.")
    long = parse_output({"maxLength": 5}, json.dumps("x" * 5_000))
    assert isinstance(long, Invalid)
    assert len(long.reason) < 250


@given(value=JSON)
def test_every_document_comes_back_bare_and_fenced(value: Any) -> None:
    text = json.dumps(value)
    assert parse_json(text) == Parsed(value)
    if "```" not in text:
        assert parse_json(f"```json\n{text}\n```") == Parsed(value)


@given(text=st.text())
def test_any_text_has_a_result(text: str) -> None:
    assert isinstance(parse_json(text), Parsed | Invalid)


@given(text=st.text(alphabet='[{"}]:,a1', max_size=60))
def test_any_near_json_has_a_result(text: str) -> None:
    assert isinstance(parse_json(text), Parsed | Invalid)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strin"}, "at type: "),
        ({"properties": {"a": {"minimum": "0"}}}, "at properties.a.minimum"),
        ({"$ref": "#/$defs/none"}, "does not lead to a part"),
        ({"items": {"$ref": "https://example.org/schema"}}, "does not lead to a part"),
    ],
)
def test_a_bad_schema_is_found_beforehand(schema: Any, says: str) -> None:
    reason = check_schema(schema)
    assert reason is not None
    assert says in reason
    with pytest.raises(ValueError, match=r"schema|Schema"):
        parse_output(schema, "{}")


def test_good_schemas_pass() -> None:
    assert check_schema(PERSON) is None
    assert check_schema({}) is None
    assert check_schema({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"$ref": "#"}}}) is None
    assert check_schema({"const": {"$ref": "nowhere"}}) is None


def test_a_schema_that_is_no_longer_what_was_looked_at_is_looked_at_again() -> None:
    schema: dict[str, object] = {"type": "object", "required": ["name"]}
    assert check_schema(schema) is None
    assert check_schema(schema) is None
    schema["required"] = ("name",)
    assert check_schema(schema) is not None


def test_a_schema_changed_in_place_is_checked_as_it_is_now_if_it_is_another_object() -> None:
    schema: dict[str, Any] = {"type": "string"}
    assert isinstance(parse_output(schema, '"a"'), Parsed)
    assert isinstance(parse_output({**schema, "type": "integer"}, '"a"'), Invalid)
