"""Looking at every byte, refusing what LMDB would die of, saving what can be saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb.verify
import pytest

from stores import (
    Append,
    Damaged,
    Entry,
    Put,
    StoreDamaged,
    StoreInUse,
    StoreMisuse,
    StoreUnreadable,
    open_lmdb,
    read_lmdb,
    repair_lmdb,
    verify_lmdb,
)
from stores.codec import encode_head, encode_row, record_key, stream_prefix
from stores.migrations import STORE_FORMAT
from stores.verify import dump, load, walk, walk_apart
from tests.stores.processes import run_python
from tests.stores.test_damage import rewrite

PAGE = 4096


async def a_store(path: Path, records: int = 400) -> None:
    """Two streams over several pages, rows, a value on pages of its own."""
    async with open_lmdb(path) as store:
        for index in range(1, records + 1):
            store.submit(
                [
                    Append(b"s", 1, b"record %d " % index * 9),
                    Append(b"t", 2, b"other %d" % index, 7),
                    Put(b"row/%04d" % (index % 97), b"value %d" % index * 5),
                ]
            )
        store.submit([Append(b"large", 3, bytes(range(256)) * 100)])


def dirty(path: Path) -> None:
    """As after an end that was not in order."""
    (path / "owner.lock").unlink()


def change(path: Path, offset: int, data: bytes) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.seek(offset)
        file.write(data)


def page_with(path: Path, needle: bytes) -> int:
    """The number of a page that holds `needle` in the newest tree."""
    raw = (path / "data.mdb").read_bytes()
    at = raw.rindex(needle)
    return at // PAGE


def record(seq: int, stream: bytes = b"s") -> bytes:
    return record_key(stream_prefix(stream), seq)


async def test_a_sound_store_has_nothing_to_report(path: Path) -> None:
    await a_store(path)
    report = verify_lmdb(path)
    assert report.sound
    assert (report.streams, report.records, report.rows) == (3, 801, 97)
    assert (report.format, report.generation, report.findings) == (STORE_FORMAT, 1, [])
    assert load(json.loads(json.dumps(dump(report)))) == report == walk(str(path))


async def test_lmdbs_own_verifier_finds_nothing_either(path: Path) -> None:
    await a_store(path)
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"more")])
    assert lmdb.verify.verify(str(path)) == []


async def test_a_small_value_on_the_pages_of_a_large_one_is_sound(path: Path) -> None:
    """What LMDB leaves when one transaction writes a key twice; its own verifier objects to it."""
    async with open_lmdb(path) as store:
        await store.commit([Put(b"k", bytes(20_000)), Put(b"k", b"small")])
        assert verify_lmdb(store).findings == []
        await store.commit([Put(b"k", bytes(9_000))])
        assert verify_lmdb(store).findings == []


async def test_a_store_at_work_is_verified_beside_its_owner(path: Path) -> None:
    await a_store(path)
    async with open_lmdb(path) as store:
        assert verify_lmdb(store).records == 801
        done = run_python(
            "import sys; from stores import verify_lmdb; print(verify_lmdb(sys.argv[1]).records)",
            path,
        )
        assert done.stdout == "801\n", done.stderr
        await store.commit([Append(b"s", 1, b"more")])
        assert verify_lmdb(store).records == 802


def test_what_is_not_a_store_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreadable, match="nothing can be read"):
        verify_lmdb(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"a letter to my aunt\n" * 1000)
    with pytest.raises(StoreUnreadable, match="not one of LMDB"):
        verify_lmdb(tmp_path)


def truncate(path: Path) -> None:
    file = path / "data.mdb"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2 // PAGE * PAGE)


def zero_a_page(path: Path) -> None:
    change(path, page_with(path, b"record 200 ") * PAGE, bytes(PAGE))


def swap_pages(path: Path) -> None:
    pages = [page_with(path, b"record %d " % seq) for seq in (100, 300)]
    raw = (path / "data.mdb").read_bytes()
    blocks = [raw[page * PAGE : (page + 1) * PAGE] for page in pages]
    change(path, pages[0] * PAGE, blocks[1])
    change(path, pages[1] * PAGE, blocks[0])


def break_a_node(path: Path) -> None:
    change(path, page_with(path, b"record 200 ") * PAGE + 16, b"\xff\xff")


def empty_the_file(path: Path) -> None:
    (path / "data.mdb").write_bytes(b"")


def remove_the_file(path: Path) -> None:
    (path / "data.mdb").unlink()


BREAKS: list[Callable[[Path], None]] = [truncate, zero_a_page, swap_pages, break_a_node]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
async def test_a_broken_structure_is_refused_and_the_rest_can_be_saved(
    path: Path, damage: Callable[[Path], None]
) -> None:
    await a_store(path)
    whole = {}
    with read_lmdb(path) as store:
        for stream in store.streams():
            whole[stream] = store.read(stream, limit=1000)
        rows = store.scan(b"")
    damage(path)
    dirty(path)
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(StoreDamaged, match="mob doctor --repair") as caught:
        async with open_lmdb(path):
            pass
    assert caught.value.findings
    with pytest.raises(StoreDamaged), read_lmdb(path):
        pass
    report = verify_lmdb(path)
    assert report.broken
    assert not report.sound
    target = path.parent / "saved"
    lost = {(each.stream, each.seq) for each in repair_lmdb(path, target).findings}
    assert (path / "data.mdb").read_bytes() == before
    with read_lmdb(target) as store:
        saved = 0
        for stream in store.streams():
            for entry in whole[stream]:
                try:
                    found = store.entry(stream, entry.seq)
                except Damaged:
                    assert (stream, entry.seq) in lost
                else:
                    assert found in (entry, None)
                    saved += found is not None
        assert saved > 200
        assert set(store.scan(b"")) <= set(rows)
    assert verify_lmdb(target).sound  # gaps were told, and are no news


@pytest.mark.parametrize("damage", [empty_the_file, remove_the_file, truncate])
async def test_a_file_that_shrank_after_an_orderly_end_is_refused(
    path: Path, damage: Callable[[Path], None]
) -> None:
    await a_store(path)
    damage(path)
    with pytest.raises(StoreDamaged):
        async with open_lmdb(path):
            pass


async def test_an_older_copy_in_the_place_of_the_file_is_refused(path: Path) -> None:
    await a_store(path, 10)
    old = path.parent / "old.mdb"
    shutil.copy(path / "data.mdb", old)
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"new")])
    shutil.copy(old, path / "data.mdb")
    with pytest.raises(StoreDamaged, match=r"older copy.*remove owner.lock"):
        async with open_lmdb(path):
            pass
    dirty(path)
    async with open_lmdb(path) as store:
        assert store.last(b"s") == 10


async def test_only_an_unclean_store_is_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def count(path: str) -> object:
        looked.append(path)
        return walk(path)

    monkeypatch.setattr("stores.files.walk", count)
    await a_store(path, 10)
    async with open_lmdb(path):
        assert looked == []
    async with open_lmdb(path, verify=True):
        assert len(looked) == 1
    dirty(path)
    async with open_lmdb(path, verify=False):
        assert len(looked) == 1
    dirty(path)
    async with open_lmdb(path):
        assert len(looked) == 2
    monkeypatch.setattr("stores.files._APART", 1)
    monkeypatch.setattr("stores.files.walk_apart", lambda path: looked.append(path) or walk(path))
    async with open_lmdb(path, verify=True):
        assert len(looked) == 3


def test_a_look_that_dies_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.verify.sys.executable", "/bin/false")
    with pytest.raises(StoreUnreadable, match="ended with 1"):
        walk_apart(str(path))


async def test_the_look_runs_without_trio_and_lmdb(path: Path) -> None:
    done = run_python("import sys, stores.verify; print({'trio', 'lmdb'} & set(sys.modules))")
    assert done.stdout == "set()\n"


async def test_the_newest_record_lost_to_a_stale_page_is_noticed(path: Path) -> None:
    await a_store(path, 10)
    rewrite(path, b"streams", record(10), None)
    async with open_lmdb(path) as store:
        where = "record 10 of stream b's'"
        assert store.last(b"s") == 10
        for look in (
            lambda: store.read(b"s"),
            lambda: store.read(b"s", after=9),
            lambda: store.entry(b"s", 10),
        ):
            with pytest.raises(Damaged) as caught:
                look()
            assert caught.value.where == where
        assert len(store.read(b"s", limit=9)) == 9
        assert store.read(b"s", after=10) == []
        assert await store.commit([Append(b"t", 1, b"fine")]) == (11,)
    assert [(each.stream, each.seq) for each in verify_lmdb(path).findings] == [(b"s", 10)]


async def test_a_stale_head_is_noticed(path: Path) -> None:
    await a_store(path, 10)
    prefix = stream_prefix(b"s")
    rewrite(path, b"heads", prefix, encode_head(prefix, 9, 0))
    async with open_lmdb(path) as store:
        with pytest.raises(Damaged, match="head of stream b's'"):
            store.last(b"s")
    assert [each.kind for each in verify_lmdb(path).findings] == ["head"]


async def test_a_stale_row_is_noticed_by_the_digest(path: Path) -> None:
    await a_store(path, 10)
    rewrite(path, b"keys", b"row/0003", encode_row(b"row/0003", b"yesterday"))
    report = verify_lmdb(path)
    assert ([each.kind for each in report.findings], report.broken) == (["rows"], True)
    dirty(path)
    with pytest.raises(StoreDamaged, match="some are missing or of an earlier commit"):
        async with open_lmdb(path):
            pass


async def test_a_damaged_row_that_was_written_anew_is_no_longer_news(path: Path) -> None:
    await a_store(path, 10)
    rewrite(path, b"keys", b"row/0003", b"\x01garbage")
    async with open_lmdb(path) as store:
        with pytest.raises(Damaged):
            store.get(b"row/0003")
        await store.commit([Put(b"row/0003", b"written anew")])
        await store.commit([Put(b"row/0004", b"another")])
    assert verify_lmdb(path).sound
    dirty(path)
    async with open_lmdb(path):
        pass  # which looked at everything, and knows the digest again
    rewrite(path, b"keys", b"row/0003", encode_row(b"row/0003", b"yesterday"))
    assert [each.kind for each in verify_lmdb(path).findings] == ["rows"]


async def test_damaged_records_and_rows_are_listed_by_name_and_leave_gaps(path: Path) -> None:
    await a_store(path, 10)
    for seq in (3, 7):
        raw = bytearray(rewrite(path, b"streams", record(seq), b""))
        raw[-1] ^= 1
        rewrite(path, b"streams", record(seq), bytes(raw))
    rewrite(path, b"streams", record(5, b"t"), None)
    rewrite(path, b"keys", b"row/0002", b"")
    report = verify_lmdb(path)
    assert [(each.kind, each.stream, each.seq, each.key) for each in report.findings] == [
        ("record", b"s", 3, None),
        ("record", b"s", 7, None),
        ("record", b"t", 5, None),
        ("record", b"t", 6, None),  # what it continues is gone
        ("row", None, None, b"row/0002"),
    ]
    assert not report.broken
    target = path.parent / "saved"
    assert repair_lmdb(path, target).found == 5
    async with open_lmdb(target) as store:
        assert store.entry(b"s", 4) == Entry(4, 1, 1, b"record 4 " * 9)
        with pytest.raises(Damaged, match="lost before a repair: its checksum"):
            store.entry(b"s", 3)
        assert await store.commit([Append(b"t", 2, b"goes on")]) == (11,)
        assert store.get(b"row/0002") is None
    after = verify_lmdb(target)
    assert after.sound
    assert [each.kind for each in after.findings] == ["gap"] * 4


async def test_a_repair_refuses_a_living_store_and_a_full_directory(path: Path) -> None:
    await a_store(path, 10)
    async with open_lmdb(path):
        with pytest.raises(StoreInUse, match="stop its owner"):
            repair_lmdb(path, path.parent / "saved")
    (path.parent / "saved").mkdir()
    (path.parent / "saved" / "x").write_text("x")
    (path.parent / "file").write_text("x")
    for there in ("saved", "file"):
        with pytest.raises(StoreMisuse, match="nothing is overwritten"):
            repair_lmdb(path, path.parent / there)
    with pytest.raises(StoreUnreadable, match="cannot make the directory"):
        repair_lmdb(path, path.parent / "file" / "below")
    with pytest.raises(StoreUnreadable):
        verify_lmdb(path.parent / "file")
    with pytest.raises(StoreUnreadable):
        repair_lmdb(path.parent / "absent", path.parent / "other")
    assert not (path.parent / "other").exists()
