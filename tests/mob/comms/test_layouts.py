"""What comms store: frozen bytes of the records and of the rows."""

from __future__ import annotations

from typing import Any

import pytest

from mob.comms.graph import Graph
from mob.comms.records import (
    COMMS_RECORDS,
    MembersUnwired,
    MembersWired,
    RequestSent,
    RequestSettled,
    Settled,
)
from mob.comms.requests import OpenRequest, RequestBook, RequestEnd
from runtime.ids import InputId
from runtime.points import unmarked
from runtime.state import RealmState

_ID = InputId("i1")
TYPES = {each.cls: each for each in COMMS_RECORDS}
EXAMPLES: list[Any] = [
    MembersWired((("a", "b"), ("b", "a")), 1),
    MembersUnwired((("a", "b"),), 2),
    RequestSent(_ID, None, "b", 9, 3),
    RequestSettled(_ID, Settled.REPLIED, "yes", 4),
]

#: Kind number and bytes of version 1, as stored: see tests/runtime/test_records.py.
VERSION_1: dict[type, tuple[int, str]] = {
    MembersWired: (48, "82a570616972739292a161a16292a162a161a561745f6e7301"),
    MembersUnwired: (49, "82a570616972739192a161a162a561745f6e7302"),
    RequestSent: (
        50,
        "85aa726571756573745f6964a26931a673656e646572c0a2746fa162ab646561646c696e655f6e7309a561745f6e7303",
    ),
    RequestSettled: (
        51,
        "84aa726571756573745f6964a26931a3686f77a77265706c696564a474657874a3796573a561745f6e7304",
    ),
}

#: The rows in layout 1: of the graph, of an open request, of one that has ended.
GRAPH_1 = {b"a": "9301a1619192a162c2", b"b": "9301a1629192a161c3"}
OPEN_1 = "9501a26931c0a16209"
OPEN_1_PLACED = "9601a26931c0a1620901"  # as it is written since its place among the others is in it
ENDED_1 = "9701a26931c0a16209a77265706c696564a3796573"


def test_every_record_has_an_example() -> None:
    assert set(TYPES) == set(map(type, EXAMPLES)) == set(VERSION_1)


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_the_bytes_of_version_1_never_change(record: Any) -> None:
    record_type = TYPES[type(record)]
    kind, stored = VERSION_1[type(record)]
    assert (record_type.kind, record_type.version) == (kind, 1)
    assert record_type.unpack(bytes.fromhex(stored)) == record
    assert record_type.pack(record).hex() == stored


def _told(*records: Any) -> tuple[Graph, RequestBook]:
    state = RealmState()
    graph, book = Graph(state), RequestBook(state)
    for seq, record in enumerate(records, 1):
        state.apply(seq, record)
    return graph, book


def test_the_rows_of_the_graph_never_change() -> None:
    """CONTRACTS 6.9."""
    graph, _ = _told(*EXAMPLES[:2])
    rows = {name: row.hex() for name, row in graph.changed() if row is not None}
    assert rows == GRAPH_1
    loaded, _ = _told()
    for name, row in rows.items():
        loaded.load(name, bytes.fromhex(row))
    assert loaded.pairs() == graph.pairs() == {("a", "b"): False, ("b", "a"): True}


def test_the_rows_of_requests_never_change() -> None:
    """CONTRACTS 6.9."""
    _, book = _told(EXAMPLES[2])
    rows = [(name, row and row.hex()) for name, row in book.changed()]
    assert rows == [(b"i1", OPEN_1_PLACED)]
    for row in (OPEN_1, OPEN_1_PLACED):
        _, loaded = _told()
        loaded.load(b"i1", bytes.fromhex(row))
        loaded.loaded()
        assert loaded.open == book.open == {_ID: OpenRequest(_ID, None, "b", 9)}
    _, book = _told(*EXAMPLES[2:])
    assert list(book.changed()) == [(b"i1", None)]
    ((name, row),) = book.ends()
    assert row is not None
    assert (name, unmarked(row)) == (b"i1", (bytes.fromhex(ENDED_1), 2))  # record 2 ended it
    book.ends()
    assert book.end(_ID) is None
    book.lookup = {_ID: bytes.fromhex(ENDED_1)}.get
    assert book.end(_ID) == RequestEnd(OpenRequest(_ID, None, "b", 9), Settled.REPLIED, "yes")
