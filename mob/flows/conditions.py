"""Conditions: a small language of comparisons over the values of a run. Pure.

Owns: reading and evaluating ``steps.review.output.score < 7 and not params.draft``. Must not: run
code or call anything: there are paths, literals, comparisons, ``and``, ``or``, ``not``, ``in`` and
parentheses, and nothing else.

    or:       and ("or" and)*
    and:      not ("and" not)*
    not:      "not" not | compared
    compared: value (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") value)?
    value:    path | number | 'text' | "text" | true | false | null | [value, ...] | "(" or ")"

Order is defined between two numbers and between two texts; compared to nothing (the output of
a step that was skipped) everything is false. Anything else is a mistake and not an answer.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from mob.flows.paths import PATH, FlowMistake, Path, find, kind_of, read_path


@attrs.frozen
class Literal:
    """A value that is written down."""

    value: Any


@attrs.frozen
class Listed:
    """A list that is written down."""

    items: tuple[Node, ...]


@attrs.frozen
class Not:
    """The opposite."""

    node: Node


@attrs.frozen
class Both:
    """Two conditions joined by `word`: ``and`` or ``or``."""

    word: str
    left: Node
    right: Node


@attrs.frozen
class Compared:
    """Two values between which `sign` holds or does not."""

    sign: str
    left: Node
    right: Node


Node: TypeAlias = Path | Literal | Listed | Not | Both | Compared

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Words and signs of one condition: more is not written by people, and reading it is recursive.
_MOST: Final = 100
_SIGNS: Final = ("==", "!=", *_ORDER, "in", "not in")
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<sign>==|!=|<=|>=|<|>|[()\[\],])
          |(?P<number>-?\d+(?:\.\d+)?)
          |(?P<text>"[^"]*"|'[^']*')
          |(?P<path>"""
    + PATH.pattern
    + r"))",
    re.VERBOSE,
)


@attrs.frozen
class Condition:
    """A condition as it was read."""

    node: Node
    paths: tuple[Path, ...]

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Whether it holds. Raises `FlowMistake`."""
        return bool(_value(self.node, scope))


@functools.lru_cache(maxsize=1024)
def read_condition(text: str) -> Condition:
    """The condition that `text` is. Raises `FlowMistake`."""
    reader = _Reader(text)
    node = reader.either()
    if reader.tokens:
        raise FlowMistake(f"{reader.tokens[0][1]!r} is too much in the condition {text!r}")
    return Condition(node, tuple(reader.paths))


class _Reader:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.paths: list[Path] = []
        self.tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise FlowMistake(f"cannot read {text[at:end].strip()!r} in the condition {text!r}")
            assert match.lastgroup is not None
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        if len(self.tokens) > _MOST:
            raise FlowMistake(f"the condition has more than {_MOST} words and signs")

    def either(self) -> Node:
        node = self._both()
        while self._took("or"):
            node = Both("or", node, self._both())
        return node

    def _both(self) -> Node:
        node = self._not()
        while self._took("and"):
            node = Both("and", node, self._not())
        return node

    def _not(self) -> Node:
        return Not(self._not()) if self._took("not") else self._compared()

    def _compared(self) -> Node:
        left = self._one()
        for sign in _SIGNS:
            if self._took(*sign.split()):
                return Compared(sign, left, self._one())
        return left

    def _one(self) -> Node:
        if not self.tokens:
            raise FlowMistake(f"something is missing at the end of the condition {self._text!r}")
        kind, word = self.tokens.pop(0)
        if kind == "number":
            return Literal(json.loads(word))
        if kind == "text":
            return Literal(word[1:-1])
        if kind == "path" and word in _WORDS:
            return Literal(_WORDS[word])
        if kind == "path" and word not in ("and", "or", "not", "in"):
            self.paths.append(read_path(word))
            return self.paths[-1]
        if word == "(":
            node = self.either()
            self._close(")")
            return node
        if word == "[":
            return self._listed()
        raise FlowMistake(f"a value is missing before {word!r} in the condition {self._text!r}")

    def _listed(self) -> Node:
        items: list[Node] = []
        while not self._took("]"):
            if items and not self._took(","):
                raise FlowMistake(f"',' or ']' is missing in the condition {self._text!r}")
            items.append(self._one())
        return Listed(tuple(items))

    def _took(self, *words: str) -> bool:
        """Whether these come next; they are gone then. A text in quotes is no word."""
        ahead = self.tokens[: len(words)]
        if tuple(word for _, word in ahead) != words or any(kind == "text" for kind, _ in ahead):
            return False
        del self.tokens[: len(words)]
        return True

    def _close(self, word: str) -> None:
        if not self._took(word):
            raise FlowMistake(f"{word!r} is missing in the condition {self._text!r}")


def _value(node: Node, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, Path):
        return find(node, scope)
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Listed):
        return [_value(item, scope) for item in node.items]
    if isinstance(node, Not):
        return not _value(node.node, scope)
    if isinstance(node, Both):
        left = bool(_value(node.left, scope))
        decided = left if node.word == "or" else not left
        return left if decided else bool(_value(node.right, scope))
    return _compare(node.sign, _value(node.left, scope), _value(node.right, scope))


def _compare(sign: str, left: Any, right: Any) -> bool:
    if sign in ("==", "!="):
        # In JSON true is not 1.
        same = left == right and isinstance(left, bool) == isinstance(right, bool)
        return same if sign == "==" else not same
    if sign in ("in", "not in"):
        return _within(left, right) == (sign == "in")
    if left is None or right is None:
        return False
    for kind in (int | float, str):
        both = isinstance(left, kind) and isinstance(right, kind)
        if both and not (isinstance(left, bool) or isinstance(right, bool)):
            return _ORDER[sign](left, right)
    raise FlowMistake(f"cannot say whether {kind_of(left)} {sign} {kind_of(right)}")


def _within(left: Any, right: Any) -> bool:
    if right is None:
        return False
    if isinstance(right, str):
        if not isinstance(left, str):
            raise FlowMistake(f"cannot look for {kind_of(left)} in text")
        return left in right
    if isinstance(right, list | dict):
        return any(_compare("==", left, each) for each in right)
    raise FlowMistake(f"cannot look for something in {kind_of(right)}")
