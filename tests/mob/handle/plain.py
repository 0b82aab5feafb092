"""What must be true of the mob of `team`, by a plain model that shares no code with it.

Owns: `Plain`, and the verbs as data: when each is refused, and what it changes. Must not: ask the
mob anything.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from mob.errors import (
    BoardCycle,
    BoardMisuse,
    BoardTaskNotFound,
    MemberExists,
    MemberNotFound,
    NotWired,
    RequestNotOpen,
    TaskBlocked,
)
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from runtime.errors import PointExists, PointNotFound, RealmExists

#: Who may send to whom by the file.
DECLARED = {("a", "b"), ("b", "a"), ("t", "b"), ("b", "t")}


@attrs.define
class Message:
    """A message that was accepted. `lost` says that its recipient may have left before it."""

    number: int
    sender: str | None
    to: str
    lost: bool = False


@attrs.define
class Task:
    state: str = "open"
    owner: str | None = None
    result: str = ""
    blocked_by: tuple[str, ...] = ()


@attrs.define
class Plain:
    """A mob. Members are in the order of joining, with profile and generation."""

    state: str = "running"
    members: dict[str, tuple[str, int]] = attrs.field(
        factory=lambda: {"a": ("p", 1), "b": ("p", 1), "c": ("q", 1), "t": ("t", 1)}
    )
    gone: set[str] = attrs.field(factory=set)
    said: dict[tuple[str, str], bool] = attrs.field(factory=dict)
    tasks: dict[str, Task] = attrs.field(factory=dict)
    #: By text and recipient, in the order in which they were accepted.
    messages: dict[tuple[str, str], Message] = attrs.field(factory=dict)
    #: Runs of flows by key: None while nobody can say how it ended.
    runs: dict[str, str | None] = attrs.field(factory=dict)
    #: Points by label, in order, each with what the mob was.
    points: dict[str, Plain] = attrs.field(factory=dict)
    forks: dict[str, Plain] = attrs.field(factory=dict)
    rewinds: int = 0
    #: Requests that wait for a reply: from whom to whom, in order.
    requests: dict[str, tuple[str, str]] = attrs.field(factory=dict)

    def may_send(self, sender: str, to: str) -> bool:
        if sender not in self.members or to not in self.members or sender == to:
            return False
        return self.said.get((sender, to), (sender, to) in DECLARED)

    def seen(self) -> dict[str, Any]:
        """What `tests.mob.handle.team.seen` must say."""
        return {
            "state": self.state,
            "members": [(name, *row) for name, row in self.members.items()],
            "edges": {(a, b) for a in self.members for b in self.members if self.may_send(a, b)},
            "peers": {
                a: tuple(b for b in self.members if self.may_send(a, b)) for a in self.members
            },
            "board": [
                (name, name, each.state, each.owner, each.result, each.blocked_by)
                for name, each in self.tasks.items()
            ],
            "requests": list(self.requests.values()),
            "points": list(self.points),
            "mobs": sorted(["t", *self.forks]),
        }

    def leaves(self, name: str) -> None:
        del self.members[name]
        self.gone.add(name)
        self.said = {pair: way for pair, way in self.said.items() if name not in pair}
        for task in self.tasks.values():
            if task.state == "claimed" and task.owner == name:
                task.state, task.owner = "open", None
        for message in self.messages.values():
            message.lost = message.lost or message.to == name
        self.requests = {key: each for key, each in self.requests.items() if name not in each}
        self.disturb()

    def disturb(self) -> None:
        """Runs that are under way may end otherwise than they would have."""
        for key in self.runs:
            self.runs[key] = None

    def copied(self) -> Plain:
        """What a point keeps: not the points and forks themselves."""
        return copy.deepcopy(attrs.evolve(self, points={}, forks={}))


@attrs.frozen
class Verb:
    """A call of a verb: `refused` says with what it must be refused in a mob, `apply` what it does
    to one otherwise."""

    name: str
    run: Callable[[Mob], Awaitable[Any]]
    apply: Callable[[Plain], None]
    refused: Callable[[Plain], type[Exception] | None]
    #: Whether the mob must be at rest before it.
    rests: bool = False
    #: Whether it takes several commits, so that one that dies is repeated.
    parts: bool = False


_STOPPED = {"retire", "wire", "unwire", "board", "snapshot", "fork", "rewind", "cancel-flow"}


def _when(
    verb: str, *checks: tuple[Callable[[Plain], bool], type[Exception]]
) -> Callable[[Plain], type[Exception] | None]:
    """Refused when the state does not allow it, then by the first check that holds."""

    def refused(plain: Plain) -> type[Exception] | None:
        allowed = {
            "running": verb != "resume",
            "stopped": verb in _STOPPED or verb == "resume",
        }
        if not allowed[plain.state]:
            return VerbRefused
        return next((error for check, error in checks if check(plain)), None)

    return refused


def _missing(*names: str) -> tuple[Callable[[Plain], bool], type[Exception]]:
    return lambda plain: any(name not in plain.members for name in names), MemberNotFound


def spawn(wanted: list[tuple[str, str]]) -> Verb:
    """`spawn_many`, and `spawn` of one."""

    def apply(plain: Plain) -> None:
        plain.members.update({name: (profile, 1) for name, profile in wanted})
        plain.disturb()  # a step asks all members of a profile

    async def run(mob: Mob) -> None:
        if len(wanted) == 1:
            await mob.spawn(wanted[0][0], profile=wanted[0][1])
        else:
            await mob.spawn_many(wanted)

    names = [name for name, _ in wanted]

    def taken(plain: Plain) -> bool:
        return any(name in plain.members for name in names) or len(set(names)) < len(names)

    return Verb("spawn", run, apply, _when("spawn", (taken, MemberExists)))


def retire(name: str) -> Verb:
    def apply(plain: Plain) -> None:
        if name in plain.members:
            plain.leaves(name)

    def unknown(plain: Plain) -> bool:
        return name not in plain.members and name not in plain.gone

    return Verb(
        "retire", lambda mob: mob.retire(name), apply, _when("retire", (unknown, MemberNotFound))
    )


def respawn(name: str, profile: str | None) -> Verb:
    def apply(plain: Plain) -> None:
        old, generation = plain.members[name]
        plain.members[name] = (profile or old, generation + 1)
        plain.disturb()

    return Verb(
        "respawn",
        lambda mob: mob.respawn(name, profile=profile),
        apply,
        _when("respawn", _missing(name)),
    )


def wire(a: str, b: str, *, directed: bool, opens: bool) -> Verb:
    pairs = [(a, b)] if directed else [(a, b), (b, a)]

    def apply(plain: Plain) -> None:
        for pair in pairs:
            if plain.may_send(*pair) == opens:
                continue
            plain.said[pair] = opens
            plain.requests = {key: each for key, each in plain.requests.items() if each != pair}

    verb = "wire" if opens else "unwire"
    return Verb(
        verb,
        lambda mob: getattr(mob, verb)(a, b, directed=directed),
        apply,
        _when(verb, _missing(a, b)),
    )


def send(number: int, sender: str | None, to: str, kind: str, mode: str) -> Verb:
    text = f"{kind} {number}"

    def apply(plain: Plain) -> None:
        plain.messages[text, to] = Message(number, sender, to)

    checks = [_missing(to)]
    if sender is not None:
        checks = [_missing(sender, to), (lambda plain: not plain.may_send(sender, to), NotWired)]
    return Verb(
        "send",
        lambda mob: mob.send(to, text, sender=sender, mode=mode, idempotency_key=text),
        apply,
        _when("send", *checks),
    )


def broadcast(number: int, sender: str | None) -> Verb:
    text = f"all {number}"

    def apply(plain: Plain) -> None:
        for name in plain.members:
            if sender is None or plain.may_send(sender, name):
                plain.messages[text, name] = Message(number, sender, name)

    checks = [] if sender is None else [_missing(sender)]
    return Verb(
        "broadcast",
        lambda mob: mob.broadcast(text, sender=sender, idempotency_key=text),
        apply,
        _when("broadcast", *checks),
    )


def request(number: int, sender: str, to: str) -> Verb:
    """A request that nobody but `reply` replies to, not waited for."""
    key = f"request {number}"

    def apply(plain: Plain) -> None:
        plain.requests[key] = (sender, to)

    async def run(mob: Mob) -> None:
        with trio.move_on_after(1.0):  # by then it is there, and waits for its reply
            await mob.request(sender, to, f"[{key}] fast", 1e6, idempotency_key=key)

    return Verb(
        "request",
        run,
        apply,
        _when(
            "request",
            _missing(sender, to),
            (lambda plain: not plain.may_send(sender, to), NotWired),
        ),
    )


def reply(number: int) -> Verb:
    """Reply to the oldest request that waits."""

    def apply(plain: Plain) -> None:
        plain.requests.pop(next(iter(plain.requests)))

    async def run(mob: Mob) -> None:
        oldest = mob.requests[0].request_id if mob.requests else "r-none"
        await mob.reply(oldest, f"reply {number}")
        await mob.reply(oldest, f"reply {number}")

    return Verb(
        "reply",
        run,
        apply,
        _when("reply", (lambda plain: not plain.requests, RequestNotOpen)),
    )


def ensure(wanted: dict[str, str]) -> Verb:
    """Make these the members. Several commits: one that dies is repeated."""

    def apply(plain: Plain) -> None:
        for name in [each for each in plain.members if each not in wanted]:
            plain.leaves(name)
        for name, (profile, generation) in plain.members.items():
            if profile != wanted[name]:
                plain.members[name] = (wanted[name], generation + 1)
        for name, profile in wanted.items():
            plain.members.setdefault(name, (profile, 1))
        plain.disturb()

    return Verb("ensure", lambda mob: mob.ensure(wanted), apply, _when("ensure"), parts=True)


def cancel_runs() -> Verb:
    """Cancel the runs that are under way. One commit each: one that dies is repeated."""

    async def run(mob: Mob) -> None:
        for each in mob.flow_runs():
            await each.cancel("no more")

    def apply(plain: Plain) -> None:
        plain.disturb()

    return Verb("cancel-flow", run, apply, _when("cancel-flow"), parts=True)


def add(blocked_by: list[str]) -> Verb:
    def apply(plain: Plain) -> None:
        name = f"t{len(plain.tasks) + 1}"
        plain.tasks[name] = Task(blocked_by=tuple(blocked_by))

    async def run(mob: Mob) -> None:
        await mob.board.add(f"t{len(mob.board.list()) + 1}", blocked_by=blocked_by)

    def unknown(plain: Plain) -> bool:
        return any(each not in plain.tasks for each in blocked_by)

    return Verb("board", run, apply, _when("board", (unknown, BoardTaskNotFound)))


def move(verb: str, task: str, owner: str) -> Verb:
    """A verb that moves a task on; a claim is for `owner`."""
    ways = {
        "claim": (("open",), "claimed"),
        "release": (("claimed",), "open"),
        "finish": (("claimed",), "done"),
        "cancel": (("open", "claimed"), "cancelled"),
    }
    before, after = ways[verb]

    def apply(plain: Plain) -> None:
        found = plain.tasks[task]
        found.state = after
        found.owner = {"claim": owner, "finish": found.owner}.get(verb)
        found.result = f"{verb}ed" if verb in ("finish", "cancel") else ""

    async def run(mob: Mob) -> None:
        arguments = {"claim": [owner], "release": []}.get(verb, [f"{verb}ed"])
        await getattr(mob.board, verb)(task, *arguments)

    def blocked(plain: Plain) -> bool:
        waits = (plain.tasks[each].state != "done" for each in plain.tasks[task].blocked_by)
        return verb == "claim" and any(waits)

    checks = [
        (lambda plain: task not in plain.tasks, BoardTaskNotFound),
        (lambda plain: plain.tasks[task].state not in before, BoardMisuse),
        (blocked, TaskBlocked),
    ]
    if verb == "claim":
        checks.insert(0, _missing(owner))
    return Verb("board", run, apply, _when("board", *checks))


def block(task: str, blocked_by: list[str]) -> Verb:
    def apply(plain: Plain) -> None:
        plain.tasks[task].blocked_by = tuple(blocked_by)

    def leads_back(plain: Plain, start: str) -> bool:
        ahead, seen = [start], set()
        while ahead:
            here = ahead.pop()
            if here == task:
                return True
            if here not in seen:
                seen.add(here)
                ahead.extend(plain.tasks[here].blocked_by)
        return False

    def wrong(plain: Plain) -> type[Exception] | None:
        """What is wrong with the first of the blockers that has something wrong."""
        for each in blocked_by:
            if each not in plain.tasks:
                return BoardTaskNotFound
            if leads_back(plain, each):
                return BoardCycle
        return None

    return Verb(
        "board",
        lambda mob: mob.board.block(task, blocked_by),
        apply,
        _when(
            "board",
            (lambda plain: task not in plain.tasks, BoardTaskNotFound),
            (lambda plain: plain.tasks[task].state != "open", BoardMisuse),
            (lambda plain: wrong(plain) is BoardTaskNotFound, BoardTaskNotFound),
            (lambda plain: wrong(plain) is BoardCycle, BoardCycle),
        ),
    )


def run_flow(number: int) -> Verb:
    key = f"run {number}"

    def apply(plain: Plain) -> None:
        there = all(name in plain.members for name in ("a", "b"))
        there = there and any(profile == "p" for profile, _ in plain.members.values())
        plain.runs.setdefault(key, "succeeded" if there else None)

    return Verb(
        "flow",
        lambda mob: mob.run_flow("report", {"topic": key}, idempotency_key=key),
        apply,
        _when("flow"),
    )


def stop() -> Verb:
    def apply(plain: Plain) -> None:
        plain.state = "stopped"

    return Verb("stop", lambda mob: mob.stop(0.0), apply, _when("stop"))


def resume() -> Verb:
    def apply(plain: Plain) -> None:
        plain.state = "running"

    return Verb(
        "resume",
        lambda mob: mob.resume(),
        apply,
        _when("resume", (lambda plain: plain.state == "running", VerbRefused)),
    )


def snapshot(label: str) -> Verb:
    def apply(plain: Plain) -> None:
        plain.points[label] = plain.copied()

    return Verb(
        "snapshot",
        lambda mob: mob.snapshot(label),
        apply,
        _when("snapshot", (lambda plain: label in plain.points, PointExists)),
        rests=True,
    )


def fork(new_id: str, at: str | None) -> Verb:
    def apply(plain: Plain) -> None:
        plain.forks[new_id] = plain.copied() if at is None else plain.points[at]

    return Verb(
        "fork",
        lambda mob: mob.fork(new_id, at=at),
        apply,
        _when(
            "fork",
            (lambda plain: new_id in plain.forks, RealmExists),
            (lambda plain: at is not None and at not in plain.points, PointNotFound),
        ),
        rests=True,
    )


def rewind(label: str) -> Verb:
    def apply(plain: Plain) -> None:
        left, old = plain.copied(), copy.deepcopy(plain.points[label])
        rewinds = plain.rewinds + 1
        points = {**plain.points, f"before-rewind-{rewinds}": left}
        state, forks = plain.state, plain.forks
        for field in attrs.fields(Plain):
            setattr(plain, field.name, getattr(old, field.name))
        plain.state, plain.forks, plain.points, plain.rewinds = state, forks, points, rewinds

    return Verb(
        "rewind",
        lambda mob: mob.rewind(label),
        apply,
        _when("rewind", (lambda plain: label not in plain.points, PointNotFound)),
        rests=True,
    )
