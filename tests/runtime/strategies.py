"""Hypothesis strategies for messages, records and turns.

Owns: generators whose values are as strange as the codec must bear. Must not: assert anything.
"""

from __future__ import annotations

from hypothesis import strategies as st

from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed, Verdict
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.ids import ToolCallId
from runtime.ledger import InputsRequeued, RunApplied, RunApplyBoundary
from runtime.messages import (
    AssistantMessage,
    SystemMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.records import (
    HookReported,
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionArchived,
    SessionCreated,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.session import Compaction, Lifetime, Lineage, SessionSpec, TaskState

texts = st.text(max_size=12)
optional = st.none() | texts
numbers = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, counts, counts)
calls = st.builds(ToolCall, texts.map(ToolCallId), texts, texts)
messages = st.one_of(
    st.builds(SystemMessage, texts, optional),
    st.builds(UserMessage, texts, optional),
    st.builds(AssistantMessage, texts, st.lists(calls, max_size=3).map(tuple), optional, usages),
    st.builds(ToolResult, texts.map(ToolCallId), texts, texts, st.sampled_from(ToolOutcome)),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
lineages = st.builds(Lineage, optional, optional, numbers, optional, st.integers(0, 16))
specs = st.builds(
    SessionSpec,
    optional,
    optional,
    optional,
    st.none() | st.integers(0, 9),
    st.dictionaries(texts, json_values, max_size=2),
    st.lists(texts, max_size=2).map(tuple),
)
ids = st.lists(texts, max_size=3).map(tuple)
many = st.lists(messages, max_size=3).map(tuple)
records = st.one_of(
    st.builds(
        SessionCreated,
        texts,
        texts,
        optional,
        optional,
        optional,
        lineages,
        specs,
        optional,
        numbers,
    ),
    st.builds(SessionArchived, texts, texts, numbers),
    st.builds(InputAccepted, texts, texts, texts, optional, optional, numbers),
    st.builds(HookReported, texts, texts, texts, texts, texts, texts, numbers),
    st.builds(InputAbandoned, texts, texts, texts, numbers),
    st.builds(ModelRetried, texts, texts, counts, counts, texts, texts, counts, texts, numbers),
    st.builds(ApprovalAsked, texts, texts, texts, texts, texts, texts, texts, numbers),
    st.builds(
        ApprovalDecided,
        texts,
        texts,
        texts,
        st.sampled_from(Verdict),
        texts,
        texts,
        optional,
        numbers,
    ),
    st.builds(ApprovalUsed, texts, texts, ids, numbers),
    st.builds(
        RunApplied,
        texts,
        texts,
        st.sampled_from(RunApplyBoundary),
        ids,
        texts,
        counts,
        counts,
        counts,
        numbers,
    ),
    st.builds(InputsRequeued, texts, texts, ids, counts, texts, numbers),
    st.builds(TaskStarted, texts, st.sampled_from(Lifetime), numbers),
    st.builds(
        TaskEnded,
        texts,
        st.sampled_from([state for state in TaskState if state is not TaskState.RUNNING]),
        numbers,
        optional,
        numbers,
    ),
    st.builds(
        ContextCompacted,
        texts,
        *(numbers, numbers, numbers, numbers),
        many,
        texts,
        optional,
        usages,
        st.none() | st.builds(Compaction, numbers, numbers, numbers, numbers),
        numbers,
    ),
    st.builds(CompactionFailed, texts, texts, usages, numbers),
    st.builds(TurnProgressed, texts, texts, ids, many, usages, counts, numbers),
    st.builds(
        TurnEnded,
        texts,
        texts,
        numbers,
        st.sampled_from(TurnOutcome),
        many,
        usages,
        ids,
        optional,
        optional,
        numbers,
        numbers,
    ),
)
