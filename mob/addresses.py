"""Names that people type: which mob, member, session or moment they mean. Pure.

Owns: the form of an address, unique prefixes, ``last``, labels; what it means that nothing or too
much fits. Must not: read a store: it is given what there is.

    MOB[/MEMBER[/SESSION...]][@SEQ|@LABEL]

A part is a whole name or the beginning of exactly one; a whole name wins over beginnings. ``last``
is the mob that changed last, unless one is called so. A session below a member is named by its
title or its id; where a member could stand, also any session of the mob by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from mob.errors import AddressAmbiguous, AddressInvalid, AddressUnknown

if TYPE_CHECKING:
    from mob.roster import Roster
    from runtime.ids import SessionId
    from runtime.state import RealmState

#: The mob that changed last.
LAST: Final = "last"


@attrs.frozen
class Address:
    """What was typed, in parts. `at` is a record's number, a point's label, or None for now."""

    mob: str
    path: tuple[str, ...] = ()
    at: str | int | None = None

    @property
    def member(self) -> str | None:
        """The part that names a member."""
        return self.path[0] if self.path else None


@attrs.frozen
class Known:
    """A mob that there is: its labels, and when it changed."""

    mob_id: str
    labels: Mapping[str, str] = attrs.field(factory=dict)
    updated_ns: int = 0


def parse(text: str) -> Address:
    """The parts of an address.

    Raises:
        AddressInvalid: a part of it is empty.
    """
    names, sign, moment = text.partition("@")
    parts = names.split("/")
    if not all(parts) or (sign and not moment):
        raise AddressInvalid(text)
    at = int(moment) if moment.isascii() and moment.isdigit() else moment or None
    return Address(parts[0], tuple(parts[1:]), at)


def parse_label(text: str) -> tuple[str, str]:
    """The key and value of ``KEY=VALUE``. Raises `AddressInvalid`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise AddressInvalid(text, "a label is KEY=VALUE")
    return key, value


def find_mob(
    wanted: str | None, known: Sequence[Known], labels: Iterable[tuple[str, str]] = ()
) -> str:
    """The id of the one mob that is `wanted` (None: any) and has all `labels`.

    Raises:
        AddressUnknown: there is none.
        AddressAmbiguous: there are several.
    """
    labels = tuple(labels)
    fit, what = _with(labels, known), _what(labels)
    if wanted is None:
        return _only("", [each.mob_id for each in fit], [each.mob_id for each in known], what)
    if wanted == LAST and fit and all(each.mob_id != LAST for each in fit):
        return max(fit, key=lambda each: (each.updated_ns, each.mob_id)).mob_id
    return find(wanted, [each.mob_id for each in fit], what)


def every_mob_with(labels: Sequence[tuple[str, str]], known: Sequence[Known]) -> tuple[str, ...]:
    """The ids of all mobs that have all `labels`. Raises `AddressUnknown` if labels are given that
    none has."""
    fit = tuple(each.mob_id for each in _with(labels, known))
    if labels and not fit:
        raise AddressUnknown("", _what(labels), tuple(each.mob_id for each in known))
    return fit


def _with(labels: Sequence[tuple[str, str]], known: Sequence[Known]) -> list[Known]:
    return [each for each in known if all(each.labels.get(key) == value for key, value in labels)]


def _what(labels: Sequence[tuple[str, str]]) -> str:
    return "mob" + "".join(f" with {key}={value}" for key, value in labels)


def find(wanted: str, names: Sequence[str], what: str) -> str:
    """The one of `names` that is `wanted`, or begins so.

    Raises:
        AddressUnknown: none does.
        AddressAmbiguous: several do, and none is.
    """
    if wanted in names:
        return wanted
    return _only(wanted, [each for each in names if each.startswith(wanted)], names, what)


def find_session(path: Sequence[str], state: RealmState, roster: Roster) -> SessionId:
    """The session that the parts behind the mob name. Members that have left are found too.

    Raises as `find`.
    """
    first, *below = path
    here = _first(first, state, roster)
    for part in below:
        children = list(state.heads[here].children or ())
        titles = {each: state.heads[each].title or each for each in children}
        named = [each for each in children if titles[each] == part]
        if len(named) != 1:  # of children with one title the latest is the most asked for
            named = named[-1:] or [
                each for each in children if titles[each].startswith(part) or each.startswith(part)
            ]
        chosen = _only(part, named, list(titles.values()), f"session below {first!r}")
        here = next(each for each in children if each == chosen)
    return here


def _first(name: str, state: RealmState, roster: Roster) -> SessionId:
    sessions = {row.name: row.session_id for row in roster.members.values()}
    gone = {who: each for who, each in roster.retired.items() if who not in sessions}
    for names in (sessions, gone):
        if name in names:
            return names[name]
    known = {**sessions, **gone}
    ids = [each for each in state.heads if each.startswith(name)] if len(name) >= 4 else []
    fit = [each for each in sessions if each.startswith(name)] or [
        each for each in gone if each.startswith(name)
    ]
    if not fit and len(ids) == 1:
        return ids[0]
    return known[_only(name, fit or ids, list(sessions), "member or session")]


def _only(wanted: str, fit: Sequence[str], known: Sequence[str], what: str) -> str:
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise AddressAmbiguous(wanted, what, tuple(fit))
    raise AddressUnknown(wanted, what, tuple(known))
