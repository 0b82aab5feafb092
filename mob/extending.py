"""Profiles that build on others: ``[profiles.X] extends = "Y"``.

Owns: in which order profiles are read, what one has of the one it extends, and which mistakes are
told of both. Must not: know what the keys of a profile mean, beyond those told apart here.

A profile is a harness, and the one it extends its parent (CONTRACTS 1.11). It is read as its own
table laid over that of its parent: a key that it gives counts, and a table of settings is laid over
key by key. Its instructions are added. Lists of tools narrow: what one denies is denied, and what
one lists is allowed only if each of the others that list tools lists it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.errors import Mistake
from mob.tables import TableReader, nearest

if TYPE_CHECKING:
    from mob.definition import ProfileDefinition

#: What a profile has for itself: it is put together with its parent's once both are read.
_ITS_OWN: Final = ("extends", "instructions", "instructions_file", "tools")
#: A value that is a table: it is given whole or not at all.
_WHOLE: Final = ("output_schema",)

#: Reads a profile, and whether it has an allow list at all.
ReadProfile = Callable[[TableReader], "tuple[ProfileDefinition, bool]"]


def read_profiles(
    tables: Mapping[str, TableReader], read: ReadProfile
) -> dict[str, ProfileDefinition]:
    """The profiles of ``[profiles.X]`` tables, each with what it has of those it extends.

    Mistakes: a profile extends one that is not there, or itself, through others or not.
    """
    parents = _parents(tables)
    made: dict[str, tuple[ProfileDefinition, bool]] = {}
    given: dict[str, dict[str, Any]] = {}

    def make(name: str) -> None:
        if name in made:
            return
        parent = parents.get(name)
        if parent is None:
            given[name] = dict(tables[name].data)
            made[name] = read(tables[name])
            return
        make(parent)
        given[name] = _laid_over(given[parent], tables[name].data)
        own, lists = read(tables[name].standing_for(given[name]))
        base, below = made[parent]
        made[name] = (_put_together(base, own, below, lists), below or lists)

    for name in tables:
        make(name)
    return {name: made[name][0] for name in tables}


def told_once(mistakes: Iterable[Mistake], data: Any) -> list[Mistake]:
    """`mistakes` of a definition, without those that a profile has of one that it extends."""
    mistakes = list(mistakes)
    told = {(each.path, each.message) for each in mistakes}
    lines = _lines_of(data)

    def inherited(each: Mistake) -> bool:
        table, _, rest = each.path.partition(".")
        name, dot, key = rest.partition(".")
        return table == "profiles" and any(
            (f"profiles.{parent}{dot}{key}", each.message) in told for parent in lines.get(name, ())
        )

    return [each for each in mistakes if not inherited(each)]


def _parents(tables: Mapping[str, TableReader]) -> dict[str, str]:
    """Whom each profile extends, as far as that can be."""
    parents: dict[str, str] = {}
    for name, table in tables.items():
        parent = table.take("extends", str)
        if parent is None:
            continue
        if parent in tables:
            parents[name] = parent
        else:
            table.wrong("extends", f"there is no profile {parent!r}", nearest(parent, tables))
    for name in tables:
        circle = _circle(name, parents)
        if circle:
            way = " -> ".join((*circle, name))
            tables[name].wrong("extends", f"profiles extend each other in a circle: {way}")
            for each in circle:
                del parents[each]
    return parents


def _circle(name: str, parents: Mapping[str, str]) -> list[str]:
    """The profiles from `name` to itself; none if the way leads elsewhere."""
    way: list[str] = []
    at: str | None = name
    while at is not None and at not in way:
        way.append(at)
        at = parents.get(at)
    return way if at == name else []


def _laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    laid = {key: value for key, value in base.items() if key not in _ITS_OWN}
    for key, value in own.items():
        below = laid.get(key)
        both = isinstance(below, dict) and isinstance(value, dict) and key not in _WHOLE
        laid[key] = {**below, **value} if both and below is not None else value
    return laid


def _put_together(
    base: ProfileDefinition, own: ProfileDefinition, below: bool, lists: bool
) -> ProfileDefinition:
    """`own` with the instructions and the lists of tools of `base`, if that has an allow list
    (`below`) or `own` has (`lists`)."""
    allowed: list[tuple[str, ...]] = [own.tools] if lists else []
    if below:
        allowed += base.allowed
    first, *within = allowed or [()]
    return attrs.evolve(
        own,
        instructions=f"{base.instructions}\n{own.instructions}".strip(),
        tools=first,
        tools_within=tuple(within),
        tools_deny=tuple(dict.fromkeys((*base.tools_deny, *own.tools_deny))),
        approve=tuple(dict.fromkeys((*base.approve, *own.approve))),
    )


def _lines_of(data: Any) -> dict[str, list[str]]:
    """The profiles that each one builds on, in whatever was parsed."""
    profiles = data.get("profiles")
    if not isinstance(profiles, dict):
        return {}
    parents = {
        name: table["extends"]
        for name, table in profiles.items()
        if isinstance(table, dict) and isinstance(table.get("extends"), str)
    }
    lines: dict[str, list[str]] = {}
    for name in parents:
        line = lines[name] = []
        at = parents.get(name)
        while at is not None and at != name and at not in line:
            line.append(at)
            at = parents.get(at)
    return lines
