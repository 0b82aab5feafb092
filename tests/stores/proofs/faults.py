"""Proof: whatever write or sync fails, what was told is what is on disk.

    python -m tests.stores.proofs.faults [--step N] [--seed S]

A scripted workload runs once to count its writes and syncs. Then it runs once for every (or every
N-th) of them, with that one failing: with EIO, with ENOSPC, cut short halfway, or with EIO after
it was done all the same; once, or for ever. After each run the disk is good again, the store is
opened, and its state is compared with what every ticket was told: acknowledged batches are there,
refused ones are not, the state is one after some number of whole batches; only of a `CommitUnknown`
both may be true. The store that met the fault must have gone on, or read what is there and refused
to write.
"""

from __future__ import annotations

import argparse
import errno
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from stores import CommitUnknown, StoreError, open_lmdb
from tests.stores.proofs.disk import build, run_under, shim
from tests.stores.proofs.script import State, folder, read_state, say, script, states

BATCHES = 24
GROUP = 3

#: Kind of call, error (0: cut short, which a sync cannot be; below 0: done, and an error told).
FAULTS = (
    ("w", errno.EIO),
    ("w", errno.ENOSPC),
    ("w", 0),
    ("w", -errno.EIO),
    ("s", errno.EIO),
    ("s", errno.ENOSPC),
    ("s", -errno.EIO),
)
NAMES = {0: "short", -errno.EIO: "EIO after the fact", errno.EIO: "EIO", errno.ENOSPC: "ENOSPC"}


@attrs.define
class Run:
    """What a run of the workload was told."""

    outcomes: list[str]
    read: State | None = None
    incidents: tuple[str, ...] = ()
    opened: bool = False


async def work(path: Path, seed: int) -> Run:
    """Open, submit group after group whatever happens, look at what is there in the end."""
    run = Run([])
    try:
        async with open_lmdb(path, map_size=1) as store:
            run.opened = True
            batches = script(seed, BATCHES)
            for start in range(0, BATCHES, GROUP):
                tickets = []
                for batch in batches[start : start + GROUP]:
                    try:
                        tickets.append(store.submit(batch))
                    except StoreError:
                        run.outcomes.append("refused")
                for ticket in tickets:
                    run.outcomes.append(await told(ticket.wait))
            run.incidents = tuple(incident.outcome for incident in store.incidents)
            streams = {
                name: [
                    (entry.seq, entry.kind, entry.version, entry.payload)
                    for entry in store.read(name, limit=1_000_000)
                ]
                for name in store.streams()
            }
            run.read = streams, dict(store.scan(b""))
    except StoreError as error:
        if run.opened:
            raise  # nothing but opening may fail so
        run.outcomes.append(type(error).__name__)
    return run


async def told(wait: Callable[[], Awaitable[object]]) -> str:
    try:
        await wait()
    except CommitUnknown:
        return "unknown"
    except StoreError:
        return "refused"
    return "acknowledged"


def judge(run: Run, found: State, expected: list[State]) -> str:
    """What is wrong; empty if nothing is."""
    if found not in expected:
        return "the state on disk is not one after whole batches"
    batches = expected.index(found)
    for number, outcome in enumerate(run.outcomes):
        if outcome == "acknowledged" and number >= batches:
            return f"batch {number} was acknowledged and is not on disk"
        if outcome == "refused" and number < batches:
            return f"batch {number} was refused and is on disk"
    if run.read is not None and "unknown" not in run.outcomes and run.read != found:
        return "the open store showed something else than is on disk"
    return ""


async def check(path: Path, run: Run, expected: list[State], first_opening: bool) -> str:
    try:
        async with open_lmdb(path, map_size=1) as store:
            await store.barrier()
        found = read_state(path)
    except StoreError as error:
        if first_opening and not run.opened:
            return ""  # a store that never came to be, and says so
        return f"{type(error).__name__}: {error}"
    return judge(run, found, expected)


def under_shim(step: int, seed: int) -> None:
    """The process under the shim."""
    disk = shim()
    # Every batch differs from the one before, so a state names the batches that made it.
    expected = states(script(seed, BATCHES))
    complaints: list[str] = []
    kinds: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    runs = 0
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        root = Path(scratch)
        trio.run(work, root / "empty", seed)
        for reopened in (False, True):
            counts = _count(root, seed, reopened)
            for kind, error in FAULTS:
                for at in range(1, counts[kind] + 1, step):
                    for for_ever in (0, 1):
                        path = _place(root, reopened)
                        disk.shim_arm(ord(kind), at, error, for_ever)
                        run = trio.run(work, path, seed)
                        kinds[NAMES[error]] += disk.shim_disarm()
                        runs += 1
                        outcomes.update(run.outcomes if run.opened else ["not opened"])
                        outcomes.update(run.incidents)
                        wrong = trio.run(check, path, run, expected, not reopened)
                        if wrong:
                            what = f"{kind}{at} {NAMES[error]}"
                            complaints.append(f"{what} for_ever={for_ever}: {wrong}")
                        shutil.rmtree(path)
    said = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    failed = ", ".join(f"{count} {name}" for name, count in sorted(kinds.items()))
    say(f"disk faults: {runs} runs, calls failed: {failed}; {said}; {len(complaints)} wrong")
    for complaint in complaints[:5]:
        say(complaint)


def _place(root: Path, reopened: bool) -> Path:
    """Where to run: nothing yet, or a store that was opened before."""
    path = root / "run"
    shutil.rmtree(path, ignore_errors=True)
    if reopened:
        trio.run(_create, path)
    return path


async def _create(path: Path) -> None:
    async with open_lmdb(path, map_size=1):
        pass


def _count(root: Path, seed: int, reopened: bool) -> dict[str, int]:
    """The writes and syncs of a run without faults."""
    disk = shim()
    path = _place(root, reopened)
    disk.shim_arm(ord("w"), 1 << 40, 0, 0)
    trio.run(work, path, seed)
    disk.shim_disarm()
    shutil.rmtree(path)
    return {kind: disk.shim_count(ord(kind)) for kind in "ws"}


def prove(step: int, seed: int, shim_file: Path) -> tuple[str, int]:
    """Run under `shim_file`; a line of figures and how many runs went wrong."""
    line = run_under(
        shim_file, "tests.stores.proofs.faults", "--here", "--step", step, "--seed", seed
    ).strip()
    return line, int(line.splitlines()[0].rpartition("; ")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=1, help="1: every call, 2: every second one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        under_shim(options.step, options.seed)
        return
    with tempfile.TemporaryDirectory() as scratch:
        line, wrong = prove(options.step, options.seed, build(Path(scratch)))
    say(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
