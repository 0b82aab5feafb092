"""Every mistake in a flow is found when the definition is read, with its path and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from tests.mob.mobs import define, table

DRAFT = {"member": "a", "message": "x"}
TITLED = {"type": "object", "properties": {"title": {"type": "string"}}}
LIST = {"type": "array", "items": TITLED, "maxItems": 2}


def step(**parts: Any) -> dict[str, Any]:
    """A step, valid but for `parts`."""
    return {**DRAFT, **parts}


def mistakes(flow: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(DefinitionInvalid) as raised:
        MobDefinition.from_table(table(flows={"f": flow}))
    return [
        (each.path.removeprefix("flows.f."), f"{each.message} ({each.hint})")
        for each in raised.value.mistakes
    ]


def steps(**each: Any) -> dict[str, Any]:
    return {"steps": each}


def loop(*names: str, **parts: Any) -> dict[str, Any]:
    return {"steps": list(names), "until": "true", "max_rounds": 2, **parts}


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("no steps", {}, "steps", "1 to 1000 steps"),
    ("a key that is none", steps(s=step(nedds="t")), "steps.s.nedds", "'needs'"),
    ("a key of a flow", {**steps(s=DRAFT), "parms": []}, "parms", "'params'"),
    ("no message", steps(s={"member": "a"}), "steps.s.message", "is missing"),
    ("an empty message", steps(s=step(message=" ")), "steps.s.message", "is empty"),
    ("nobody", steps(s={"message": "x"}), "steps.s", "a member or a profile"),
    ("two", steps(s=step(profile="p")), "steps.s", "a member or a profile"),
    ("an unknown member", steps(s=step(member="aa")), "steps.s.member", "did you mean 'a'?"),
    (
        "an unknown profile",
        steps(s={"profile": "q", "message": "x"}),
        "steps.s.profile",
        "there is no profile 'q'",
    ),
    ("an unknown step", steps(s=step(needs="t")), "steps.s.needs", "there is no step 't'"),
    ("an unknown step after", steps(s=step(after="t")), "steps.s.after", "there is no step 't'"),
    (
        "a circle",
        steps(a=step(needs="b"), b=step(after="c"), c=step(needs="a")),
        "steps.a",
        "waits for itself: a > b > c > a",
    ),
    ("a circle of one", steps(a=step(needs="a")), "steps.a", "waits for itself: a > a"),
    (
        "a circle over a branch",
        steps(a=step(branch="w", needs="z"), z=step(needs="w")),
        "steps.a",
        "waits for itself: a > z > a",
    ),
    (
        "a circle over a loop",
        {**steps(a=step(needs="z"), z=step(needs="l")), "repeat": {"l": loop("a")}},
        "steps.a",
        "waits for itself",
    ),
    ("a template", steps(s=step(message="{{x")), "steps.s.message", "is not closed"),
    ("a root", steps(s=step(message="{{x.y}}")), "steps.s.message", "a path begins with"),
    (
        "a parameter",
        {"params": ["topic"], **steps(s=step(message="{{params.topc}}"))},
        "steps.s.message",
        "there is no parameter 'topc'; did you mean 'topic'?",
    ),
    ("a parameter's name", steps(s=step(message="{{params}}")), "steps.s.message", "say which"),
    (
        "a step in a template",
        steps(draft=DRAFT, s=step(message="{{steps.drat.output}}", needs="draft")),
        "steps.s.message",
        "there is no step 'drat'; did you mean 'draft'?",
    ),
    (
        "a step that is not waited for",
        steps(draft=DRAFT, s=step(message="{{steps.draft.output}}")),
        "steps.s.message",
        "'draft' need not have ended then; add it to needs or after",
    ),
    (
        "a step without its part",
        steps(draft=DRAFT, s=step(message="{{steps.draft}}", needs="draft")),
        "steps.s.message",
        "say which of steps.draft.output, steps.draft.state, steps.draft.error",
    ),
    (
        "a part of text",
        steps(draft=DRAFT, s=step(message="{{steps.draft.output.title}}", needs="draft")),
        "steps.s.message",
        "steps.draft.output is text, because it has no output_schema, and has no 'title'",
    ),
    (
        "a part that the schema has not",
        steps(
            draft=step(output_schema=TITLED),
            s=step(message="{{steps.draft.output.titel}}", needs="draft"),
        ),
        "steps.s.message",
        "steps.draft.output has no 'titel'; did you mean 'title'?",
    ),
    (
        "a part behind the schema's end",
        steps(
            draft=step(output_schema=TITLED),
            s=step(message="{{steps.draft.output.title.x}}", needs="draft"),
        ),
        "steps.s.message",
        "steps.draft.output.title is text, and has no 'x'",
    ),
    (
        "a list taken for one",
        steps(
            all={"profile": "p", "message": "x", "output_schema": TITLED},
            s=step(message="{{steps.all.output.title}}", needs="all"),
        ),
        "steps.s.message",
        "steps.all.output is a list: 'title' is no place in it",
    ),
    ("an item", steps(s=step(message="{{item}}")), "steps.s.message", "only in the message of"),
    ("an index", steps(s=step(message="{{index}}")), "steps.s.message", "only in the message of"),
    ("a round", steps(s=step(message="{{round}}")), "steps.s.message", "only in a loop"),
    (
        "an item in a condition",
        steps(s=step(condition="item == 1", for_each="params.x")) | {"params": ["x"]},
        "steps.s.condition",
        "only in the message of a step with for_each",
    ),
    ("a condition", steps(s=step(condition="1 =")), "steps.s.condition", "cannot read"),
    (
        "a path in a condition",
        steps(s=step(condition="steps.t.output")),
        "steps.s.condition",
        "there is no step 't'",
    ),
    ("for_each no path", steps(s=step(for_each="1")), "steps.s.for_each", "is not a path"),
    (
        "for_each over text",
        steps(draft=DRAFT, s=step(for_each="steps.draft.output", needs="draft")),
        "steps.s.for_each",
        "is text and not a list: give its step an output_schema of type array",
    ),
    (
        "a part of an item",
        steps(
            draft=step(output_schema=LIST),
            s=step(for_each="steps.draft.output", needs="draft", message="{{item.tile}}"),
        ),
        "steps.s.message",
        "item has no 'tile'; did you mean 'title'?",
    ),
    ("any of one", steps(s=step(collect="any")), "steps.s.collect", "'any' of one answer"),
    (
        "a quorum without a number",
        steps(s={"profile": "p", "message": "x", "collect": "quorum"}),
        "steps.s.quorum",
        "goes with collect = 'quorum'",
    ),
    (
        "a number without a quorum",
        steps(s={"profile": "p", "message": "x", "collect": "all", "quorum": 1}),
        "steps.s.quorum",
        "goes with collect = 'quorum'",
    ),
    (
        "an impossible quorum",
        steps(s={"profile": "p", "message": "x", "quorum": 4}),
        "steps.s.quorum",
        "4 answers cannot come from 3 members of 'p'",
    ),
    (
        "an impossible quorum of items",
        steps(
            draft=step(output_schema=LIST),
            s=step(for_each="steps.draft.output", needs="draft", quorum=3),
        ),
        "steps.s.quorum",
        "3 answers cannot come from at most 2 items",
    ),
    ("a quorum of none", steps(s=step(quorum=0)), "steps.s.quorum", "must be at least 1"),
    ("a way to collect", steps(s=step(collect="some")), "steps.s.collect", "'some' is not"),
    ("retries", steps(s=step(retries=-1)), "steps.s.retries", "must be 0 to 100"),
    ("a backoff", steps(s=step(backoff_s=-1)), "steps.s.backoff_s", "must be at least 0"),
    ("a timeout", steps(s=step(timeout_s=0)), "steps.s.timeout_s", "must be at least 0.001"),
    (
        "a schema",
        steps(s=step(output_schema={"type": "objekt"})),
        "steps.s.output_schema",
        "not a JSON Schema",
    ),
    (
        "a rival that is needed",
        steps(s=step(branch="w"), t=step(branch="w", needs="s")),
        "steps.t.needs",
        "'s' is in the same branch",
    ),
    (
        "a branch over the edge of a loop",
        {**steps(s=step(branch="w"), t=step(branch="w")), "repeat": {"l": loop("s")}},
        "steps.s.branch",
        "not all in the same loop",
    ),
    (
        "a step inside a loop, from outside",
        {**steps(s=DRAFT, t=step(needs="s")), "repeat": {"l": loop("s")}},
        "steps.t.needs",
        "'s' is in the loop 'l' (wait for 'l')",
    ),
    ("a name", steps(**{"1s": DRAFT}), "steps.1s", "is not a name"),
    (
        "a name that is taken",
        steps(s=step(branch="t"), t=DRAFT),
        "branch.t",
        "taken by another step, branch or loop",
    ),
    ("an empty loop", {**steps(s=DRAFT), "repeat": {"l": loop()}}, "repeat.l.steps", "at least"),
    (
        "a step of a loop",
        {**steps(s=DRAFT), "repeat": {"l": loop("t")}},
        "repeat.l.steps",
        "there is no step 't'",
    ),
    (
        "a step in two loops",
        {**steps(s=DRAFT), "repeat": {"l": loop("s"), "m": loop("s")}},
        "repeat.l.steps",
        "'s' is in the loop 'm' too",
    ),
    (
        "a loop without an end",
        {**steps(s=DRAFT), "repeat": {"l": {"steps": ["s"], "until": "true"}}},
        "repeat.l.max_rounds",
        "is missing",
    ),
    (
        "rounds",
        {**steps(s=DRAFT), "repeat": {"l": loop("s", max_rounds=0)}},
        "repeat.l.max_rounds",
        "must be 1 to 1000",
    ),
    (
        "what a loop waits for",
        {**steps(s=DRAFT, t=DRAFT), "repeat": {"l": loop("s", until="steps.t.output == 1")}},
        "repeat.l.until",
        "'t' need not have ended then",
    ),
    ("an output", {**steps(s=DRAFT), "output": "t"}, "output", "there is no step 't'"),
    (
        "a default that does not fit",
        {**steps(s=DRAFT), "params": {"n": {"default": "x", "schema": {"type": "integer"}}}},
        "params.n.default",
        "does not fit its schema",
    ),
    (
        "a parameter's schema",
        {**steps(s=DRAFT), "params": {"n": {"schema": {"type": "int"}}}},
        "params.n.schema",
        "not a JSON Schema",
    ),
]


@pytest.mark.parametrize(("flow", "path", "what"), [case[1:] for case in CASES], ids=lambda _: "")
def test_a_mistake_is_found_at_load(flow: dict[str, Any], path: str, what: str) -> None:
    """CONTRACTS 6.10: cycles, unknown steps, wrong template paths, impossible quorums."""
    found = mistakes(flow)
    assert [each for each in found if each[0] == path and what in each[1]], found


def test_all_mistakes_of_a_flow_are_told_at_once() -> None:
    """CONTRACTS 6.10."""
    found = mistakes(steps(s=step(member="q", needs="t"), u=step(message="{{params.x}}")))
    assert [path for path, _ in found] == ["steps.s.member", "steps.s.needs", "steps.u.message"]


def test_members_with_replicas_are_named_one_by_one() -> None:
    """CONTRACTS 6.10."""
    with pytest.raises(DefinitionInvalid, match="say which, such as r-0, or ask the profile 'p'"):
        define(
            "a",
            members={"r": {"profile": "p", "replicas": 2}, "a": {"profile": "p"}},
            flows={"f": steps(s=step(member="r"))},
        )


def test_what_a_schema_leaves_open_is_left_to_the_run() -> None:
    """CONTRACTS 6.10: nothing is refused that may be right."""
    for schema in ({"type": "object"}, {**TITLED, "additionalProperties": True}, {"$ref": "#"}):
        flow = steps(
            draft=step(output_schema=schema),
            s=step(message="{{steps.draft.output.x.y}}", needs="draft"),
        )
        define("a", flows={"f": flow})


def test_a_schema_may_be_a_file(tmp_path: Path) -> None:
    """CONTRACTS 6.10."""
    (tmp_path / "title.json").write_text('{"type": "object", "properties": {"t": {}}}')
    flow = steps(s=step(output_schema="title.json"))
    made = define("a", flows={"f": flow}, folder=tmp_path)
    assert made.flows["f"].steps["s"].output_schema == {"type": "object", "properties": {"t": {}}}
