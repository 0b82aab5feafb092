"""The one table from errors to exit codes."""

from __future__ import annotations

import pytest
from cyclopts import CycloptsError

from mob.cli.exits import NothingThere, UsageWrong, exit_code, paragraph, unwrap
from mob.errors import (
    DefinitionChanged,
    DefinitionInvalid,
    MemberFailed,
    MemberNotFound,
    Mistake,
    MobInUse,
    MobNotFound,
    ProfileNotFound,
)
from mob.lifecycle import MobState, VerbRefused
from runtime.errors import (
    SURFACES,
    ModelError,
    ModelUnavailable,
    PointExists,
    RealmExists,
    SessionBusy,
    SessionError,
    SessionNotFound,
    TurnFailed,
    Unusable,
)
from runtime.ids import SessionId
from stores import Damaged, StoreFull, StoreInUse, StoreUnreadable

HERE = SessionId("s")

ROWS: list[tuple[BaseException, int]] = [
    (UsageWrong("x"), 2),
    (CycloptsError(msg="x"), 2),
    (DefinitionInvalid("f", (Mistake("a", "b"),)), 3),
    (NothingThere("x"), 4),
    (FileNotFoundError(2, "No such file", "x"), 4),
    (MobNotFound("m", (), "here"), 4),
    (MemberNotFound("m", ()), 4),
    (SessionNotFound(HERE), 4),
    (DefinitionChanged("m", ("a",)), 7),
    (VerbRefused(MobState.STOPPED, "ask"), 7),
    (SessionBusy(HERE), 7),
    (ModelError("x", provider="p", retryable=True), 8),
    (ModelUnavailable("x", provider="p"), 8),
    (MemberFailed("m", "ModelUnavailable: no key", HERE), 8),
    (TurnFailed("ModelError: status 500 (restarted 3 times)", HERE), 8),
    (MemberFailed("m", "KeyError: 'x'", HERE), 1),
    (TurnFailed("the turn made 64 model calls without an answer", HERE), 1),
    (StoreFull("x", path="p"), 1),
    (StoreUnreadable("x", path="p"), 1),
    (Damaged("r", "x"), 1),
    (PointExists("x"), 7),
    (RealmExists("x"), 7),
    (Unusable("x"), 2),
    (ProfileNotFound("x", ("p",)), 4),
    (StoreInUse("x", path="p"), 75),
    (MobInUse("mob 'm'", "p", "main"), 75),
    (KeyboardInterrupt(), 130),
    (ZeroDivisionError("x"), 1),
]


@pytest.mark.parametrize(("error", "code"), ROWS, ids=lambda each: type(each).__name__)
def test_each_error_has_its_code_and_is_said_in_words(error: BaseException, code: int) -> None:
    assert exit_code(error) == code
    assert paragraph(error).strip()


def test_session_errors_follow_the_table_of_all_surfaces() -> None:
    for cls in SessionError.__subclasses__():
        made = cls.__new__(cls)
        Exception.__init__(made, "x")
        assert exit_code(made) == SURFACES[cls.code].exit


def test_an_error_is_found_in_nested_groups_before_a_bug_beside_it() -> None:
    wanted = StoreFull("no room", path="p")
    group = BaseExceptionGroup("", [KeyError("x"), ExceptionGroup("", [wanted])])
    assert unwrap(group) is wanted


def test_a_bug_says_that_it_is_one() -> None:
    assert "MOB_DEBUG=1" in paragraph(KeyError("x"))


def test_a_store_in_use_is_said_to_people_and_not_to_programs() -> None:
    told = paragraph(StoreInUse("or take it over (take_over=True)", path="p", pid=7))
    assert "the store at p is in use by process 7" in told
    assert "--state" in told
    assert "take_over" not in told
    assert "another process" in paragraph(StoreInUse("x", path="p"))
