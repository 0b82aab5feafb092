"""What a mob costs while it has nothing to do, and what is left when much of it is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio

from mob.definition import MobDefinition
from mob.lifecycle import MobState
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded
from runtime.session import SessionStatus
from stores import MemoryStore, open_lmdb
from tests.mob.mobs import check_inputs, define, opened, records, table


def _many(count: int, **parts: object) -> MobDefinition:
    data = table(("a",), **parts)
    data["members"]["w"] = {"profile": "p", "replicas": count}
    data["wiring"] = {}
    return MobDefinition.from_table(data)


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def _cpu_of(seconds: float) -> float:
    before = time.process_time()
    await trio.sleep(seconds)
    return time.process_time() - before


async def _idle_costs_nothing(folder: Path, count: int, seconds: float) -> None:
    async with open_lmdb(folder / "s") as store, opened(_many(count), store=store) as mob:
        before = _tasks()
        for name in ("a", "w-0", f"w-{count - 1}"):
            await mob.ask(name, "once")
        await mob.wait_idle()
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert _tasks() <= before + 1, "an idle member holds no task"
        assert await _cpu_of(seconds) < 0.02
        await mob.stop()
        assert await _cpu_of(seconds) < 0.02
        assert mob.state is MobState.STOPPED


async def test_an_idle_and_a_stopped_mob_use_no_cpu(tmp_path: Path) -> None:
    """CONTRACTS 6.13: 1,000 members for 1.5 seconds each."""
    await _idle_costs_nothing(tmp_path, 1000, 1.5)


@pytest.mark.long
async def test_ten_thousand_idle_members_use_no_cpu(tmp_path: Path) -> None:
    """CONTRACTS 6.13: for 30 seconds each."""
    await _idle_costs_nothing(tmp_path, 10_000, 30)


_WORKER = """
import sys
from pathlib import Path
import trio
from stores import open_lmdb
from tests.mob.mobs import opened
from tests.mob.test_idle import _many

async def slow(request):
    await trio.sleep(3600)
    return "never"

async def main(folder, count):
    async with open_lmdb(Path(folder) / "s") as store:
        async with opened(_many(count), slow, store=store, grace_s=0) as mob:
            for n in range(count):
                await mob.send(f"w-{n}", f"{n}") if n % 100 == 0 else mob._accept(
                    mob._row(f"w-{n}"), f"{n}", None, None, nested=False)
            await mob.realm.store.barrier()
            await mob.stop(0)
            print("stopped", flush=True)
            await mob.resume()
            await trio.sleep(0.2)
            print("working", flush=True)
            await trio.sleep_forever()

trio.run(main, sys.argv[1], int(sys.argv[2]))
"""


async def _killed_and_reopened(folder: Path, count: int) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 nothing else runs here
        [sys.executable, "-c", _WORKER, str(folder), str(count)], stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"stopped\n"
        assert worker.stdout.readline() == b"working\n"
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    async with open_lmdb(folder / "s") as store:
        async with opened(_many(count), store=store) as mob:
            assert mob.state is MobState.RUNNING
            await mob.wait_idle()
            assert mob.at_work == ()
        assert len(records(store, TurnEnded)) == len(records(store, InputAccepted)) == count
        check_inputs(store)


async def test_many_members_stopped_killed_and_reopened_finish_their_work(tmp_path: Path) -> None:
    """CONTRACTS 6.9, 5.12: 300 of them, each in a turn when the process is killed."""
    await _killed_and_reopened(tmp_path, 300)


@pytest.mark.long
async def test_ten_thousand_members_stopped_killed_and_reopened_finish_their_work(
    tmp_path: Path,
) -> None:
    """CONTRACTS 6.9, 5.12."""
    await _killed_and_reopened(tmp_path, 10_000)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_cancelling_a_tree_of_a_thousand_children_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 1.10, 6.13: ten members with a hundred running children each; no task, no thread
    that waits, no open file, and every child is archived."""
    running = 0

    async def answer(request: ModelRequest) -> object:
        nonlocal running
        if request.key.count("/") == 2:
            call = ("spawn_agent", {"name": "c", "instructions": "work"})
            return calling(*([call] * 100))
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            running -= 1
        return "never"

    names = tuple(f"m{n}" for n in range(10))
    definition = define(*names, profile={"subagents": {"max_children": 100}})
    store = MemoryStore()
    before = (_tasks(), threading.active_count(), _open_files())
    async with opened(definition, answer, store=store, grace_s=0) as mob:  # type: ignore[arg-type]
        quiet = _tasks()
        for name in names:
            await mob.send(name, "go")
        await trio.testing.wait_all_tasks_blocked()
        assert running == 1000
        assert _tasks() > quiet + 1000
        for name in names:
            assert mob.interrupt(name)
        await mob.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        assert running == 0
        assert _tasks() == quiet
        children = [h for h in mob.realm.state.heads.values() if h.lineage.parent is not None]
        assert len(children) == 1000
        assert {head.status for head in children} == {SessionStatus.ARCHIVED}
    assert (_tasks(), threading.active_count(), _open_files()) == before


async def test_of_many_members_those_at_rest_are_only_their_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONTRACTS 6.13: beyond so many, nothing is kept of a member's work but what counts later."""
    monkeypatch.setattr("mob.jobs.KEPT", 0)
    monkeypatch.setattr("runtime.copies.LIVE_SESSIONS", 3)
    failed = False

    async def answer(request: ModelRequest) -> str:
        nonlocal failed
        if "/w-3/" in request.key and not failed:
            failed = True
            raise RuntimeError("once")
        await trio.lowlevel.checkpoint()
        return "ok"

    definition = _many(8, restart={"backoff_s": 0.0, "max_backoff_s": 0.0})
    async with opened(definition, answer) as mob:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(mob.ask, f"w-{number}", "hello")
        await mob.wait_idle()
        # When that one was restarted counts for its next failure.
        assert list(mob._activations.members) == ["w-3"]
        assert len(mob.realm._live) == 3
        assert (await mob.ask("w-5", "again")).text == "ok"
        assert [m.text for m in mob.realm.messages(mob.roster.members["w-5"].session_id)][::-1] == [
            "hello",
            "ok",
            "again",
            "ok",
        ]


async def test_members_that_are_told_and_offered_the_same_share_a_configuration() -> None:
    """CONTRACTS 1.11: those of one profile without peers; what is a member's own stays its own."""
    data = table(("a", "b"))
    data["members"] = {
        "w": {"profile": "p", "replicas": 3},
        "told": {"profile": "p", "instructions": "You are the third."},
        "x": {"profile": "p"},
        "y": {"profile": "p"},
    }
    data["mob"]["lead"] = "x"
    data["wiring"] = {"edges": [["x", "y"]]}
    async with opened(MobDefinition.from_table(data)) as mob:
        heads = {n: mob.realm.state.heads[row.session_id] for n, row in mob.roster.members.items()}
        made = {name: mob.configure(head) for name, head in heads.items()}
        assert made["w-0"] is made["w-1"] is made["w-2"]
        assert made["told"].instructions.endswith("You are the third.")
        assert made["told"] is not made["w-0"]
        assert [spec.name for spec in made["x"].toolbox.specs] == ["ask_p"]
        assert made["x"] is not made["y"]
        await mob.wire("w-0", "w-1")
        again = {name: mob.configure(head) for name, head in heads.items()}
        assert [spec.name for spec in again["w-0"].toolbox.specs] == ["ask_p"]
        assert not again["w-2"].toolbox.specs
