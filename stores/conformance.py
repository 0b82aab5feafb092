"""The suite that every engine passes, for the ones here and for yours.

Owns: the rules of the port as a Hypothesis state machine. Must not: know an engine.

Give it a way to open your store:

    class MyStoreConformance(StoreConformance):
        def open(self):
            return open_my_store(self.directory)

    TestMyStore = MyStoreConformance.TestCase

`open` is called once for each example, and again in the same example if the store says that it
is `durable`, or if `reopens` is True; it must find then what was there before, and nothing in a new
example. If one handle can take the store over from another that is still open, override `take_over`
too: then the older one must be fenced off.

Theory. A model in plain dictionaries gets every batch in order of submission. Because batches
are applied whole and in that order, the outcome of each is known when it is submitted, however
many share a commit; and what a reader sees before they are all done must be the model after one
of them. Hypothesis is synchronous, so Trio runs in guest mode and each rule lends it the thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, TypeVar

import attrs
import trio
import trio.testing
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from stores.base import (
    MAX_KEY_BYTES,
    Append,
    Delete,
    Erase,
    Expect,
    Operation,
    Put,
    Store,
    Ticket,
)
from stores.errors import Conflict, StoreClosed, StoreLost, StoreMisuse
from stores.expected import Model
from stores.guest import GuestLoop

_T = TypeVar("_T")

#: Seconds after which a wait counts as one that never ends.
_PATIENCE_S: Final = 10

# Names that are prefixes of each other, or look like the numbers and lengths an engine may add.
_NAME_TABLE: Final = (
    b"a",
    b"ab",
    b"a\x00",
    b"a\x00\x00\x00\x00\x00\x00\x00\x01",
    b"a\xff",
    b"b",
    b"\x00",
    b"\xff",
    b"\xff" * MAX_KEY_BYTES,
)


def _name(index: int) -> bytes:
    return _NAME_TABLE[index]


_NAMES: Final = st.integers(0, len(_NAME_TABLE) - 1).map(_name)
_VALUES: Final = st.binary(max_size=8) | st.sampled_from([0, 5000]).map(bytes)
_OPERATIONS: Final = st.one_of(
    st.builds(
        Append,
        _NAMES,
        kind=st.integers(0, 255),
        payload=_VALUES,
        version=st.integers(0, 65535),
    ),
    st.builds(Put, _NAMES, _VALUES),
    st.builds(Delete, _NAMES),
    st.builds(Erase, _NAMES, st.integers(1, 4)),
)
_BATCHES: Final = st.lists(_OPERATIONS, max_size=4)
_LIMITS: Final = st.none() | st.integers(0, 3)


@attrs.frozen
class _Submitted:
    """A batch under way: its ticket, and what must come of it (None: a conflict)."""

    number: int
    ticket: Ticket
    sequences: tuple[int, ...] | None


class StoreConformance(RuleBasedStateMachine):
    """Rules that hold for every `Store`. Override `open`."""

    #: Seconds to wait for what should come at once, before it is called a hang.
    patience_s: float = _PATIENCE_S

    #: Whether `open` finds again what was there before; None: whether the store is `durable`.
    reopens: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(prefix="stores-conformance-")
        #: A directory for this example alone, removed after it.
        self.directory: str = self._temporary.name
        self._loop = GuestLoop()
        self._stack = AsyncExitStack()
        # Invariant: the last is the model after everything submitted, the first after everything
        # whose outcome is known; a reader must see one of them.
        self._models = [Model()]
        self._pending: list[_Submitted] = []
        self._submitted = 0
        self._generation = 0
        self._called: list[tuple[int, tuple[int, ...]]] = []
        self._due: list[tuple[int, tuple[int, ...]]] = []

    def open(self) -> AbstractAsyncContextManager[Store]:
        """Open the store of this example."""
        raise NotImplementedError("override `open` to open the store under test")

    def take_over(self) -> AbstractAsyncContextManager[Store] | None:
        """Open the store of this example while another handle has it open; None: it cannot be."""
        return None

    @initialize()
    def begin(self) -> None:
        self._loop.run(self._open)

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self._loop.run(self._close)
        finally:
            self._loop.end()
            self._temporary.cleanup()

    # Writing

    @rule(batch=_BATCHES)
    def submit(self, batch: list[Operation]) -> None:
        """A batch joins the queue; its outcome is checked when the queue is settled."""
        self._run(self._submit, batch)

    @rule(
        key=_NAMES,
        wish=st.sampled_from(["what is there", "absence", "a value"]),
        other=_VALUES,
        batch=_BATCHES,
        where=st.integers(0, 4),
    )
    def submit_with_expectation(
        self, key: bytes, wish: str, other: bytes, batch: list[Operation], where: int
    ) -> None:
        """A batch applies only if its `Expect` holds after the batches before it."""
        value = {"what is there": self._models[-1].rows.get(key), "a value": other}.get(wish)
        self._run(self._submit, [*batch[:where], Expect(key, value), *batch[where:]])

    @rule(stream=_NAMES, payload=_VALUES, more=_BATCHES)
    def erase_the_last(self, stream: bytes, payload: bytes, more: list[Operation]) -> None:
        """The next record continues the erased one, in the same commit or a later one."""
        self._run(self._submit, [Append(stream, 7, payload)])
        last = len(self._models[-1].entries[stream])
        self._run(self._submit, [*more, Erase(stream, last)])
        self._run(self._submit, [Append(stream, 8, payload)])

    @rule()
    def settle(self) -> None:
        """Every ticket ends with the outcome that the order of submission implies."""
        self._run(self._settle)

    @rule(batch=_BATCHES)
    def commit(self, batch: list[Operation]) -> None:
        """`commit` returns the numbers of the appends, and a later read sees them."""

        async def check() -> None:
            await self._settle()
            self._models[-1], sequences = self._models[-1].after(batch)
            assert await self.store.commit(batch) == sequences

        self._run(check)
        self.compare()

    @rule(batch=_BATCHES)
    def give_up_waiting(self, batch: list[Operation]) -> None:
        """A cancelled wait withdraws the waiter; the batch goes on, others may wait for it."""

        async def check() -> None:
            await self._submit(batch)
            with trio.CancelScope() as scope:
                scope.cancel()
                await self._pending[-1].ticket.wait()
            assert scope.cancelled_caught, "a wait must be a checkpoint"

        self._run(check)

    @rule(batch=_BATCHES)
    def wait_in_many_tasks(self, batch: list[Operation]) -> None:
        """Any number of tasks may wait for one ticket, also afterwards."""

        async def check() -> None:
            await self._submit(batch)
            last = self._pending[-1]
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(self._check_outcome, last)
            await self._check_outcome(last)

        self._run(check)

    @rule()
    def barrier(self) -> None:
        """After a barrier, everything submitted before it has an outcome; there is room."""

        async def check() -> None:
            await self.store.barrier()
            assert all(submitted.ticket.done for submitted in self._pending)
            await self.store.room()
            assert not self.store.crowded

        self._run(check)

    @rule(
        name=st.sampled_from([0, MAX_KEY_BYTES + 1]).map(bytes),
        good=_BATCHES,
        make=st.sampled_from([Put, Expect, Delete, Append, Erase]),
    )
    def misuse_a_name(self, name: bytes, good: list[Operation], make: type[Operation]) -> None:
        """A bad name is refused at once, with everything beside it."""
        bad: Operation = Delete(name) if make is Delete else Put(name, b"")
        if make is Append:
            bad = Append(name, 0, b"")
        elif make is Expect:
            bad = Expect(name, None)
        elif make is Erase:
            bad = Erase(name, 1)
        self._run(self._refused, [*good, bad])

    @rule(kind=st.sampled_from([-1, 256]), version=st.sampled_from([-1, 65536]))
    def misuse_a_number(self, kind: int, version: int) -> None:
        """So is a kind or a version out of bounds."""
        self._run(self._refused, [Append(b"a", kind, b"", 1)])
        self._run(self._refused, [Append(b"a", 0, b"", version)])
        self._run(self._refused, [Erase(b"a", kind % 2 - 1)])

    @rule(look=st.sampled_from(["get", "last", "read", "scan"]))
    def misuse_a_read(self, look: str) -> None:
        """What cannot be a name is not looked up."""
        try:
            self._now(getattr(self.store, look), b"\x00" * (MAX_KEY_BYTES + 1))
        except StoreMisuse:
            return
        raise AssertionError(f"{look} took a name that is too long")

    # Reading

    @rule()
    def look_while_batches_are_under_way(self) -> None:
        """A reader sees whole batches only, and every batch whose outcome was told."""
        rows = dict(self._now(self.store.scan, b""))
        seen = [model for model in self._models if model.rows == rows]
        assert seen, f"{rows} is the state after no batch"
        for name in self._models[-1].entries:
            entries = self._now(self.store.read, name)
            assert any(entries == model.entries.get(name, []) for model in self._models)

    @rule()
    def compare(self) -> None:
        """Once settled, everything that can be read equals the model."""
        self.settle()
        model = self._models[-1]
        assert self._now(self.store.streams) == sorted(model.entries)
        assert self._now(self.store.scan, b"") == sorted(model.rows.items())
        for name, entries in model.entries.items():
            assert self._now(self.store.last, name) == len(entries)
            assert self._now(self.store.read, name) == entries

    @rule(stream=_NAMES, after=st.integers(0, 6), limit=st.integers(0, 4))
    def read_a_range(self, stream: bytes, after: int, limit: int) -> None:
        """Ranges of a stream, one entry, the end; also beyond the end and of no stream."""
        self.settle()
        entries = self._models[-1].entries.get(stream, [])
        store = self.store
        assert (
            self._now(store.read, stream, after=after, limit=limit)
            == entries[after : after + limit]
        )
        assert self._now(store.last, stream) == len(entries)
        expected = entries[after - 1] if 0 < after <= len(entries) else None
        assert self._now(store.entry, stream, after) == expected

    @rule(prefix=_NAMES | st.just(b""), after=st.none() | _NAMES, limit=_LIMITS)
    def scan_a_range(self, prefix: bytes, after: bytes | None, limit: int | None) -> None:
        """Rows by prefix, in order, after a key, at most so many."""
        self.settle()
        rows = [
            (key, value)
            for key, value in sorted(self._models[-1].rows.items())
            if key.startswith(prefix) and (after is None or key > after)
        ]
        found = self._now(self.store.scan, prefix, after=after, limit=limit)
        assert found == rows[:limit]

    @rule(key=_NAMES)
    def get_a_row(self, key: bytes) -> None:
        """A value, or None if there is none."""
        self.settle()
        assert self._now(self.store.get, key) == self._models[-1].rows.get(key)

    @rule(stream=_NAMES, payload=_VALUES)
    def wait_for_growth(self, stream: bytes, payload: bytes) -> None:
        """`wait_beyond` returns when the stream has grown, not before, not never."""

        async def check() -> None:
            await self._settle()
            last = self.store.last(stream)
            if last:
                await self.store.wait_beyond(stream, last - 1)
            grown = trio.Event()

            async def wait() -> None:
                await self.store.wait_beyond(stream, last)
                assert self.store.last(stream) == last + 1
                grown.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                assert not grown.is_set()
                await self._submit([Append(stream, 0, payload)])
                await self._settle()

        self._run(check)

    # Closing

    @precondition(lambda self: self._reopens)
    @rule(batches=st.lists(_BATCHES, max_size=3))
    def reopen(self, batches: list[list[Operation]]) -> None:
        """What was submitted before the end is there after it, waited for or not."""

        async def reopened() -> None:
            for batch in batches:
                await self._submit(batch)
            await self._close()
            await self._open()

        self._loop.run(reopened)  # no deadline around it: its scope would end inside the store's
        self.compare()

    @precondition(lambda self: self._reopens)
    @rule(before=st.lists(_BATCHES, max_size=2), late=_BATCHES)
    def fence(self, before: list[list[Operation]], late: list[Operation]) -> None:
        """Whoever takes the store over has what was acknowledged; the older handle has nothing."""

        async def fenced() -> None:
            for batch in before:
                await self._submit(batch)
            await self._settle()
            taken = self.take_over()
            if taken is None:
                return
            old = self.store
            await self._enter(taken)
            await _assert_lost(old, late)
            # The older one is closed after this one, and must not hurt what this one left.

        self._loop.run(fenced)
        self.compare()

    @rule()
    def generation(self) -> None:
        """The generation stays, and is above that of every handle before."""
        assert self._now(lambda: self.store.generation) >= self._generation > 0

    # How the rules are carried out

    @property
    def _reopens(self) -> bool:
        return self.store.durable if self.reopens is None else self.reopens

    async def _open(self) -> None:
        await self._enter(self.open())

    async def _enter(self, opening: AbstractAsyncContextManager[Store]) -> None:
        self.store = await self._stack.enter_async_context(opening)
        generation = self.store.generation
        assert generation > self._generation, "an opening is a new generation"
        self._generation = generation

    async def _close(self) -> None:
        store = self.store
        await self._stack.aclose()
        assert all(submitted.ticket.done for submitted in self._pending)
        await self._settle()
        try:
            store.submit([])
        except StoreClosed:
            return
        raise AssertionError("a closed store took a batch")

    async def _submit(self, batch: list[Operation]) -> None:
        model, sequences = self._models[-1].after(batch)
        number = self._submitted
        ticket = self.store.submit(batch, lambda given: self._called.append((number, given)))
        self._submitted += 1
        self._models.append(model)
        self._pending.append(_Submitted(number, ticket, sequences))
        if sequences is not None:
            self._due.append((number, sequences))

    async def _settle(self) -> None:
        for submitted in self._pending:
            await self._check_outcome(submitted)
        assert self._called == self._due, "callbacks: once each, in order of submission"
        self._pending.clear()
        self._called.clear()
        self._due.clear()
        del self._models[:-1]

    async def _check_outcome(self, submitted: _Submitted) -> None:
        try:
            sequences = await submitted.ticket.wait()
        except Conflict:
            assert submitted.sequences is None, "a batch whose expectations hold was rejected"
        else:
            assert sequences == submitted.sequences
            assert (submitted.number, sequences) in self._called, "told before its callback ran"
        assert submitted.ticket.done

    async def _refused(self, batch: list[Operation]) -> None:
        try:
            self.store.submit(batch)
        except StoreMisuse:
            return
        raise AssertionError(f"{batch} should have been refused")

    def _run(self, work: Callable[..., Awaitable[_T]], *args: object) -> _T:
        async def patient() -> _T:
            with trio.fail_after(self.patience_s):
                return await work(*args)

        return self._loop.run(patient)

    def _now(self, look: Callable[..., _T], *args: object, **options: object) -> _T:
        async def looking() -> _T:
            return look(*args, **options)

        return self._loop.run(looking)


async def _assert_lost(old: Store, late: list[Operation]) -> None:
    """A handle that lost its store writes nothing, says so, and reads nothing stale."""
    try:
        await old.submit(late).wait()
    except StoreLost:
        pass
    else:
        raise AssertionError("a handle that lost the store wrote, or said that it did")
    for use in (
        lambda: old.submit([]),
        lambda: old.get(b"a"),
        lambda: old.last(b"a"),
        lambda: old.scan(b""),
        lambda: old.read(b"a"),
        old.streams,
    ):
        try:
            use()
        except StoreLost:
            continue
        raise AssertionError("a handle that knows it lost the store went on")
