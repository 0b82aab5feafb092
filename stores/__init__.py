"""Bytes and transactions: append-only streams and keys under one commit, and two engines.

`stores.base` is the port that the floors above are written against, `open_lmdb` and `open_memory`
are the engines; `stores.conformance` is the suite that an engine of your own should pass. The
LMDB engine is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stores.base import (
    MAX_KEY_BYTES,
    Append,
    Batch,
    Committed,
    Delete,
    Entry,
    Expect,
    Operation,
    Put,
    Store,
    Ticket,
)
from stores.errors import (
    CommitUnknown,
    Conflict,
    Damaged,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreInUse,
    StoreMisuse,
    StoreUnavailable,
    StoreUnreadable,
)
from stores.memory import MemoryStore, open_memory

if TYPE_CHECKING:
    from stores.lmdb import open_lmdb, read_lmdb

__all__ = [
    "MAX_KEY_BYTES",
    "Append",
    "Batch",
    "CommitUnknown",
    "Committed",
    "Conflict",
    "Damaged",
    "Delete",
    "Entry",
    "Expect",
    "MemoryStore",
    "Operation",
    "Put",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreInUse",
    "StoreMisuse",
    "StoreUnavailable",
    "StoreUnreadable",
    "Ticket",
    "open_lmdb",
    "open_memory",
    "read_lmdb",
]


def __getattr__(name: str) -> Any:
    if name in ("open_lmdb", "read_lmdb"):
        from stores import lmdb

        return getattr(lmdb, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
