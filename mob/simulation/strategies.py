"""Hypothesis strategies for mobs and for what can happen to them.

Owns: strategies for definitions, messages, replies, tools and fault plans. Must not: be imported by
anything that users without Hypothesis import; make what the library refuses.

Values shrink to the plain: one member, short words, no fault. `strategies.definitions()` and the
others are meant for tests of users as well: ``@given(definitions())``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from mob.definition import MemberDefinition, MobDefinition
from mob.simulation.faults import CrashPoint, FaultPlan
from mob.simulation.kinds import CRASH_POINTS, FaultKind
from runtime.ids import ToolCallId
from runtime.messages import ToolCall, Usage
from runtime.models.base import ModelReply, StopReason
from runtime.tools.base import Tool, ToolFailed
from runtime.tools.function import tool


def names() -> st.SearchStrategy[str]:
    """What a mob, a member, a profile, a model or a tool may be called."""
    return st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True)


@st.composite
def definition_tables(draw: st.DrawFn, tools: Sequence[str] = ()) -> dict[str, Any]:
    """A valid definition as parsed TOML. Its models are ``sim:echo``; profiles may call those of
    `tools`, which are to be given to `open_mob` under their names."""

    def some(values: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
        return {key: draw(value) for key, value in values.items() if draw(st.booleans())}

    models = draw(st.lists(names(), min_size=1, max_size=2, unique=True))
    profiles = draw(st.lists(names(), min_size=1, max_size=3, unique=True))
    members = draw(st.lists(names(), min_size=1, max_size=3, unique=True))
    data: dict[str, Any] = {
        "models": {name: {"model": "sim:echo"} for name in models},
        "profiles": {},
        "members": {},
    }
    for model in data["models"].values():
        model |= some({"max_concurrency": st.integers(1, 9), "api_key_env": st.just("K")})
    for name in profiles:
        profile = some(
            {
                "instructions": st.text(max_size=5),
                "output_retries": st.integers(0, 9),
                "max_steps": st.integers(1, 99),
                "tool_choice": st.just(["auto"]),
                "restart": st.just({"policy": "never", "max": 2, "within_s": 1.5}),
                "subagents": st.just({"max_depth": 2}),
                "options": st.just({"anything": [1, {"x": 2}]}),
            }
        )
        if tools:
            profile |= some({"tools": st.lists(st.sampled_from(tools), unique=True)})
        data["profiles"][name] = {"model": draw(st.sampled_from(models)), **profile}
    for name in members:
        data["members"][name] = {"profile": draw(st.sampled_from(profiles))}
        data["members"][name] |= some({"replicas": st.integers(1, 3)})
    everybody = [
        name
        for base, member in data["members"].items()
        for name in MemberDefinition("p", member.get("replicas")).names(base)
    ]
    assume(len(set(everybody)) == len(everybody))
    data["mob"] = {"id": draw(names()), "lead": draw(st.sampled_from(everybody))}
    pairs = st.tuples(st.sampled_from(everybody), st.sampled_from(everybody)).map(list)
    data |= some({"wiring": st.builds(lambda e: {"edges": e}, st.lists(pairs, max_size=3))})
    data |= some({"checkpoint": st.just({"every_turns": 3})})
    if tools:
        data["tools"] = {name: {"function": f"given.py:{name}"} for name in tools}
    return data


def definitions(tools: Sequence[str] = ()) -> st.SearchStrategy[MobDefinition]:
    """A valid definition; see `definition_tables`."""
    return definition_tables(tools).map(MobDefinition.from_table)


def messages() -> st.SearchStrategy[str]:
    """What somebody may say to a member: words, any text at all, and now and then far too much."""
    return st.one_of(
        st.sampled_from(["hello", "go on", "what do you know?"]),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
        st.integers(1_000, 20_000).map(lambda length: "word " * (length // 5)),
    )


def replies(tools: Sequence[str] = ()) -> st.SearchStrategy[ModelReply]:
    """What a model may say: an answer, or calls of `tools`; for the script of a `ScriptedModel`."""
    count = st.integers(0, 999)
    usage = st.builds(Usage, count, count, model_calls=st.just(1))
    answer = st.builds(ModelReply, messages(), usage=usage)
    if not tools:
        return answer
    # The scripted model gives calls their ids.
    call = st.builds(ToolCall, st.just(ToolCallId("")), st.sampled_from(tools), st.just("{}"))
    calls = st.lists(call, min_size=1, max_size=3).map(tuple)
    calling = st.builds(ModelReply, st.just(""), calls, st.just(StopReason.TOOL_CALLS), usage)
    return answer | calling


@st.composite
def tools(draw: st.DrawFn, name: str | None = None) -> Tool:
    """A tool without arguments that always answers the same, or always fails."""
    answer, fails = draw(messages()), draw(st.booleans())

    async def act() -> str:
        """Do what this tool does."""
        if fails:
            raise ToolFailed(answer)
        return answer

    return tool(act, name=name or draw(names()), idempotent=draw(st.booleans()))


@st.composite
def fault_plans(draw: st.DrawFn, most: float = 0.2) -> FaultPlan:
    """A plan of a few kinds, none more often than `most`, and up to two directed crashes."""
    rates = st.dictionaries(
        st.sampled_from(FaultKind), st.floats(0.001, most).map(lambda rate: round(rate, 4))
    )
    crash = st.builds(CrashPoint, st.sampled_from(sorted(CRASH_POINTS)), st.integers(1, 9))
    return FaultPlan(draw(rates), tuple(draw(st.lists(crash, max_size=2))))
