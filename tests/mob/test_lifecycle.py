"""The life of a mob as its literal table."""

from __future__ import annotations

import itertools

import pytest

from mob.lifecycle import ADMITS, TRANSITIONS, MobState, VerbRefused, admit, after

VERBS = [
    "start",
    "stop",
    "resume",
    "ask",
    "send",
    "spawn",
    "retire",
    "interrupt",
    "kill",
    "work",
    "decide",
]
EVERY = list(itertools.product(MobState, VERBS))

#: Said a second time, so that a change of the table is a decision.
LEADS = {
    ("creating", "start"): "running",
    ("running", "stop"): "stopped",
    ("stopped", "resume"): "running",
}
MAY = {
    "creating": {"spawn"},
    "running": {"ask", "send", "spawn", "retire", "interrupt", "kill", "work", "decide"},
    "stopped": {"retire", "decide"},
}


def test_the_table_is_the_one_that_is_documented() -> None:
    """CONTRACTS 6.1."""
    assert {(a.value, verb): b.value for (a, verb), b in TRANSITIONS.items()} == LEADS
    assert {state.value: set(verbs) for state, verbs in ADMITS.items()} == MAY
    assert {state.value for state in MobState} == {"creating", "running", "stopped"}


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
