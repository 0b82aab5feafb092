"""The suite for session managers: CONTRACTS 3.1 to 3.7 as a Hypothesis state machine.

Owns: what every `SessionManager` does. Must not: know one.

    class MyManagerConformance(SessionManagerConformance):
        def open_manager(self):
            return open_my_manager(self.directory)

        def turn(self, session_id, text):
            return a_turn_in_flight_on(text)

    TestMyManager = MyManagerConformance.TestCase

Theory. The model has each session's turns as tuples of messages, and no notion of how they are
shared. No two turns are alike, so two histories share exactly the turns that they have in common.
After every step, all that can be read of all sessions must be what the model says: whatever an
operation does to a session that it was not asked about is found out at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from runtime.conformance.expected import Expected, Turn, a_session, a_turn, copy_name, flat
from runtime.conformance.values import TAGS, GuestMachine, raised, spoil
from runtime.edits import split_turns
from runtime.errors import SessionBusy, SessionError, SessionNotFound, StaleRevision
from runtime.ids import SessionId, ToolCallId
from runtime.manager import MAX_TAG, RewindOutOfRange, SessionManager
from runtime.messages import (
    AssistantMessage,
    ToolCall,
    UserMessage,
)
from runtime.session import NO_LINEAGE, Lineage, Session

#: Names of sessions; the names of copies are among them, so that those meet.
_NAMES = st.sampled_from([None, "x", "x (fork)", "x (fork 2)"])
_TAGS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3)
_WHICH = st.integers(0, 10**6)


class SessionManagerConformance(GuestMachine):
    """Rules that hold for every `SessionManager`. Override `open_manager` and `turn`."""

    #: Whether `open_manager`, called again in the same example, finds what was there before.
    reopens: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[SessionId, Expected] = {}
        self._gone: list[SessionId] = []
        self._numbers = 0

    def open_manager(self) -> AbstractAsyncContextManager[SessionManager]:
        """Open the manager of this example: without any session at first."""
        raise NotImplementedError("override `open_manager` to open the manager under test")

    def turn(self, session_id: SessionId, text: str) -> AbstractAsyncContextManager[None]:
        """A turn on `text`: in flight when entered, committed when left. It makes one model call.

        Its first message is ``UserMessage(text)``; what follows is yours to choose.
        """
        raise NotImplementedError("override `turn` to run a turn of a session")

    @initialize()
    def begin(self) -> None:
        self.manager: SessionManager = self.entered(self.open_manager)

    # Making sessions

    @rule(name=_NAMES, which=st.none() | _WHICH, tags=TAGS, count=st.integers(0, 4))
    def create(
        self, name: str | None, which: int | None, tags: tuple[str, ...], count: int
    ) -> None:
        """Saving what is not there makes it (CONTRACTS 3.3). Trees stay within 1.8."""
        lineage = NO_LINEAGE
        if which is not None and self.expected:
            parent, above = self._pick(which)
            root = above.lineage.budget_root or parent
            roots = [each.lineage.budget_root for each in self.expected.values()]
            if above.lineage.depth < 2 and roots.count(root) < 16:
                lineage = Lineage(parent, None, 0, root, above.lineage.depth + 1)
        session_id = SessionId(f"s-{self._number():04}")
        history = [self._turn_of(index) for index in range(count)]
        model = Expected(history, name, lineage, list(tags))
        value = a_session(session_id, model)
        row = self.run(lambda: self.manager.save(value))
        model.usage = row.usage
        self.expected[session_id] = model

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, count=st.integers(1, 4))
    def talk(self, which: int, count: int) -> None:
        """Turns go on from where the history is now."""
        session_id, model = self._pick(which)
        for _ in range(count):
            self.run(lambda: self._whole_turn(session_id, model))

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, name=st.none() | st.just("named"))
    def fork(self, which: int, name: str | None) -> None:
        """A new id, the history up to now, no usage; the copy's name counts up (3.4)."""
        session_id, model = self._pick(which)
        row = self.run(lambda: self.manager.fork(session_id, name))
        assert row.session_id not in self.expected, "a fork is a new session"
        assert row.lineage.forked_from == session_id, "lineage is recorded"
        if name is None:
            name = self._copy_name(model.name)
        copy = Expected(list(model.turns), name, row.lineage)
        self.expected[row.session_id] = copy

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH)
    def fork_twice_at_once(self, which: int) -> None:
        """Two copies with two names."""
        session_id, model = self._pick(which)
        rows = self._together(
            lambda: self.manager.fork(session_id), lambda: self.manager.fork(session_id)
        )
        first = self._copy_name(model.name)
        names = {first, self._copy_name(model.name, first)}
        assert {row.title for row in rows} == names
        for row in rows:
            copy = Expected(list(model.turns), row.title, row.lineage)
            self.expected[row.session_id] = copy

    # Moving along histories

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, where=_WHICH)
    def rewind(self, which: int, where: int) -> None:
        """Turns 0 to `index` stay, the rest is a branch; beyond the end: the valid range (3.5)."""
        session_id, model = self._pick(which)
        count = len(model.turns)
        index = where % (count + 2) - 1
        if not 0 <= index < count:
            error = self.run(
                lambda: raised(RewindOutOfRange, self.manager.rewind(session_id, index))
            )
            assert error.turns == count, f"{error.turns} turns are named, there are {count}"
            return
        found = self.run(lambda: self.manager.rewind(session_id, index))
        if index < count - 1:
            model.put_aside()
            model.turns = model.turns[: index + 1]
        assert found.messages == model.messages

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, where=_WHICH)
    def restore(self, which: int, where: int) -> None:
        """A branch comes back, and where the session was becomes one."""
        rewound = [each for each, model in self.expected.items() if model.branches]
        session_id, model = self._pick(which, rewound)
        count = len(model.branches)
        branch = where % (2 * count + 2) - count - 1
        if not -count <= branch < count:
            self.run(lambda: raised(SessionError, self.manager.restore(session_id, branch)))
            return
        found = self.run(lambda: self.manager.restore(session_id, branch))
        wanted = model.branches.pop(branch % count)
        model.put_aside()
        model.turns = wanted
        assert found.messages == model.messages

    @precondition(lambda self: self.expected)
    @rule(one=_WHICH, other=_WHICH)
    def diff(self, one: int, other: int) -> None:
        """The turns in common from the beginning, and what each has after them."""
        (first_id, first), (second_id, second) = self._pick(one), self._pick(other)
        shared = 0
        for mine, its in zip(first.turns, second.turns, strict=False):
            if mine != its:
                break
            shared += 1
        found = self.run(lambda: self.manager.diff(first_id, second_id))
        assert found.shared_turns == shared
        assert tuple(found.only_first) == flat(first.turns[shared:])
        assert tuple(found.only_second) == flat(second.turns[shared:])

    # Labels

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, tags=_TAGS, more=_TAGS)
    def tag(self, which: int, tags: list[str], more: list[str]) -> None:
        """Adds, keeps order, drops duplicates; two at once lose nothing (3.6)."""
        session_id, model = self._pick(which)
        self._together(
            lambda: self.manager.tag(session_id, tags), lambda: self.manager.tag(session_id, more)
        )
        orders = [
            list(dict.fromkeys([*model.tags, *first, *second]))
            for first, second in ((tags, more), (more, tags))
        ]
        found = list(self._row(session_id).tags)
        assert found in orders, f"{found} is none of {orders}"
        model.tags = found

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, tags=_TAGS)
    def untag(self, which: int, tags: list[str]) -> None:
        """Removes what is there and passes over what is not."""
        session_id, model = self._pick(which)
        self.run(lambda: self.manager.untag(session_id, tags))
        model.tags = [tag for tag in model.tags if tag not in tags]

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, tag=st.sampled_from(["", "x" * (MAX_TAG + 1)]))
    def refuse_a_tag(self, which: int, tag: str) -> None:
        """Tags have 1 to 64 characters; with one that has not, none is added, by no way in."""
        session_id, _ = self._pick(which)
        self.run(lambda: raised(SessionError, self.manager.tag(session_id, ["fine", tag])))
        value = self.run(lambda: self.manager.resume(session_id))
        value = attrs.evolve(value, tags=(*value.tags, tag))
        self.run(lambda: raised(SessionError, self.manager.save(value)))

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, name=st.sampled_from(["x", "y"]))
    def rename(self, which: int, name: str) -> None:
        session_id, model = self._pick(which)
        self.run(lambda: self.manager.rename(session_id, name))
        model.name = name

    # Saving

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, keep=st.integers(0, 6), more=st.integers(0, 3), name=_NAMES, tags=TAGS)
    def save(
        self, which: int, keep: int, more: int, name: str | None, tags: tuple[str, ...]
    ) -> None:
        """What was read comes back with its end changed: what that replaces is a branch (3.3)."""
        session_id, model = self._pick(which)
        held = self.run(lambda: self.manager.resume(session_id))
        kept = model.turns[:keep]
        turns = [*kept, *(self._turn_of(index) for index in range(more))]
        latest = max(row.updated_at_ns for row in self.run(self.manager.list))
        value = attrs.evolve(held, messages=flat(turns), title=name, tags=tags)
        row = self.run(lambda: self.manager.save(value))
        assert row.updated_at_ns >= latest, "saving is the latest thing that happened"
        if len(kept) < len(model.turns):
            model.put_aside()
        model.turns, model.name, model.tags, model.usage = turns, name, list(tags), row.usage

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, change=st.sampled_from(["turn", "label", "save"]))
    def save_what_is_stale(self, which: int, change: str) -> None:
        """Refused if the session changed since it was read, so that no change is lost (3.3)."""
        session_id, model = self._pick(which)
        held = self.run(lambda: self.manager.resume(session_id))
        if change == "turn":
            self.talk(which, 1)
        elif change == "label":
            self.rename(which, f"name {self._number()}")
        else:
            self.save(which, 0, 1, model.name, tuple(model.tags))
        late = attrs.evolve(held, messages=(*held.messages, *self._turn_of(0)))
        self.run(lambda: raised(StaleRevision, self.manager.save(late)))

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH)
    def save_twice_at_once(self, which: int) -> None:
        """Of two changes to the same revision one is refused."""
        session_id, model = self._pick(which)
        held = self.run(lambda: self.manager.resume(session_id))
        more = [self._turn_of(0), self._turn_of(1)]
        outcomes = self._together(
            *(lambda turn=turn: self._try_to_save(held, turn) for turn in more)
        )
        assert sorted(each is None for each in outcomes) == [False, True], "one of them is saved"
        saved = outcomes.index(None)
        model.turns = [*model.turns, more[saved]]
        model.usage = self._row(session_id).usage

    @rule()
    def create_twice_at_once(self) -> None:
        """Of two sessions under one new id one is refused."""
        session_id = SessionId(f"s-{self._number():04}")
        histories = [[self._turn_of(0)], [self._turn_of(1), self._turn_of(2)]]
        values = [a_session(session_id, Expected(turns, None)) for turns in histories]
        outcomes = self._together(
            *(lambda value=value: self._try_to_save(value, ()) for value in values)
        )
        assert sorted(each is None for each in outcomes) == [False, True], "one of them is saved"
        turns = histories[outcomes.index(None)]
        model = Expected(turns, None, usage=self._row(session_id).usage)
        self.expected[session_id] = model

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH)
    def save_with_another_locale(self, which: int) -> None:
        """A change that is not taken is refused; none is dropped without a word."""
        session_id, _ = self._pick(which)
        value = self.run(lambda: self.manager.resume(session_id))
        value = attrs.evolve(value, locale=f"l{self._number()}")

        async def work() -> None:
            try:
                await self.manager.save(value)
            except SessionError:
                return
            assert (await self.manager.resume(session_id)).locale == value.locale

        self.run(work)

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH)
    def refuse_to_save(self, which: int) -> None:
        """Nothing without an id, no turn that is not whole (2.6, 2.8)."""
        session_id, _ = self._pick(which)
        value = self.run(lambda: self.manager.resume(session_id))
        nameless = attrs.evolve(value, session_id=SessionId(""))
        self.run(lambda: raised(SessionError, self.manager.save(nameless)))
        dangling = AssistantMessage("", (ToolCall(ToolCallId("c"), "work", "{}"),))
        broken = attrs.evolve(value, messages=(*value.messages, UserMessage("q"), dangling))
        self.run(lambda: raised(SessionError, self.manager.save(broken)))

    # Ending

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH)
    def delete(self, which: int) -> None:
        """The session and its children go; what a fork shares stays (3.7)."""
        session_id, _ = self._pick(which)
        self.run(lambda: self.manager.delete(session_id))
        self._forget(session_id)

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH, label_first=st.booleans())
    def delete_and_label_at_once(self, which: int, label_first: bool) -> None:
        """The label is in time or finds nothing; the session is gone, and stays so."""
        session_id, _ = self._pick(which)

        async def label() -> None:
            try:
                await self.manager.rename(session_id, "too late")
            except SessionNotFound:
                pass

        both = [label, lambda: self.manager.delete(session_id)]
        self._together(*(both if label_first else both[::-1]))
        self._forget(session_id)

    def _forget(self, session_id: SessionId) -> None:
        doomed = [session_id]
        for each in doomed:
            del self.expected[each]
            children = [i for i, model in self.expected.items() if model.lineage.parent == each]
            doomed.extend(children)
        self._gone.extend(doomed)

    @rule(which=_WHICH)
    def ask_for_what_is_not_there(self, which: int) -> None:
        """Not found, for an id that never was and for one that was; nothing changes (3.2)."""
        gone = [SessionId("never"), *self._gone][which % (len(self._gone) + 1)]
        manager = self.manager
        operations: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: manager.resume(gone),
            lambda: manager.delete(gone),
            lambda: manager.fork(gone),
            lambda: manager.rewind(gone, 0),
            lambda: manager.restore(gone),
            lambda: manager.tag(gone, ["a"]),
            lambda: manager.untag(gone, ["a"]),
            lambda: manager.rename(gone, "n"),
            lambda: manager.diff(gone, gone),
        )
        for operation in operations:
            error = self.run(lambda operation=operation: raised(SessionNotFound, operation()))  # type: ignore[misc]
            assert error.session_id == gone

    @precondition(lambda self: self.expected)
    @rule(which=_WHICH)
    def meddle_with_a_turn_in_flight(self, which: int) -> None:
        """Busy for what would change its history; a fork has what is committed (3.5)."""
        session_id, model = self._pick(which)
        manager = self.manager

        async def meddle() -> None:
            held = await manager.resume(session_id)
            await raised(SessionBusy, manager.delete(session_id))
            await raised(SessionBusy, manager.save(held))
            if model.turns:
                await raised(SessionBusy, manager.rewind(session_id, 0))
            if model.branches:
                await raised(SessionBusy, manager.restore(session_id))
            row = await manager.fork(session_id, "meanwhile")
            copy = Expected(list(model.turns), "meanwhile", row.lineage)
            self.expected[row.session_id] = copy

        self.run(lambda: self._whole_turn(session_id, model, meddle))

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        """Another process finds the same: branches, tags, lineage and all."""
        self.left()
        self.begin()

    # What must be true after every step

    @invariant()
    def all_is_as_expected(self) -> None:
        if not hasattr(self, "manager"):
            return
        rows = list(self.run(self.manager.list))
        assert sorted(row.session_id for row in rows) == sorted(self.expected)
        latest_first = sorted(rows, key=lambda row: (-row.updated_at_ns, row.session_id))
        assert rows == latest_first, "most recently updated first, ties by id (3.1)"
        for row in rows:
            model = self.expected[row.session_id]
            found = self.run(lambda row=row: self.manager.resume(row.session_id))  # type: ignore[misc]
            assert split_turns(found.messages) == model.turns
            assert (row.title, list(row.tags)) == (model.name, model.tags)
            assert (found.title, list(found.tags)) == (model.name, model.tags)
            assert (row.turns, row.message_count) == (len(model.turns), len(found.messages))
            assert [each.turns for each in row.branches] == [len(b) for b in model.branches]
            assert row.usage == model.usage, "what was spent stays spent, and a fork spent nothing"
            assert row.lineage == found.lineage == model.lineage
            spoil(found)
            again = self.run(lambda row=row: self.manager.resume(row.session_id))  # type: ignore[misc]
            assert not again.spec.options, "changing what was read changed the session"

    # How the rules are carried out

    def _pick(self, which: int, among: list[SessionId] | None = None) -> tuple[SessionId, Expected]:
        """A known session, one of `among` if there is any."""
        ids = among or list(self.expected)
        session_id = ids[which % len(ids)]
        return session_id, self.expected[session_id]

    def _row(self, session_id: SessionId) -> Any:
        rows = self.run(self.manager.list)
        return next(row for row in rows if row.session_id == session_id)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _turn_of(self, kind: int) -> Turn:
        return a_turn(self._number(), kind)

    def _copy_name(self, name: str | None, *also: str | None) -> str | None:
        return copy_name(name, {model.name for model in self.expected.values()}.union(also))

    async def _whole_turn(
        self,
        session_id: SessionId,
        model: Expected,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        before = list(model.turns)
        text = f"t{self._number()}"
        async with self.turn(session_id, text):
            if meanwhile is not None:
                await meanwhile()
        found = await self.manager.resume(session_id)
        told = split_turns(found.messages)
        assert told[:-1] == before, "a turn is added to the history as it was"
        assert told[-1][0] == UserMessage(text)
        row = next(row for row in await self.manager.list() if row.session_id == session_id)
        assert row.usage.model_calls == model.usage.model_calls + 1
        model.turns, model.usage = told, row.usage

    async def _try_to_save(self, held: Session, turn: Turn) -> Exception | None:
        """None if it was saved, else why it was refused."""
        try:
            await self.manager.save(attrs.evolve(held, messages=(*held.messages, *turn)))
        except (StaleRevision, SessionBusy) as error:
            return error
        return None

    def _together(self, *operations: Callable[[], Awaitable[Any]]) -> list[Any]:
        """The results of operations that are under way at the same time."""
        results: list[Any] = [None] * len(operations)

        async def one(index: int) -> None:
            results[index] = await operations[index]()

        async def work() -> None:
            async with trio.open_nursery() as nursery:
                for index in range(len(operations)):
                    nursery.start_soon(one, index)

        self.run(work)
        return results
