"""The wiring as it was changed at run time: a fold of the mob's journal. Pure.

Owns: what was last said of each pair of members, `Graph`. Must not: know what the mob file says of
them, or decide (`mob.comms.routing` does).

A pair is directed; an undirected edge is two. With a member that leaves goes everything that was
said of it, in both directions, so one of the same name that joins later begins from the mob file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mob.comms.records import MembersUnwired, MembersWired
from mob.folding import fold_on
from mob.records import MemberRetired
from runtime.heads import pack_row, unpack_row
from runtime.state import RealmState


class Graph:
    """What was said of pairs at run time. Work per record is that of its pairs."""

    def __init__(self, state: RealmState) -> None:
        self._from: dict[str, dict[str, bool]] = {}
        #: Who has something to say of a recipient: so that its leaving finds them.
        self._to: dict[str, dict[str, None]] = {}
        self._changed: set[str] = set()
        fold_on(state, MembersWired, lambda _, record: self._say(record.pairs, open_=True))
        fold_on(state, MembersUnwired, lambda _, record: self._say(record.pairs, open_=False))
        fold_on(state, MemberRetired, lambda _, record: self._left(record.name))

    def said(self, sender: str, recipient: str) -> bool | None:
        """What was last said of the pair; None if nothing was."""
        return self._from[sender].get(recipient) if sender in self._from else None

    def of(self, sender: str) -> Mapping[str, bool]:
        """What was said of messages from `sender`, by recipient."""
        return self._from.get(sender, {})

    def __len__(self) -> int:
        return len(self._from)

    def pairs(self) -> dict[tuple[str, str], bool]:
        """Everything that was said."""
        return {
            (sender, recipient): said
            for sender, to in self._from.items()
            for recipient, said in to.items()
        }

    def _say(self, pairs: tuple[tuple[str, str], ...], *, open_: bool) -> None:
        for sender, recipient in pairs:
            self._from.setdefault(sender, {})[recipient] = open_
            self._to.setdefault(recipient, {})[sender] = None
            self._changed.add(sender)

    def _left(self, name: str) -> None:
        for recipient in self._from.pop(name, ()):
            del self._to[recipient][name]
            if not self._to[recipient]:
                del self._to[recipient]
            self._changed.add(name)
        for sender in self._to.pop(name, ()):
            del self._from[sender][name]
            if not self._from[sender]:
                del self._from[sender]
            self._changed.add(sender)

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write, one for each sender."""
        names, self._changed = self._changed, set()
        for name in sorted(names):
            said = self._from.get(name)
            yield name.encode(), None if not said else pack_row(name, [*said.items()])

    def load(self, _name: bytes, row: bytes) -> None:
        """Take a row back."""
        sender, said = unpack_row(row)
        self._from[sender] = dict(said)
        for recipient in self._from[sender]:
            self._to.setdefault(recipient, {})[sender] = None

    def clear(self) -> None:
        """Forget everything: other rows are loaded next."""
        self._from.clear()
        self._to.clear()
        self._changed.clear()

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(name.decode())
