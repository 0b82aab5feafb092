"""The life of a mob as its literal table."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mob.lifecycle import (
    ADMITS,
    TRANSITIONS,
    UNDER_WAY,
    MobState,
    VerbRefused,
    admit,
    after,
    diagram,
    table,
)

VERBS = [
    "start",
    "stop",
    "resume",
    "ask",
    "send",
    "spawn",
    "retire",
    "respawn",
    "interrupt",
    "kill",
    "work",
    "decide",
    "board",
    "broadcast",
    "request",
    "reply",
    "wire",
    "unwire",
    "compact",
    "flow",
    "cancel-flow",
    "snapshot",
    "fork",
    "rewind",
    "complete",
    "destroy",
]
EVERY = list(itertools.product(MobState, VERBS))

#: Said a second time, so that a change of the table is a decision.
LEADS = {
    ("creating", "start"): "running",
    ("running", "stop"): "stopped",
    ("stopped", "resume"): "running",
    ("running", "complete"): "completed",
    ("stopped", "destroy"): "destroyed",
    ("completed", "destroy"): "destroyed",
}
MAY = {
    "creating": {"spawn"},
    "running": {
        *("ask", "send", "spawn", "retire", "respawn", "interrupt", "kill", "work"),
        *("decide", "board", "compact"),
        *("broadcast", "request", "reply", "wire", "unwire", "flow", "cancel-flow"),
        *("snapshot", "fork", "rewind"),
    },
    "stopped": {
        *("retire", "decide", "board", "wire", "unwire", "cancel-flow"),
        *("snapshot", "fork", "rewind"),
    },
    "completed": {"snapshot", "fork"},
    "destroyed": {"fork"},
}


def test_the_table_is_the_one_that_is_documented() -> None:
    """CONTRACTS 6.1."""
    assert {(a.value, verb): b.value for (a, verb), b in TRANSITIONS.items()} == LEADS
    assert {state.value: set(verbs) for state, verbs in ADMITS.items()} == MAY
    assert {state.value for state in MobState} == set(MAY)
    assert set(UNDER_WAY) == {*(verb for _, verb in TRANSITIONS), "rewind"}


def test_the_page_shows_the_table() -> None:
    """CONTRACTS 6.1: the picture and the table in docs/lifecycle.md are the ones drawn from it."""
    page = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{diagram()}\n```" in page
    assert table() in page


def test_the_picture_has_every_transition_and_every_end() -> None:
    """CONTRACTS 6.1."""
    lines = [line.strip() for line in diagram().splitlines()]
    for (state, verb), to in LEADS.items():
        assert f"{state} --> {to}: {verb}" in lines
    assert len(lines) == len(LEADS) + 3
    assert lines[1] == "[*] --> creating"
    assert lines[-1] == "destroyed --> [*]"


@pytest.mark.parametrize(("state", "verb"), EVERY)
def test_a_verb_leads_where_the_table_says_or_is_refused(state: MobState, verb: str) -> None:
    """CONTRACTS 6.1: the error names the state and the verb, and says when it is allowed."""
    if (state.value, verb) in LEADS:
        assert after(state, verb).value == LEADS[state.value, verb]
        return
    with pytest.raises(VerbRefused, match=f"that is {state.value} does not allow '{verb}'") as e:
        after(state, verb)
    assert (e.value.state, e.value.verb) == (state, verb)


@pytest.mark.parametrize(("state", "verb"), EVERY)
def test_a_verb_is_admitted_or_refused(state: MobState, verb: str) -> None:
    """CONTRACTS 6.1."""
    if verb in MAY[state.value]:
        admit(state, verb)
        return
    with pytest.raises(VerbRefused, match=f"that is {state.value} does not allow '{verb}'") as e:
        admit(state, verb)
    assert (e.value.state, e.value.verb) == (state, verb)


def test_a_refusal_says_when_the_verb_is_allowed_and_what_is_under_way() -> None:
    """CONTRACTS 6.1."""
    assert str(VerbRefused(MobState.STOPPED, "ask")) == (
        "a mob that is stopped does not allow 'ask'; it is allowed when the mob is running"
    )
    assert "that is being stopped does not" in str(
        VerbRefused(MobState.RUNNING, "ask", "being stopped")
    )
    assert str(VerbRefused(MobState.RUNNING, "dance")).endswith("when the mob is in no state")
