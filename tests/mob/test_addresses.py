"""Names that people type: tables, and what holds of any names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mob.addresses import Address, Known, find, find_mob, find_session, parse, parse_label
from mob.errors import AddressAmbiguous, AddressInvalid, AddressUnknown
from runtime.errors import MobError
from stores import open_memory
from tests.mob.mobs import define, opened

PARSED = [
    ("team", Address("team")),
    ("team/lead", Address("team", ("lead",))),
    ("team/lead/notes/bees", Address("team", ("lead", "notes", "bees"))),
    ("team@12", Address("team", (), 12)),
    ("team/lead@before the review", Address("team", ("lead",), "before the review")),
    ("team@a/b@c", Address("team", (), "a/b@c")),
    ("team@-1", Address("team", (), "-1")),
    ("last", Address("last")),
]


@pytest.mark.parametrize(("text", "address"), PARSED)
def test_an_address_is_its_parts(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize("text", ["", "/", "team/", "/lead", "team//x", "@1", "team@"])
def test_an_empty_part_is_refused(text: str) -> None:
    with pytest.raises(AddressInvalid):
        parse(text)


def test_a_label_is_a_key_and_a_value() -> None:
    assert parse_label("team=blue=green") == ("team", "blue=green")
    assert parse_label("team=") == ("team", "")
    for text in ("team", "=blue", ""):
        with pytest.raises(AddressInvalid):
            parse_label(text)


KNOWN = (
    Known("research", {"team": "blue"}, 5),
    Known("research-2", {"team": "blue", "env": "test"}, 9),
    Known("review", {"team": "red"}, 7),
)

#: What is typed, its labels, and the mob or the error.
CHOSEN: list[tuple[str | None, tuple[tuple[str, str], ...], str | type[MobError]]] = [
    ("research", (), "research"),  # a whole name wins over a beginning
    ("research-", (), "research-2"),
    ("rev", (), "review"),
    ("re", (), AddressAmbiguous),
    ("x", (), AddressUnknown),
    ("last", (), "research-2"),
    ("last", (("team", "red"),), "review"),
    ("re", (("team", "red"),), "review"),
    ("research", (("team", "red"),), AddressUnknown),
    (None, (("env", "test"),), "research-2"),
    (None, (("team", "blue"),), AddressAmbiguous),
    (None, (("team", "green"),), AddressUnknown),
    (None, (), AddressAmbiguous),
]


@pytest.mark.parametrize(("wanted", "labels", "expected"), CHOSEN)
def test_a_mob_is_chosen(
    wanted: str | None, labels: tuple[tuple[str, str], ...], expected: str | type[MobError]
) -> None:
    if isinstance(expected, str):
        assert find_mob(wanted, KNOWN, labels) == expected
        return
    with pytest.raises(expected):
        find_mob(wanted, KNOWN, labels)


def test_a_mob_may_be_called_last() -> None:
    assert find_mob("last", (Known("last", {}, 1), Known("other", {}, 2))) == "last"
    with pytest.raises(AddressUnknown):
        find_mob("last", ())


def test_what_fits_is_listed() -> None:
    with pytest.raises(AddressAmbiguous) as caught:
        find("r", ["r-1", "r-2", "lead"], "member")
    assert caught.value.candidates == ("r-1", "r-2")
    assert "which member? 'r' is the beginning of several: r-1, r-2" in str(caught.value)
    with pytest.raises(AddressUnknown, match="no member 'x'; there are: r-1, r-2, lead"):
        find("x", ["r-1", "r-2", "lead"], "member")


@given(st.lists(st.text("ab-", min_size=1, max_size=4), unique=True), st.text("ab-", max_size=5))
def test_what_is_found_is_the_name_or_the_only_one_that_begins_so(
    names: list[str], wanted: str
) -> None:
    begin_so = [each for each in names if each.startswith(wanted)]
    if wanted in names:
        assert find(wanted, names, "thing") == wanted
    elif len(begin_so) == 1:
        assert find(wanted, names, "thing") == begin_so[0]
    else:
        with pytest.raises(AddressAmbiguous if begin_so else AddressUnknown):
            find(wanted, names, "thing")


@given(
    st.text("abc", min_size=1),
    st.lists(st.text("abc-", min_size=1), max_size=3),
    st.none() | st.integers(0) | st.text("ab@/", min_size=1),
)
def test_what_is_written_is_what_is_read(mob: str, path: list[str], at: str | int | None) -> None:
    text = "/".join([mob, *path]) + ("" if at is None else f"@{at}")
    assert parse(text) == Address(mob, tuple(path), at)


async def test_a_session_is_found_by_member_title_or_id() -> None:
    async with open_memory() as store, opened(define("a", "ab", "c"), store=store) as mob:
        await mob.retire("c")
        session = mob.session_of("ab")
        forked = await mob.sessions.fork(session)
        state, roster = mob.realm.state, mob.roster
        assert find_session(("a",), state, roster) == mob.session_of("a")
        assert find_session(("ab",), state, roster) == session
        assert find_session(("c",), state, roster) == roster.retired["c"]
        assert find_session((forked.session_id,), state, roster) == forked.session_id
        with pytest.raises(AddressUnknown, match="there are: a, ab"):
            find_session(("x",), state, roster)
        with pytest.raises(AddressUnknown, match="session below 'a' 'x'"):
            find_session(("a", "x"), state, roster)
