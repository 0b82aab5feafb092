"""Annotations as JSON: what models are told, what the function is given, what goes back."""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict

import attrs
import pydantic
import pytest
import trio

from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome, ToolResult
from runtime.structured import mistakes_in
from runtime.tools.annotations import shape_of, to_json
from runtime.tools.base import Toolbox, ToolContext
from runtime.tools.docstrings import read_docstring
from runtime.tools.function import FunctionTool, load_function, tool
from tests.runtime.fakes import call
from tests.runtime.test_tools_function import NO_RUNNER, run


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    """A place.

    Args:
        x: How far right.
    """

    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@attrs.define
class Line:
    start: Point
    end: Point | None = None
    _hidden: bool = False


class Book(TypedDict):
    title: str
    pages: NotRequired[int]


class Order(pydantic.BaseModel):
    """An order."""

    item: str = pydantic.Field(description="What is ordered.")
    count: int = pydantic.Field(1, ge=1)
    colour: Colour = Colour.RED


class Tree(pydantic.BaseModel):
    children: list[Tree] = []


Id = NewType("Id", str)

VALUES: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (float, 3, 3.0),
    (Colour, "blue", Colour.BLUE),
    (Literal[Colour.RED, "other"], "red", Colour.RED),
    (Literal[1, True], True, True),
    (Id, "x", "x"),
    (list[Point], [{"x": 1}], [Point(1)]),
    (dict[str, Colour], {"a": "red"}, {"a": Colour.RED}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (Sequence[int], [1, 2], [1, 2]),
    (set[Colour], ["red"], {Colour.RED}),
    (frozenset, ["x"], frozenset({"x"})),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, Colour], [1, "red"], (1, Colour.RED)),
    (Point, {"x": 1, "y": 2, "tags": ["t"]}, Point(1, 2, ["t"])),
    (Line, {"start": {"x": 1}, "_hidden": True}, Line(Point(1), None, True)),
    (Line, {"start": {"x": 1}, "end": {"x": 2}}, Line(Point(1), Point(2))),
    (Line | int, 3, 3),
    (Point | Book, {"title": "t"}, {"title": "t"}),
    (Point | Colour | None, None, None),
    (Book, {"title": "t", "pages": 3}, {"title": "t", "pages": 3}),
    (Order, {"item": "x", "count": 2}, Order(item="x", count=2)),
    (list[Order | Point], [{"item": "x"}, {"x": 1}], [Order(item="x"), Point(1)]),
    (Tree, {"children": [{"children": []}]}, Tree(children=[Tree()])),
    (Annotated[int, "a number"], 3, 3),
]


@pytest.mark.parametrize(("annotation", "given", "made"), VALUES)
def test_json_becomes_the_value_that_the_annotation_describes(
    annotation: Any, given: Any, made: Any
) -> None:
    shape = shape_of(annotation, "it")
    closed = {**shape.schema, "$defs": dict(shape.definitions)}
    assert mistakes_in(closed, given) is None
    loaded = shape.load(given)
    assert loaded == made
    assert type(loaded) is type(made)
    assert shape.load(json.loads(json.dumps(to_json(loaded)))) == made, "and back"


def test_a_class_is_told_by_its_fields_and_what_its_docstring_says_of_them() -> None:
    assert shape_of(Point, "it").schema == {
        "type": "object",
        "properties": {
            "x": {"type": "integer", "description": "How far right."},
            "y": {"type": "integer", "default": 0},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["x"],
        "additionalProperties": False,
    }
    assert shape_of(Book, "it").schema["required"] == ["title"]
    told = shape_of(Order, "it")
    assert told.schema["properties"]["item"]["description"] == "What is ordered."
    assert set(told.definitions) == {"Colour"}


class Endless(TypedDict):
    inner: list[Endless]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Path, "JSON cannot express"),
        (bytes, "JSON cannot express"),
        (list[Path], "JSON cannot express"),
        (dict[int, str], "keys are not str"),
        (Endless, "contains Endless again"),
        (typing.Callable, "JSON cannot express"),
    ],
)
def test_what_cannot_be_described_is_refused_by_its_place(annotation: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as found:
        shape_of(annotation, "parameter 'x' of f")
    assert "parameter 'x' of f" in str(found.value)


def test_two_classes_of_one_name_are_refused() -> None:
    other = pydantic.create_model("Order", x=(pydantic.create_model("Colour", y=(int, 1)), ...))
    with pytest.raises(TypeError, match="two different classes are called 'Colour'"):
        shape_of(Order | other, "it")


async def test_a_function_is_given_values_and_gives_values_back() -> None:
    def extend(line: Line, by: Point, colour: Colour = Colour.RED) -> dict[str, Any]:
        """Make a line longer."""
        assert line.start is not by
        return {"line": Line(line.start, by), "colour": colour, "seen": {3, 1}}

    made = tool(extend)
    assert made.spec.parameters["properties"]["colour"]["default"] == "red"
    told = await run(extend, '{"line": {"start": {"x": 1}}, "by": {"x": 5, "y": 6}}')
    assert json.loads(told.text) == {
        "line": {
            "start": {"x": 1, "y": 0, "tags": []},
            "end": {"x": 5, "y": 6, "tags": []},
            "_hidden": False,
        },
        "colour": "red",
        "seen": [1, 3],
    }

    def order(order: Order) -> Order:
        return order

    assert json.loads((await run(order, '{"order": {"item": "x"}}')).text)["count"] == 1


@dataclasses.dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


class Strict(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 3:
            raise ValueError("longer than three")
        return name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"even": {"number": "2"}}', "at even.number: '2' is not of type 'integer'"),
        ('{"even": {}}', "'number' is a required property"),
        ('{"even": {"number": 2, "odd": 1}}', "'odd' was unexpected"),
        ('{"even": {"number": 3}}', "the argument 'even' does not fit: ValueError: 3 is odd"),
        ('{"even": {"number": 2}, "strict": {"name": "long"}}', "longer than three"),
        ('{"even": {"number": 2}, "colour": "green"}', "at colour: 'green' is not one of"),
        ('{"even"', "not valid JSON"),
    ],
)
async def test_wrong_arguments_are_told_to_the_model_with_what_is_wrong(
    arguments: str, words: str
) -> None:
    def function(even: Even, strict: Strict | None = None, colour: Colour | None = None) -> str:
        raise AssertionError("it does not run")

    def plain(even: Even, strict: Strict | None = None, colour: Colour = Colour.RED) -> str:
        raise AssertionError("it does not run")

    told = await run(plain, arguments)
    assert told.outcome is ToolOutcome.ERROR
    assert words in told.text
    assert (await run(function, arguments)).outcome is ToolOutcome.ERROR


async def test_a_parameter_for_the_context_is_not_the_models() -> None:
    async def whoami(greeting: str, context: ToolContext) -> str:
        return f"{greeting} {context.session_id}"

    assert set(tool(whoami).spec.parameters["properties"]) == {"greeting"}
    assert (await run(whoami, '{"greeting": "hi"}')).text == "hi s"
    assert "unexpected" in (await run(whoami, '{"greeting": "hi", "context": {}}')).text


GOOGLE = """Find things.

    Args:
        what: What to find,
            on two lines.
        where (str): Where to look.

    Returns:
        What was found.
    """
NUMPY = """Find things.

    Parameters
    ----------
    what : str
        What to find,
        on two lines.
    where : str
        Where to look.
    """
REST = """Find things.

    :param what: What to find,
        on two lines.
    :param str where: Where to look.
    :returns: What was found.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_parameters_are_described_in_every_common_style(text: str) -> None:
    def find(what: str, where: str) -> None: ...

    find.__doc__ = text
    spec = tool(find).spec
    assert spec.description == "Find things."
    said = {name: each["description"] for name, each in spec.parameters["properties"].items()}
    assert said == {"what": "What to find, on two lines.", "where": "Where to look."}


@pytest.mark.parametrize("text", ["", "Args:", "Only this", ":param", "Args:\n  :::\n", "a\n\n=\n"])
def test_no_docstring_is_an_error(text: str) -> None:
    def find(what: str) -> None: ...

    find.__doc__ = text
    assert read_docstring(find).summary in text
    assert tool(find).spec.description


async def test_as_a_decorator_and_loaded_from_a_file(tmp_path: Path) -> None:
    @tool(idempotent=True, timeout_s=3)
    def look(at: str) -> str:
        """Look."""
        return at

    assert isinstance(look, FunctionTool)
    assert (look.idempotent, look.timeout_s) == (True, 3)
    path = tmp_path / "t.py"
    path.write_text(
        "from runtime.tools.function import tool\n\n"
        "@tool(idempotent=True)\ndef add(a: int) -> int:\n    return a + 1\n"
    )
    loaded = tool(load_function(path, "add"), name="plus", timeout_s=2)
    assert (loaded.spec.name, loaded.idempotent, loaded.timeout_s) == ("plus", True, 2)
    context = ToolContext(SessionId("s"), RunId("r"), call("c", "plus", '{"a": 1}'), NO_RUNNER)
    assert (await Toolbox([loaded]).run(context)).text == "2"


async def test_a_thread_that_is_left_behind_holds_nothing_up() -> None:
    """The turn goes on at once, the thread runs to its end, and what else uses threads does not
    wait for it: a store that did would be stopped by forty slow tools."""
    import threading

    release = threading.Event()
    ended = threading.Semaphore(0)

    def slow() -> None:
        release.wait(30)
        ended.release()

    results: list[ToolResult] = []

    async def call_one() -> None:
        results.append(await run(slow, timeout_s=0.2))

    try:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(45):
                    nursery.start_soon(call_one)
            assert {result.text for result in results} == {"error: timed out after 0.2 s"}
            assert await trio.to_thread.run_sync(lambda: "still") == "still"
            assert (await run(slow, timeout_s=0.1)).text.startswith("error: timed out")
    finally:
        release.set()
    for _ in range(40):
        assert await trio.to_thread.run_sync(ended.acquire, True, 10)

    def quick() -> str:
        return "again"

    assert (await run(quick, timeout_s=10)).text == "again"


def test_pydantic_is_not_imported_for_functions_that_do_not_use_it() -> None:
    program = (
        "import sys; from runtime.tools.function import tool\n"
        "def f(x: int, y: list[str]) -> str:\n    'Do it.'\n"
        "tool(f); sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
