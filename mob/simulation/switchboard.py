"""The switchboard: members that write to each other, in some runs of the default workload.

Owns: `COMMS`: what such a run has of wiring, mailboxes and tools for peers; the verbs about them,
and their storms. Must not: judge (`mob.simulation.mailing` does).

Every text here is sent once, so that it can be found again in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

import trio

from mob.definition import MobDefinition
from mob.errors import DeadlinePassed, MobClosed, RequestFailed, RequestNotOpen
from mob.mob import Mob
from mob.receipts import Receipt
from mob.simulation.additions import Addition, Player
from mob.simulation.client import Client
from mob.simulation.exchange import Pair
from mob.simulation.kinds import FaultKind
from mob.simulation.mailing import (
    Kept,
    LookedAround,
    Posted,
    Replied,
    StoodInLine,
    Told,
    Unanswered,
    Wired,
)
from mob.simulation.process import Process
from mob.simulation.steps import GUESTS, Step
from runtime.errors import MobError
from stores import StoreError

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance of a run that has comms.
_CHANCE: Final = 0.35
#: The intent that wakes nobody, in profiles that have one.
_SILENT: Final = "fyi"
#: How much may wait where that is never the reason of a refusal.
_ROOMY: Final = {"max_messages": 100_000, "max_bytes": 100_000_000}
#: How many send at once in a storm, and how long each waits for room, in virtual seconds.
_CROWD: Final = 9
_PATIENCE_S: Final = 40.0
#: The longest deadline of a request.
_DEADLINE_S: Final = 30.0
#: Virtual seconds after which somebody replies to what waits while a run heals.
_LOOKS_S: Final = 45.0


def _vary(table: dict[str, Any], random: Random) -> None:
    if random.random() >= _CHANCE:
        return
    profiles: dict[str, dict[str, Any]] = table["profiles"]
    table["wiring"] = random.choice(
        (
            {"default": "allow"},
            {"default": "allow", "rules": {"clerk -> worker": "deny"}},
            {
                "default": "deny",
                "edges": [["lead", "worker"]],
                "directed": [["clerk", "lead"]],
                "rules": {"worker <-> clerk": "allow"},
            },
        )
    )
    profiles["chief"]["comms"] = True
    profiles["chief"]["mailbox"] = dict(_ROOMY) if random.random() < 0.5 else {"max_messages": 6}
    profiles["worker"]["comms"] = ["peers", "send_message", "reply"]
    profiles["worker"]["mailbox"] = {
        "max_messages": random.randint(1, 4),
        "when_full": random.choice(("wait", "raise")),
    }
    profiles["clerk"]["mailbox"] = {"max_messages": 5, "max_bytes": random.randint(60, 200)}
    if random.random() < 0.5:
        profiles["clerk"]["max_inline_peer_notifications"] = random.choice((-1, 0, 2))
    for name in ("chief", "worker"):
        if random.random() < 0.7:
            profiles[name]["silent_comms_intents"] = [_SILENT]


def _steps(definition: MobDefinition, random: Random) -> list[str]:
    if not any(each.comms.tools for each in definition.profiles.values()):
        return []
    verbs = ("wire", "wire", "letter", "letter", "shout", "request", "request", "look")
    return [*verbs, *random.choices(verbs, k=random.randint(0, 8))]


def _play(world: World, client: Client, machine: Machine) -> Player:
    board = Switchboard(world, client, machine)
    world.caretakers.append(board.tidy)
    world.helpers.append(board.help_out)
    return Player(
        {
            "wire": board.wire_some,
            "letter": board.letter,
            "shout": board.shout,
            "request": board.ask_for_reply,
            "look": board.look,
        },
        {
            FaultKind.WIRING_STORM: board.wiring_storm,
            FaultKind.FULL_MAILBOX: board.full_mailbox,
            FaultKind.CRASH_WHILE_SENDING: board.crash_while_sending,
        }
        if machine.is_default
        else {},
    )


COMMS: Final = Addition("comms", _vary, _steps, _play)


@final
class Switchboard:
    """Those who wire members and send in their names, in one world."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._machine = machine

    # -- verbs of a workload ---------------------------------------------------------------

    async def wire_some(self, step: Step) -> None:
        """Wire and unwire two members, in one direction or both; mostly the edge is there then."""
        first, second, third, fourth = step.draws
        one, other = step.who, self._other(step.who, first)
        verbs = (self.unwire, self.wire) if third < 0.7 else (self.wire, self.unwire)
        for verb in verbs:
            await verb(one, other, directed=second < 0.5)
            await trio.sleep(fourth * 4.0)

    async def letter(self, step: Step) -> None:
        """Send in the name of a member or of nobody, perhaps to steer the turn that is in flight,
        or without waking anybody."""
        first, second, third, fourth = step.draws
        sender = None if first < 0.2 else self._other(step.who, first)
        mode = "steer" if second < 0.6 else "queue"
        intent = _SILENT if third < 0.35 else "message"
        when_full = (None, "wait", "raise")[int(fourth * 3)]
        async with trio.open_nursery() as nursery:
            if second < 0.8:  # give it a turn to be steered
                nursery.start_soon(self._client.ask, step.who, f"turn of {step.number}")
                await trio.sleep(fourth * 0.8)
            for index in range(1 + int(third * 10) % 3):
                text = f"letter {step.number}.{index}"
                nursery.start_soon(
                    partial(
                        self.send,
                        step.who,
                        text,
                        sender=sender,
                        mode=mode,
                        intent=intent,
                        when_full=when_full,
                    )
                )

    async def shout(self, step: Step) -> None:
        """Send to everybody, or to all peers of a member, or to some that may not be there."""
        first, second, third, _ = step.draws
        sender = None if first < 0.4 else step.who
        names = None if second < 0.6 else (self._other(step.who, second), *GUESTS, step.who)
        intent = _SILENT if third < 0.3 else "message"
        when_full = "wait" if third > 0.7 else "raise"
        await self.broadcast(f"shout {step.number}", sender, names, intent, when_full)

    async def ask_for_reply(self, step: Step) -> None:
        """Ask for a reply, which comes in time, late, twice or never; now and then the clock is set
        beyond the deadline meanwhile."""
        first, second, third, fourth = step.draws
        sender = None if first < 0.3 else self._other(step.who, first)
        deadline_s = 0.2 + second * second * _DEADLINE_S
        text = f"asked {step.number}"
        key = f"request-{step.number}" if fourth < 0.3 else None
        async with trio.open_nursery() as nursery:
            for _ in range(2 if key else 1):
                nursery.start_soon(self.request, sender, step.who, text, deadline_s, key)
            if third < 0.75:
                nursery.start_soon(self._reply_later, text, deadline_s * third * 1.6)
            if fourth > 0.8:
                await trio.sleep(deadline_s * first)
                self._world.clock.jump((third - 0.5) * 8 * _DEADLINE_S)

    async def look(self, _step: Step | None = None) -> None:
        """Ask who may send to whom and which requests wait; what is on its way is left out."""

        async def call(mob: Mob) -> LookedAround:
            return self._seen(mob, strict=False)

        await self._client._call("look", call)

    def _seen(self, mob: Mob, *, strict: bool) -> LookedAround:
        closing = {} if strict else mob.wiring.closing
        pairs = [(one, other) for one in mob.members for other in mob.members]
        return LookedAround(
            mob.realm.state.applied,
            tuple(
                (pair, mob.may_send(*pair).allows)
                for pair in pairs
                if pair not in closing and not mob._leaving.keys() & {*pair}
            ),
            tuple(each.request_id for each in mob.requests),
        )

    # -- calls -----------------------------------------------------------------------------

    async def wire(self, one: str, other: str, *, directed: bool) -> None:
        """Wire two members."""
        await self._wiring("wire", one, other, directed)

    async def unwire(self, one: str, other: str, *, directed: bool) -> None:
        """Unwire two members."""
        await self._wiring("unwire", one, other, directed)

    async def _wiring(self, verb: str, one: str, other: str, directed: bool) -> None:
        pairs: tuple[Pair, ...] = ((one, other),) if directed else ((one, other), (other, one))

        async def call(mob: Mob) -> Wired:
            since = mob.realm.state.applied
            await getattr(mob, verb)(one, other, directed=directed)
            return Wired(pairs, verb == "wire", since)

        await self._client._call(verb, call, f"{verb}.begun", f"{verb}.done")

    async def send(
        self,
        to: str,
        text: str,
        *,
        sender: str | None = None,
        mode: str = "queue",
        intent: str = "message",
        when_full: str | None = None,
        patience_s: float = _PATIENCE_S,
        began: Callable[[str], object] = lambda _text: None,
    ) -> None:
        """Send a text once; `began` is told in the step in which it is."""
        silent = self._world.oracle.ledger.exchange.is_silent

        async def call(mob: Mob) -> Posted:
            began(text)
            aside = silent(to, intent)
            receipt = await mob.send(
                to, text, sender=sender, mode=mode, intent=intent, when_full=when_full
            )
            return Posted(receipt, text, sender, aside)

        with trio.move_on_after(patience_s):
            await self._client._call("send", call)

    async def broadcast(
        self,
        text: str,
        sender: str | None,
        names: tuple[str, ...] | None,
        intent: str,
        when_full: str,
    ) -> None:
        """Send to many, and hold the mob to what it says of each."""
        silent = self._world.oracle.ledger.exchange.is_silent

        async def call(mob: Mob) -> Told | None:
            roomy = tuple(name for name in mob.members if self._is_roomy(name))
            # Whom a message makes a member of is none yet.
            quiet = {name for name in {*mob.members, *(names or ())} if silent(name, intent)}
            found = await mob.broadcast(
                text, sender=sender, to=names, intent=intent, when_full=when_full
            )
            told = [
                (name, each if isinstance(each, Receipt) else None)
                for name, each in found.items()
                if name not in quiet
            ]
            return Told(text, sender, tuple(told), roomy)

        with trio.move_on_after(_PATIENCE_S):
            await self._client._call("broadcast", call, "broadcast.begun", "broadcast.done")

    def _is_roomy(self, name: str) -> bool:
        bounds = self._world.oracle.ledger.exchange.bounds(name)
        return bounds == tuple(_ROOMY.values())

    async def request(
        self, sender: str | None, to: str, text: str, deadline_s: float, key: str | None
    ) -> None:
        """Ask for a reply, and wait for what becomes of it."""

        async def call(mob: Mob) -> Replied | Unanswered:
            try:
                reply = await mob.request(sender, to, text, deadline_s, idempotency_key=key)
            except DeadlinePassed:
                return Unanswered(text, "passed")
            except RequestFailed:
                return Unanswered(text, "failed")
            return Replied(text, reply)

        with trio.move_on_after(2 * _PATIENCE_S):
            await self._client._call("request", call, "request.begun", "request.done")

    async def reply(self, request_id: str, text: str) -> None:
        """Reply to a request."""

        async def call(mob: Mob) -> Kept | None:
            try:
                await mob.reply(request_id, text)
            except RequestNotOpen:
                return None
            return Kept(request_id, text)

        await self._client._call("reply", call, "reply.begun", "reply.done")

    async def _reply_later(self, text: str, after_s: float) -> None:
        """Several people reply to what asks for `text`, one of them twice."""
        await trio.sleep(after_s)
        for request_id in list(self._world.oracle.ledger.exchange.asked.get(text, ())):
            async with trio.open_nursery() as nursery:
                for who in ("ada", "bob", "ada"):
                    nursery.start_soon(self.reply, request_id, f"{who} on {text}")

    # -- storms ----------------------------------------------------------------------------

    async def wiring_storm(self, step: Step, much: float) -> None:
        """Wire and unwire one pair while messages and requests go along it."""
        one, other = step.who, self._other(step.who, much)
        async with trio.open_nursery() as nursery:
            for index in range(_CROWD):
                verb = (self.wire, self.unwire)[(index + int(much * 10)) % 2]
                nursery.start_soon(partial(verb, one, other, directed=index % 3 == 0))
                text = f"storm {step.number}.w{index}"
                nursery.start_soon(partial(self.send, other, text, sender=one, when_full="raise"))
                if index % 3 == 1:
                    nursery.start_soon(self.request, one, other, f"{text} asked", 3.0, None)
                    nursery.start_soon(self._reply_later, f"{text} asked", much * 0.05)
                if index % 4 == 3:
                    await trio.sleep(much * 0.02)
                nursery.start_soon(self.look)
        await self.wire(one, other, directed=False)
        await self.look()

    async def full_mailbox(self, step: Step, much: float) -> None:
        """Many send to one member at once and stand in line; some go away, and now and then the mob
        is stopped meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._line, step, much, "l")
            if much < 0.2:
                await trio.sleep(much)
                await self._client.stop(much)
                await self._machine.resume()

    async def _line(self, step: Step, much: float, name: str) -> None:
        to = self._somebody(step.who, much)
        lines: dict[int, list[str]] = {}

        def began(text: str) -> None:
            process = self._world.process
            assert process is not None
            lines.setdefault(process.number, []).append(text)

        numbers = count()
        sender = None if much < 0.7 else self._other(to, much)
        async with trio.open_nursery() as nursery:
            for wave in range(3):
                for _ in range(_CROWD // 3):
                    place = next(numbers)
                    text = f"storm {step.number}.{name}{place}" + "." * (place % 4 * 9)
                    nursery.start_soon(
                        partial(
                            self.send,
                            to,
                            text,
                            sender=sender,
                            when_full="wait",
                            patience_s=0.3 if place % 4 == 3 else _PATIENCE_S,
                            began=began,
                        )
                    )
                await trio.sleep(much * 0.3 * wave)
        for texts in lines.values():
            await self._say(StoodInLine(to, tuple(texts)))

    async def _say(self, promise: StoodInLine) -> None:
        """Hold the journal to what people saw, by a process that lives."""

        async def call(_mob: Mob) -> StoodInLine:
            await trio.lowlevel.checkpoint()
            return promise

        await self._client._call("line", call)

    async def crash_while_sending(self, step: Step, much: float) -> None:
        """Kill the process while senders wait for room and requests for replies; perhaps it is
        started when their deadlines have passed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._line, step, much, "c")
            for index in range(3):
                text = f"storm {step.number}.r{index}"
                nursery.start_soon(self.request, None, step.who, text, 1.0 + 4 * index, f"k{text}")
            await trio.sleep(much * 0.4)
            if self._world.process is not None:
                self._world.process.crash("killed while people send")
            if much < 0.4:
                self._world.clock.jump(much * 40)
            await trio.sleep(1.0 + 3 * much)
            for index in range(3):  # the same again: it is joined
                text = f"storm {step.number}.r{index}"
                nursery.start_soon(self.request, None, step.who, text, 1.0 + 4 * index, f"k{text}")
                if index == 1:
                    nursery.start_soon(self._reply_later, text, much)

    # -- healing ---------------------------------------------------------------------------

    async def help_out(self, process: Process) -> None:
        """Reply to whatever waits, now and then: a model that was asked may never do so, and the
        clock may have been set back for days."""
        while True:
            await trio.sleep(_LOOKS_S)
            try:
                await self._reply_to_all(process.mob)
            except MobClosed:
                return
            except StoreError:
                process.crash("its store does not write any more")
                return

    async def tidy(self, mob: Mob) -> bool:
        """When all is idle: nothing is on its way, so what the process says holds strictly."""
        await mob.realm.store.barrier()
        if await self._reply_to_all(mob):
            return True
        self._world.promised(self._seen(mob, strict=True))
        return False

    async def _reply_to_all(self, mob: Mob) -> bool:
        found = False
        for request in mob.requests:
            try:
                await mob.reply(request.request_id, "whoever is left")
            except MobClosed:
                raise
            except MobError:
                continue  # it has ended meanwhile
            found = True
        return found

    def _somebody(self, name: str, draw: float) -> str:
        """`name` if that is a member, and else one who is, if there is any."""
        process = self._world.process
        alive = process is not None and process.alive and process.opened
        members = process.mob.members if alive and process else ()
        return name if name in members or not members else members[int(draw * len(members))]

    def _other(self, name: str, draw: float) -> str:
        """Another member than `name`, or somebody who may be one."""
        process = self._world.process
        alive = process is not None and process.alive and process.opened
        names = [*(process.mob.members if alive and process else ()), *GUESTS]
        others = [each for each in dict.fromkeys(names) if each != name]
        return others[int(draw * len(others))]
