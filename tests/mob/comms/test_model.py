"""Wiring, mailboxes and requests against a plain model of them, on both engines, with restarts.

Owns: `Plain`, dictionaries and lists that say what must be. Must not: share code with what it is
compared with.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from mob.errors import MailboxFull, MobClosed, NotWired, RequestFailed
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from runtime.errors import MobError
from runtime.messages import UserMessage
from runtime.models.base import ModelRequest
from runtime.records import InputAccepted, TurnEnded
from stores import MemoryDisk, MemoryStore, Store, open_lmdb
from tests.mob.comms.clocks import wall
from tests.mob.mobs import check_inputs, define, opened, records

NAMES = ("a", "b", "c", "d")
PROFILE = {"a": "p", "b": "p", "c": "q", "d": "q"}
MOST = 3
DEFINITION = define(
    "a", "b", "c",
    members={name: {"profile": PROFILE[name]} for name in "abc"},
    profiles={"q": {"model": "m"}},
    mailbox={"max_messages": MOST, "when_full": "raise"},
    wiring={"edges": [["a", "b"]], "directed": [["c", "a"]], "rules": {"p -> q": "allow"}},
)  # fmt: skip


class Plain:
    """What must be, told plainly."""

    def __init__(self) -> None:
        self.members = ["a", "b", "c"]
        self.said: dict[tuple[str, str], bool] = {}
        self.waiting: dict[str, list[str]] = {name: [] for name in self.members}
        self.open: list[tuple[str | None, str]] = []
        self.running = True
        self.closed_gate = False

    def may(self, sender: str, to: str) -> bool:
        if sender == to or sender not in self.members or to not in self.members:
            return False
        if (sender, to) in self.said:
            return self.said[sender, to]
        if (sender, to) in {("a", "b"), ("b", "a"), ("c", "a")}:
            return True
        return (PROFILE[sender], PROFILE[to]) == ("p", "q")

    def by_name(self, sender: str, to: str) -> bool:
        declared = (sender, to) in {("a", "b"), ("b", "a"), ("c", "a")}
        return self.said.get((sender, to), declared)

    def refusal(self, sender: str | None, to: str) -> type[Exception] | None:
        if not self.running:
            return VerbRefused
        if sender is not None and not self.may(sender, to):
            return NotWired
        return MailboxFull if len(self.waiting[to]) >= MOST else None

    def accepted(self, to: str, text: str) -> None:
        if self.closed_gate:
            self.waiting[to].append(text)

    def leave(self, name: str) -> None:
        self.members.remove(name)
        del self.waiting[name]
        self.said = {pair: said for pair, said in self.said.items() if name not in pair}
        self.open = [pair for pair in self.open if name not in pair]


class World:
    """A mob that is opened again and again, and the plain model beside it."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self.disk = MemoryDisk()
        self.plain = Plain()
        self.open_gate = trio.Event()
        self.open_gate.set()
        self.number = 0
        self.ends: list[Any] = []

    async def answer(self, request: ModelRequest) -> str:
        await self.open_gate.wait()
        return "ok"

    @asynccontextmanager
    async def process(self) -> AsyncIterator[tuple[Mob, trio.Nursery, Store]]:
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            store: Any = MemoryStore(self.disk)
            if self.folder is not None:
                store = await stack.enter_async_context(open_lmdb(self.folder))
            mob = await stack.enter_async_context(
                opened(DEFINITION, self.answer, store=store, grace_s=0, ports=wall())
            )
            yield mob, nursery, store

    def text(self) -> str:
        self.number += 1
        return f"t{self.number}"

    async def refused(self, why: type[Exception] | None, call: Any) -> bool:
        """Make the call; whether it was refused, which must be for this reason."""
        if why is None:
            await call
            return False
        with pytest.raises(why):
            await call
        return True

    async def do(self, mob: Mob, nursery: trio.Nursery, step: tuple[Any, ...]) -> None:
        what, *args = step
        if what == "request":
            await self.request(mob, nursery, *args)
        elif what == "spawn" or all(each in self.plain.members for each in args if each in NAMES):
            await getattr(self, what)(mob, *args)

    async def wire(self, mob: Mob, a: str, b: str, directed: bool) -> None:
        if a != b:
            pairs = [(a, b)] if directed else [(a, b), (b, a)]
            new = [pair for pair in pairs if not self.plain.by_name(*pair)]
            assert await mob.wire(a, b, directed=directed) == bool(new)
            self.plain.said.update(dict.fromkeys(new, True))

    async def unwire(self, mob: Mob, a: str, b: str, directed: bool) -> None:
        if a != b:
            pairs = [(a, b)] if directed else [(a, b), (b, a)]
            gone = [pair for pair in pairs if self.plain.may(*pair)]
            assert await mob.unwire(a, b, directed=directed) == bool(gone)
            self.plain.said.update(dict.fromkeys(gone, False))
            self.plain.open = [pair for pair in self.plain.open if pair not in gone]

    async def send(self, mob: Mob, sender: str | None, to: str) -> None:
        text, why = self.text(), self.plain.refusal(sender, to)
        if not await self.refused(why, mob.send(to, text, sender=sender)):
            self.plain.accepted(to, text)

    async def broadcast(self, mob: Mob, sender: str | None) -> None:
        plain, text = self.plain, self.text()
        if not plain.running:
            await self.refused(VerbRefused, mob.broadcast(text, sender=sender))
            return
        to = [each for each in plain.members if sender is None or plain.may(sender, each)]
        found = await mob.broadcast(text, sender=sender)
        assert list(found) == to
        for name, receipt in found.items():
            assert isinstance(receipt, MobError) == (len(plain.waiting[name]) >= MOST)
            if not isinstance(receipt, MobError):
                plain.accepted(name, text)

    async def request(self, mob: Mob, nursery: trio.Nursery, sender: str | None, to: str) -> None:
        plain, text = self.plain, self.text()
        if to not in plain.members or sender not in (None, *plain.members):
            return
        why = plain.refusal(sender, to)
        if why is not None:
            await self.refused(why, mob.request(sender, to, text, 1e6))
            return
        known = len(mob.requests)

        async def ask() -> None:
            try:
                self.ends.append(await mob.request(sender, to, text, 1e6))
            except (MobClosed, RequestFailed) as error:
                self.ends.append(type(error))

        nursery.start_soon(ask)
        while len(mob.requests) == known:
            await trio.testing.wait_all_tasks_blocked(0.002 if self.folder else 0)
        plain.open.append((sender, to))
        plain.accepted(to, text)

    async def reply(self, mob: Mob) -> None:
        if self.plain.open and self.plain.running:
            await mob.reply(mob.requests[0].request_id, "yes")
            self.plain.open.pop(0)

    async def spawn(self, mob: Mob, name: str) -> None:
        if name not in self.plain.members and self.plain.running:
            await mob.spawn(name, profile=PROFILE[name])
            self.plain.members.append(name)
            self.plain.waiting[name] = []

    async def retire(self, mob: Mob, name: str) -> None:
        await mob.retire(name)
        self.plain.leave(name)

    async def stop(self, mob: Mob) -> None:
        if self.plain.running:
            await mob.stop(0)
            self.plain.running = False

    async def resume(self, mob: Mob) -> None:
        if not self.plain.running:
            await mob.resume()
            self.plain.running = True

    async def gate(self, mob: Mob) -> None:
        await self.turn_gate(mob)

    async def turn_gate(self, mob: Mob) -> None:
        plain = self.plain
        if plain.closed_gate:
            self.open_gate.set()
            if plain.running:
                await mob.wait_idle()
            plain.closed_gate = not plain.running and any(plain.waiting.values())
            if plain.closed_gate:  # nobody works on anything: it is as good as closed
                self.open_gate = trio.Event()
            else:
                plain.waiting = {name: [] for name in plain.members}
        else:
            await mob.wait_idle()
            self.open_gate = trio.Event()
            plain.closed_gate = True

    async def check(self, mob: Mob) -> None:
        plain = self.plain
        if not plain.closed_gate and plain.running:
            await mob.wait_idle()
        assert list(mob.members) == plain.members
        for name in plain.members:
            peers = [each for each in plain.members if plain.may(name, each)]
            assert list(mob.peers_of(name)) == peers
            assert mob.mailboxes.depth(name)[0] == len(plain.waiting[name])
        assert [(each.sender, each.to) for each in mob.requests] == plain.open
        assert {pair for pair, said in mob.folds.graph.pairs().items() if said} == {
            pair for pair, said in plain.said.items() if said
        }

    async def run(self, lives: list[list[tuple[Any, ...]]]) -> None:
        for number, steps in enumerate(lives):
            async with self.process() as (mob, nursery, _):
                await self.check(mob)
                for step in steps:
                    await self.do(mob, nursery, step)
                    await self.check(mob)
                if number % 2:
                    await mob.realm.checkpoint()
        async with self.process() as (mob, _, store):
            await self.do(mob, _, ("resume",))
            if self.plain.closed_gate:
                await self.turn_gate(mob)
            await mob.wait_idle()
            await self.check(mob)
            self.in_order(store)

    def in_order(self, store: Store) -> None:
        """CONTRACTS 6.7: what was accepted for a session was told to it, in order and once."""
        check_inputs(store)
        told: dict[str, list[str]] = {}
        for turn in records(store, TurnEnded):
            users = [each.text for each in turn.messages if isinstance(each, UserMessage)]
            told.setdefault(turn.session_id, []).extend(users)
        sent: dict[str, list[str]] = {}
        for accepted in records(store, InputAccepted):
            sent.setdefault(accepted.session_id, []).append(accepted.text)
        for session_id, texts in told.items():
            assert texts == sent[session_id][: len(texts)]


_NAME = st.sampled_from(NAMES)
_SENDER = st.sampled_from((None, *NAMES))
_STEPS = st.one_of(
    st.tuples(st.just("wire"), _NAME, _NAME, st.booleans()),
    st.tuples(st.just("unwire"), _NAME, _NAME, st.booleans()),
    st.tuples(st.just("send"), _SENDER, _NAME),
    st.tuples(st.just("send"), _SENDER, _NAME),
    st.tuples(st.just("broadcast"), _SENDER),
    st.tuples(st.just("request"), _SENDER, _NAME),
    st.tuples(st.just("reply")),
    st.tuples(st.just("spawn"), _NAME),
    st.tuples(st.just("retire"), _NAME),
    st.tuples(st.just("stop")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("gate")),
    st.tuples(st.just("gate")),
)
LIVES = st.lists(st.lists(_STEPS, min_size=3, max_size=25), min_size=1, max_size=4)


@given(LIVES)
def test_comms_are_what_a_plain_model_says(lives: list[list[tuple[Any, ...]]]) -> None:
    """CONTRACTS 6.5, 6.6, 6.7, 6.9, 6.15: after every step, and after every restart."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(World(None).run, lives, clock=clock)


@settings(max_examples=8)
@given(LIVES)
def test_comms_on_a_disk_are_what_a_plain_model_says(lives: list[list[tuple[Any, ...]]]) -> None:
    """CONTRACTS 6.5, 6.6, 6.7, 6.9."""
    with tempfile.TemporaryDirectory() as folder:
        trio.run(World(folder).run, lives)
