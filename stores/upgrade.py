"""The shell around `stores.migrations`: walks a store, resumes, flips the version last.

Owns: the `migrating` row, the transactions of a migration. Must not: know what a step does.

Each commit holds the writes of one batch and, in the `migrating` row, how far it got; so a killed
migration goes on where its last commit left it. The version is flipped in a commit of its own,
after everything else is durable: until then the older program can still open the store. If it
did, and wrote, the number of the last commit shows it and the migration begins anew.
"""

from __future__ import annotations

from typing import Final

import lmdb
import msgpack

from stores.codec import MARK_KEY, Mark
from stores.migrations import STEPS, Item, Step

#: Items of a batch: a transaction of some milliseconds and some megabytes.
BATCH: Final = 5000

_MIGRATING: Final = b"migrating"


def upgrade(env: lmdb.Environment, target: int, name: bytes) -> None:
    """Bring the store in `env` to format `target`, whose `format` row begins with `name`.

    The mark of this opening has just been written. Raises what LMDB does; what was committed by
    then is taken up by the next opening.
    """
    with env.begin() as txn:
        form = int((txn.get(b"format") or b"").rpartition(b" ")[2])
    for step in STEPS[form - 1 : target - 1]:
        progress = _progress(env, step)
        while progress.database < len(step.reads):
            _convert(env, step, progress)
        with env.begin(write=True) as txn:
            mark = Mark.decode(txn.get(MARK_KEY) or b"")
            txn.put(MARK_KEY, step.finish(progress.state, mark).encode())
            txn.put(b"format", name + b" %d" % (step.source + 1))
            txn.delete(_MIGRATING)


class _Progress:
    """How far a step got: the database it reads, the last key done there, its state."""

    def __init__(self, database: int = 0, after: bytes = b"", state: bytes = b"") -> None:
        self.database = database
        self.after = after
        self.state = state

    def pack(self, source: int, txn: int) -> bytes:
        packed: bytes = msgpack.packb((source, txn, self.database, self.after, self.state))
        return packed


def _progress(env: lmdb.Environment, step: Step) -> _Progress:
    """Where an earlier run of `step` stopped, if nobody but an opening has committed since."""
    with env.begin() as txn:
        raw = txn.get(_MIGRATING)
    if raw is None:
        return _Progress()
    source, at, database, after, state = msgpack.unpackb(raw)
    last: int = env.info()["last_txnid"]
    if (source, at) != (step.source, last - 1):
        return _Progress()
    return _Progress(database, after, state)


def _convert(env: lmdb.Environment, step: Step, progress: _Progress) -> None:
    """Do one batch of `step` in one commit, and move `progress` behind it."""
    database = step.reads[progress.database]
    with env.begin(write=True) as txn:
        for made in step.creates:
            env.open_db(made, txn=txn)
        items = _batch(txn, env.open_db(database, txn=txn, create=False), progress.after)
        progress.state, writes = step.convert(progress.state, database, items)
        for write in writes:
            txn.put(write.key, write.value, db=env.open_db(write.database, txn=txn))
        if len(items) < BATCH:
            progress.database, progress.after = progress.database + 1, b""
        else:
            progress.after = items[-1][0]
        txn.put(_MIGRATING, progress.pack(step.source, txn.id()))


def _batch(txn: lmdb.Transaction[bytes], database: lmdb._Database, after: bytes) -> list[Item]:
    cursor = txn.cursor(database)
    found = cursor.set_range(after) if after else cursor.first()
    if found and after and cursor.key() == after:
        found = cursor.next()
    items: list[Item] = []
    while found and len(items) < BATCH:
        items.append(cursor.item())
        found = cursor.next()
    return items
