"""A workload that is the same every time, and what must be in the store after each of its steps.

What a batch applies is known from its place alone, so a state found on a disk can be compared
with the state after so many batches: it must be one of them, whole, and not one too early.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from stores import Append, Delete, Operation, Put, read_lmdb
from stores.expected import Model

State = tuple[dict[bytes, list[tuple[int, int, int, bytes]]], dict[bytes, bytes]]


def script(seed: int, count: int) -> list[list[Operation]]:
    """`count` batches over a few streams and rows; some values need pages of their own."""
    choose = random.Random(seed)
    batches: list[list[Operation]] = []
    for number in range(count):
        payload = b"%d " % number * choose.choice((1, 5, 60, 60, 900))
        batch: list[Operation] = [Append(b"journal", number % 250, payload, number % 9)]
        for _ in range(choose.randrange(3)):
            key = b"row/%d" % choose.randrange(40)
            name = b"own/%d" % choose.randrange(4)
            batch.append(
                choose.choice(
                    (Put(key, payload[:1500] + key), Delete(key), Append(name, 1, payload[:200]))
                )
            )
        batches.append(batch)
    return batches


def states(batches: list[list[Operation]]) -> list[State]:
    """What is stored after 0, 1, 2, ... of `batches`."""
    model = Model()
    found = [_state(model)]
    for batch in batches:
        model, _ = model.after(batch)
        found.append(_state(model))
    return found


def _state(model: Model) -> State:
    streams = {
        name: [(entry.seq, entry.kind, entry.version, entry.payload) for entry in entries]
        for name, entries in model.entries.items()
    }
    return streams, dict(model.rows)


def read_state(path: Path) -> State:
    """What is stored in the store at `path`, every record verified."""
    with read_lmdb(path) as store:
        streams = {
            name: [
                (entry.seq, entry.kind, entry.version, entry.payload)
                for entry in store.read(name, limit=1_000_000)
            ]
            for name in store.streams()
        }
        return streams, dict(store.scan(b""))


def folder() -> str | None:
    """Where scratch stores lie: in memory if there is such a place, as syncs are not at stake."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def say(line: str) -> None:
    """Print the figures."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
