"""What flows store: frozen bytes of the records."""

from __future__ import annotations

from typing import Any

import pytest

from mob.flows.records import (
    FLOW_RECORDS,
    FlowEnded,
    FlowRoundEnded,
    FlowRunId,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
    RunState,
    StepState,
    Verdict,
)

_ID = FlowRunId("r1")
TYPES = {each.cls: each for each in FLOW_RECORDS}
EXAMPLES: list[Any] = [
    FlowStarted(_ID, "report", "{}", '{"topic":"bees"}', "k", 1),
    FlowStepStarted(_ID, "draft", 0, 1, ("a", "b"), 9, 2),
    FlowStepRetried(_ID, "draft", 0, 2, "boom", 5, 3),
    FlowStepEnded(_ID, "draft", 0, StepState.SUCCEEDED, '"text"', None, 4),
    FlowRoundEnded(_ID, "loop", 1, Verdict.AGAIN, None, 5),
    FlowEnded(_ID, RunState.FAILED, "boom", 6),
]

#: Kind number and bytes of version 1, as stored: see tests/runtime/test_records.py.
VERSION_1: dict[type, tuple[int, str]] = {
    FlowStarted: (
        56,
        "86a672756e5f6964a27231a4666c6f77a67265706f7274aa646566696e6974696f6ea27b7da6706172616d73b07b22746f706963223a2262656573227daf6964656d706f74656e63795f6b6579a16ba561745f6e7301",
    ),
    FlowStepStarted: (
        57,
        "87a672756e5f6964a27231a473746570a56472616674a5726f756e6400a7617474656d707401a76d656d6265727392a161a162ab646561646c696e655f6e7309a561745f6e7302",
    ),
    FlowStepRetried: (
        58,
        "87a672756e5f6964a27231a473746570a56472616674a5726f756e6400a7617474656d707402a56572726f72a4626f6f6da66475655f6e7305a561745f6e7303",
    ),
    FlowStepEnded: (
        59,
        "87a672756e5f6964a27231a473746570a56472616674a5726f756e6400a57374617465a9737563636565646564a66f7574707574a6227465787422a56572726f72c0a561745f6e7304",
    ),
    FlowRoundEnded: (
        60,
        "86a672756e5f6964a27231a46c6f6f70a46c6f6f70a5726f756e6401a776657264696374a5616761696ea56572726f72c0a561745f6e7305",
    ),
    FlowEnded: (
        61,
        "84a672756e5f6964a27231a57374617465a66661696c6564a56572726f72a4626f6f6da561745f6e7306",
    ),
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
