"""Reading configuration tables with an error for every mistake at once.

Owns: `TableReader`, which takes typed values out of a parsed TOML table and notes what is wrong
with a dotted path and a hint. Must not: know what a mob is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from mob.errors import Mistake

T = TypeVar("T")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word nearest to `word`, or listing all of them."""
    words = sorted(set(known))
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(words)}" if words else "there are none"


class TableReader:
    """One table of a definition. Every `take` marks its key as known; `done` reports the rest.

    Mistakes go to the shared list `mistakes`, in the order they are found; a value that is wrong is
    replaced by the default so that reading can go on and find more.
    """

    def __init__(self, path: str, data: Mapping[str, Any], mistakes: list[Mistake]) -> None:
        self.path = path
        self.mistakes = mistakes
        self._data = data
        self._known: set[str] = set()

    @property
    def data(self) -> Mapping[str, Any]:
        """What was parsed."""
        return self._data

    def standing_for(self, data: Mapping[str, Any]) -> TableReader:
        """A reader of `data` as if that stood here."""
        return TableReader(self.path, data, self.mistakes)

    def wrong(self, key: str, message: str, hint: str = "") -> None:
        """Note a mistake at `key` of this table (an empty key: the table itself)."""
        path = f"{self.path}.{key}" if self.path and key else self.path or key
        self.mistakes.append(Mistake(path, message, hint))

    @overload
    def take(self, key: str, kind: type[T], default: T) -> T: ...
    @overload
    def take(self, key: str, kind: type[T], default: None = None) -> T | None: ...
    def take(self, key: str, kind: type[T], default: T | None = None) -> T | None:
        """The value at `key` if it is a `kind`, else `default` (noting a wrong type)."""
        self._known.add(key)
        if key not in self._data:
            return default
        value = self._data[key]
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(key, f"expected {_NAMES[kind]}, found {_shown(value)}")
            return default
        return value

    def required(self, key: str, kind: type[T], default: T) -> T:
        """As `take`, but a missing key is a mistake; `default` stands in so reading can go on."""
        if key not in self._data:
            self._known.add(key)
            self.wrong(key, f"is missing; {_NAMES[kind]} is needed here")
            return default
        return self.take(key, kind, default)

    def choice(self, key: str, default: str, allowed: Iterable[str]) -> str:
        """Text that is one of `allowed`."""
        value = self.take(key, str, default)
        if value not in tuple(allowed):
            self.wrong(key, f"{value!r} is not possible", nearest(value, allowed))
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; a single text stands for a list of one."""
        self._known.add(key)
        value = self._data.get(key, [])
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.wrong(key, f"expected a list of texts, found {_shown(value)}")
            return ()
        return tuple(value)

    def raw(self, key: str) -> Any:
        """The value at `key` as it is, None if absent, for the caller to judge."""
        self._known.add(key)
        return self._data.get(key)

    def all_texts(self) -> dict[str, str]:
        """Every key of this table with its value, which is text."""
        return {key: self.take(key, str, "") for key in self._data}

    def table(self, key: str) -> TableReader:
        """The table at `key`, empty if absent."""
        data = self.take(key, dict, {})
        return TableReader(f"{self.path}.{key}" if self.path else key, data, self.mistakes)

    def tables(self, key: str) -> dict[str, TableReader]:
        """The tables named under `key`: ``[key.NAME]``."""
        outer = self.table(key)
        found: dict[str, TableReader] = {}
        for name, value in outer._data.items():
            outer._known.add(name)
            if isinstance(value, dict):
                found[name] = TableReader(f"{outer.path}.{name}", value, self.mistakes)
            else:
                outer.wrong(name, f"expected a table, found {_shown(value)}")
        return found

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def done(self) -> None:
        """Report every key that nothing asked for, with the nearest known one."""
        for key in self._data:
            if key not in self._known:
                self.wrong(key, "unknown key", nearest(key, self._known))


_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
