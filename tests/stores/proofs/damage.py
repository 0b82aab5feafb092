"""Proof: a damaged file is never read as if it were sound, and never kills its reader.

    python -m tests.stores.proofs.damage [--images N] [--seed S]

A store is written, copied on the way (for pages of yesterday) and left as after a crash. Images of
it are damaged in one of six ways: cut off, a page of zeros, flipped bits, a page of yesterday, two
pages exchanged, garbage behind its end or over a page. One process, the host, opens them one after
the other and reads everything in them. Each thing read must be what was written, or an error that
says what is damaged; a value of yesterday, or nothing where something was, is a silent wrong read.

Pages 0 and 1 are not replaced by those of yesterday: a store with an older meta page *is* the store
of one commit earlier. After an orderly end that is noticed (`owner.lock` knows the last commit);
after a crash nothing could tell it from a crash that came a little sooner.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import trio

from stores import (
    Damaged,
    Entry,
    LmdbStore,
    StoreDamaged,
    StoreError,
    StoreUnreadable,
    open_lmdb,
)
from tests.stores.proofs.disk import ROOT
from tests.stores.proofs.script import State, folder, say, script, states

BATCHES = 300
PAGE = 4096
KINDS = ("truncate", "zeroed page", "bit flips", "stale page", "swapped pages", "garbage")


async def write(path: Path, seed: int) -> list[bytes]:
    """Write the store; return the file as it was at some moments, the last one last."""
    moments = []
    async with open_lmdb(path, map_size=1) as store:
        for number, batch in enumerate(script(seed, BATCHES), 1):
            store.submit(batch)
            if number % 3 == 0:
                await store.barrier()
            if number % 60 == 0:
                moments.append(_content(path))
    return [*moments, _content(path)]


def _content(path: Path) -> bytes:
    return (path / "data.mdb").read_bytes()


def damage(kind: str, moments: list[bytes], choose: random.Random) -> bytes:
    """The newest of `moments`, damaged."""
    raw = bytearray(moments[-1])
    pages = len(raw) // PAGE

    def place(page: int, content: bytes) -> None:
        raw[page * PAGE : (page + 1) * PAGE] = content

    def page_of(moment: bytes, page: int) -> bytes:
        return moment[page * PAGE : (page + 1) * PAGE]

    if kind == "truncate":
        del raw[choose.randrange(PAGE, len(raw)) :]
    elif kind == "zeroed page":
        place(choose.randrange(pages), bytes(PAGE))
    elif kind == "bit flips":
        for _ in range(choose.choice((1, 1, 1, 2, 8))):
            bit = choose.randrange(len(raw) * 8)
            raw[bit // 8] ^= 1 << bit % 8
    elif kind == "stale page":
        old = choose.choice(moments[:-2])
        changed = [
            page
            for page in range(2, min(pages, len(old) // PAGE))
            if page_of(old, page) != page_of(moments[-1], page)
        ]
        page = choose.choice(changed)
        place(page, page_of(old, page))
    elif kind == "swapped pages":
        one, other = choose.sample(range(pages), 2)
        place(one, page_of(moments[-1], other))
        place(other, page_of(moments[-1], one))
    elif choose.random() < 0.5:
        raw += choose.randbytes(choose.randrange(1, 5 * PAGE))
    else:
        place(choose.randrange(pages), choose.randbytes(PAGE))
    return bytes(raw)


async def read(path: Path, truth: State) -> str:
    """Read all at `path`: ``sound``, ``refused``, ``named``, or what was wrong in silence."""
    try:
        async with open_lmdb(path, map_size=1) as store:
            said = {_say(look, expected) for look, expected in _looks(store, truth)}
            await store.commit([])
    except (StoreDamaged, StoreUnreadable):
        return "refused"
    except StoreError as error:
        return f"WRONG error {error!r}"
    return max(said, key=("sound", "named", "WRONG value").index)


Look = Callable[[], object]


def _looks(store: LmdbStore, truth: State) -> Iterator[tuple[Look, object]]:
    """Every way to read what is in `truth`, with what must come of it."""
    streams, rows = truth
    for name, records in streams.items():
        entries = [Entry(*record) for record in records]
        yield partial(store.last, name), len(entries)
        yield partial(store.read, name, limit=1_000_000), entries
        for entry in entries:
            yield partial(store.entry, name, entry.seq), entry
    for key, value in rows.items():
        yield partial(store.get, key), value
    yield partial(store.scan, b""), sorted(rows.items())
    yield store.streams, sorted(streams)


def _say(look: Look, expected: object) -> str:
    try:
        return "sound" if look() == expected else "WRONG value"
    except Damaged:
        return "named"


def host(first: int, images: int, seed: int) -> None:
    """The host process: one line for each image; a death leaves its line unfinished."""
    truth = states(script(seed, BATCHES))[-1]
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        root = Path(scratch)
        moments = trio.run(write, root / "whole", seed)
        for number in range(first, images):
            kind = KINDS[number % len(KINDS)]
            path = root / f"image-{number}"
            path.mkdir()
            content = damage(kind, moments, random.Random(f"{seed}/{number}"))
            (path / "data.mdb").write_bytes(content)
            sys.stdout.write(f"{number}\t")
            sys.stdout.flush()
            say(trio.run(read, path, truth))
            for file in path.iterdir():
                file.unlink()


def prove(images: int, seed: int) -> tuple[str, int]:
    """Look at `images` images; a line of figures and how many were wrong or deadly."""
    results: dict[int, str] = {}
    command = [sys.executable, "-m", "tests.stores.proofs.damage"]
    command += ["--images", str(images), "--seed", str(seed)]
    while len(results) < images:
        done = subprocess.run(
            [*command, "--host", str(len(results))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            number, _, result = line.partition("\t")
            results[int(number)] = result or f"DEATH by {done.returncode}"
        if done.returncode and not any(line.endswith("\t") for line in done.stdout.splitlines()):
            raise RuntimeError(f"the host ended with {done.returncode}: {done.stderr}")
    by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    bad = []
    for number, result in results.items():
        kind = KINDS[number % len(KINDS)]
        by_kind[kind][result.split()[0]] += 1
        if result.split()[0] in ("WRONG", "DEATH"):
            bad.append(f"image {number} ({kind}): {result}")
    said = "; ".join(
        f"{kind}: " + ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
        for kind, counts in by_kind.items()
    )
    line = f"damage: {images} images, {len(bad)} wrong or deadly, seed {seed}; {said}"
    return "\n".join([line, *bad[:5]]), len(bad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--host", type=int, metavar="FIRST", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host is not None:
        host(options.host, options.images, options.seed)
        return
    line, bad = prove(options.images, options.seed)
    say(line)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
