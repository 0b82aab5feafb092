"""Opening a store to look into it, whoever owns it at the moment.

Owns: the reader that `ls`, `show` and `tree` share, and what they say alike. Must not: write.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mob.addresses import Address
from mob.app import StoredMob, stored_mob, stored_mobs
from mob.cli.options import existing_store
from mob.cli.output import narrate
from mob.view import MobView, mob_view
from runtime.errors import RecordUnreadable
from runtime.results import last_text
from runtime.session import SessionHead
from stores import Damaged, Store, read_lmdb


@contextmanager
def looking_into(state: Path) -> Iterator[Store]:
    """The store in `state`, for reading; it may belong to a running process.

    Raises:
        NothingThere: there is no store.
        StoreUnreadable: there is something else.
    """
    with read_lmdb(existing_store(state)) as store:
        yield store


def every_mob(store: Store) -> list[StoredMob]:
    """All mobs of a store, read whole."""
    return [stored_mob(store, mob_id) for mob_id in stored_mobs(store)]


def whole_view(stored: StoredMob) -> MobView:
    """A stored mob as a tree, every child shown."""

    def words(head: SessionHead) -> str:
        if not head.head or head.quarantined is not None:
            return ""
        try:
            return last_text(stored.journal.turn(head.head))
        except (Damaged, RecordUnreadable) as error:
            stored.state.quarantine(head.session_id, f"its history cannot be read: {error}")
            return ""

    return mob_view(stored.mob_id, stored.state, stored.roster, words=words, finished=None)


def labels_of(stored: StoredMob) -> dict[str, str]:
    """The labels that the mob's file gives it."""
    labels: dict[str, str] = json.loads(stored.roster.blueprint or "{}").get("labels", {})
    return labels


def say_when(stored: StoredMob, address: Address) -> None:
    """Say of what is shown that it is over."""
    if address.at is not None:
        narrate(f"mob: {stored.mob_id!r} as it was at record {stored.last}")


def updated_ns(stored: StoredMob) -> int:
    """When the last record about a session or the mob itself was written."""
    heads = (head.updated_at_ns for head in stored.state.heads.values())
    return max(heads, default=stored.roster.created_at_ns)


def when(at_ns: int) -> str:
    """A time as people here read it."""
    here = datetime.datetime.fromtimestamp(at_ns / 1e9, tz=datetime.UTC).astimezone()
    return here.strftime("%Y-%m-%d %H:%M:%S")
