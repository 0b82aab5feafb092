"""The journal's records: exact round trips, frozen bytes, and refusal of what does not fit."""

from __future__ import annotations

from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed, Verdict
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.errors import RecordUnreadable
from runtime.heads import pack_head
from runtime.ids import AgentId, HarnessId, InputId, RunId, SessionId
from runtime.journal import Journal
from runtime.ledger import InputsRequeued, RunApplied, RunApplyBoundary
from runtime.messages import (
    AssistantMessage,
    SystemMessage,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.particulars import SessionRespecified, SessionTracked
from runtime.points import Era, PointMade, RealmForked, RealmRewound, StateRows
from runtime.records import (
    RUNTIME_RECORDS,
    HookReported,
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    Record,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionLabelled,
    SessionMended,
    SessionRewound,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.session import (
    NO_LINEAGE,
    NO_SPEC,
    Compaction,
    Lifetime,
    Lineage,
    PeerCard,
    Provenance,
    SessionHead,
    SessionSpec,
    TaskState,
)
from stores import Append, MemoryStore
from tests.runtime import strategies
from tests.runtime.fakes import REALM, call

TYPES = {record_type.cls: record_type for record_type in RUNTIME_RECORDS}


@given(strategies.records)
def test_every_record_comes_back_equal(record: Record) -> None:
    record_type = TYPES[type(record)]
    assert record_type.unpack(record_type.pack(record)) == record


HEAD = SessionHead(
    SessionId("s1"), HarnessId("h"), None, "t", None, NO_LINEAGE, NO_SPEC, 1, 2, head=3, turns=1
)
SPEC = SessionSpec(
    "a:b",
    peer=PeerCard("ann", "counts", {"team": "x"}, ("fyi",), -1),
    provenance=Provenance("prod", "i1", "lmdb", 3),
    overrides={"shell": False},
    host_mode=True,
    price={"input": "0.15"},
)
EXAMPLES: list[Any] = [
    SessionCreated(
        SessionId("s1"),
        HarnessId("researcher"),
        AgentId("r-0"),
        "title",
        "en",
        Lineage(SessionId("p"), SessionId("f"), 7, SessionId("b"), 2),
        SessionSpec("sim:echo", "be brief", "{}", 3, {"temperature": 0.5}),
        "p:run:c1",
        11,
    ),
    SessionArchived(SessionId("s1"), "finished", 12),
    InputAccepted(SessionId("s1"), InputId("i1"), "grüß dich", "lead", None, 13),
    InputAbandoned(SessionId("s1"), InputId("i1"), "too late", 14),
    TurnProgressed(
        SessionId("s1"),
        RunId("u1"),
        (InputId("i1"),),
        (
            UserMessage("hi", "lead"),
            AssistantMessage("", (call("c1", "add", "[1]"),), "sim:x", Usage(1, 2, 3, 4)),
        ),
        Usage(1, 2, 3, 4),
        1,
        15,
    ),
    TurnEnded(
        SessionId("s1"),
        RunId("u1"),
        5,
        TurnOutcome.INTERRUPTED,
        (
            SystemMessage("be brief", "host"),
            ToolResult(call("c1").id, "add", "3", ToolOutcome.UNKNOWN),
        ),
        Usage(1, 2, 3, 4),
        (InputId("i1"), InputId("i2")),
        '{"n": 1}',
        "stop",
        16,
        17,
        7,
        14,
        -3,
        4,
    ),
    SessionForked(SessionId("s9"), SessionId("s1"), "a copy", 40, 7, 14, (12, 3, 40, 4), 18),
    SessionRewound(SessionId("s1"), 12, 3, 6, (12, 3), 1, 19),
    SessionLabelled(SessionId("s1"), None, ("a", "b"), 20),
    SessionDeleted(SessionId("s1"), 21),
    ModelRetried(SessionId("s1"), RunId("u1"), 2, 1, "a:b", "busy", 1500, "c:d", 22),
    HookReported(SessionId("s1"), RunId("u1"), "guard", "before_tool", "denied", "no", 23),
    SessionMended(SessionId("s1"), pack_head(HEAD), 22),
    TaskStarted(SessionId("s1"), Lifetime.DETACHED, 23),
    TaskEnded(SessionId("s1"), TaskState.FAILED, 7, "no", 24),
    ContextCompacted(
        SessionId("s1"),
        *(40, 9, 7, 14),
        (SystemMessage("be brief", "host"),),
        "in short",
        "a:b",
        Usage(1, 2, 1),
        Compaction(12, 3, 1, 2),
        25,
    ),
    CompactionFailed(SessionId("s1"), "no", Usage(1, 2, 1), 26),
    SessionTracked(SessionId("s1"), "ticket-7", 25),
    SessionRespecified(SessionId("s1"), SPEC, 26),
    ApprovalAsked(SessionId("s1"), RunId("u1"), call("c1").id, "pay", '{"n": 1}', "lead", "{}", 25),
    ApprovalDecided(
        SessionId("s1"), RunId("u1"), call("c1").id, Verdict.APPROVED, "ada", "", '{"n": 2}', 26
    ),
    ApprovalUsed(SessionId("s1"), RunId("u1"), (call("c1").id,), 27),
    RealmForked("team", 7, "start", 2, (Era("team", 0, 7),), 28),
    RealmRewound(7, None, "before-rewind-1", 2, (Era("team", 0, 7),), 29),
    StateRows("s/", ((b"s1", b"row"),)),
    PointMade("start", 7, 1, "asked", 9, (Era("team", 0, 7),), 30),
    RunApplied(
        SessionId("s1"),
        RunId("u1"),
        RunApplyBoundary.RUN_START,
        (InputId("i1"),),
        "d1",
        *(2, 14, 7, 28),
    ),
    InputsRequeued(SessionId("s1"), RunId("u1"), (InputId("i1"),), 2, "boom", 29),
]
TURN = next(example for example in EXAMPLES if isinstance(example, TurnEnded))

#: Kind number and bytes of version 1, as the examples above are stored. A journal of today must be
#: readable for ever: a layout that differs needs a new version and a migration, not a new fixture.
VERSION_1: dict[type, tuple[int, str]] = {
    SessionCreated: (
        1,
        (
            "89aa73657373696f6e5f6964a27331aa6861726e6573735f6964aa72657365617263686572a86167"
            "656e745f6964a3722d30a57469746c65a57469746c65a66c6f63616c65a2656ea76c696e65616765"
            "85a6706172656e74a170ab666f726b65645f66726f6da166a8666f726b5f73657107ab6275646765"
            "745f726f6f74a162a5646570746802a47370656385a56d6f64656ca873696d3a6563686fac696e73"
            "7472756374696f6e73a86265206272696566ad6f75747075745f736368656d61a27b7dae6f757470"
            "75745f7265747269657303a76f7074696f6e7381ab74656d7065726174757265cb3fe00000000000"
            "00a9737061776e5f6b6579a8703a72756e3a6331a561745f6e730b"
        ),
    ),
    SessionArchived: (
        2,
        "83aa73657373696f6e5f6964a27331a6726561736f6ea866696e6973686564a561745f6e730c",
    ),
    InputAccepted: (
        3,
        "96a27331a26931ab6772c3bcc39f2064696368a46c656164c00d",
    ),
    InputAbandoned: (
        4,
        (
            "84aa73657373696f6e5f6964a27331a8696e7075745f6964a26931a6726561736f6ea8746f6f206c"
            "617465a561745f6e730e"
        ),
    ),
    TurnProgressed: (
        5,
        (
            "97a27331a2753191a26931929301a26869a46c6561649502a09193a26331a3616464a35b315da573"
            "696d3a7894010203049401020304010f"
        ),
    ),
    TurnEnded: (
        6,
        (
            "9fa27331a275310502929300a86265206272696566a4686f73749503a26331a3616464a133039401"
            "02030492a26931a26932a87b226e223a20317da473746f701011070efd04"
        ),
    ),
    SessionForked: (
        7,
        (
            "88aa73657373696f6e5f6964a27339a6736f75726365a27331a57469746c65a66120636f7079a468"
            "65616428a57475726e7307a5746f74616c0ea56c696e6b73940c032804a561745f6e7312"
        ),
    ),
    SessionRewound: (
        8,
        (
            "87aa73657373696f6e5f6964a27331a4686561640ca57475726e7303a5746f74616c06a56c696e6b"
            "73920c03a8726573746f72656401a561745f6e7313"
        ),
    ),
    SessionLabelled: (
        9,
        "84aa73657373696f6e5f6964a27331a57469746c65c0a47461677392a161a162a561745f6e7314",
    ),
    SessionDeleted: (
        10,
        "82aa73657373696f6e5f6964a27331a561745f6e7315",
    ),
    HookReported: (
        13,
        (
            "87aa73657373696f6e5f6964a27331a672756e5f6964a27531a4686f6f6ba56775617264a5706f69"
            "6e74ab6265666f72655f746f6f6ca477686174a664656e696564a6726561736f6ea26e6fa561745f"
            "6e7317"
        ),
    ),
    ModelRetried: (
        11,
        (
            "89aa73657373696f6e5f6964a27331a672756e5f6964a27531a47374657002a7617474656d707401"
            "a56d6f64656ca3613a62a56572726f72a462757379a864656c61795f6d73cd05dca47468656ea363"
            "3a64a561745f6e7316"
        ),
    ),
    SessionMended: (
        12,
        (
            "83aa73657373696f6e5f6964a27331a3726f77c429dc001701a27331a168c0a174c0c0c00102c003"
            "01009400000000a773746172746564c0c09090009000a561745f6e7316"
        ),
    ),
    TaskStarted: (
        14,
        ("83aa73657373696f6e5f6964a27331a86c69666574696d65a86465746163686564a561745f6e7317"),
    ),
    TaskEnded: (
        15,
        (
            "85aa73657373696f6e5f6964a27331a57374617465a66661696c6564a47475726e07a56572726f72"
            "a26e6fa561745f6e7318"
        ),
    ),
    ContextCompacted: (
        16,
        (
            "9ba273312809070e919300a86265206272696566a4686f7374a8696e2073686f7274a3613a629401"
            "020100940c03010219"
        ),
    ),
    CompactionFailed: (
        17,
        (
            "84aa73657373696f6e5f6964a27331a6726561736f6ea26e6fa5757361676584ac696e7075745f74"
            "6f6b656e7301ad6f75747075745f746f6b656e7302ab6d6f64656c5f63616c6c7301aa746f6f6c5f"
            "63616c6c7300a561745f6e731a"
        ),
    ),
    SessionTracked: (
        18,
        ("83aa73657373696f6e5f6964a27331ab65787465726e616c5f6964a87469636b65742d37a561745f6e7319"),
    ),
    SessionRespecified: (
        19,
        (
            "83aa73657373696f6e5f6964a27331a4737065638aa56d6f64656ca3613a62ac696e737472756374"
            "696f6e73c0ad6f75747075745f736368656d61c0ae6f75747075745f72657472696573c0a76f7074"
            "696f6e7380a47065657285a46e616d65a3616e6eab6465736372697074696f6ea6636f756e7473a6"
            "6c6162656c7381a47465616da178ae73696c656e745f696e74656e747391a3667969ac696e6c696e"
            "655f7065657273ffaa70726f76656e616e636584a87265616c6d5f6964a470726f64ab696e737461"
            "6e63655f6964a26931a76261636b656e64a46c6d6462b1636f6e6669675f67656e65726174696f6e"
            "03a96f766572726964657381a57368656c6cc2a9686f73745f6d6f6465c3a5707269636581a5696e"
            "707574a4302e3135a561745f6e731a"
        ),
    ),
    ApprovalAsked: (
        20,
        (
            "88aa73657373696f6e5f6964a27331a672756e5f6964a27531a763616c6c5f6964a26331a4746f6f"
            "6ca3706179a9617267756d656e7473a87b226e223a20317da561736b6572a46c656164aa70617261"
            "6d6574657273a27b7da561745f6e7319"
        ),
    ),
    ApprovalDecided: (
        21,
        (
            "88aa73657373696f6e5f6964a27331a672756e5f6964a27531a763616c6c5f6964a26331a7766572"
            "64696374a8617070726f766564a26279a3616461a6726561736f6ea0a9617267756d656e7473a87b"
            "226e223a20327da561745f6e731a"
        ),
    ),
    RunApplied: (
        23,
        (
            "89aa73657373696f6e5f6964a27331a672756e5f6964a27531a8626f756e64617279a972756e2d73"
            "74617274a9696e7075745f69647391a26931a6646967657374a26431a86d6573736167657302a574"
            "6f74616c0ea873657175656e636507a561745f6e731c"
        ),
    ),
    InputsRequeued: (
        24,
        (
            "86aa73657373696f6e5f6964a27331a672756e5f6964a27531a9696e7075745f69647391a26931a7"
            "617474656d707402a6726561736f6ea4626f6f6da561745f6e731d"
        ),
    ),
    ApprovalUsed: (
        22,
        (
            "84aa73657373696f6e5f6964a27331a672756e5f6964a27531a863616c6c5f69647391a26331a561"
            "745f6e731b"
        ),
    ),
    RealmForked: (
        76,
        (
            "86a6706172656e74a47465616da2617407a56c6162656ca57374617274a4726f777302a470617374"
            "9183a57265616c6da47465616da66e756d62657200a5756e74696c07a561745f6e731c"
        ),
    ),
    RealmRewound: (
        77,
        (
            "86a2617407a56c6162656cc0a46c656674af6265666f72652d726577696e642d31a4726f777302a4"
            "706173749183a57265616c6da47465616da66e756d62657200a5756e74696c07a561745f6e731d"
        ),
    ),
    StateRows: (
        78,
        ("82a6707265666978a2732fa4726f77739192c4027331c403726f77"),
    ),
    PointMade: (
        79,
        (
            "87a56c6162656ca57374617274a2617407a4726f777301a3776879a561736b6564a365726109a470"
            "6173749183a57265616c6da47465616da66e756d62657200a5756e74696c07a561745f6e731e"
        ),
    ),
}

#: A session that is tracked elsewhere from its beginning: a field that is stored only then.
TRACKED = attrs.evolve(
    next(each for each in EXAMPLES if isinstance(each, SessionCreated)), external_id="ticket-7"
)


def test_an_external_id_is_stored_where_there_is_one_and_only_there() -> None:
    """CONTRACTS 2.1: what was written before there were any is read as it was."""
    made = TYPES[SessionCreated]
    _, without = VERSION_1[SessionCreated]
    assert made.unpack(bytes.fromhex(without)).external_id is None
    assert made.unpack(made.pack(TRACKED)) == TRACKED
    assert made.pack(TRACKED).endswith(b"\xabexternal_id\xa8ticket-7")


def test_every_kind_has_its_own_number_and_an_example() -> None:
    assert {record_type.kind for record_type in RUNTIME_RECORDS} == {*range(1, 25), *range(76, 80)}
    assert {type(example) for example in EXAMPLES} == set(TYPES) == set(VERSION_1)


@pytest.mark.parametrize("record", EXAMPLES)
def test_the_bytes_of_version_1_never_change(record: Record) -> None:
    record_type = TYPES[type(record)]
    kind, stored = VERSION_1[type(record)]
    assert (record_type.kind, record_type.version) == (kind, 1)
    assert record_type.unpack(bytes.fromhex(stored)) == record
    assert record_type.pack(record).hex() == stored


HOT = [InputAccepted, TurnProgressed, TurnEnded, ContextCompacted]


def fields_of(record: Record) -> list[Any]:
    unpacked: list[Any] = msgpack.unpackb(TYPES[type(record)].pack(record))
    return unpacked


@pytest.mark.parametrize("record", [e for e in EXAMPLES if type(e) in HOT])
@given(data=st.data())
def test_a_hot_record_with_a_wrong_field_is_unreadable(record: Record, data: st.DataObject) -> None:
    fields = fields_of(record)
    index = data.draw(st.integers(0, len(fields) - 1))
    fields[index] = data.draw(
        st.sampled_from([3.5, True, [None], [[9]], {"a": 1}, {0: 1}, b"x", [["a"]], [[0, 1, 2]]])
    )
    assert_unreadable(TYPES[type(record)].kind, msgpack.packb(fields))


@pytest.mark.parametrize("record", [e for e in EXAMPLES if type(e) in HOT])
def test_a_hot_record_with_more_or_fewer_fields_is_unreadable(record: Record) -> None:
    fields = fields_of(record)
    for wrong in ([*fields, 1], fields[:-1], [], {}, None, 7):
        assert_unreadable(TYPES[type(record)].kind, msgpack.packb(wrong))


@pytest.mark.parametrize("record", [e for e in EXAMPLES if type(e) not in HOT])
@given(data=st.data())
def test_a_cold_record_with_a_wrong_key_or_type_is_unreadable(
    record: Record, data: st.DataObject
) -> None:
    fields: dict[str, Any] = msgpack.unpackb(TYPES[type(record)].pack(record))
    key = data.draw(st.sampled_from(sorted(fields)))
    if data.draw(st.booleans()):
        fields[key] = data.draw(st.sampled_from([3.5, True, [None], {"a": 1}, b"x"]))
    elif data.draw(st.booleans()):
        del fields[key]
    else:
        fields["one_more"] = 1
    assert_unreadable(TYPES[type(record)].kind, msgpack.packb(fields))


@pytest.mark.parametrize("kind", [record_type.kind for record_type in RUNTIME_RECORDS])
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x01", b"\x90\x90", b"\xc0", b"\xa1\xff"])
def test_bytes_that_are_no_record_are_unreadable(kind: int, payload: bytes) -> None:
    assert_unreadable(kind, payload)


@pytest.mark.parametrize(("kind", "version"), [(31, 1), (255, 1), (0, 1), (6, 2), (6, 0)])
def test_an_unknown_kind_or_version_names_the_record_and_what_to_do(
    kind: int, version: int
) -> None:
    """CONTRACTS 1.6: what is unknown is an error, never a default."""
    found = assert_unreadable(kind, TYPES[TurnEnded].pack(TURN), version)
    assert f"kind {kind} version {version}" in str(found)


def test_an_unknown_outcome_is_unreadable() -> None:
    fields = fields_of(TURN)
    fields[3] = 4
    assert_unreadable(6, msgpack.packb(fields))


def test_a_renamed_enumeration_keeps_its_numbers() -> None:
    assert [outcome.value for outcome in TurnOutcome] == [0, 1, 2, 3]
    assert [outcome.value for outcome in ToolOutcome] == [0, 1, 2, 3, 4]
    assert attrs.fields_dict(TurnEnded).keys() >= {"prev", "input_ids", "usage"}


def assert_unreadable(kind: int, payload: bytes, version: int = 1) -> RecordUnreadable:
    """What an intact entry with these bytes is for the reader of a journal."""
    store = MemoryStore()
    store.submit([Append(b"realm/test", kind, payload, version)])
    journal = Journal(store, REALM, RUNTIME_RECORDS, lambda _seq, _record: None)
    with pytest.raises(RecordUnreadable, match="record 1: ") as found:
        journal.read()
    assert (found.value.realm, found.value.seq) == (REALM, 1)
    return found.value
