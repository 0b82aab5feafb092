"""Proof: whatever a repair saves from a damaged file is what was written, and the rest is named.

    python -m tests.stores.proofs.repair [--images N] [--seed S]

The images are those of `damage`. Each is repaired into a new store; every record read there must be
the one that was written, or `Damaged`, or beyond the end; the new store must be sound.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import trio

from stores import Damaged, Entry, StoreUnreadable, read_lmdb, repair_lmdb, verify_lmdb
from tests.stores.proofs import damage
from tests.stores.proofs.script import State, folder, say, script, states


def saved(target: Path, truth: State) -> int:
    """How many records of `truth` are in the repaired store; every other must not be readable."""
    count = 0
    with read_lmdb(target) as store:
        for name, records in truth[0].items():
            for record in records:
                try:
                    found = store.entry(name, record[0])
                except Damaged:
                    continue
                assert found in (None, Entry(*record)), f"record {record[0]} of {name!r} is wrong"
                count += found is not None
    return count


def prove(images: int, seed: int) -> str:
    """A line of figures. Raises `AssertionError` at the first thing wrong."""
    truth = states(script(seed, damage.BATCHES))[-1]
    total = sum(len(records) for records in truth[0].values())
    shares: dict[str, list[float]] = {kind: [] for kind in damage.KINDS}
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        root = Path(scratch)
        moments = trio.run(damage.write, root / "whole", seed)
        for number in range(images):
            kind = damage.KINDS[number % len(damage.KINDS)]
            path, target = root / f"image-{number}", root / f"saved-{number}"
            path.mkdir()
            content = damage.damage(kind, moments, random.Random(f"{seed}/{number}"))
            (path / "data.mdb").write_bytes(content)
            try:
                repair_lmdb(path, target)
            except StoreUnreadable:
                shares[kind].append(0)
                continue
            shares[kind].append(saved(target, truth) / total)
            assert verify_lmdb(target).sound, f"image {number} ({kind}): the repaired is not sound"
    said = ", ".join(
        f"{kind} {sum(found) / len(found):.0%} (least {min(found):.0%})"
        for kind, found in shares.items()
    )
    return f"repair: {images} images, 0 wrong records, saved: {said}; seed {seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    say(prove(options.images, options.seed))


if __name__ == "__main__":
    main()
