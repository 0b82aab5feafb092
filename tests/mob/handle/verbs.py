"""Every verb that changes something durable, as a case to be killed in. A table.

Owns: `CASES`, and which public methods of a mob only read. Must not: run a process.

A case is what the mob looks like before (`arrange`, in a process of its own that ends in order),
what is only in memory (`begin`, in the process that dies), and the verb itself. The verb comes with
an idempotency key where it takes one: it is repeated after the restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from mob.errors import MemberExists, RequestFailed, StaleFence
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from mob.receipts import MemberHandle
from runtime.errors import PointExists, RealmExists
from tests.mob.handle.team import Models

Step = Callable[[Mob, Models], Awaitable[Any]]


async def nothing(_mob: Mob, _models: Models) -> None:
    """Leave it as it is."""


@attrs.frozen
class Case:
    """A verb that is killed. `allowed_as` is its name in the tables of `mob.lifecycle`."""

    name: str
    allowed_as: str
    act: Step
    arrange: Step = nothing
    begin: Step = nothing
    #: How the verb may be refused when it comes again.
    again: tuple[type[Exception], ...] = ()
    #: What differs with the moment of the death, and says nothing about the verb.
    varies: frozenset[str] = frozenset()
    #: Of a verb of several commits, each of which is whole: what it may look like between them.
    between: Callable[[dict[str, Any]], bool] | None = None
    #: Whether it can be seen afterwards that the verb was called: not if it only waits.
    shows: bool = True
    #: Whether the verb is that of `open_mob` on a new id.
    creates: bool = False

    def changes(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """What differs and matters, from what to what."""
        return {
            key: (one[key], other[key])
            for key in one
            if one[key] != other[key] and key not in self.varies
        }


def _verb(call: Callable[[Mob], Awaitable[Any]]) -> Step:
    async def step(mob: Mob, _models: Models) -> None:
        await call(mob)

    return step


def _all(*calls: Callable[[Mob], Awaitable[Any]]) -> Step:
    async def step(mob: Mob, _models: Models) -> None:
        for call in calls:
            await call(mob)

    return step


async def _slow(mob: Mob, models: Models) -> None:
    """A turn in flight, and a message behind it."""
    await mob.send("a", "slow one", idempotency_key="slow one")
    await models.stalled.wait()
    await mob.send("a", "next", idempotency_key="next")


async def _interrupt(mob: Mob, _models: Models) -> None:
    if mob.interrupt("a"):
        await mob.wait_idle()


async def _work(mob: Mob, models: Models) -> None:
    models.gate.set()
    await mob.wait_idle()


async def _kill(mob: Mob, models: Models) -> None:
    models.stalled = trio.Event()
    if not mob.exits() and mob.kill("a"):
        await models.stalled.wait()


async def _payment(mob: Mob, _models: Models) -> None:
    await mob.send("c", "pay it", idempotency_key="pay")
    await mob.wait_blocked()


def _decide(how: str) -> Step:
    async def step(mob: Mob, _models: Models) -> None:
        for each in mob.approvals():
            await getattr(mob, how)(each.key, by="me")
        await mob.wait_idle()

    return step


async def _started(mob: Mob, models: Models) -> None:
    await mob.run_flow("wait", idempotency_key="w")
    await models.stalled.wait()


async def _cancel_flow(mob: Mob, _models: Models) -> None:
    for run in mob.flow_runs():
        await run.cancel("no more")
    if mob.state.value == "running":
        await mob.wait_idle()


async def _stop(mob: Mob, _models: Models) -> None:
    await mob.stop(0.0)


async def _request(mob: Mob, _models: Models) -> None:
    """Send a request and wait until it is there; not for the reply."""

    async def wait(scope: trio.CancelScope) -> None:
        with scope, suppress(RequestFailed):
            await mob.request("a", "b", "how far?", 3600.0, idempotency_key="k")

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(wait, scope)
        await wait_all_tasks_blocked()
        scope.cancel()


async def _reply(mob: Mob, _models: Models) -> None:
    await mob.reply(f"r-{hashlib.sha256(b'k').hexdigest()[:32]}", "far", sender="b")


async def _three_asked(mob: Mob, _models: Models) -> None:
    for text in ("one", "two", "three"):
        await mob.ask("c", text)


def _ensured(found: dict[str, Any]) -> bool:
    """Retired, then respawned, then spawned: each is there or not, in this order."""
    a, c, d, t = ("a", "q", 2), ("c", "q", 1), ("d", "p", 1), ("t", "t", 1)
    b, old_a = ("b", "p", 1), ("a", "p", 1)
    return found["members"] in ([old_a, b, c, t], [old_a, c, t], [a, c, t], [a, c, t, d])


async def _run_flow(mob: Mob, _models: Models) -> None:
    await (await mob.run_flow("report", {"topic": "bees"}, idempotency_key="r")).result()


async def _respawn(mob: Mob, _models: Models) -> None:
    row = mob.roster.members["a"]
    await mob.respawn("a", fence=MemberHandle("a", 1, row.first or row.session_id))


def _tool(
    name: str, tool: str, arguments: str, *, arrange: Step = nothing, same: bool = True
) -> Case:
    """A turn of the member ``t`` that makes this call. Unless it is always told the `same`: what
    was done before a crash is done already when the call is repeated."""
    act = _verb(lambda mob: mob.ask("t", f"call {tool} {arguments}", idempotency_key="k"))
    varies = frozenset() if same else frozenset({"sessions"})
    return Case(name, "work", act, arrange=arrange, varies=varies)


_BOARD = _all(
    lambda mob: mob.board.add("dig", key="t1"), lambda mob: mob.board.add("plant", key="t2")
)
_CLAIMED = _all(
    lambda mob: mob.board.add("dig", key="t1"),
    lambda mob: mob.board.claim("t1", "a", key="mine"),
)


def _helped(seen: dict[str, Any]) -> bool:
    """A helper is made with its question, answers, and leaves with the next commit."""
    return any("~" in name for name, *_ in seen["members"])


CASES: tuple[Case, ...] = (
    Case("create", "start", nothing, shows=False, creates=True),
    Case("spawn", "spawn", _verb(lambda mob: mob.spawn("d", profile="q")), again=(MemberExists,)),
    Case(
        "spawn_many",
        "spawn",
        _verb(lambda mob: mob.spawn_many([("d", "p"), ("e", "q"), ("f", "p")])),
        again=(MemberExists,),
    ),
    Case("retire", "retire", _verb(lambda mob: mob.retire("a")), arrange=_CLAIMED, begin=_slow),
    Case(
        "retire, stopped",
        "retire",
        _verb(lambda mob: mob.retire("a")),
        arrange=_all(lambda mob: mob.wire("a", "c"), lambda mob: mob.stop()),
    ),
    Case(
        "respawn",
        "respawn",
        _respawn,
        begin=_slow,
        again=(StaleFence,),
    ),
    Case(
        "ensure",
        "spawn",
        _verb(lambda mob: mob.ensure({"a": "q", "c": "q", "t": "t", "d": "p"})),
        between=_ensured,
    ),
    Case(
        "spawn_helper",
        "ask",
        _verb(lambda mob: mob.spawn_helper("a", "hello", key="h")),
        between=_helped,
    ),
    Case(
        "fork_helper",
        "ask",
        _verb(lambda mob: mob.fork_helper("a", "hello", key="h")),
        between=_helped,
    ),
    Case("wire", "wire", _verb(lambda mob: mob.wire("a", "c"))),
    Case("wire, one way", "wire", _verb(lambda mob: mob.wire("c", "a", directed=True))),
    Case("unwire", "unwire", _verb(lambda mob: mob.unwire("a", "b"))),
    Case("send", "send", _verb(lambda mob: mob.send("a", "hello", idempotency_key="k"))),
    Case(
        "send, steered",
        "send",
        _verb(lambda mob: mob.send("a", "left", mode="steer", idempotency_key="k")),
        begin=_slow,
    ),
    Case(
        "send, silent",
        "send",
        _verb(lambda mob: mob.send("a", "fyi", intent="fyi", idempotency_key="k")),
    ),
    Case("broadcast", "broadcast", _verb(lambda mob: mob.broadcast("all", idempotency_key="k"))),
    Case("request", "request", _request),
    Case("reply", "reply", _reply, arrange=_request),
    Case("ask", "ask", _verb(lambda mob: mob.ask("a", "hello", idempotency_key="k"))),
    Case(
        "work",
        "work",
        _work,
        begin=_all(
            lambda mob: mob.send("a", "slow one", idempotency_key="1"),
            lambda mob: mob.send("a", "two", idempotency_key="2"),
            lambda mob: mob.send("b", "slow three", idempotency_key="3"),
        ),
        shows=False,
    ),
    _tool("post", "send_message", '{"to": "b", "text": "hello"}'),
    _tool("request_inside", "send_request", '{"to": "b", "text": "answer me"}'),
    _tool("work, spawning", "mob_spawn_member", '{"name": "d", "profile": "p"}'),
    _tool("work, retiring", "mob_retire_member", '{"name": "b"}'),
    _tool("work, wiring", "mob_wire", '{"a": "b", "b": "c"}', same=False),
    _tool("work, unwiring", "mob_unwire", '{"a": "a", "b": "b"}', same=False),
    _tool("work, adding", "board_add", '{"title": "dig"}'),
    _tool("work, claiming", "board_claim", '{"task": "t1"}', arrange=_BOARD),
    Case(
        "reply_inside",
        "work",
        _verb(lambda mob: mob.request("a", "b", "answer me", 3600.0, idempotency_key="k")),
    ),
    Case("interrupt", "interrupt", _interrupt, begin=_slow),
    Case("kill", "kill", _kill, begin=_slow),
    Case("compact", "compact", _verb(lambda mob: mob.compact("c")), arrange=_three_asked),
    Case("approve", "decide", _decide("approve"), arrange=_payment),
    Case("deny", "decide", _decide("deny"), arrange=_payment),
    Case(
        "board.add",
        "board",
        _verb(lambda mob: mob.board.add("dig", blocked_by=["t1"], key="k")),
        arrange=_BOARD,
    ),
    Case(
        "board.claim",
        "board",
        _verb(lambda mob: mob.board.claim("t1", "a", key="k")),
        arrange=_BOARD,
    ),
    Case(
        "board.release",
        "board",
        _verb(lambda mob: mob.board.release("t1", key="k")),
        arrange=_CLAIMED,
    ),
    Case(
        "board.finish",
        "board",
        _verb(lambda mob: mob.board.finish("t1", "deep", key="k")),
        arrange=_CLAIMED,
    ),
    Case(
        "board.cancel",
        "board",
        _verb(lambda mob: mob.board.cancel("t1", key="k")),
        arrange=_CLAIMED,
    ),
    Case(
        "board.block",
        "board",
        _verb(lambda mob: mob.board.block("t1", ["t2"], key="k")),
        arrange=_BOARD,
    ),
    Case(
        "run_flow",
        "flow",
        _run_flow,
    ),
    Case(
        "FlowRun.cancel",
        "cancel-flow",
        _cancel_flow,
        begin=_started,
        varies=frozenset({"sessions"}),
    ),
    Case(
        "FlowRun.cancel, stopped",
        "cancel-flow",
        _cancel_flow,
        arrange=_all(
            lambda mob: mob.run_flow("wait", idempotency_key="w"), lambda mob: mob.stop(0.0)
        ),
    ),
    Case(
        "snapshot",
        "snapshot",
        _verb(lambda mob: mob.snapshot("here")),
        begin=_slow,
        again=(PointExists,),
    ),
    Case("fork", "fork", _verb(lambda mob: mob.fork("other")), begin=_slow, again=(RealmExists,)),
    Case(
        "rewind",
        "rewind",
        _verb(lambda mob: mob.rewind("here")),
        arrange=_all(
            lambda mob: mob.board.add("dig", key="t1"),
            lambda mob: mob.snapshot("here"),
            lambda mob: mob.board.claim("t1", "a"),
            lambda mob: mob.wire("a", "c"),
            lambda mob: mob.spawn("d", profile="p"),
            lambda mob: mob.respawn("b"),
            lambda mob: mob.retire("c"),
        ),
        varies=frozenset({"points"}),  # each rewind leaves one
    ),
    Case("stop", "stop", _stop, begin=_slow, again=(VerbRefused,)),
    Case(
        "resume",
        "resume",
        _all(lambda mob: mob.resume(), lambda mob: mob.wait_idle()),
        arrange=_all(
            lambda mob: mob.send("a", "one", idempotency_key="1"), lambda mob: mob.stop(0.0)
        ),
        again=(VerbRefused,),
    ),
    Case(
        "complete",
        "complete",
        _verb(lambda mob: mob.complete()),
        begin=_verb(lambda mob: mob.send("a", "one", idempotency_key="1")),
        again=(VerbRefused,),
    ),
    Case(
        "destroy",
        "destroy",
        _verb(lambda mob: mob.destroy()),
        arrange=_all(
            lambda mob: mob.run_flow("wait", idempotency_key="w"), lambda mob: mob.stop(0.0)
        ),
        again=(VerbRefused,),
    ),
)


#: Public coroutines of the handles that change nothing durable, and what `open_mob` itself calls.
READS = frozenset(
    {
        *("search", "wait_blocked", "wait_idle", "FlowRun.result"),
        *("recover", "rest", "close", "report_run"),
    }
)
