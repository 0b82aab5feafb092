"""Several mobs of one process on one store and one writer."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from mob.definition import MobDefinition
from mob.lifecycle import MobState
from mob.mob import Mob
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import TurnEnded
from runtime.store import StoredSessions
from stores import open_lmdb
from tests.mob.mobs import TOOLS, check_inputs, opened, records, table, tool_file


def _named(mob_id: str, folder: Path, **parts: object) -> MobDefinition:
    data = table(("a", "b"), **parts)
    data["mob"]["id"] = mob_id
    data["checkpoint"] = {"every_turns": 1}
    return MobDefinition.from_table(data, folder=folder)


async def _work(mob: Mob, turns: int) -> None:
    """So many turns of each member, one after the other."""
    for n in range(turns):
        await mob.ask("a", f"{n}")
        await mob.ask("b", f"{n}")


async def test_two_mobs_work_at_the_same_time_in_one_store(tmp_path: Path) -> None:
    """CONTRACTS 6.9, 6.12: each has its own sequence, and finds its own again."""
    one, two = _named("one", tmp_path), _named("two", tmp_path)
    async with open_lmdb(tmp_path / "s") as store:
        async with opened(one, store=store) as first, opened(two, store=store) as second:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_work, first, 20)
                nursery.start_soon(_work, second, 20)
        for mob_id in ("one", "two"):
            assert len(records(store, TurnEnded, mob_id)) == 40
            check_inputs(store, mob_id)
    async with open_lmdb(tmp_path / "s") as store, opened(two, store=store) as second:
        assert second.realm.state.heads[second.session_of("a")].turns == 20
        assert second.realm.journal.last == len(records(store, object, "two"))


async def test_one_that_hangs_while_it_stops_stalls_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 5.10, 5.11: a tool that ignores being cancelled is its own mob's affair; stopping
    one mob silences the checkpointer of no other."""
    gate, entered = trio.Event(), trio.Event()

    async def stubborn(text: str) -> str:
        entered.set()
        with trio.CancelScope(shield=True):
            await gate.wait()
        return "late"

    TOOLS["stubborn"] = stubborn
    monkeypatch.setattr("mob.life.UNWIND_S", 0.3)

    def hangs(request: ModelRequest) -> object:
        return calling(("stubborn", {"text": ""})) if len(request.messages) == 1 else "done"

    tools = tool_file(tmp_path, stubborn=False)
    one = _named("one", tmp_path, tools=tools, profile={"tools": ["stubborn"]})
    two = _named("two", tmp_path)
    async with open_lmdb(tmp_path / "s") as store:
        async with (
            opened(one, hangs, store=store) as first,  # type: ignore[arg-type]
            opened(two, store=store) as second,
        ):
            await first.send("a", "go")
            await entered.wait()
            reports = []
            during = 0

            async def stop() -> None:
                reports.append(await first.stop(0.3))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop)
                while not reports:
                    await second.ask("a", "still there?")
                    during += 1
            assert reports[0].stuck == ("a",)
            assert first.state is MobState.STOPPED
            assert during > 10
            assert not first._gate.open
            assert second._gate.open
            await second.ask("b", "once")
            await second.realm.store.barrier()
            saved = StoredSessions(store, second.realm.realm_id)
            await trio.sleep(0.3)  # the checkpointer works beside
            found = await saved.load(second.session_of("b"))
            assert found is not None
            assert found.turns == 1
            gate.set()
        check_inputs(store, "one")
        check_inputs(store, "two")
