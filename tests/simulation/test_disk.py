"""What a simulated disk keeps, refuses and tells."""

from __future__ import annotations

import pytest

from mob.simulation import Commit, SimDisk, Trace, digest
from stores import Append, Conflict, Expect, Put, StoreInUse, StoreLost


def test_every_batch_of_a_transaction_is_on_disk_before_a_listener_hears_of_one() -> None:
    """A listener sees whole transactions only."""
    disk = SimDisk()
    seen: list[tuple[Commit, int]] = []
    disk.listeners.append(lambda commit: seen.append((commit, disk.platter.last(b"s"))))
    generation = disk.open(1)
    first, second = Append(b"s", 1, b"one"), Append(b"s", 1, b"two")
    outcomes, streams = disk.apply(1, generation, [[first], [Expect(b"k", b"v")], [second]], 2.5)
    assert outcomes[::2] == [(1,), (2,)]
    assert isinstance(outcomes[1], Conflict)
    assert streams == [b"s", b"s"]
    assert seen == [
        (Commit(1, 1, 2.5, 1, generation, (first,), (1,)), 2),
        (Commit(2, 1, 2.5, 1, generation, (second,), (2,)), 2),
    ]
    assert disk.commits == [commit for commit, _ in seen]


def test_a_process_that_lives_keeps_its_disk() -> None:
    disk = SimDisk()
    disk.open(1)
    with pytest.raises(StoreInUse) as refused:
        disk.open(2)
    assert refused.value.pid == 1
    disk.release(2)
    with pytest.raises(StoreInUse):
        disk.open(2)
    disk.release(1)
    assert disk.open(2) == 2


def test_an_older_generation_writes_nothing() -> None:
    disk = SimDisk()
    old = disk.open(1)
    disk.open(2, take_over=True)
    with pytest.raises(StoreLost) as lost:
        disk.apply(1, old, [[Put(b"k", b"v")]], 0.0)
    assert lost.value.generation == 2
    assert disk.commits == []
    assert disk.platter.get(b"k") is None


def test_a_digest_covers_the_disk_and_the_trace() -> None:
    disk, trace = SimDisk(), Trace(lambda: 0.0)
    seen = {digest(disk, trace)}
    generation = disk.open(1)
    disk.apply(1, generation, [[Append(b"s", 1, b"a")]], 0.0)
    seen.add(digest(disk, trace))
    disk.apply(1, generation, [[Put(b"k", b"v")]], 0.0)
    seen.add(digest(disk, trace))
    trace.note("kind", "text")
    seen.add(digest(disk, trace))
    assert len(seen) == 4
