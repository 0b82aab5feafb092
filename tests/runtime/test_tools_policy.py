"""Who may call what: lists laid over each other, and what a model is told that asks for more."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome, ToolResult
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from runtime.session import SessionSpec
from runtime.tools.base import Tool, Toolbox, ToolContext
from runtime.tools.names import is_from, qualified_name, wire_name
from runtime.tools.policy import EVERY_TOOL, ToolPolicy, listed, matches, may_match
from stores import open_memory
from tests.runtime.fakes import Doing, call, make_realm, new_session
from tests.runtime.test_tools_function import NO_RUNNER

NAMES = st.sampled_from(["read", "write", "mcp.web.find", "mcp.web.get", "mcp.db.find", "shell"])
PATTERNS = st.lists(
    st.sampled_from(["*", "read", "write", "mcp.*", "mcp.web.*", "*.find", "sh*l", "re"]),
    max_size=3,
).map(tuple)
POLICIES = st.builds(listed, st.none() | PATTERNS, PATTERNS)


@given(POLICIES, POLICIES, NAMES)
def test_laid_over_each_other_lists_permit_what_both_permit(
    one: ToolPolicy, other: ToolPolicy, name: str
) -> None:
    """CONTRACTS 1.11: deny lists union, allow lists intersect."""
    assert (one & other).permits(name) == (one.permits(name) and other.permits(name))
    assert (one & EVERY_TOOL) == one


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("read", "read", True),
        ("read", "reads", False),
        ("mcp.web.*", "mcp.web.find", True),
        ("mcp.web.*", "mcp.web2.find", False),
        ("mcp.web.*", "mcp_web_find", False),
        ("*", "mcp.web.find", True),
        ("a[bc]", "ab", False),
        ("a[*", "a[b]", True),
        ("*find*", "find", True),
        ("", "x", False),
    ],
)
def test_only_the_star_is_special(pattern: str, name: str, fits: bool) -> None:
    assert matches((pattern,), name) is fits


@given(PATTERNS, NAMES)
def test_what_may_match_is_never_too_little(patterns: tuple[str, ...], name: str) -> None:
    """A server is started if a pattern could describe one of its tools."""
    for pattern in patterns:
        for end in range(len(name) + 1):
            if matches((pattern,), name):
                assert may_match(pattern, name[:end])


SERVERS = st.from_regex(r"[A-Za-z0-9](_?[A-Za-z0-9-]){0,30}", fullmatch=True)


@given(st.lists(st.tuples(SERVERS, st.text(min_size=1, max_size=90)), unique=True, max_size=6))
def test_models_are_told_names_that_providers_accept_and_no_two_alike(
    tools: list[tuple[str, str]],
) -> None:
    names = [wire_name(server, tool) for server, tool in tools]
    for name, (server, _) in zip(names, tools, strict=True):
        assert 1 <= len(name) <= 64
        assert name.isascii()
        assert name.replace("_", "a").replace("-", "a").isalnum()
        assert is_from(server, name)
    assert len(set(names)) == len(names)


def test_a_name_that_fits_is_left_as_it_is() -> None:
    assert wire_name("web", "find_all") == "web__find_all"
    assert qualified_name("web", "find.all") == "mcp.web.find.all"
    assert wire_name("web", "find.all") != wire_name("web", "find_all")


async def answer(box: Toolbox, name: str) -> ToolResult:
    return await box.run(ToolContext(SessionId("s"), RunId("r"), call("c", name), NO_RUNNER))


async def test_what_may_not_be_called_is_neither_offered_nor_run() -> None:
    """CONTRACTS 1.11, enforced at the call: a model that knows the name all the same is denied."""
    tools = [Doing(lambda _: "done", name=name) for name in ("read", "write")]
    box = Toolbox(tools, policy=listed(["*"], ["wr*"]))
    assert [spec.name for spec in box.specs] == ["read"]
    assert len(box) == 1
    assert (await answer(box, "read")).outcome is ToolOutcome.OK
    told = await answer(box, "write")
    assert told.outcome is ToolOutcome.DENIED
    assert told.text == "error: this session may not call 'write'; available: read"
    assert tools[1].begun == []
    assert (await answer(box, "wrote")).outcome is ToolOutcome.ERROR, "there is no such tool"
    none = box.restricted(listed([]))
    assert none.specs == ()
    assert "available: none" in (await answer(none, "read")).text
    assert box.restricted(EVERY_TOOL) is box


async def test_a_session_and_all_below_it_may_be_given_less() -> None:
    """CONTRACTS 1.11: a child may call no tool that its parent may not."""
    async with open_memory() as store:
        realm = make_realm(store)
        parent = await new_session(realm, spec=SessionSpec(tools=listed(["re*"], ["write"])))
        child = await new_session(
            realm, parent=parent, spec=SessionSpec(tools=listed(["*d"], ["r2d"]))
        )
        below = await new_session(realm, parent=child)
        for session in (child, below):
            policy = realm.state.head(session).spec.tools
            names = ("read", "red", "r2d", "rex", "find")
            assert [name for name in names if policy.permits(name)] == ["read", "red"]
        again = make_realm(store)
        assert again.state.heads[below].spec == realm.state.heads[below].spec


class Source:
    """Tools that come and go, as a server's."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.failing: str | None = None
        self.refreshed = 0

    @property
    def tools(self) -> Mapping[str, Tool]:
        return {
            qualified_name("web", name): Doing(lambda _: "found", name=wire_name("web", name))
            for name in self.names
        }

    async def refresh(self) -> str | None:
        self.refreshed += 1
        return self.failing

    def qualified(self, name: str) -> str | None:
        return f"mcp.web.{name.removeprefix('web__')}" if is_from("web", name) else None

    def idempotent(self, name: str) -> bool:
        return name == "web__find"


async def test_tools_of_a_source_are_offered_as_they_are_when_the_model_is_asked() -> None:
    source = Source("find")
    own = Doing(lambda _: "own", name="web__get")
    policy = listed(["mcp.web.*", "web__get"], ["mcp.web.drop"])
    box = Toolbox([own], policy=policy, sources=[source])
    seen: list[tuple[str, ...]] = []
    notes: list[str] = []

    def model(request: ModelRequest) -> str | object:
        seen.append(tuple(spec.name for spec in request.tools))
        notes.append(request.instructions)
        source.names = ["find", "get", "drop", "more"]
        if len(seen) == 1:
            return calling(("web__find", {}), ("web__drop", {}), ("web__gone", {}))
        source.failing = "web is away"
        return calling(("web__find", {})) if len(seen) == 2 else "done"

    async with open_memory() as store:
        realm = make_realm(store, ScriptedModel(model))  # type: ignore[arg-type]
        config = realm.configure
        assert config is not None
        realm.configure = lambda head: attrs.evolve(config(head), toolbox=box)
        session = await new_session(realm)
        result = await realm.runner.send_message(session, "go")
        assert result.text == "done"
        told = [m for m in realm.messages(session, None, "oldest") if isinstance(m, ToolResult)]
    assert seen[:2] == [("web__get", "web__find"), ("web__get", "web__find", "web__more")]
    assert notes == ["", "", "\n\nweb is away"]
    assert [each.outcome.name for each in told] == ["OK", "DENIED", "ERROR", "OK"]
    assert "any more" in told[2].text
    assert box.idempotent("web__find")
    assert not box.idempotent("web__more")
    assert box.idempotent("other")


async def test_a_forced_tool_that_is_not_there_is_not_forced() -> None:
    """Providers refuse a request that names a tool it does not offer."""
    offer = await Toolbox([], sources=[Source("find")]).offer()
    for asked, made in (
        ("web__find", "web__find"),
        ("web__lost", "auto"),
        ("required", "required"),
        ("none", "none"),
    ):
        assert offer.choice(asked) == made
    assert (await Toolbox([]).offer()).choice("required") == "auto"
