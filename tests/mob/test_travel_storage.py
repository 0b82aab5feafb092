"""Time travel and what is stored: cost, crashes, retention, damage."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from mob.app import stored_mob
from mob.elsewhere import points_of
from mob.folds import MobFolds
from mob.records import MOB_RECORDS
from runtime.errors import MobError, OriginLost, PointNotFound
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.points import RealmRewound, StateRows
from runtime.records import RUNTIME_RECORDS, TurnEnded
from runtime.retention import Retention
from runtime.state import RealmState
from stores import MemoryDisk, MemoryStore, Store, open_memory
from tests.mob.journeys import ENGINES, Engine, known, of, said, stored, team
from tests.mob.mobs import opened, records


@attrs.define
class Counting:
    """A store that counts what is read of it and written to it."""

    store: MemoryStore
    reads: int = 0
    writes: int = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name in ("get", "scan", "read", "entry"):

            def counted(*given: Any, **more: Any) -> Any:
                value = found(*given, **more)
                self.reads += max(len(value), 1) if isinstance(value, list) else 1
                return value

            return counted
        return found

    def submit(self, batch: Any, committed: Any = None) -> Any:
        self.writes += len(batch)
        return self.store.submit(batch, committed)

    async def commit(self, batch: Any) -> Any:
        return await self.submit(batch).wait()


async def test_what_a_point_costs_does_not_grow_with_the_history() -> None:
    """CONTRACTS 6.14: a snapshot, a fork at it, opening that, and going back read and write as
    much after three hundred turns as after three."""
    costs: list[dict[str, tuple[int, int]]] = []
    for turns in (3, 300):
        store: Any = Counting(MemoryStore())
        found: dict[str, tuple[int, int]] = {}

        @asynccontextmanager
        async def counted(name: str, store: Any = store, found: Any = found) -> AsyncIterator[None]:
            before = store.reads, store.writes
            yield
            found[name] = store.reads - before[0], store.writes - before[1]

        async with opened(team(), store=store) as mob:
            for number in range(turns):
                await mob.ask("a", f"{number}")
            await mob.realm.checkpoint()
            async with counted("snapshot"):
                await mob.snapshot("p")
            await mob.ask("a", "more")
            await mob.realm.checkpoint()
            async with counted("fork"):
                await mob.fork("u", at="p")
            async with counted("open"):
                stored_mob(store, "u")
            async with counted("rewind"):
                await mob.rewind("p")
        costs.append(found)
    assert costs[0] == costs[1]


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("verb", ["fork", "rewind", "snapshot"])
async def test_a_crash_leaves_it_done_or_not_done(verb: str) -> None:
    """CONTRACTS 3.8: at every batch, and every operation of it, that a process gets to the disk."""

    class Stops(MemoryStore):
        left = 10**9

        def submit(self, batch: Any, committed: Any = None) -> Any:
            if self.left <= 0:
                raise Cut
            self.left -= 1
            return super().submit(batch, committed)

    outcomes = set()
    for allowed in itertools.count():
        disk = MemoryDisk()
        store: Any = Stops(disk)
        before = after = None
        done = False
        try:
            async with opened(team(), store=store, grace_s=0) as mob:
                await mob.ask("a", "one")
                await mob.snapshot("start")
                await mob.ask("a", "two")
                before = of(mob)
                store.left = allowed
                if verb == "fork":
                    await mob.fork("u", at="start")
                elif verb == "rewind":
                    await mob.rewind("start")
                else:
                    await mob.snapshot("other")
                after = of(mob)
                done = True
                store.left = 0
        except* Cut:
            pass
        async with open_memory(disk) as again:
            found = stored(again, "t")
            assert found == (before if after is None else after)
            if verb == "fork":
                forked = b"realm/u" in again.streams()
                assert forked == done
                if done:
                    assert stored(again, "u")["members"].keys() == {"a", "b"}
            if verb == "snapshot":
                assert [each.label for each in points_of(again, "t")][1:] == ["other"] * done
            outcomes.add(done)
        if done:
            break
    assert outcomes == {False, True}


@ENGINES
async def test_what_forks_and_points_need_is_never_erased(engine: Engine, tmp_path: Path) -> None:
    """CONTRACTS 3.7: retention keeps histories that a point or a fork reaches, and everything that
    a fork shares; a record that was erased is no place to go back to."""
    async with engine(tmp_path) as store:
        async with opened(team(), store=store) as mob:
            await mob.ask("a", "one", idempotency_key="k")
            await mob.ask("b", "of b")
            await mob.snapshot("start")
            await mob.ask("a", "two")
            late = of(mob)
            left = await mob.rewind("start")
            await mob.ask("a", "three")
            await mob.retire("b")
            await mob.sessions.delete(mob.roster.retired["b"])
            third = mob.realm.journal.last
            freed = await Retention(mob.realm, 0).run()
            assert freed.records
            with pytest.raises(PointNotFound, match="was erased"):
                await mob.fork("no", at=7)
            await mob.fork("yes", at=third)  # what is final by then was final there too
            assert stored(store, "yes")["members"] == of(mob)["members"]
            await mob.rewind(left.label)
            assert of(mob) == late
            assert said(mob, "a") == ["one", "one", "two", "two"]
            assert said(mob, "b") == ["of b", "of b"]
            at = await mob.fork("u")
            await mob.ask("a", "five")
            await mob.rewind("start")
            await mob.ask("a", "six")
            plan = Retention(mob.realm, 0)
            assert plan._floor == at
            await plan.run()
            assert mob.realm.journal.read(at - 1, 1)[0].record is not None
        async with opened(team("u"), store=store) as fork:
            assert said(fork, "a") == ["one", "one", "two", "two"]
            assert (await fork.ask("a", "one", idempotency_key="k")).text == "one"
            await fork.ask("a", "seven")
            await Retention(fork.realm, 0).run()  # of the parent's it takes nothing
            assert said(fork, "a")[-1] == "seven"
            await fork.rewind("start")
            assert said(fork, "a") == ["one", "one"]
        assert stored(store, "u") == prefix_from_its_own(store, "u")


def prefix_from_its_own(store: Store, mob_id: str) -> dict[str, Any]:
    """The fold of a fork's own records: they say what was there at its beginning."""
    state = RealmState()
    folds = MobFolds(state)
    types = (*RUNTIME_RECORDS, *MOB_RECORDS)
    journal = Journal(store, RealmId(mob_id), types, state.apply)
    for event in journal.read(journal.base, 10_000):
        state.apply(event.seq, event.record)
    return known(state, folds)


async def test_a_fork_without_its_parent_says_what_is_missing() -> None:
    """CONTRACTS 2.2: never reported as an empty history."""
    disk = MemoryDisk()
    async with open_memory(disk) as store:
        async with opened(team(), store=store) as mob:
            await mob.ask("a", "one")
            await mob.fork("u")
    del disk.entries[b"realm/t"]
    async with open_memory(disk) as store:
        with pytest.raises(OriginLost, match="'u' is a fork of 't'"):
            stored_mob(store, "u")


async def test_rows_that_are_damaged_are_made_anew_also_behind_a_rewind_and_in_a_fork() -> None:
    """CONTRACTS 6.9: the journal says it all."""
    for mob_id in ("t", "u"):
        disk = MemoryDisk()
        async with open_memory(disk) as store:
            async with opened(team(), store=store) as mob:
                await mob.ask("a", "one")
                await mob.board.add("dig")
                await mob.snapshot("start")
                await mob.ask("a", "two")
                await mob.rewind("start")
                await mob.ask("b", "three")
                await mob.fork("u")
            async with opened(team("u"), store=store) as mob:
                await mob.ask("b", "four")
            whole = stored(store, mob_id)
        kept = dict(disk.values)
        rows = [key for key in kept if key.startswith(f"fold/{mob_id}/".encode())]
        assert len(rows) > 6
        for key in rows:
            if b"/k/" in key or key.endswith(b"position"):
                continue
            disk.values = {name: value for name, value in kept.items() if name != key}
            disk.order = sorted(disk.values)
            async with open_memory(disk) as store:
                assert stored(store, mob_id) == whole, key
        disk.values = {k: v for k, v in kept.items() if not k.startswith(b"fold/")}
        disk.order = sorted(disk.values)
        async with open_memory(disk) as store:  # and with no row at all
            assert stored(store, mob_id) == whole


async def test_a_quarantined_mob_does_not_travel() -> None:
    """CONTRACTS 2.2: a point of what is damaged would say that it is whole."""
    async with opened(team()) as mob:
        mob.realm.state.quarantine(mob.session_of("b"), "damaged")
        for verb in (mob.snapshot("x"), mob.fork("u"), mob.rewind(2)):
            with pytest.raises(MobError, match="quarantined"):
                await verb


async def test_big_states_are_cut_into_records() -> None:
    """CONTRACTS 6.12: no record holds more rows than a step of a checkpoint."""
    names = tuple(f"m{number}" for number in range(300))
    async with open_memory() as store, opened(team("t", *names), store=store) as mob:
        await mob.snapshot("start")
        await mob.ask("m7", "one")
        await mob.rewind("start")
        assert said(mob, "m7") == []
        rows = records(store, StateRows)
        assert max(len(each.rows) for each in rows) == 256
        (back,) = records(store, RealmRewound)
        assert back.rows == sum(-(-count // 256) for count in (300, 301))
        assert len(records(store, TurnEnded)) == 1
