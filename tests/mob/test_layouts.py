"""What a mob stores: frozen bytes of its records and of its roster's rows."""

from __future__ import annotations

from typing import Any

import pytest

from mob.comms.records import COMMS_RECORDS
from mob.flows.records import FLOW_RECORDS
from mob.records import (
    MOB_RECORDS,
    BlueprintAdopted,
    BoardTaskAdded,
    BoardTaskBlocked,
    BoardTaskMoved,
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
    RunReported,
)
from mob.roster import Roster
from runtime.errors import WrittenLater
from runtime.ids import SessionId
from runtime.records import RUNTIME_RECORDS, SessionForked
from runtime.state import RealmState

#: Those of comms and of flows are in files of their own, such as tests/mob/comms/test_layouts.py.
TYPES = {each.cls: each for each in MOB_RECORDS if each not in (*COMMS_RECORDS, *FLOW_RECORDS)}
EXAMPLES: list[Any] = [
    MobCreated("team", "{}", 1),
    BlueprintAdopted('{"a":1}', 2),
    MobStateChanged("stopped", "asked to", 3),
    MemberSpawned("worker-0", "worker", SessionId("s1"), 2, 4),
    MemberExited("worker-0", SessionId("s1"), "boom", 0.5, 5),
    RunReported("key", 6),
    MemberRetired("worker-0", "enough", 7),
    MemberRespawned("worker-0", "writer", SessionId("s2"), 3, "worn out", 11),
    BoardTaskAdded("t2", "dig", "deep", ("t1",), "k", 8),
    BoardTaskMoved("t2", "claim", "claimed", "worker-0", "", None, 9),
    BoardTaskBlocked("t2", ("t1",), None, 10),
]

#: Kind number and bytes of version 1, as stored: see tests/runtime/test_records.py.
VERSION_1: dict[type, tuple[int, str]] = {
    MobCreated: (32, "83a66d6f625f6964a47465616da9626c75657072696e74a27b7da561745f6e7301"),
    BlueprintAdopted: (33, "82a9626c75657072696e74a77b2261223a317da561745f6e7302"),
    MobStateChanged: (
        34,
        "83a57374617465a773746f70706564a6726561736f6ea861736b656420746fa561745f6e7303",
    ),
    MemberSpawned: (
        35,
        "85a46e616d65a8776f726b65722d30a770726f66696c65a6776f726b6572aa73657373696f6e5f6964a27331aa67656e65726174696f6e02a561745f6e7304",
    ),
    MemberExited: (
        37,
        "85a46e616d65a8776f726b65722d30aa73657373696f6e5f6964a27331a56361757365a4626f6f6dac726573746172745f696e5f73cb3fe0000000000000a561745f6e7305",
    ),
    RunReported: (38, "82a36b6579a36b6579a561745f6e7306"),
    MemberRetired: (36, "83a46e616d65a8776f726b65722d30a6726561736f6ea6656e6f756768a561745f6e7307"),
    MemberRespawned: (
        39,
        "86a46e616d65a8776f726b65722d30a770726f66696c65a6777269746572aa73657373696f6e5f6964a27332aa67656e65726174696f6e03a6726561736f6ea8776f726e206f7574a561745f6e730b",
    ),
    BoardTaskAdded: (
        72,
        "86a77461736b5f6964a27432a57469746c65a3646967a664657461696ca464656570aa626c6f636b65645f627991a27431a36b6579a16ba561745f6e7308",
    ),
    BoardTaskMoved: (
        73,
        "87a77461736b5f6964a27432a476657262a5636c61696da57374617465a7636c61696d6564a56f776e6572a8776f726b65722d30a6726573756c74a0a36b6579c0a561745f6e7309",
    ),
    BoardTaskBlocked: (
        74,
        "84a77461736b5f6964a27432aa626c6f636b65645f627991a27431a36b6579c0a561745f6e730a",
    ),
}

#: The roster's rows in layout 1, while the member is there and after it has left.
MEMBERS_1: dict[bytes, str] = {
    b"exits": "92019195a8776f726b65722d30a27331a4626f6f6dcb3fe000000000000005",
    b"member/worker-0": "9701a8776f726b65722d30a6776f726b6572a273310201a4626f6f6d",
    b"mob": "9601a47465616da77b2261223a317d01a773746f7070656491a36b6579",
}
RETIRED_1: dict[bytes, str] = {
    b"exits": "92019195a8776f726b65722d30a27331a4626f6f6dcb3fe000000000000005",
    b"member/worker-0": "9301a8776f726b65722d30a27331",
    b"mob": "9601a47465616da77b2261223a317d01a773746f7070656491a36b6579",
}


def test_every_record_has_an_example() -> None:
    assert set(TYPES) == set(map(type, EXAMPLES)) == set(VERSION_1)


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_the_bytes_of_version_1_never_change(record: Any) -> None:
    record_type = TYPES[type(record)]
    kind, stored = VERSION_1[type(record)]
    assert (record_type.kind, record_type.version) == (kind, 1)
    assert record_type.unpack(bytes.fromhex(stored)) == record
    assert record_type.pack(record).hex() == stored


def a_roster(*records: Any) -> Roster:
    state = RealmState()
    roster = Roster(state)
    for seq, record in enumerate(records, 1):
        state.apply(seq, record)
    return roster


def rows(roster: Roster) -> dict[bytes, bytes]:
    return {name: row for name, row in roster.changed() if row is not None}


@pytest.mark.parametrize(
    ("records", "layout"),
    [(EXAMPLES[:6], MEMBERS_1), (EXAMPLES[:7], RETIRED_1)],
    ids=["member", "retired"],
)
def test_the_rows_of_a_roster_never_change(records: list[Any], layout: dict[bytes, str]) -> None:
    roster = a_roster(*records)
    assert {name: row.hex() for name, row in rows(roster).items()} == layout
    loaded = a_roster()
    for name, row in layout.items():
        loaded.load(name, bytes.fromhex(row))
    for field in ("mob_id", "blueprint", "created_at_ns", "mob_state", "reported", "members"):
        assert getattr(loaded, field) == getattr(roster, field)
    assert loaded.retired == roster.retired


def test_a_row_from_a_later_version_is_refused() -> None:
    with pytest.raises(WrittenLater, match="upgrade trio-mob"):
        a_roster().load(b"mob", b"\x92\x02\xa4team")


def test_a_fork_of_a_helper_says_whose_it_is() -> None:
    """CONTRACTS 6.9: frozen; a fork of nobody's is stored as before."""
    stored = bytes.fromhex(
        "89aa73657373696f6e5f6964a27339a6736f75726365a27331a57469746c65a3617e31a46865616428a57475726e7307a5746f74616c0ea56c696e6b73940c032804a561745f6e7312a86167656e745f6964a3617e31"
    )
    (forks,) = [each for each in RUNTIME_RECORDS if each.cls is SessionForked]
    forked = forks.unpack(stored)
    assert forked.agent_id == "a~1"
    assert forks.pack(forked) == stored
