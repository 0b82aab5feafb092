"""Typed functions as tools: their schema, their docstring, how they run."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import trio

from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome, ToolResult
from runtime.runner import LocalSessionRunner
from runtime.tools.base import MAX_RESULT_CHARS, Toolbox, ToolContext, ToolFailed, as_text
from runtime.tools.function import load_function, tool
from tests.runtime.fakes import call

NO_RUNNER = cast(LocalSessionRunner, None)


async def run(function: Any, arguments: str = "{}", **options: Any) -> ToolResult:
    made = tool(function, **options)
    context = ToolContext(
        SessionId("s"), RunId("r"), call("c", made.spec.name, arguments), NO_RUNNER
    )
    return await Toolbox([made]).run(context)


def search(query: str, limit: int = 10, tags: list[str] | None = None) -> str:
    """Search the archive.

    It is large.

    Args:
        query: What to look for.
        limit: How many to return.
    """
    return f"{query}/{limit}/{tags}"


def test_a_function_is_advertised_by_its_signature_and_docstring() -> None:
    spec = tool(search).spec
    assert (spec.name, spec.description) == ("search", "Search the archive.")
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for."},
            "limit": {"type": "integer", "default": 10, "description": "How many to return."},
            "tags": {
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict, {"type": "object", "additionalProperties": {}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    ],
)
def test_annotations_that_json_can_express(annotation: Any, schema: dict[str, Any]) -> None:
    def function(x: Any) -> None: ...

    function.__annotations__["x"] = annotation
    assert tool(function).spec.parameters["properties"]["x"] == schema


def test_what_json_cannot_express_is_refused_by_name_with_a_way_out() -> None:
    def bare(x): ...  # type: ignore[no-untyped-def]

    def path(x: Path) -> None: ...

    def variadic(*x: str) -> None: ...

    def keywords(**x: str) -> None: ...

    def positional(x: str, /) -> None: ...

    for function, words in (
        (bare, "no annotation"),
        (path, "JSON cannot express"),
        (variadic, "variadic"),
        (keywords, "variadic"),
        (positional, "positional"),
    ):
        with pytest.raises(TypeError, match=words) as found:
            tool(function)
        assert f"'x' of {function.__name__}" in str(found.value)


async def test_arguments_are_checked_before_the_function_runs() -> None:
    assert (await run(search, '{"query": "x"}')).text == "x/10/None"
    for arguments in (
        '{"query": 1}',
        "{}",
        '{"query": "x", "colour": 1}',
        '{"query": "x", "limit": true}',
    ):
        told = await run(search, arguments)
        assert told.outcome is ToolOutcome.ERROR
        assert "do not fit" in told.text


async def test_a_sync_function_runs_in_a_thread_and_an_async_one_in_the_task() -> None:
    def sync() -> bool:
        return threading.current_thread() is threading.main_thread()

    async def asynchronous() -> bool:
        await trio.lowlevel.checkpoint()
        return threading.current_thread() is threading.main_thread()

    assert (await run(sync)).text == "false"
    assert (await run(asynchronous)).text == "true"


async def test_a_function_that_returns_an_awaitable_is_awaited() -> None:
    async def inner() -> str:
        return "inner"

    @functools.wraps(inner, updated=())
    def wrapped() -> Any:
        return inner()

    del wrapped.__wrapped__
    assert (await run(wrapped)).text == "inner"


async def test_a_failure_in_words_for_the_model_is_told_as_it_is() -> None:
    def refuses() -> None:
        raise ToolFailed("the archive is closed on Sundays")

    told = await run(refuses)
    assert told.text == "error: the archive is closed on Sundays"
    assert told.outcome is ToolOutcome.ERROR


async def test_a_slow_function_times_out(autojump_clock: Any) -> None:
    told = await run(trio_nap, timeout_s=3)
    assert told.text == "error: timed out after 3 s"


async def trio_nap() -> None:
    await trio.sleep(60)


def test_values_become_text_and_long_ones_are_cut_and_said_to_be() -> None:
    assert as_text("plain") == "plain"
    assert as_text({"ä": [1, None]}) == '{"ä": [1, null]}'
    long = as_text("x" * (MAX_RESULT_CHARS + 5))
    assert long.endswith("\n[5 more characters were cut]")


async def test_an_error_as_long_as_a_book_is_cut_too() -> None:
    def verbose() -> None:
        raise ValueError("x" * (2 * MAX_RESULT_CHARS))

    assert len((await run(verbose)).text) < MAX_RESULT_CHARS + 100


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tools are named 'search'"):
        Toolbox([tool(search), tool(search)])
    assert len(Toolbox([tool(search), tool(search, name="find")])) == 2


def test_what_repeating_does_is_declared() -> None:
    box = Toolbox([tool(search, idempotent=True), tool(search, name="once")])
    assert box.idempotent("search")
    assert not box.idempotent("once")
    assert box.idempotent("unknown")


def test_a_function_is_loaded_from_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text("calls = []\ndef add(a: int, b: int) -> int:\n    return a + b\nfive = 5\n")
    assert load_function(path, "add")(1, 2) == 3
    assert load_function(path, "add") is load_function(path, "add")
    for name in ("subtract", "five"):
        with pytest.raises(AttributeError, match=name):
            load_function(path, name)
    with pytest.raises(FileNotFoundError):
        load_function(tmp_path / "none.py", "add")
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('as it is')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="as it is"):
            load_function(broken, "add")
