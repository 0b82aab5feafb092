"""Records in words, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from mob.console.narrator import Narrator
from mob.records import MemberExited
from runtime.approvals import ApprovalAsked, ApprovalDecided, Verdict
from runtime.ids import InputId, RunId, SessionId, ToolCallId
from runtime.journal import Event
from runtime.records import InputAccepted, ModelRetried
from runtime.state import RealmState

S, R, C = SessionId("s"), RunId("r"), ToolCallId("c")


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (InputAccepted(S, InputId("i"), "go\n on", None, None, 0), 'is asked: "go on"'),
        (InputAccepted(S, InputId("i"), "go", "b", None, 0), 'is asked by b: "go"'),
        (ModelRetried(S, R, 1, 1, "p:m", "503", 1500, "p:m", 0), "tries again in 1.5 s: 503"),
        (ModelRetried(S, R, 1, 1, "p:m", "503", 0, "p:o", 0), "asks p:o instead: 503"),
        (
            ApprovalAsked(S, R, C, "pay", '{"to": "me", "password": "hunter2"}', "a", "{}", 0),
            'waits for approval of pay {"to": "me", "password": "[secret]"}',
        ),
        (
            ApprovalDecided(S, R, C, Verdict.APPROVED, "ada", "", '{"n": 1}', 0),
            'call approved by ada with other arguments: {"n": 1}',
        ),
        (
            ApprovalDecided(S, R, C, Verdict.DENIED, "ada", "no", None, 0),
            "call denied by ada: no",
        ),
        (MemberExited("s", S, "boom", None, 0), "crashed and is not restarted: boom"),
        (MemberExited("s", S, "boom", 0.5, 0), "crashed (boom) and will restart in 0.5 s"),
    ],
)
def test_a_record_is_told(record: Any, what: str) -> None:
    assert Narrator(RealmState()).tell(Event(1, record)) == ("s", what)
