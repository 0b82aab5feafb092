"""Hooks in a turn: what each point is told and may change, order, failures, the three bodies."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio

from runtime.errors import TurnFailed, TurnInterrupted
from runtime.hookbodies import HookFailed, command_body, http_body, python_body, verdict_of
from runtime.hooks import (
    ALLOW,
    OBSERVED_ONLY,
    Deny,
    Hook,
    HookEvent,
    HookPoint,
    Hooks,
    Rewrite,
    Verdict,
)
from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome, Usage
from runtime.models.base import ModelReply
from runtime.models.scripted import ScriptedModel
from runtime.realm import Realm
from runtime.records import HookReported, TurnOutcome
from runtime.service import CreateSessionRequest, RealmSessionService, SessionBuildOptions
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session
from tests.runtime.test_driver import check_whole, interrupted, results

EVERY = frozenset(HookPoint)
GUARDED = EVERY - OBSERVED_ONLY


def guard(name: str, says: Any, *points: HookPoint, **given: Any) -> Hook:
    """A guardrail that answers with `says`, or with what that returns or raises."""

    async def body(event: HookEvent) -> Verdict:
        await trio.lowlevel.checkpoint()
        verdict: Verdict = says(event) if callable(says) else says
        return verdict

    return Hook(name, frozenset(points) or GUARDED, body, "guardrail", **given)


def seeing(into: list[HookEvent]) -> Hook:
    async def body(event: HookEvent) -> Verdict:
        await trio.lowlevel.checkpoint()
        into.append(event)
        return ALLOW

    return Hook("see", EVERY, body)


def with_hooks(realm: Realm, *hooks: Hook) -> Realm:
    plain = realm.configure
    assert plain is not None
    realm.configure = lambda head: attrs.evolve(plain(head), hooks=Hooks(hooks))
    return realm


def reports(realm: Realm) -> list[tuple[str, str, str, str]]:
    found = [e.record for e in realm.journal.read() if type(e.record) is HookReported]
    return [(each.hook, each.point, each.what, each.reason) for each in found]


async def test_every_point_is_told_in_order_with_what_can_be_judged() -> None:
    """Run started, before/after model, before/after tool, boundary, completed."""
    seen: list[HookEvent] = []
    script = [asking(call("c", arguments='{"n": 1}'), text="hm"), "done"]
    realm = with_hooks(make_realm(MemoryStore(), script, [Doing(lambda _: "ok")]), seeing(seen))
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    assert [(event.point.value, event.value) for event in seen] == [
        ("run_started", "go"),
        ("before_model", ""),
        ("after_model", "hm"),
        ("before_tool", '{"n": 1}'),
        ("after_tool", "ok"),
        ("turn_boundary", ""),
        ("before_model", ""),
        ("after_model", "done"),
        ("run_completed", "done"),
    ]
    assert {event.session_id for event in seen} == {session}
    assert len({event.run_id for event in seen}) == 1
    assert seen[3].as_json()["call"] == {"id": "c", "name": "work", "arguments": '{"n": 1}'}
    assert reports(realm) == []


async def test_a_turn_that_ends_without_an_answer_is_told_too() -> None:
    seen: list[HookEvent] = []
    realm = with_hooks(make_realm(MemoryStore(), [ValueError("oops")]), seeing(seen))
    session = await new_session(realm)
    with pytest.raises(TurnFailed):
        await realm.runner.send_message(session, "go")
    assert (seen[-1].point, seen[-1].value) == (HookPoint.RUN_FAILED, "ValueError: oops")
    assert seen[-1].details["outcome"] == "failed"

    async def forever(_: Any) -> str:
        await trio.sleep_forever()
        return ""

    realm = with_hooks(make_realm(MemoryStore(), forever), seeing(seen))
    await interrupted(realm, await new_session(realm))
    assert seen[-1].details["outcome"] == "interrupted"


@pytest.mark.parametrize(
    "point", sorted(GUARDED - {HookPoint.BEFORE_TOOL, HookPoint.AFTER_TOOL}, key=str)
)
async def test_a_denied_turn_ends_with_the_reason_and_the_session_goes_on(
    point: HookPoint,
) -> None:
    tool = Doing(lambda _: "ok")
    script = [
        attrs.evolve(asking(call("c")), usage=Usage(9, 1, 1)),
        ModelReply("secret", usage=Usage(5, 1, 1)),
    ] * 2
    denying = guard("no", Deny("not today"), point)
    realm = with_hooks(make_realm(MemoryStore(), script, [tool]), denying)
    session = await new_session(realm)
    with pytest.raises(TurnFailed, match="denied by hook 'no': not today"):
        await realm.runner.send_message(session, "go")
    assert reports(realm) == [("no", point.value, "denied", "not today")]
    check_whole(realm, session)
    # What was said is withheld, what it cost is counted.
    spent = realm.state.head(session).usage.total_tokens
    first = point in (HookPoint.RUN_STARTED, HookPoint.BEFORE_MODEL)
    assert spent == (0 if first else 10)
    realm.configure = make_realm(MemoryStore(), ["fine"]).configure
    assert (await realm.runner.send_message(session, "go")).text == "fine"


@pytest.mark.parametrize("point", [HookPoint.BEFORE_TOOL, HookPoint.AFTER_TOOL])
async def test_a_denied_tool_call_is_data_for_the_model(point: HookPoint) -> None:
    """STYLE: tool failures inside a turn are data."""
    tool = Doing(lambda _: "secret")
    script = [asking(call("c")), "I see"]
    denying = guard("no", Deny("not that"), point)
    realm = with_hooks(make_realm(MemoryStore(), script, [tool]), denying)
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "I see"
    told = results(realm, session)["c"]
    assert (told.outcome, told.text) == (
        ToolOutcome.ERROR,
        "error: denied by hook 'no': not that",
    )
    assert tool.begun == ([] if point is HookPoint.BEFORE_TOOL else ["c"])


async def test_what_is_rewritten_is_what_goes_on() -> None:
    given: list[Any] = []

    def rewrite(event: HookEvent) -> Verdict:
        return {
            HookPoint.BEFORE_MODEL: Rewrite("be kind"),
            HookPoint.BEFORE_TOOL: Rewrite('{"n": 2}'),
            HookPoint.AFTER_TOOL: Rewrite(event.value.upper()),
            HookPoint.AFTER_MODEL: Rewrite(event.value.replace("damn", "d***")),
        }.get(event.point, ALLOW)

    tool = Doing(lambda arguments: given.append(arguments) or "found")
    model = ScriptedModel([asking(call("c", arguments='{"n": 1}')), "damn"])
    realm = with_hooks(make_realm(MemoryStore(), model, [tool]), guard("r", rewrite))
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "d***"
    assert given == [{"n": 2}]
    assert results(realm, session)["c"].text == "FOUND"
    assert {each.instructions for each in model.requests} == {"be kind"}
    assert {each[2] for each in reports(realm)} == {"rewrote"}
    check_whole(realm, session)


async def test_guardrails_are_asked_in_order_and_the_first_denial_ends_the_asking() -> None:
    asked: list[str] = []

    def adds(text: str) -> Any:
        def says(event: HookEvent) -> Verdict:
            asked.append(event.value)
            return Rewrite(event.value + text)

        return says

    point = HookPoint.AFTER_MODEL
    hooks = [guard("a", adds("1"), point), guard("b", adds("2"), point)]
    realm = with_hooks(make_realm(MemoryStore(), ["x"]), *hooks)
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "x12"
    assert asked == ["x", "x1"]
    hooks = [guard("a", Deny("a"), point), guard("b", adds("2"), point)]
    realm = with_hooks(make_realm(MemoryStore(), ["x"]), *hooks)
    with pytest.raises(TurnFailed, match="denied by hook 'a'"):
        await realm.runner.send_message(await new_session(realm), "go")
    assert len(asked) == 2


def fail(_: HookEvent) -> Verdict:
    raise RuntimeError("broken")


async def stuck(_: HookEvent) -> Verdict:
    await trio.sleep_forever()
    return ALLOW


@pytest.mark.parametrize(("slow", "said"), [(False, "RuntimeError: broken"), (True, "within 3 s")])
async def test_a_hook_that_fails_is_reported_and_a_guardrail_fails_closed(
    slow: bool, said: str, autojump_clock: Any
) -> None:
    """A failing observe hook never breaks a turn; a guardrail denies by default."""

    async def body(event: HookEvent) -> Verdict:
        return await stuck(event) if slow else fail(event)

    point = frozenset({HookPoint.BEFORE_MODEL})
    observe = Hook("h", point, body, timeout_s=3)
    realm = with_hooks(make_realm(MemoryStore(), ["fine"]), observe)
    assert (await realm.runner.send_message(await new_session(realm), "go")).text == "fine"
    ((_, _, what, reason),) = reports(realm)
    assert what == "failed"
    assert said in reason

    closed = Hook("h", point, body, "guardrail", timeout_s=3)
    realm = with_hooks(make_realm(MemoryStore(), ["never"]), closed)
    with pytest.raises(TurnFailed, match="denied by hook 'h': it could not be checked"):
        await realm.runner.send_message(await new_session(realm), "go")
    assert [each[2] for each in reports(realm)] == ["failed", "denied"]

    opened = Hook("h", point, body, "guardrail", timeout_s=3, on_error="allow")
    realm = with_hooks(make_realm(MemoryStore(), ["fine"]), opened)
    assert (await realm.runner.send_message(await new_session(realm), "go")).text == "fine"
    assert [each[2] for each in reports(realm)] == ["failed"]


async def test_what_an_observer_answers_changes_nothing() -> None:
    async def body(_: HookEvent) -> Verdict:
        return Deny("I would not")

    realm = with_hooks(make_realm(MemoryStore(), ["fine"]), Hook("o", EVERY, body))
    assert (await realm.runner.send_message(await new_session(realm), "go")).text == "fine"


async def test_an_interrupt_ends_a_turn_that_waits_for_a_hook(autojump_clock: Any) -> None:
    """CONTRACTS 4.3."""
    hook = Hook("h", frozenset({HookPoint.BEFORE_MODEL}), stuck, "guardrail", timeout_s=1000)
    realm = with_hooks(make_realm(MemoryStore(), ["fine"]), hook)
    began = trio.current_time()
    await interrupted(realm, await new_session(realm))
    assert trio.current_time() == began


@pytest.mark.parametrize("verdict", [ALLOW, Deny("no")])
async def test_an_interrupt_that_was_confirmed_wins_over_what_the_turn_ends_with(
    verdict: Verdict,
) -> None:
    """CONTRACTS 4.3: also if the turn waits for nothing between the two."""
    realm = make_realm(MemoryStore(), ["answer"])

    def meanwhile(event: HookEvent) -> Verdict:
        assert realm.interrupt(event.session_id, "enough")
        return verdict

    with_hooks(realm, guard("g", meanwhile, HookPoint.AFTER_MODEL))
    session = await new_session(realm)
    with pytest.raises(TurnInterrupted, match="enough"):
        await realm.runner.send_message(session, "go")
    assert realm.turn(realm.state.head(session).head).outcome is TurnOutcome.INTERRUPTED


@pytest.mark.parametrize(
    "says", [ValueError("half \ud83d"), Deny("half \ud83d"), Rewrite("half \ud83d")]
)
async def test_what_a_hook_says_fits_a_journal(says: Any) -> None:
    """CONTRACTS 4.9, hooks: whatever it says, it neither crashes the turn nor the journal."""

    def say(_: HookEvent) -> Verdict:
        if isinstance(says, Exception):
            raise says
        verdict: Verdict = says
        return verdict

    realm = with_hooks(
        make_realm(MemoryStore(), ["answer"]),
        guard("g", say, HookPoint.AFTER_MODEL, on_error="allow"),
    )
    session = await new_session(realm)
    with suppress(TurnFailed):
        await realm.runner.send_message(session, "go")
    ((_, _, what, reason),) = reports(realm)
    assert what in ("failed", "denied", "rewrote")
    assert "\ud83d" not in reason


def test_what_has_happened_cannot_be_guarded() -> None:
    with pytest.raises(ValueError, match="at run_completed there is nothing to guard"):
        Hooks([guard("g", ALLOW, HookPoint.RUN_COMPLETED)])


def test_hooks_are_disabled_replaced_and_added_by_name() -> None:
    """CONTRACTS 4.9, hooks_override."""
    a, b, other = guard("a", ALLOW), guard("b", ALLOW), guard("b", Deny("x"))
    hooks = Hooks([a, b])
    c = guard("c", ALLOW)
    made = hooks.overridden({"a": False, "b": other, "c": c})
    assert made is not None
    assert made.hooks == (other, c)
    assert hooks.overridden({"a": True}).hooks == (a, b)  # type: ignore[union-attr]
    assert hooks.overridden({"a": False, "b": False}) is None


async def test_a_session_has_hooks_of_its_own() -> None:
    """CONTRACTS 4.9, hooks_override."""
    service = RealmSessionService(MemoryStore())
    no = guard("no", Deny("never"), HookPoint.RUN_STARTED)
    build = SessionBuildOptions(hooks_override={"no": no})
    with pytest.raises(TurnFailed, match="never"):
        await service.create_session(CreateSessionRequest("sim:echo", "go", build=build))
    assert (await service.create_session(CreateSessionRequest("sim:echo", "go"))).text == "go"


# The bodies.

EVENT = HookEvent(HookPoint.BEFORE_TOOL, SessionId("s"), RunId("r"), '{"n": 1}', {"step": 2})


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (None, ALLOW),
        ({"decision": "allow"}, ALLOW),
        ({"decision": "deny", "reason": "x"}, Deny("x")),
        ({"decision": "deny"}, Deny("no reason was given")),
        ({"decision": "rewrite", "value": "x"}, Rewrite("x")),
        (Deny("y"), Deny("y")),
    ],
)
def test_the_forms_of_a_verdict(value: Any, verdict: Verdict) -> None:
    assert verdict_of(value) == verdict


@pytest.mark.parametrize("value", ["deny", {"decision": "rewrite"}, {"decision": 1}, {}, [], True])
def test_what_is_no_verdict_is_a_failure(value: Any) -> None:
    with pytest.raises(HookFailed, match="no verdict"):
        verdict_of(value)


async def test_a_python_hook_may_be_sync_or_async() -> None:
    async def asked(event: HookEvent) -> Verdict:
        return Deny(event.value)

    assert await python_body(asked)(EVENT) == Deny('{"n": 1}')
    assert await python_body(lambda event: {"decision": "deny", "reason": event.value})(
        EVENT
    ) == Deny('{"n": 1}')


async def run_command(program: str, folder: Path) -> Verdict:
    return await command_body([sys.executable, "-c", program], folder)(EVENT)


async def test_a_command_reads_the_event_and_writes_its_verdict(tmp_path: Path) -> None:
    program = (
        "import json, os, sys; told = json.load(sys.stdin);"
        "print(json.dumps({'decision': 'deny', 'reason': told['value'] + os.getcwd()}))"
    )
    assert await run_command(program, tmp_path) == Deny('{"n": 1}' + str(tmp_path))
    assert await run_command("pass", tmp_path) == ALLOW
    with pytest.raises(HookFailed, match="exit code 3: sorry"):
        await run_command("import sys; sys.stderr.write('sorry'); sys.exit(3)", tmp_path)
    with pytest.raises(HookFailed, match="not JSON"):
        await run_command("print('fine')", tmp_path)
    with pytest.raises(FileNotFoundError):
        await command_body(["no-such-program"], tmp_path)(EVENT)


async def test_a_command_is_not_waited_for_by_what_it_left_behind(tmp_path: Path) -> None:
    """What it started and left running holds its output open, and is killed with it."""
    program = (
        "import subprocess, sys;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)']);"
        'print(\'{"decision": "deny", "reason": "no"}\')'
    )
    with trio.fail_after(30):
        assert await run_command(program, tmp_path) == Deny("no")


async def test_a_command_is_killed_with_everything_it_started(tmp_path: Path) -> None:
    """The process group is killed on timeout; nothing is left behind."""
    grandchild = "import time, pathlib; time.sleep(1.5); pathlib.Path('left').write_text('x')"
    program = (
        "import subprocess, sys, time, pathlib;"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}]);"
        "pathlib.Path('begun').write_text('x'); time.sleep(60)"
    )
    with trio.move_on_after(0.8) as scope:
        await run_command(program, tmp_path)
    assert scope.cancelled_caught
    assert (tmp_path / "begun").exists()
    await trio.sleep(1.5)
    assert not (tmp_path / "left").exists()


class Server(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {
        "/deny": (200, b'{"decision": "deny", "reason": "server"}'),
        "/empty": (204, b""),
        "/broken": (500, b"oops"),
    }
    told: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self.told.append(json.loads(self.rfile.read(length)))
        status, said = self.answers[self.path]
        self.send_response(status)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


async def test_a_server_gets_the_event_and_answers_with_its_verdict() -> None:
    server = HTTPServer(("127.0.0.1", 0), Server)
    url = f"http://127.0.0.1:{server.server_port}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, server.serve_forever))
        try:
            assert await http_body(f"{url}/deny")(EVENT) == Deny("server")
            assert await http_body(f"{url}/empty")(EVENT) == ALLOW
            with pytest.raises(HookFailed, match="answered 500: oops"):
                await http_body(f"{url}/broken")(EVENT)
        finally:
            await trio.to_thread.run_sync(server.shutdown)
            server.server_close()
    assert Server.told[0] == EVENT.as_json()
