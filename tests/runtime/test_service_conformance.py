"""The suite for session services: every one of ours passes it, and what breaks a rule is found."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from mob import open_mob, open_session_service
from mob.service import sessions_of
from runtime.conformance import SessionServiceConformance
from runtime.errors import SessionError
from runtime.service import ContextStatus, RealmSessionService
from runtime.service.views import summary_of
from stores import MemoryStore, open_lmdb
from tests.mob.mobs import define


class TestEphemeral(SessionServiceConformance):
    def open_service(self) -> Any:
        return open_session_service()


class TestPersistent(SessionServiceConformance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def open_service(self) -> AsyncIterator[Any]:
        async with open_lmdb(self.path) as store, open_session_service(store) as service:
            yield service


class Empty(SessionServiceConformance):
    """A mob's service has the sessions of its members as well."""

    @asynccontextmanager
    async def open_service(self) -> AsyncIterator[Any]:
        async with open_mob(define("a")) as mob:
            service = sessions_of(mob)
            await mob.retire("a")
            yield service


class TestOfAMob(Empty):
    pass


class Broken(RealmSessionService):
    """Forgets one rule; which is said by the subclass."""


class QueuesSilently(Broken):
    async def start_turn(self, session_id: Any, request: Any) -> Any:
        while self.realm.busy(session_id):  # noqa: ASYNC110 it is to break a rule
            await trio.sleep(0.1)
        return await super().start_turn(session_id, request)


class ForgetsWhoIsGone(Broken):
    async def list(self, query: Any = None) -> Any:
        return [summary_of(each, busy=False) for each in self.realm.state.heads.values()]


class SaysItTwice(Broken):
    async def append_system_context(self, session_id: Any, request: Any) -> Any:
        ticket, _ = self.realm.inputs.append_context(session_id, request.text, "weather", None)
        assert ticket is not None
        await ticket.wait()
        return ContextStatus.APPLIED


class InterruptsNobody(Broken):
    async def interrupt(self, session_id: Any) -> None:
        self.realm.state.head(session_id)


class HidesTheId(Broken):
    async def read(self, session_id: Any) -> Any:
        try:
            return await super().read(session_id)
        except SessionError as error:
            raise SessionError(str(error)) from error


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (QueuesSilently, "test_the_loser_of_a_race_is_told_and_not_queued"),
        (ForgetsWhoIsGone, "test_the_list_is_cut_and_leaves_out_what_is_archived"),
        (SaysItTwice, "test_an_appended_text_is_before_the_next_call_once"),
        (InterruptsNobody, "test_an_interrupt_ends_this_turn_and_no_other"),
        (HidesTheId, "test_an_unknown_session_is_not_found_to_every_verb"),
    ],
)
async def test_the_suite_catches_a_service_that_breaks_a_rule(
    broken: type[Broken], rule: str, autojump_clock: object
) -> None:
    """CONTRACTS 4.2, 4.3, 4.5, 4.7, 4.11."""

    class Suite(SessionServiceConformance):
        @asynccontextmanager
        async def open_service(self) -> AsyncIterator[Any]:
            yield broken(MemoryStore())

    with pytest.raises((AssertionError, BaseExceptionGroup, trio.TooSlowError)):
        await getattr(Suite(), rule)()


def test_every_rule_says_which_line_it_holds() -> None:
    rules = [
        each
        for name, each in inspect.getmembers(SessionServiceConformance)
        if name.startswith("test_")
    ]
    assert len(rules) == 10
    assert all("CONTRACTS" in (each.__doc__ or "") for each in rules)
