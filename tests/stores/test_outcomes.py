"""A commit that fails: what its waiters are told is what is on disk."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import pytest

import stores.files
from stores import (
    Append,
    CommitUnknown,
    Conflict,
    Expect,
    LmdbStore,
    Put,
    StoreError,
    StoreFailed,
    StoreFull,
    open_lmdb,
    verify_lmdb,
)


def an_error(code: int) -> lmdb.Error:
    error = lmdb.Error(os.strerror(code))
    error.code = code  # type: ignore[misc]
    return error


class Faulty:
    """An environment whose next write transactions fail with `errors`.

    An error `before` keeps the transaction from beginning; one `after` is raised by a commit that
    has worked, as when the answer of the disk is lost.
    """

    def __init__(
        self, env: lmdb.Environment, before: list[lmdb.Error], after: list[lmdb.Error]
    ) -> None:
        self._env = env
        self._before = before
        self._after = after

    def begin(self, *args: object, **options: Any) -> object:
        if options.get("write"):
            if self._before:
                raise self._before.pop(0)
            if self._after:
                return _LateError(self._env.begin(*args, **options), self._after)  # type: ignore[arg-type]
        return self._env.begin(*args, **options)  # type: ignore[call-overload]

    def __getattr__(self, name: str) -> object:
        return getattr(self._env, name)


class _LateError:
    def __init__(self, txn: lmdb.Transaction[bytes], errors: list[lmdb.Error]) -> None:
        self._txn = txn
        self._errors = errors

    def __enter__(self) -> lmdb.Transaction[bytes]:
        return self._txn.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._txn.__exit__(kind, error, traceback)
        raise self._errors.pop(0)

    def abort(self) -> None:
        self._txn.abort()


Break = Callable[..., None]


@pytest.fixture
def break_disk(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Make an open store's next write transactions fail, also after it was reopened."""

    def break_it(
        store: LmdbStore,
        before: list[lmdb.Error] | None = None,
        after: list[lmdb.Error] | None = None,
    ) -> None:
        before, after = before or [], after or []
        opened = stores.files._open_environment
        monkeypatch.setattr(
            "stores.files._open_environment",
            lambda path, size: Faulty(opened(path, size), before, after),
        )
        store._files.env = Faulty(store._files.env, before, after)  # type: ignore[assignment]

    return break_it


async def test_a_group_that_is_not_on_disk_is_committed_anew_and_that_is_told(
    path: Path, break_disk: Break, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"kept"), Put(b"k", b"1")])
        generation = store.generation
        break_disk(store, before=[an_error(errno.EIO)])
        called: list[tuple[int, ...]] = []
        with caplog.at_level(logging.WARNING):
            first = store.submit([Append(b"s", 1, b"second"), Put(b"k", b"2")], called.append)
            refused = store.submit([Expect(b"k", b"1")])
            assert await first.wait() == (2,)
            with pytest.raises(Conflict):
                await refused.wait()
        assert called == [(2,)]
        assert [incident.outcome for incident in store.incidents] == ["repeated"]
        assert "was not found on disk and was committed anew" in caplog.text
        assert store.generation == generation + 1
        assert await store.commit([Append(b"s", 1, b"third")]) == (3,)
    assert verify_lmdb(path).sound


async def test_a_group_that_is_on_disk_is_not_written_twice(path: Path, break_disk: Break) -> None:
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"kept"), Put(b"k", b"1")])
        break_disk(store, after=[an_error(errno.EIO)])
        called: list[tuple[int, ...]] = []
        first = store.submit([Append(b"s", 1, b"second"), Put(b"k", b"2")], called.append)
        refused = store.submit([Expect(b"k", b"1")])
        assert await first.wait() == (2,)
        with pytest.raises(Conflict):
            await refused.wait()
        assert called == [(2,)]
        assert [incident.outcome for incident in store.incidents] == ["found"]
        assert [entry.payload for entry in store.read(b"s")] == [b"kept", b"second"]
        assert await store.commit([Append(b"s", 1, b"third")]) == (3,)
    assert verify_lmdb(path).sound


@pytest.mark.parametrize(
    ("errors", "told", "later"),
    [
        ([an_error(errno.EIO)] * 4, StoreFailed, StoreFailed),
        ([an_error(errno.ENOSPC)] * 4, StoreFull, StoreFull),
        ([an_error(errno.EDQUOT)] * 4, StoreFull, StoreFull),
        (
            [an_error(errno.EIO), lmdb.PanicError("panic"), *[an_error(errno.EIO)] * 2],
            CommitUnknown,
            StoreFailed,
        ),
    ],
)
async def test_a_second_failure_leaves_a_store_that_only_reads_and_says_why(
    path: Path,
    break_disk: Break,
    errors: list[lmdb.Error],
    told: type[StoreError],
    later: type[StoreError],
) -> None:
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"kept")])
        break_disk(store, before=list(errors))
        with pytest.raises(told):
            await store.commit([Append(b"s", 1, b"lost")])
        with pytest.raises(later):
            store.submit([Append(b"s", 1, b"refused")])
        assert [incident.outcome for incident in store.incidents] == ["given up"]
        assert [entry.payload for entry in store.read(b"s")] == [b"kept"]
    break_disk(store)
    async with open_lmdb(path) as store:
        assert await store.commit([Append(b"s", 1, b"new")]) == (2,)
        assert [entry.payload for entry in store.read(b"s")] == [b"kept", b"new"]


async def test_a_store_that_cannot_be_opened_again_says_so(
    path: Path, break_disk: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"kept")])
        break_disk(store, before=[an_error(errno.EIO)])

        def refuse(path: str, size: int) -> lmdb.Environment:
            raise an_error(errno.EIO)

        monkeypatch.setattr("stores.files._open_environment", refuse)
        with pytest.raises(StoreFailed, match="nothing of the failed batches was kept"):
            await store.commit([Append(b"s", 1, b"lost")])
        with pytest.raises(StoreFailed, match="cannot read"):
            store.last(b"s")
    monkeypatch.undo()
    async with open_lmdb(path) as store:
        assert store.last(b"s") == 1
