"""Time travel: points, forks, going back, and what is different."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.app import stored_mob
from mob.elsewhere import diff_mobs, fork_mob, points_of, rewind_mob, snapshot_mob
from mob.errors import DeadlinePassed, MobBusy, MobInUse, MobRewound
from mob.flows.records import RunState
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.records import MOB_RECORDS
from runtime.errors import PointExists, PointNotFound, RealmExists, Unusable
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.messages import CONTEXT
from runtime.models.base import ModelRequest
from runtime.points import PointMade, RealmForked, RealmRewound
from runtime.records import RUNTIME_RECORDS
from stores import MemoryStore, open_memory
from tests.mob.journeys import (
    CHILDREN,
    ENGINES,
    Engine,
    a_life,
    of,
    prefix,
    said,
    stored,
    team,
    working,
)
from tests.mob.mobs import Stuck, asked, opened


@ENGINES
async def test_a_fork_at_every_record_is_the_fold_of_the_records_up_to_it(
    engine: Engine, tmp_path: Path
) -> None:
    """CONTRACTS 6.12: at any record of a journal, the state is what the records up to it say."""
    async with engine(tmp_path) as store:
        async with opened(team(profile=CHILDREN), working, store=store) as mob:
            await a_life(mob)
        last = stored_mob(store, "t").last
        for at in range(1, last + 1):
            assert await fork_mob(store, "t", f"f{at}", at=at) == at
            wanted, got = prefix(store, "t", at), stored(store, f"f{at}")
            if got["members"] or wanted["members"]:
                assert stored_mob(store, f"f{at}").roster.mob_id == f"f{at}"
            assert got == wanted, at
            # Its journal is that of the parent and goes on with its own.
            events = Journal(
                store, RealmId(f"f{at}"), (*RUNTIME_RECORDS, *MOB_RECORDS), lambda _s, _r: None
            ).read(0, 10_000)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert isinstance(events[at].record, RealmForked)


@ENGINES
async def test_parent_and_fork_part_without_noticing_each_other(
    engine: Engine, tmp_path: Path
) -> None:
    """CONTRACTS 3.4, 6.12: what is shared is read by both, what comes later by one."""
    async with engine(tmp_path) as store, opened(team(), store=store) as mob:
        await mob.ask("a", "one")
        early = mob.realm.journal.last
        await mob.ask("b", "one")
        await mob.snapshot("start")
        await mob.ask("a", "two")
        before = of(mob)
        at = await mob.fork("u", at="start")
        await mob.fork("v")
        assert of(mob) == before
        async with opened(team("u"), store=store) as fork:
            assert said(fork, "a") == ["one", "one"]
            assert fork.session_of("a") == mob.session_of("a")
            await fork.ask("a", "other")
            await fork.spawn("c", profile="p")
            await mob.ask("a", "three")
            assert said(fork, "a") == ["one", "one", "other", "other"]
            assert said(mob, "a") == ["one", "one", "two", "two", "three", "three"]
            assert mob.members == ("a", "b")
            seen = [event.seq for event in fork.realm.journal.read(0, 1000)]
            assert seen == list(range(1, fork.realm.journal.last + 1))
            assert fork.realm.journal.base == at
        async with opened(team("v"), store=store) as fork:
            assert said(fork, "a") == ["one", "one", "two", "two"]
        async with opened(team("u"), store=store) as fork:  # and again from what is on disk
            assert said(fork, "a") == ["one", "one", "other", "other"]
            assert fork.members == ("a", "b", "c")
            # A fork of a fork reads three streams, and one at what its parent shares only two.
            await fork.fork("w")
            await fork.fork("x", at=at)
            await fork.fork("y", at=early)
        async with opened(team("w"), store=store) as fork:
            assert said(fork, "a") == ["one", "one", "other", "other"]
        async with opened(team("x"), store=store) as fork:
            assert said(fork, "a") == ["one", "one"]
        async with opened(team("y"), store=store) as fork:
            assert (said(fork, "a"), said(fork, "b")) == (["one", "one"], [])
            assert fork.realm.journal.base == early
            await fork.ask("a", "yet other")
        async with opened(team("y"), store=store) as fork:
            assert said(fork, "a") == ["one", "one", "yet other", "yet other"]


@ENGINES
async def test_going_back_and_coming_back_is_the_identity(engine: Engine, tmp_path: Path) -> None:
    """CONTRACTS 6.12, 3.5: the branch that is left is kept under a name, and nothing of it is
    lost; also for the next process, and for the fold of the whole journal."""
    async with engine(tmp_path) as store:
        async with opened(team(profile=CHILDREN), working, store=store) as mob:
            await mob.ask("a", "zero", idempotency_key="k0")
            point = await mob.snapshot("start")
            early = of(mob)
            await a_life(mob)
            late = of(mob)
            left = await mob.rewind("start")
            assert of(mob) == early
            assert left.kept
            assert [each.label for each in mob.points()] == ["start", left.label]
            assert said(mob, "a") == ["zero", "zero"]
            await mob.ask("a", "another way")
            await mob.ask("b", "child please")
            other = of(mob)
            again = await mob.rewind(left.label)
            assert of(mob) == late
            assert said(mob, "a")[-1] == "four"
            await mob.rewind(again.label)
            assert of(mob) == other
            assert said(mob, "a")[-1] == "another way"
            inside = again.last + 1  # the rewind itself, whose rows come behind it
            assert isinstance(mob.realm.journal.get(inside), RealmRewound)
            with pytest.raises(PointNotFound, match="in the middle of a rewind"):
                await mob.fork("u", at=inside)
            await mob.rewind(point.at)  # by number, too
            assert of(mob) == early
            await mob.rewind(left.label)
        assert stored(store, "t") == late == prefix(store, "t", stored_mob(store, "t").last)
        async with opened(team(profile=CHILDREN), working, store=store, adopt=True) as mob:
            assert of(mob) == late
            await mob.ask("c", "go on")
            assert mob.members == ("a", "c")


@ENGINES
async def test_keys_belong_to_the_branch_on_which_they_were_used(
    engine: Engine, tmp_path: Path
) -> None:
    """CONTRACTS 5.7: a key joins what it was used for before the point, and nothing that was left
    behind; coming back it joins that again. Also from rows, and in forks."""
    calls: list[str] = []

    def answer(request: ModelRequest) -> str:
        calls.append(asked(request))
        return f"answer {len(calls)}"

    async with engine(tmp_path) as store:
        async with opened(team(), answer, store=store) as mob:
            await mob.ask("a", "x", idempotency_key="early")
            await mob.snapshot("start")
            first = await mob.ask("a", "y", idempotency_key="late")
            left = await mob.rewind("start")
            joined = await mob.ask("a", "x", idempotency_key="early")
            assert (joined.text, calls) == ("answer 1", ["x", "y"])
            second = await mob.ask("a", "y", idempotency_key="late")
            assert (second.text, len(calls)) == ("answer 3", 3)
            await mob.realm.checkpoint()
            back = await mob.rewind(left.label)
            assert await mob.ask("a", "y", idempotency_key="late") == first
            await mob.rewind(back.label)
            await mob.fork("u", at="start")
            await mob.fork("v")
            await mob.fork("w", at=left.label)
        for again in range(2):
            async with opened(team(), answer, store=store) as mob:
                assert await mob.ask("a", "y", idempotency_key="late") == second
            async with opened(team("v"), answer, store=store) as mob:
                assert await mob.ask("a", "y", idempotency_key="late") == second
            async with opened(team("w"), answer, store=store) as mob:
                assert await mob.ask("a", "y", idempotency_key="late") == first
            assert len(calls) == 3 + again
            async with opened(team("u"), answer, store=store) as mob:
                assert (await mob.ask("a", "x", idempotency_key="early")).text == "answer 1"
                assert (await mob.ask("a", "y", idempotency_key="late")).text == "answer 4"


FLOW = {"f": {"steps": {"one": {"member": "a", "message": "go"}}}}


@ENGINES
async def test_runs_belong_to_the_branch_on_which_they_ended(
    engine: Engine, tmp_path: Path
) -> None:
    """CONTRACTS 6.12: a run of a flow that had ended is there after going back to any record behind
    that, with its key; one that ended since is not, and coming back it is. Likewise in a fork, and
    with requests."""

    def there(mob: Mob) -> list[str]:
        found: list[str] = []
        while page := mob.flow_runs(found[-1] if found else None, 1):
            found += [each.id for each in page]
        return found

    async with engine(tmp_path) as store:
        async with opened(team(flows=FLOW), asked, store=store) as mob:
            first = await mob.run_flow("f", idempotency_key="early")
            await first.result()
            with pytest.raises(DeadlinePassed):
                await mob.request(None, "a", "what?", 0.01, idempotency_key="early")
            await mob.wait_idle()
            early = mob.realm.state.applied
            second = await mob.run_flow("f", idempotency_key="late")
            between = mob.realm.state.applied
            await second.result()
            await mob.wait_idle()
            left = await mob.rewind(early)  # nothing was written of the runs but by this
            assert there(mob) == [first.id]
            assert (await mob.run_flow("f", idempotency_key="early")).id == first.id
            with pytest.raises(DeadlinePassed):
                await mob.request(None, "a", "what?", 60, idempotency_key="early")
            third = await mob.run_flow("f", idempotency_key="late")
            assert third.id not in (first.id, second.id)
            await third.result()
            await mob.wait_idle()
            await mob.realm.checkpoint()
            before = await mob.rewind(between)
            await mob.flow_run(second.id).result()  # it ends in this branch once more
            await mob.wait_idle()
            await mob.realm.checkpoint()
            await mob.rewind(left.label)
            assert there(mob) == [first.id, second.id]
            assert (await mob.run_flow("f", idempotency_key="late")).id == second.id
            await mob.rewind(before.label)
            assert there(mob) == [first.id, third.id]
            await mob.fork("u", at=left.label)
        for mob_id, wanted in (("t", [first.id, third.id]), ("u", [first.id, second.id])):
            async with opened(team(mob_id, flows=FLOW), asked, store=store) as mob:
                known = [mob.flow_run(each) for each in wanted]
                assert all(each.now().state is RunState.SUCCEEDED for each in known)
                assert (await mob.run_flow("f", idempotency_key="late")).id == wanted[1]
                if mob_id == "t":
                    assert there(mob) == wanted


async def test_what_is_in_flight_is_in_flight_in_both(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 5.6, 6.9: a fork takes queued inputs and the turn in flight with it and goes on as
    after a crash; the key of an input that waits is known in it."""
    stuck = Stuck()
    async with (
        open_memory() as store,
        opened(team(), stuck, store=store) as mob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mob.ask, "a", "one")
        await stuck.entered.wait()
        await mob.send("a", "two", idempotency_key="k")
        await mob.snapshot("busy")
        with pytest.raises(MobBusy, match="at work: a"):
            await mob.rewind("busy")
        stuck.gate.set()
        await mob.wait_idle()
        await mob.fork("u", at="busy")
        async with opened(team("u"), store=store) as fork:
            await fork.wait_idle()
            assert said(fork, "a") == ["one", "one", "two", "two"]
            assert (await fork.ask("a", "two", idempotency_key="k")).text == "two"
        await mob.rewind("busy")  # and so is what is gone back to
        await mob.wait_idle()
        assert said(mob, "a") == ["one", "done one", "two", "done two"]
        assert stuck.calls == ["one", "two"] * 2


async def test_whoever_waits_for_what_is_left_behind_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.3: nobody waits for ever."""
    stuck = Stuck()
    async with open_memory() as store, opened(team(), stuck, store=store) as mob:
        await mob.snapshot("start")
        errors: list[Exception] = []

        async def ask() -> None:
            try:
                await mob.ask("a", "one")
            except MobRewound as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            await mob.stop(0)
            left = await mob.rewind("start")
            await wait_all_tasks_blocked()
        assert len(errors) == 1
        assert mob.state is MobState.STOPPED
        assert mob.realm.state.head(mob.session_of("a")).inputs is None
        await mob.rewind(left.label)
        assert mob.state is MobState.STOPPED
        stuck.gate.set()
        await mob.resume()
        await mob.wait_idle()
        assert said(mob, "a") == ["one", "done one"]


async def test_labels_and_records_that_are_not_there() -> None:
    """CONTRACTS 3.2: an error that names what there is, and nothing is changed."""
    async with open_memory() as store, opened(team(), store=store) as mob:
        await mob.snapshot("start")
        last = mob.realm.journal.last
        for at in ("stert", 0, -1, last + 1):
            with pytest.raises(PointNotFound):
                await mob.rewind(at)
            with pytest.raises(PointNotFound):
                await mob.fork("u", at=at)
            with pytest.raises(PointNotFound):
                mob.diff(at)
        with pytest.raises(PointNotFound, match="there are: start"):
            await mob.rewind("stert")
        with pytest.raises(PointExists, match="a point 'start' already"):
            await mob.snapshot("start")
        for label in ("", " x", "12", "y" * 65):
            with pytest.raises(Unusable, match="cannot be the label of a point"):
                await mob.snapshot(label)
        await mob.fork("u")
        for taken in ("u", "t"):
            with pytest.raises((RealmExists, MobInUse)):
                await mob.fork(taken)
        assert mob.realm.journal.last == last
        with pytest.raises(MobInUse):
            await rewind_mob(store, "t", "start")
        await mob.stop()
        await mob.destroy()
        with pytest.raises(VerbRefused):
            await mob.rewind("start")
        await mob.fork("w", at="start")
    async with opened(team("w"), store=MemoryStore(store._disk)) as mob:
        assert mob.state is MobState.RUNNING


async def test_what_is_different_between_two_moments() -> None:
    """CONTRACTS 6.12: members, turns, tokens, tasks and edges, as data and in words."""
    async with open_memory() as store:
        async with opened(team(), store=store) as mob:
            await mob.ask("a", "one")
            await mob.board.add("dig")
            await mob.snapshot("start")
            assert not mob.diff("start")
            assert str(mob.diff("start")) == "no difference"
            await mob.ask("a", "two")
            await mob.spawn("c", profile="p")
            await mob.board.claim("t1", "c")
            await mob.unwire("a", "c")
            await mob.retire("b")
            found = mob.diff("start")
            assert (found.joined, found.left) == (("c",), ("b",))
            assert found.members["a"].turns == (1, 2)
            assert not found.members["a"].parted
            assert found.tasks == {"t1": ("open", "claimed by c")}
            assert found.wires[("a", "c")] == (None, False)
            words = str(found)
            for line in ("+ member c", "- member b", "~ member a: turns 1 -> 2", "t1: open -> cl"):
                assert line in words
            assert mob.diff(mob.points()[0].at, "start") == mob.diff("start", "start")
            for name, text in (("u", "this"), ("v", "that")):
                await mob.fork(name, at="start")
                async with opened(team(name), store=store) as fork:
                    await fork.ask("a", text)
        parted = diff_mobs(store, ("u", None), ("v", None))
        assert parted.members.keys() == {"a"}
        assert parted.members["a"].parted
        assert "histories part" in str(parted)
        later = diff_mobs(store, ("t", "start"), ("u", None))
        assert not later.members["a"].parted


async def test_stored_mobs_travel_too() -> None:
    """CONTRACTS 6.12: what the handle does, over a store that nobody runs."""
    async with open_memory() as store:
        async with opened(team(), store=store) as mob:
            await mob.ask("a", "one")
            early = of(mob)
        await snapshot_mob(store, "t", "start")
        async with opened(team(), store=store) as mob:
            await mob.ask("a", "two")
            late = of(mob)
        left = await rewind_mob(store, "t", "start")
        assert stored(store, "t") == early
        await rewind_mob(store, "t", left.label)
        assert stored(store, "t") == late
        assert [each.label for each in points_of(store, "t")] == [
            "start",
            left.label,
            "before-rewind-2",
        ]


@ENGINES
async def test_two_points_of_one_name_at_once_are_one(engine: Engine, tmp_path: Path) -> None:
    """CONTRACTS 6.12: of those who name a point alike one is told that the name is taken."""
    async with engine(tmp_path) as store, opened(team(), working, store=store) as mob:
        refused: list[PointExists] = []

        async def make() -> None:
            try:
                await mob.snapshot("one")
            except PointExists as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(make)
        assert len(refused) == 2
        records = [event.record for event in mob.realm.journal.read(limit=100)]
        assert sum(isinstance(each, PointMade) for each in records) == 1


@ENGINES
async def test_what_is_on_its_way_to_the_disk_belongs_to_what_a_rewind_leaves(
    engine: Engine, tmp_path: Path
) -> None:
    """CONTRACTS 6.12: nothing of the branch that is left is lost, also what was accepted last."""
    async with engine(tmp_path) as store, opened(team(), working, store=store) as mob:
        await mob.snapshot("start")
        session_id = mob.session_of("a")
        told = mob.realm.inputs.accept(session_id, "by the way", sender=CONTEXT)
        left = await mob.rewind("start")
        assert told.ticket is not None
        assert told.pending is not None
        await told.ticket.wait()
        assert not mob.realm.state.head(session_id).inputs
        assert left.at == left.record - 1
        await mob.rewind(left.label)
        assert told.pending.input_id in (mob.realm.state.head(session_id).inputs or {})


@ENGINES
async def test_a_member_that_was_respawned_since_has_its_session_again(
    engine: Engine, tmp_path: Path
) -> None:
    """CONTRACTS 6.12, 6.4: nothing of the generation that is left is at work."""
    async with engine(tmp_path) as store, opened(team(), working, store=store) as mob:
        await mob.ask("a", "one")
        first = mob.fence("a")
        await mob.snapshot("start")
        await mob.respawn("a")
        await mob.ask("a", "two")
        await mob.rewind("start")
        assert mob.fence("a") == first
        await mob.ask("a", "three", fence=first)
        assert said(mob, "a") == ["one", "one", "three", "three"]
