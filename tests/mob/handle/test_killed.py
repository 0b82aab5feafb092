"""Each verb in a process on a real disk, killed at each of its commits; then a cold restart."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from mob.boarding import BoardVerbs
from mob.flows.verbs import FlowRun
from mob.lifecycle import ADMITS, TRANSITIONS, MobState
from mob.mob import Mob
from stores import Batch, open_lmdb
from tests.mob.handle.team import Models, open_team, seen_whole
from tests.mob.handle.verbs import CASES, READS, Case
from tests.mob.handle.victim import POINTS, run
from tests.mob.mobs import check_inputs

T = TypeVar("T")


class Victim:
    """A case and its disks: one as it was before, and a copy for each death."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self._folder = folder
        self._base = folder / "base"
        run(self._base, case.name, "arrange")

    def die(self, point: str, number: int = 0) -> tuple[Path, int | None]:
        """The disk that a process leaves that dies there, and how many commits its verb took."""
        disk = self._folder / "disk"
        shutil.rmtree(disk, ignore_errors=True)
        shutil.copytree(self._base, disk)
        return disk, run(disk, self.case.name, point, number)

    def restart(self, disk: Path, *, again: bool = False) -> dict[str, Any]:
        """Open it cold, let it settle, with `again` repeat the verb; what is seen then. Opened once
        more it looks the same."""
        found = trio.run(self._opened, disk, again)
        assert trio.run(self._opened, disk, False) == found
        return found

    async def _opened(self, disk: Path, again: bool) -> dict[str, Any]:
        models = Models()
        async with open_lmdb(disk) as store:
            store.writer._offload = inline
            async with open_team(store, models) as mob:
                with trio.fail_after(20):
                    if again:
                        # What was under way is under way again.
                        await trio.testing.wait_all_tasks_blocked()
                        with suppress(*self.case.again):
                            await self.case.act(mob, models)
                    models.gate.set()
                    if mob.state is MobState.RUNNING:
                        await settled(mob)
                check_inputs(store)
                return seen_whole(mob)


async def inline(work: Callable[[Sequence[Batch]], T], batches: Sequence[Batch]) -> T:
    """A `stores.writer.Offload` without a thread: what waits for the disk is not at rest."""
    await trio.lowlevel.checkpoint()
    return work(batches)


async def settled(mob: Mob) -> None:
    """Park until nothing goes on any more without a decision."""
    for each in mob.flow_runs():
        await each.result()
    if mob.approvals():
        await mob.wait_blocked()
    else:
        await mob.wait_idle()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_verb_is_done_or_not_whenever_its_process_dies(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CONTRACTS 6.9: killed at any commit of a verb, the next process finds it done or not done,
    nothing else changed; the verb once more is harmless and makes it done."""
    victim = Victim(case, tmp_path)
    disk, _ = victim.die("called")
    before = victim.restart(disk)
    disk, commits = victim.die("told")
    assert commits, "a verb that commits nothing needs no case"
    done = victim.restart(disk)
    assert case.shows == (before != done)
    for number in range(1, commits + 1):
        # What is left before a commit is what was left after the one before it.
        few = ("before", "after") if number == 1 else ("after",)
        for point in POINTS if request.config.getoption("--long") else few:
            where = f"killed {point} commit {number} of {commits}"
            disk, _ = victim.die(point, number)
            same = shutil.copytree(disk, tmp_path / f"{point} {number}")
            found = victim.restart(disk)
            undone, left = case.changes(before, found), case.changes(found, done)
            between = case.between is not None and case.between(found)
            assert not undone or not left or between, (where, undone, left)
            if (number, point) == (commits, "after"):
                assert not left, where
            if number == 1 and point in ("queued", "before"):
                assert not undone, where
            assert not case.changes(done, victim.restart(same, again=True)), where
    disk, _ = victim.die("told")
    assert not case.changes(done, victim.restart(disk, again=True)), "once more after the end"


def test_every_verb_has_a_case() -> None:
    """A verb that is new in the table of the lifecycle, or on a handle, is killed too."""
    allowed = {verb for verbs in ADMITS.values() for verb in verbs}
    allowed |= {verb for _, verb in TRANSITIONS}
    assert {case.allowed_as for case in CASES} == allowed
    handles = {"": Mob, "board.": BoardVerbs, "FlowRun.": FlowRun}
    verbs = {
        f"{prefix}{name}"
        for prefix, handle in handles.items()
        for name, method in inspect.getmembers(handle, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert {case.name.split(",")[0] for case in CASES} | READS >= verbs
