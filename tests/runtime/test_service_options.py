"""Every field of SessionBuildOptions does something. CONTRACTS 4.9, one test or more for each."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.budget import NANO, Budget
from runtime.errors import (
    AgentError,
    BudgetExceeded,
    ModelUnavailable,
    OutputInvalid,
    SessionError,
    StaleRevision,
)
from runtime.hooks import Hook, HookPoint
from runtime.manager import RealmSessions
from runtime.messages import UserMessage
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from runtime.prices import Price
from runtime.realm import Realm
from runtime.service import (
    CreateSessionRequest,
    InitialTurnPolicy,
    RealmSessionService,
    ServiceDefaults,
    SessionBuildOptions,
    SessionQuery,
    StartTurnRequest,
)
from runtime.session import Provenance
from runtime.skills import Skill
from runtime.store import StoredSessions
from runtime.tools.policy import listed
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call
from tests.runtime.serving import made, model_of, say, scripted, served

#: Where the field is shown to do something; each is a test below, or in the module named.
SHOWN = {
    "provider": "test_a_provider_may_be_given_apart",
    "provider_params": "test_parameters_go_with_each_call",
    "llm_client_override": "test_a_client_of_the_callers_own_serves_the_session",
    "output_schema": "test_an_answer_fits_its_schema_or_is_asked_for_again",
    "structured_output_retries": "test_an_answer_fits_its_schema_or_is_asked_for_again",
    "hooks_override": "test_hooks_are_added_and_left_out_by_name",
    "comms_name": "test_service_peers",
    "peer_meta": "test_service_peers",
    "resume_session": "test_a_full_session_is_continued_in_another_service",
    "budget_limits": "test_a_budget_stops_the_session",
    "price": "test_a_budget_stops_the_session",
    "external_tools": "test_external_tools_stand_beside_the_built_in_ones",
    "scoped_event_tx": "test_service_events",
    "scoped_event_path": "test_service_events",
    "override_builtins": "test_a_group_of_tools_is_inherited_or_forced",
    "override_shell": "test_a_group_of_tools_is_inherited_or_forced",
    "override_subagents": "test_a_group_of_tools_is_inherited_or_forced",
    "override_memory": "test_a_group_of_tools_is_inherited_or_forced",
    "override_mob": "test_service_peers",
    "preload_skills": "test_skills_are_in_the_prompt_of_the_session_or_of_one_turn",
    "realm_id": "test_where_a_session_comes_from_is_kept_and_isolates",
    "instance_id": "test_where_a_session_comes_from_is_kept_and_isolates",
    "backend": "test_where_a_session_comes_from_is_kept_and_isolates",
    "config_generation": "test_where_a_session_comes_from_is_kept_and_isolates",
    "checkpointer": "test_service_peers",
    "silent_comms_intents": "test_service_peers",
    "max_inline_peer_notifications": "test_service_peers",
    "fallback": "test_retries",
    "approve": "test_calls_wait_for_a_decision_here_and_below",
    "tools": "test_the_tools_of_a_session_are_restricted",
    "compaction": "test_compaction",
}


def test_every_field_is_shown_somewhere() -> None:
    assert {field.name for field in attrs.fields(SessionBuildOptions)} == set(SHOWN)
    rooms = {path.stem for path in Path(__file__).parent.parent.rglob("test_*.py")}
    assert [
        where for where in SHOWN.values() if where not in globals() and where not in rooms
    ] == []


async def first_call(service: RealmSessionService, **given: Any) -> ModelRequest:
    """What the model of a session with these options is asked first."""
    request = scripted("ok", **given)
    session = (await service.create_session(request)).session_id
    await say(service, session, "hi")
    return model_of(request).requests[0]


async def tools_of(service: RealmSessionService, **given: Any) -> set[str]:
    return {tool.name for tool in (await first_call(service, **given)).tools}


# -- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "provider"), [("echo", "sim"), ("sim:echo", "sim")])
async def test_a_provider_may_be_given_apart(model: str, provider: str) -> None:
    service = RealmSessionService(MemoryStore())
    session = await made(service, llm_client_override=None, model=model, provider=provider)
    assert await say(service, session, "hello") == "hello"
    assert service.realm.state.head(session).spec.model == "sim:echo"
    with pytest.raises(ModelUnavailable):
        await made(service, llm_client_override=None, model="echo", provider="nobody")


async def test_parameters_go_with_each_call() -> None:
    given = {"temperature": 0.5}
    asked = await first_call(
        RealmSessionService(MemoryStore()), provider_params=given, max_tokens=7
    )
    assert asked.options == {"temperature": 0.5, "max_tokens": 7}


async def test_a_client_of_the_callers_own_serves_the_session() -> None:
    service = RealmSessionService(MemoryStore())
    own = ScriptedModel(["mine"])
    session = await made(service, llm_client_override=own, model="nobody:nothing")
    assert await say(service, session, "hi") == "mine"


# -- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 2, None])
async def test_an_answer_fits_its_schema_or_is_asked_for_again(retries: int | None) -> None:
    service = RealmSessionService(MemoryStore())
    given: dict[str, Any] = {"output_schema": {"type": "object", "required": ["n"]}}
    if retries is not None:
        given["structured_output_retries"] = retries
    request = scripted(*["no"] * 9, **given)
    session = (await service.create_session(request)).session_id
    with pytest.raises(OutputInvalid) as found:
        await say(service, session, "hi")
    assert found.value.text == "no"
    asked = model_of(request).requests
    assert len(asked) == 1 + (2 if retries is None else retries)
    assert all(each.output_schema == given["output_schema"] for each in asked)
    if len(asked) > 1:
        assert "cannot be used" in asked[1].messages[-1].text
    with pytest.raises(SessionError, match="structured_output_retries"):
        await made(service, "x", structured_output_retries=-1)


async def test_hooks_are_added_and_left_out_by_name() -> None:
    told: list[str] = []

    async def hear(event: Any) -> Any:
        told.append(event.value)

    service = RealmSessionService(MemoryStore())
    hook = Hook("hear", frozenset({HookPoint.RUN_STARTED}), hear)
    await first_call(service, hooks_override={"hear": hook})
    assert told == ["hi"]
    await first_call(service, hooks_override={"hear": False})
    await first_call(service)
    assert told == ["hi"]


# -- what it may cost, and what it may call ------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget(tokens=1), "tokens"),
        (Budget(tool_calls=0), "tool_calls"),
        (Budget(nano_usd=NANO // 1000), "usd"),
        (Budget(seconds=1e-6), "seconds"),
    ],
)
async def test_a_budget_stops_the_session(budget: Budget, limit: str) -> None:
    """Also in another service over the same store, by what was spent and the price kept there."""
    store = MemoryStore()
    lines = [asking(call("c")), *["a long enough answer"] * 3]
    model = ScriptedModel(lines)
    given = {
        "llm_client_override": model,
        "external_tools": (Doing(lambda _: "ok"),),
        "budget_limits": budget,
        "price": Price(Decimal(10), Decimal(1000)),
    }
    service = RealmSessionService(store)
    session = await made(service, **given)

    async def talk() -> None:
        for _ in range(3):
            await say(service, session, "a question of some length")

    with pytest.raises(BudgetExceeded) as found:
        await talk()
    assert (found.value.limit, found.value.session_id) == (limit, session)
    assert len(model.requests) < 4
    again = RealmSessionService(store)
    again._builder.options[session] = SessionBuildOptions(llm_client_override=model)
    if limit != "tool_calls":
        with pytest.raises(BudgetExceeded):
            await say(again, session, "more")
    with pytest.raises(SessionError, match="no price"):
        await made(service, "x", budget_limits=Budget(nano_usd=1))


async def test_external_tools_stand_beside_the_built_in_ones() -> None:
    service = RealmSessionService(MemoryStore(), defaults=ServiceDefaults(builtins=True))
    tool = Doing(lambda _: "ok")
    assert await tools_of(service, external_tools=(tool,)) == {"current_time", "work"}
    session = await made(service, asking(call("c")), "done", external_tools=(tool,))
    assert await say(service, session, "go") == "done"
    assert tool.finished == ["c"]


async def test_the_tools_of_a_session_are_restricted() -> None:
    service = RealmSessionService(MemoryStore(), defaults=ServiceDefaults(builtins=True))
    tool = Doing(lambda _: "ok")
    only = {"external_tools": (tool,), "tools": listed(None, ["work"])}
    assert await tools_of(service, **only) == {"current_time"}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("below", [False, True])
async def test_calls_wait_for_a_decision_here_and_below(below: bool, restarted: bool) -> None:
    """CONTRACTS 4.9: approve, also of a session that was read back, and in its children."""
    store, tool = MemoryStore(), Doing(lambda _: "paid", "pay")

    def answer(request: ModelRequest) -> Any:
        last = request.messages[-1]
        if not isinstance(last, UserMessage):
            return last.text
        if last.text == "spawn":
            return calling(("spawn_agent", {"name": "kid", "instructions": "go"}))
        return calling(("pay", {}))

    service = RealmSessionService(store)
    request = scripted(answer, approve=("p*",), external_tools=(tool,), override_subagents=True)
    session = (await service.create_session(request)).session_id
    if restarted:
        service = RealmSessionService(store)
        service._builder.options[session] = request.build
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, service, session, "spawn" if below else "go")
        await wait_all_tasks_blocked()
        (asked,) = service.decisions.waiting()
        assert (asked.tool, tool.begun) == ("pay", [])
        assert (asked.session_id != session) == below
        await service.decisions.approve(asked.key, by="ada")
    assert len(tool.finished) == 1
    assert (await service.read_history(session))[-1].text == "paid"
    with pytest.raises(SessionError, match="a list of patterns"):
        await made(service, "x", approve="pay")


GROUPS = {
    "builtins": {"current_time"},
    "shell": {"shell"},
    "subagents": {"spawn_agent"},
    "memory": {"search_memory"},
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("forced", [None, False, True])
async def test_a_group_of_tools_is_inherited_or_forced(
    group: str, default: bool, forced: bool | None
) -> None:
    """None inherits; True or False forces, also after a restart."""
    store = MemoryStore()
    defaults = ServiceDefaults(**{group: default})
    service = RealmSessionService(store, defaults=defaults)
    request = scripted("ok", "ok", **{f"override_{group}": forced})
    session = (await service.create_session(request)).session_id
    wanted = GROUPS[group] if (default if forced is None else forced) else set()
    again = RealmSessionService(store, defaults=defaults)
    again._builder.options[session] = SessionBuildOptions(llm_client_override=model_of(request))
    for each in (service, again):
        await say(each, session, "hi")
        assert {tool.name for tool in model_of(request).requests[-1].tools} == wanted


async def test_the_built_in_tools_work(tmp_path: Path) -> None:
    """A shell in its folder, the time of the port, and a child that runs as its parent does."""
    (tmp_path / "here").write_text("found")
    defaults = ServiceDefaults(builtins=True, shell=True, subagents=True, shell_folder=tmp_path)
    service = RealmSessionService(MemoryStore(), defaults=defaults)

    def answer(request: ModelRequest) -> Any:
        last = request.messages[-1]
        if not isinstance(last, UserMessage):
            return last.text
        if last.text == "child":
            return calling(("spawn_agent", {"name": "kid", "instructions": "sh"}))
        if last.text == "sh":
            return calling(("shell", {"command": "cat here"}))
        return calling(("current_time", {}))

    session = await made(service, answer)
    assert "found" in await say(service, session, "sh")
    assert "+00:00" in await say(service, session, "when")
    assert "found" in await say(service, session, "child")


async def test_children_may_work_in_the_background_where_there_is_a_place_for_them() -> None:
    async with served(defaults=ServiceDefaults(subagents=True)) as service:
        assert "wait_task" in await tools_of(service)
    alone = RealmSessionService(MemoryStore(), defaults=ServiceDefaults(subagents=True))
    assert await tools_of(alone) == {"spawn_agent"}


async def test_a_session_with_a_memory_searches_its_own_past_turns() -> None:
    """CONTRACTS 4.9: override_memory."""
    service = RealmSessionService(MemoryStore())

    def answer(request: ModelRequest) -> Any:
        last = request.messages[-1]
        if isinstance(last, UserMessage) and last.text.startswith("what"):
            return calling(("search_memory", {"query": "giraffe"}))
        return last.text

    session = await made(service, answer, override_memory=True)
    other = await made(service, answer)
    await say(service, session, "the giraffe is tall")
    await say(service, other, "the giraffe is secret")
    found = await say(service, session, "what was it?")
    assert "tall" in found
    assert "secret" not in found
    await service.aclose()


async def test_skills_are_in_the_prompt_of_the_session_or_of_one_turn() -> None:
    skill = Skill("brevity", "to be brief", "Say little.")
    service = RealmSessionService(MemoryStore(), skills={"brevity": skill})
    assert "Say little." in (await first_call(service, preload_skills=("brevity",))).instructions
    assert "Say little." not in (await first_call(service)).instructions
    once = scripted(
        "ok",
        "ok",
        prompt="hi",
        skill_references=("brevity",),
        initial_turn=InitialTurnPolicy.RUN_IMMEDIATELY,
    )
    session = (await service.create_session(once)).session_id
    await say(service, session, "again")
    told = ["Say little." in each.instructions for each in model_of(once).requests]
    assert told == [True, False]


# -- where it comes from -------------------------------------------------------------------------


async def test_where_a_session_comes_from_is_kept_and_isolates() -> None:
    store = MemoryStore()
    service = RealmSessionService(store)
    given = {
        "realm_id": "prod",
        "instance_id": "i-7",
        "backend": "lmdb",
        "config_generation": 3,
    }
    session = await made(service, "x", **given)
    other = await made(service, "x", realm_id="test")
    plain = await made(service, "x")
    await service.realm.checkpoint()
    for each in (service, RealmSessionService(store)):
        assert (await each.read(session)).state.provenance == Provenance("prod", "i-7", "lmdb", 3)
        assert (await each.read(plain)).state.provenance is None
        listed = [one.session_id for one in await each.list(SessionQuery(realm_id="prod"))]
        assert listed == [session]
        assert len(list(await each.list())) == 3
    with pytest.raises(SessionError, match="belongs to realm 'test'"):
        await made(service, "x", resume_session=service.realm.snapshot(other), realm_id="prod")


# -- going on from a full session ----------------------------------------------------------------


async def test_a_full_session_is_continued_in_another_service() -> None:
    """Its id, its history, its name elsewhere and what it was asked to be come with it."""
    here = RealmSessionService(MemoryStore())
    session = await made(
        here,
        *["one", "two"],
        system_prompt="be brief",
        title="t",
        external_id="ticket-7",
        provider_params={"seed": 1, "top_p": 1},
        config_generation=3,
    )
    await say(here, session, "a")
    await say(here, session, "b")
    whole = here.realm.snapshot(session)
    there = RealmSessionService(MemoryStore())
    request = scripted("three", resume_session=whole, provider_params={"seed": 2})
    assert (await there.create_session(request)).session_id == session
    assert await say(there, session, "c") == "three"
    (asked,) = model_of(request).requests
    assert [each.text for each in asked.messages] == ["a", "one", "b", "two", "c"]
    assert asked.instructions == "be brief"
    assert asked.options == {"seed": 2, "top_p": 1}
    view = await there.read(session)
    assert (view.state.external_id, view.state.message_count) == ("ticket-7", 6)
    assert view.state.provenance == Provenance(config_generation=3)
    assert there.realm.state.head(session).title == "t"


async def test_a_full_session_is_continued_where_it_is_with_other_options() -> None:
    """Unless it changed since it was read; what it is asked to be from then on is kept."""
    store = MemoryStore()
    service = RealmSessionService(store)
    session = await made(service, "one", system_prompt="be brief")
    stale = service.realm.snapshot(session)
    await say(service, session, "a")
    whole = service.realm.snapshot(session)
    with pytest.raises(StaleRevision):
        await made(service, "x", resume_session=stale)
    request = scripted(
        '"two"', resume_session=whole, output_schema={"type": "string"}, external_id="e"
    )
    assert (await service.create_session(request)).session_id == session
    result = await service.start_turn(session, StartTurnRequest("b"))
    assert model_of(request).requests[0].instructions == "be brief"
    assert model_of(request).requests[0].output_schema == {"type": "string"}
    assert result.output == "two"
    again = RealmSessionService(store)
    assert again.realm.state.head(session).spec.output_schema == '{"type": "string"}'
    assert (await again.read(session)).state.external_id == "e"
    await service.archive(session)
    with pytest.raises(SessionError, match="archived"):
        await made(service, "x", resume_session=service.realm.snapshot(session))


# -- what it is called elsewhere -----------------------------------------------------------------


async def test_what_a_session_is_called_elsewhere_is_kept_wherever_it_is_stored() -> None:
    """CONTRACTS 2.1: given at its creation or later, through rows, snapshots, saves and forks."""
    store = MemoryStore()
    service = RealmSessionService(store)
    session = await made(service, "x", external_id="ticket-7")
    for name in ("ticket-7", "ticket-8", None, "ticket-9"):
        await service.set_external_id(session, name)
        assert (await service.read(session)).state.external_id == name
        (line,) = await service.list()
        assert line.external_id == name
        replayed = Realm(store, service.realm.realm_id)
        replayed.recover()
        assert replayed.state.head(session).external_id == name
    await service.realm.checkpoint()
    rows = Realm(store, service.realm.realm_id)
    rows.recover()
    assert rows.state.head(session).external_id == "ticket-9"
    whole = service.realm.snapshot(session)
    assert whole.external_id == "ticket-9"
    snapshots = StoredSessions(store, service.realm.realm_id)
    await snapshots.save(whole)
    assert await snapshots.load(session) == whole
    manager = RealmSessions(service.realm)
    saved = await manager.save(attrs.evolve(whole, external_id="ticket-10"))
    assert saved.external_id == "ticket-10"
    assert (await manager.fork(session)).external_id is None


# -- all at once ---------------------------------------------------------------------------------


async def test_build_options_do_what_they_say() -> None:
    """CONTRACTS 4.9: model override, provider parameters, schema, retries, external tools."""
    tool = Doing(lambda _: "ok")
    model = ScriptedModel(["not json", "nor this", '{"n": 1}'])
    build = SessionBuildOptions(
        {"type": "object"}, 1, {"temperature": 0.5}, model, external_tools=(tool,)
    )
    service = RealmSessionService(MemoryStore())
    request = CreateSessionRequest(
        "x:y",
        system_prompt="be brief",
        max_tokens=7,
        build=build,
        initial_turn=InitialTurnPolicy.DEFER,
    )
    session = (await service.create_session(request)).session_id
    with pytest.raises(OutputInvalid) as found:
        await say(service, session, "hi")
    assert isinstance(found.value, AgentError)
    assert (found.value.text, found.value.session_id) == ("nor this", session)
    result = await service.start_turn(session, StartTurnRequest("hi"))
    assert result.output == {"n": 1}
    asked = model.requests[0]
    assert asked.instructions == "be brief"
    assert asked.options == {"temperature": 0.5, "max_tokens": 7}
    assert asked.output_schema == {"type": "object"}
    assert [spec.name for spec in asked.tools] == ["work"]
