"""Proof: power that fails at any moment loses nothing that was acknowledged, and tears nothing.

    python -m tests.stores.proofs.power [--images N] [--seed S]

A real process writes to a real store while a shim records every write and sync of data.mdb. Then
the disk is made as it may be found after a power cut at some moment: everything before the last
finished sync is there; of the writes after it, any may be there, in any order, and the last one
torn at any sector. Each such image is opened. It must hold the state after some number of batches,
whole, and not fewer than had been acknowledged by that moment.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import trio

from stores import StoreError, open_lmdb, verify_lmdb
from tests.stores.proofs.disk import Event, build, read_record, run_under, shim
from tests.stores.proofs.script import State, folder, read_state, say, script, states

SECTOR = 512
BATCHES = 120


async def write(path: str, seed: int) -> None:
    """The process under the shim: groups of one to five batches, two openings."""
    disk = shim()
    groups = random.Random(seed)
    batches = script(seed, BATCHES)
    done = 0
    for end in (BATCHES // 2, BATCHES):
        async with open_lmdb(path, map_size=1) as store:
            disk.shim_ack(done)
            while done < end:
                group = batches[done : done + groups.randint(1, 5)]
                tickets = [store.submit(batch) for batch in group]
                await tickets[-1].wait()
                done += len(tickets)
                disk.shim_ack(done)


def image(
    events: list[Event], cut: int, choose: random.Random, *, honest: bool = True
) -> tuple[bytes, int]:
    """The file as a power cut before event `cut` may leave it, and what was acknowledged.

    A disk that is not `honest` says that it has synced, and has not.
    """
    settled: list[Event] = []
    pending: list[Event] = []
    acknowledged = -1
    for event in events[:cut]:
        if event.kind == "a":
            acknowledged = event.offset
        elif event.kind != "s":
            (settled if event.kind == "d" and honest else pending).append(event)
        elif honest:
            settled += pending
            pending = []
    if cut < len(events) and events[cut].kind in "wd":
        pending.append(events[cut])  # under way when the power went
    content = bytearray()
    for event in settled:
        _put(content, event.offset, event.data)
    for event in _kept(pending, choose):
        if choose.random() < 0.7:
            _put(content, event.offset, event.data)
            continue
        for at in range(0, len(event.data), SECTOR):  # torn: some of its sectors only
            if choose.random() < 0.5:
                _put(content, event.offset + at, event.data[at : at + SECTOR])
    return bytes(content), acknowledged


def _kept(pending: list[Event], choose: random.Random) -> list[Event]:
    """Which of the writes that no sync covers reached the disk, and in which order."""
    mode = choose.randrange(3)
    if mode == 0:  # a prefix
        return pending[: choose.randint(0, len(pending))]
    kept = list(pending)
    if mode == 1:  # any of them, in any order
        kept = [event for event in pending if choose.random() < 0.5]
        choose.shuffle(kept)
    elif kept:  # all but one
        kept.pop(choose.randrange(len(kept)))
    return kept


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset + len(data):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data


async def judge(path: Path, expected: list[State], acknowledged: int) -> str:
    """What is wrong with the image at `path`; empty if nothing is."""
    try:
        async with open_lmdb(path, map_size=1):
            pass
        found = read_state(path)
        report = verify_lmdb(path) if acknowledged % 10 == 0 else None
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    if report is not None and not report.sound:
        return "; ".join(report.summary())
    if found not in expected[acknowledged:]:
        return f"not a state after {acknowledged} or more batches"
    return ""


def prove(images: int, seed: int, shim_file: Path, *, honest: bool = True) -> tuple[str, int]:
    """Replay `images` cuts; a line of figures and how many of them were bad."""
    choose = random.Random(seed)
    expected = states(script(seed, BATCHES))
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        root = Path(scratch)
        run_under(shim_file, "tests.stores.proofs.power", "--write", root / "real", "--seed", seed)
        events = list(read_record(root / "real.record"))
        first = next(index for index, event in enumerate(events) if event.kind == "a")
        syncs = sum(event.kind in "sd" for event in events)
        for number in range(images):
            cut = choose.randint(first + 1, len(events))
            content, acknowledged = image(events, cut, choose, honest=honest)
            path = root / f"image-{number}"
            path.mkdir()
            (path / "data.mdb").write_bytes(content)
            wrong = trio.run(judge, path, expected, acknowledged)
            if wrong:
                complaints.append(f"image {number}: {wrong}")
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    line = (
        f"power loss: {images} images cut from {len(events)} writes and syncs ({syncs} syncs),"
        f" {len(complaints)} bad, seed {seed}"
    )
    return "\n".join([line, *complaints[:5]]), len(complaints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        shim().shim_record(f"{options.write}.record".encode())
        trio.run(partial(write, options.write, options.seed))
        return
    with tempfile.TemporaryDirectory() as scratch:
        line, bad = prove(options.images, options.seed, build(Path(scratch)))
    say(line)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
