"""Bytes and transactions: append-only streams and keys under one commit, and two engines.

`stores.base` is the port that the floors above are written against, `open_lmdb` and `open_memory`
are the engines; `stores.conformance` is the suite that an engine of your own should pass. What
needs more than the port is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stores.base import (
    MAX_KEY_BYTES,
    Append,
    Batch,
    Committed,
    Delete,
    Entry,
    Erase,
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
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreInUse,
    StoreLost,
    StoreMisuse,
    StoreUnavailable,
    StoreUnreadable,
)

if TYPE_CHECKING:
    from stores.backup import backup_lmdb, restore_lmdb
    from stores.doctor import repair_lmdb, verify_lmdb
    from stores.lmdb import LmdbStore, open_lmdb, read_lmdb
    from stores.memory import MemoryDisk, MemoryStore, open_memory
    from stores.verify import Finding, Report
    from stores.writer import Incident

#: Where a name lives that is imported when it is first asked for: an engine costs its libraries,
#: and the process that looks at an unclean store needs none of them.
_LAZY = {
    "Finding": "stores.verify",
    "Incident": "stores.writer",
    "LmdbStore": "stores.lmdb",
    "MemoryDisk": "stores.memory",
    "MemoryStore": "stores.memory",
    "Report": "stores.verify",
    "backup_lmdb": "stores.backup",
    "open_lmdb": "stores.lmdb",
    "open_memory": "stores.memory",
    "read_lmdb": "stores.lmdb",
    "repair_lmdb": "stores.doctor",
    "restore_lmdb": "stores.backup",
    "verify_lmdb": "stores.doctor",
}

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
    "Erase",
    "Expect",
    "Finding",
    "Incident",
    "LmdbStore",
    "MemoryDisk",
    "MemoryStore",
    "Operation",
    "Put",
    "Report",
    "Store",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreInUse",
    "StoreLost",
    "StoreMisuse",
    "StoreUnavailable",
    "StoreUnreadable",
    "Ticket",
    "backup_lmdb",
    "open_lmdb",
    "open_memory",
    "read_lmdb",
    "repair_lmdb",
    "restore_lmdb",
    "verify_lmdb",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
