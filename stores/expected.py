"""What the suite for engines believes of a store.

Owns: the model: streams and rows in plain dictionaries. Must not: know an engine.
"""

from __future__ import annotations

import attrs

from stores.base import Append, Delete, Entry, Erase, Expect, Operation, Put


@attrs.define
class Model:
    """What a store holds, in plain dictionaries."""

    entries: dict[bytes, list[Entry]] = attrs.Factory(dict)
    rows: dict[bytes, bytes] = attrs.Factory(dict)

    def after(self, batch: list[Operation]) -> tuple[Model, tuple[int, ...] | None]:
        """The model with `batch` applied and its sequence numbers; itself and None on conflict."""
        for operation in batch:
            if isinstance(operation, Expect) and self.rows.get(operation.key) != operation.value:
                return self, None
        new = Model({name: list(entries) for name, entries in self.entries.items()}, {**self.rows})
        for operation in batch:
            if isinstance(operation, Erase):
                new._erase(operation)
        sequences = [new._apply(operation) for operation in batch]
        return new, tuple(seq for seq in sequences if seq)

    def _erase(self, operation: Erase) -> None:
        entries = self.entries.get(operation.stream, [])
        if operation.seq <= len(entries):
            entries[operation.seq - 1] = Entry(operation.seq, 0, 0, b"")

    def _apply(self, operation: Operation) -> int:
        if isinstance(operation, Append):
            entries = self.entries.setdefault(operation.stream, [])
            seq = len(entries) + 1
            entries.append(Entry(seq, operation.kind, operation.version, operation.payload))
            return seq
        if isinstance(operation, Put):
            self.rows[operation.key] = operation.value
        elif isinstance(operation, Delete):
            self.rows.pop(operation.key, None)
        return 0
