"""The rows of sessions, keys and snapshots: frozen bytes of every layout there was."""

from __future__ import annotations

import attrs
import msgpack
import pytest

from runtime.heads import FORMAT, pack_head, pack_row, unpack_head, unpack_row
from runtime.ids import AgentId, HarnessId, InputId, RunId, SessionId
from runtime.messages import AssistantMessage, Usage, UserMessage
from runtime.session import (
    Branch,
    CutTurn,
    Lifetime,
    Lineage,
    PartialTurn,
    PendingInput,
    Session,
    SessionHead,
    SessionSpec,
    SessionStatus,
    Task,
    TaskState,
)
from runtime.store import FORMAT as SNAPSHOT_FORMAT
from runtime.store import StoredSessions
from stores import MemoryStore, Put
from tests.runtime.fakes import REALM, call

HEAD = SessionHead(
    SessionId("s1"),
    HarnessId("researcher"),
    AgentId("r-0"),
    "title",
    "en",
    Lineage(SessionId("p"), SessionId("f"), 7, SessionId("b"), 2),
    SessionSpec("sim:echo", "be brief", "{}", 3, {"temperature": 0.5}),
    11,
    12,
    spawn_key="p:run:c1",
    head=40,
    turns=7,
    message_count=14,
    usage=Usage(1, 2, 3, 4),
    status=SessionStatus.ACTIVE,
    inputs={InputId("i1"): PendingInput(InputId("i1"), "gr\u00fc\u00df dich", "lead", "k")},
    partial=PartialTurn(
        RunId("u1"),
        (InputId("i1"),),
        [UserMessage("hi", "lead"), AssistantMessage("", (call("c1", "add", "[1]"),), "sim:x")],
        Usage(1, 2, 3, 4),
        1,
        13,
    ),
    links=(12, 3, 40, 4),
    branches=(Branch(30, 5, 10, 9),),
    branch=2,
    tags=("a", "b"),
    applied=44,
)
PLAIN = SessionHead(
    SessionId("s2"), HarnessId("h"), None, None, None, Lineage(), SessionSpec(), 1, 2
)
SESSION = Session(
    SessionId("s1"),
    HarnessId("plain"),
    None,
    "title",
    "en",
    Lineage(SessionId("p"), None, 0, SessionId("p"), 1),
    SessionSpec("sim:echo", "be brief", None, 2, {"seed": 7}),
    1,
    2,
    SessionStatus.IDLE,
    5,
    1,
    Usage(1, 2, 3, 4),
    (UserMessage("hi"), AssistantMessage("hello")),
    ("a", "b"),
    3,
    9,
)

#: The rows above in layout 1. They must be readable for ever: rows that differ need a new layout,
#: and a function that understands this one, not a new fixture.
LAYOUT_1 = {
    "s1": (
        "dc001701a27331aa72657365617263686572a3722d30a57469746c65a2656e95a170a16607a16202"
        "85a56d6f64656ca873696d3a6563686fac696e737472756374696f6e73a86265206272696566ad6f"
        "75747075745f736368656d61a27b7dae6f75747075745f7265747269657303a76f7074696f6e7381"
        "ab74656d7065726174757265cb3fe00000000000000b0ca8703a72756e3a633128070e9401020304"
        "a66163746976659194a26931ab6772c3bcc39f2064696368a46c656164a16b96a2753191a2693192"
        "9301a26869a46c6561649502a09193a26331a3616464a35b315da573696d3a789400000000940102"
        "0304010d940c03280491941e050a090292a161a1622c"
    ),
    "s2": "dc001701a27332a168c0c0c0c0c00102c00000009400000000a773746172746564c0c09090009000",
}
SNAPSHOT_SEGMENT = "929301a26869c09502a568656c6c6f90c09400000000"
#: By layout; those of layout 0 had not said so, and the first of them listed their segments.
SNAPSHOTS = {
    0: (
        "83a773657373696f6ede0011aa73657373696f6e5f6964a27331aa6861726e6573735f6964a5706c"
        "61696ea86167656e745f6964c0a57469746c65a57469746c65a66c6f63616c65a2656ea76c696e65"
        "61676585a6706172656e74a170ab666f726b65645f66726f6dc0a8666f726b5f73657100ab627564"
        "6765745f726f6f74a170a5646570746801a47370656385a56d6f64656ca873696d3a6563686fac69"
        "6e737472756374696f6e73a86265206272696566ad6f75747075745f736368656d61c0ae6f757470"
        "75745f7265747269657302a76f7074696f6e7381a47365656407ad637265617465645f61745f6e73"
        "01ad757064617465645f61745f6e7302a6737461747573a469646c65a46865616405a57475726e73"
        "01a5757361676584ac696e7075745f746f6b656e7301ad6f75747075745f746f6b656e7302ab6d6f"
        "64656c5f63616c6c7303aa746f6f6c5f63616c6c7304a86d6573736167657390a47461677392a161"
        "a162a66272616e636803a87265766973696f6e09a87365676d656e74739102a47461696cce242d66"
        "9e"
    ),
    1: (
        "85a6666f726d617401a773657373696f6ede0011aa73657373696f6e5f6964a27331aa6861726e65"
        "73735f6964a5706c61696ea86167656e745f6964c0a57469746c65a57469746c65a66c6f63616c65"
        "a2656ea76c696e6561676585a6706172656e74a170ab666f726b65645f66726f6dc0a8666f726b5f"
        "73657100ab6275646765745f726f6f74a170a5646570746801a47370656385a56d6f64656ca87369"
        "6d3a6563686fac696e737472756374696f6e73a86265206272696566ad6f75747075745f73636865"
        "6d61c0ae6f75747075745f7265747269657302a76f7074696f6e7381a47365656407ad6372656174"
        "65645f61745f6e7301ad757064617465645f61745f6e7302a6737461747573a469646c65a4686561"
        "6405a57475726e7301a5757361676584ac696e7075745f746f6b656e7301ad6f75747075745f746f"
        "6b656e7302ab6d6f64656c5f63616c6c7303aa746f6f6c5f63616c6c7304a86d6573736167657390"
        "a47461677392a161a162a66272616e636803a87265766973696f6e09a87365676d656e747301a563"
        "6f756e7402a47461696cce242d669e"
    ),
}


@pytest.mark.parametrize("head", [HEAD, PLAIN], ids=lambda head: head.session_id)
def test_the_row_of_a_session_never_changes(head: SessionHead) -> None:
    assert FORMAT == 1
    stored = bytes.fromhex(LAYOUT_1[head.session_id])
    assert unpack_head(stored) == head
    assert pack_head(head) == stored


def test_a_turn_in_flight_says_when_its_calls_were_made_if_it_knows() -> None:
    """Rows of older versions do not: a field more than theirs is packed only if there is something
    to say."""
    assert HEAD.partial is not None
    called = attrs.evolve(HEAD, partial=attrs.evolve(HEAD.partial, called_at_ns=14))
    stored = bytes.fromhex(LAYOUT_1["s1"]).replace(b"\x96\xa2u1", b"\x97\xa2u1")
    stored = stored.replace(b"\x94\x01\x02\x03\x04\x01\x0d", b"\x94\x01\x02\x03\x04\x01\x0d\x0e")
    assert pack_head(called) == stored
    assert unpack_head(stored) == called
    with pytest.raises(ValueError, match="unpack"):
        unpack_head(
            stored.replace(b"\x97\xa2u1", b"\x98\xa2u1").replace(b"\x0d\x0e", b"\x0d\x0e\x0e")
        )


def test_the_other_rows_never_change() -> None:
    """Positions, keys and reasons: their fields, in order."""
    assert pack_row("k", "s1", "i1", 7, None).hex() == "9601a16ba27331a2693107c0"
    assert unpack_row(bytes.fromhex("930105cd0100")) == (5, 256)


#: A background child, the only heads of layout 2.
TASKED = attrs.evolve(
    PLAIN,
    session_id=SessionId("s3"),
    task=Task(Lifetime.DETACHED, TaskState.CANCELLED, 7, "no", 9),
)
LAYOUT_2 = (
    "dc001902a27333a168c0c0c0c0c00102c00000009400000000a773746172746564c0c09090009000"
    "0095a86465746163686564a963616e63656c6c656407a26e6f09"
)


def test_the_row_of_a_background_child_never_changes() -> None:
    stored = bytes.fromhex(LAYOUT_2)
    assert unpack_head(stored) == TASKED
    assert pack_head(TASKED) == stored


#: Heads with an external id, the only ones of layout 4: without a task, and with one.
TRACKED = {
    name: attrs.evolve(head, session_id=SessionId(name), external_id="ticket-7", active_ns=5)
    for name, head in (("s4", PLAIN), ("s5", TASKED))
}
LAYOUT_4 = {
    "s4": (
        "dc001c04a27334a168c0c0c0c0c00102c00000009400000000a773746172746564c0c09090009000"
        "05c0c090a87469636b65742d37"
    ),
    "s5": (
        "dc001c04a27335a168c0c0c0c0c00102c00000009400000000a773746172746564c0c09090009000"
        "0595a86465746163686564a963616e63656c6c656407a26e6f09c090a87469636b65742d37"
    ),
}


@pytest.mark.parametrize("name", TRACKED)
def test_the_row_of_a_session_that_is_tracked_elsewhere_never_changes(name: str) -> None:
    """CONTRACTS 2.1."""
    stored = bytes.fromhex(LAYOUT_4[name])
    assert unpack_head(stored) == TRACKED[name]
    assert pack_head(TRACKED[name]) == stored


#: Heads of sessions that ended in a turn, the only ones of layout 5: plain, and with all there is.
CUT = {
    name: attrs.evolve(
        head,
        session_id=SessionId(name),
        external_id=called,
        active_ns=5,
        status=SessionStatus.ARCHIVED,
        cut=CutTurn(RunId("u1"), Usage(1, 2, 3, 4), 5),
    )
    for name, head, called in (("s6", PLAIN, None), ("s7", TASKED, "ticket-7"))
}
LAYOUT_5 = {
    "s6": (
        "dc001d05a27336a168c0c0c0c0c00102c00000009400000000a86172636869766564c0c090900090"
        "0005c0c090c093a27531940102030405"
    ),
    "s7": (
        "dc001d05a27337a168c0c0c0c0c00102c00000009400000000a86172636869766564c0c090900090"
        "000595a86465746163686564a963616e63656c6c656407a26e6f09c090a87469636b65742d3793a2"
        "7531940102030405"
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_the_row_of_a_session_that_ended_in_a_turn_never_changes(name: str) -> None:
    """CONTRACTS 2.1, 6.15: what that turn had spent is in it."""
    stored = bytes.fromhex(LAYOUT_5[name])
    assert unpack_head(stored) == CUT[name]
    assert pack_head(CUT[name]) == stored


def test_a_head_of_one_layout_with_the_fields_of_another_is_none() -> None:
    """None is a guess: with an external id it is of layout 4, with a task of 2, else of 1; of 5 if
    it ended in a turn."""
    plain = msgpack.unpackb(pack_head(PLAIN))
    tasked = msgpack.unpackb(pack_head(TASKED))
    tracked = msgpack.unpackb(pack_head(TRACKED["s4"]))
    cut = msgpack.unpackb(pack_head(CUT["s6"]))
    for wrong in (
        [5, *tracked[1:]],
        [5, *cut[1:-1], None],
        [5, *cut[1:-2], 7, cut[-1]],
        [4, *cut[1:]],
        [2, *plain[1:]],
        [1, *tasked[1:]],
        [2, *tasked[1:-1]],
        [2, *tasked[1:-1], None],
        [2, *tracked[1:]],
        [4, *tasked[1:]],
        [3, *tracked[1:]],
        [4, *tracked[1:-1], None],
        [4, *tracked[1:-1], 7],
    ):
        with pytest.raises((ValueError, TypeError)):
            unpack_head(msgpack.packb(wrong))


@pytest.mark.parametrize("layout", SNAPSHOTS)
async def test_snapshots_of_every_layout_load(layout: int) -> None:
    store = MemoryStore()
    row, segment = b"snapshot/test/s1", b"snapshot-part/test/s1/\0\0\0\0"
    place = segment if layout else row + segment[-5:]
    await store.commit(
        [
            Put(row, bytes.fromhex(SNAPSHOTS[layout])),
            Put(place, bytes.fromhex(SNAPSHOT_SEGMENT)),
        ]
    )
    sessions = StoredSessions(store, REALM)
    assert await sessions.list() == ["s1"]
    assert await sessions.load(SESSION.session_id) == SESSION
    await sessions.save(SESSION)
    assert store.scan(b"") == [
        (segment, bytes.fromhex(SNAPSHOT_SEGMENT)),
        (row, bytes.fromhex(SNAPSHOTS[SNAPSHOT_FORMAT])),
    ]
