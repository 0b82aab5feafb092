"""`mob attach`: sit down at a member of a running mob: read what it says, type, decide, interrupt.

Owns: the verb, its screen. Must not: know what a key does (`mob.console.desk`).
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import trio
from cyclopts import Parameter
from rich.cells import cell_len

from mob.app import StoredMob, stored_mob
from mob.cli.approvals import user
from mob.cli.completing import members
from mob.cli.exits import DONE, INTERRUPTED, UsageWrong, paragraph
from mob.cli.keys import key_by_key, keys
from mob.cli.options import DEFAULT_STATE, Labels, State
from mob.cli.output import narrate
from mob.cli.screen import Screen, terminal
from mob.cli.stored import looking_into
from mob.cli.target import addressed, chosen_member
from mob.console.desk import (
    READ_S,
    Call,
    Decide,
    Desk,
    Detach,
    Interrupt,
    Say,
    pressed,
    read,
    room_for_question,
    stacked,
    waiting,
)
from mob.console.model import Model
from mob.console.picture import Line, member_line
from mob.console.source import AGES_S
from mob.console.transcript import Transcript
from mob.console.words import safe
from mob.errors import NotServed
from mob.secrecy import redactor_here
from mob.server import protocol
from mob.server.client import Client, open_client
from mob.shapes import jsonable
from runtime.approvals import call_key
from runtime.errors import ApprovalRefused, MobError, RecordUnreadable
from runtime.ids import SessionId
from runtime.messages import Message
from runtime.models.redaction import Redactor
from runtime.watching import TextDelta
from stores import Damaged

EXAMPLES = """    mob attach research           # its lead
    mob attach research/r-0       # Enter sends, Esc interrupts, Ctrl-D detaches
"""

#: What stands for a line's end in a line that is typed: it was pasted.
_NEWLINE: Final = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
#: Characters of what a model says right now that are kept.
_TAIL: Final = 4000


#: Records behind which other calls may wait than before.
_STIRRING: Final = ("ApprovalAsked", "ApprovalDecided", "TurnEnded")


async def attach(
    whom: Annotated[
        str, Parameter(name="MOB/MEMBER", help="Whom; MOB alone means its lead.", completer=members)
    ],
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Sit down at a member of a running mob: see what it says, and talk to it.

    What is typed goes into the turn in flight, or begins one. Esc interrupts the turn. A
    tool call that waits for approval is asked about: y, n, e to edit its arguments, l for
    later (Enter brings it back). Ctrl-D detaches and leaves the mob running; so does Ctrl-C, twice.
    """
    address = addressed(state, whom, label or ())
    member = chosen_member(state, address, lead=True)
    if not (terminal(sys.stdout) and sys.stdin.isatty()):
        raise UsageWrong(
            f"this needs a terminal; elsewhere: mob send {address.mob}/{member} TEXT, and mob watch"
        )
    with looking_into(state) as store:
        stored = stored_mob(store, address.mob)
        session_id = stored.roster.members[member].session_id
        clean = redactor_here()
        transcript = Transcript(session_id, clean)
        before = _before(stored, session_id, transcript)
        below: dict[str, str] = {session_id: member}
        for head in stored.state.heads.values():  # parents come before their children
            if head.lineage.parent in below:
                below[head.session_id] = head.title or head.agent_id or head.session_id
    async with open_client(state, address.mob) as client:
        attached = _Attached(client, member, transcript, below, clean)
        ended = await attached.run(before, stored.last)
    if ended:
        narrate(f"mob: the process that ran {address.mob!r} has ended")
        return DONE
    narrate(f"mob: detached; {address.mob!r} goes on")
    return INTERRUPTED if attached.interrupted else DONE


def _before(stored: StoredMob, session_id: SessionId, transcript: Transcript) -> list[str]:
    """What is shown of the time before: the last turn, and the one in flight as far as it came."""
    head = stored.state.heads[session_id]
    ended: Sequence[Message] = ()
    if head.head:
        try:
            ended = stored.journal.turn(head.head).messages
        except (Damaged, RecordUnreadable):
            pass  # `mob show` says what is wrong with it
    partial = head.partial
    taken = () if partial is None else partial.input_ids
    waits = [each for each in (head.inputs or {}).values() if each.input_id not in taken]
    return transcript.before(
        jsonable(ended),
        "" if partial is None else partial.run_id,
        [] if partial is None else jsonable(partial.messages),
        jsonable(waits),
    )


class _Attached:
    """The screen of one member: what was said; what is said now, its state, a line to type."""

    def __init__(
        self,
        client: Client,
        member: str,
        transcript: Transcript,
        below: dict[str, str],
        clean: Redactor,
    ) -> None:
        self._client = client
        self._member = member
        #: Sessions whose calls are asked about, and what they are called.
        self._below = below
        self._screen = Screen(sys.stdout)
        self._transcript = transcript
        self._clean = clean
        self._model = Model()
        self._ahead_s = 0.0
        self._desk = Desk()
        #: Set when a question is put that cannot be answered before it was read.
        self._unread = trio.Event()
        #: Calls that were asked about, by key.
        self._known: dict[str, Call] = {}
        self._streamed: tuple[int, str] = (-1, "")
        self._ended = False
        self.interrupted = False

    async def run(self, before: list[str], after: int) -> bool:
        """Sit there; whether it was the mob that ended."""
        with self._screen, key_by_key():
            for line in before:
                self._print(line)
            self._print(f"-- {self._member}: Enter sends, Esc interrupts, Ctrl-D detaches")
            async with trio.open_nursery() as nursery:
                everything = nursery.cancel_scope
                nursery.start_soon(self._records, after, everything)
                nursery.start_soon(self._texts)
                nursery.start_soon(self._frames)
                nursery.start_soon(self._signals, everything)
                nursery.start_soon(self._grow_old)
                nursery.start_soon(self._keys, everything, nursery)
                nursery.start_soon(self._ask_what_waits)
                nursery.start_soon(self._let_read)
            self._screen.draw([])
        return self._ended

    # -- what comes ------------------------------------------------------------------------

    async def _records(self, after: int, everything: trio.CancelScope) -> None:
        try:
            async with self._client.events(after) as found:
                async for event in found:
                    if event["type"] == "SessionCreated":
                        parent = event["lineage"]["parent"]
                        if parent in self._below:
                            self._below[event["session_id"]] = event["title"] or "(no name)"
                    if event["type"] == "ApprovalDecided":
                        self._tell_decision(event)
                    if event["type"] in _STIRRING and event["session_id"] in self._below:
                        await self._ask_what_waits()
                    lines = self._transcript.tell(event)
                    if lines and not lines[0].startswith(">"):
                        self._streamed = (self._streamed[0], "")
                    for line in lines:
                        self._print(line)
                    self._draw()
        except NotServed:
            pass  # its process was killed
        self._ended = True
        everything.cancel()

    async def _texts(self) -> None:
        try:
            async with self._client.text(self._member) as found:
                async for seen in found:
                    if isinstance(seen, TextDelta):
                        call, text = self._streamed
                        text = text if call == seen.call else ""
                        self._streamed = (seen.call, (text + seen.text)[-_TAIL:])
                        self._draw()
        except NotServed:
            pass  # whoever reads the records ends this

    async def _frames(self) -> None:
        try:
            async with self._client.frames() as frames:
                async for frame in frames:
                    self._model.apply(frame)
                    self._ahead_s = frame.now_s - trio.current_time()
                    self._draw()
        except NotServed:
            pass  # whoever reads the records ends this

    async def _ask_what_waits(self) -> None:
        """Have the calls that wait, of the member and all below it, on the desk."""
        try:
            found = await self._client.call(protocol.Approvals())
        except NotServed:
            return  # whoever reads the records ends this
        calls = tuple(
            Call(each.key, self._below[each.session_id], each.tool, each.arguments)
            for each in found.calls
            if each.session_id in self._below
        )
        width, height = self._screen.size
        for call in calls:
            lines = _wrapped(f"?? (99 of 99) {call.text}", width - 1)
            if call.key not in self._known and len(lines) > room_for_question(height):
                self._print(f"?? {call.text}")  # what is decided about is shown in full
            self._known[call.key] = call
        self._put(waiting(self._desk, calls))

    def _tell_decision(self, event: dict[str, Any]) -> None:
        call = self._known.get(call_key(event["session_id"], event["run_id"], event["call_id"]))
        if call is None:
            return
        told = f"-- {call.who}: {call.tool} {event['verdict']} by {event['by']}"
        if event["arguments"] is not None:
            told = f"{told}, with {self._clean.written(event['arguments'])}"
        self._print(f"{told}: {self._clean.text(event['reason'])}" if event["reason"] else told)

    def _put(self, desk: Desk) -> None:
        """Have this on the desk, and let a question be read."""
        self._desk = desk
        if desk.unread:
            self._unread.set()
        self._draw()

    async def _let_read(self) -> None:
        """Let a question be answered once it has been there for a moment."""
        while True:
            await self._unread.wait()
            self._unread = trio.Event()
            key = self._desk.unread
            await trio.sleep(READ_S)
            if self._desk.unread == key:
                self._put(read(self._desk, key))
            elif self._desk.unread:
                self._unread.set()

    async def _grow_old(self) -> None:
        while True:
            await trio.sleep(AGES_S)
            self._draw()

    async def _signals(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGWINCH) as signals:
            async for number in signals:
                if number == signal.SIGINT and self.interrupted:
                    everything.cancel()
                elif number == signal.SIGINT:
                    self.interrupted = True
                    self._print("-- Ctrl-C again detaches, and leaves the mob running")
                self._draw()

    # -- what goes -------------------------------------------------------------------------

    async def _keys(self, everything: trio.CancelScope, nursery: trio.Nursery) -> None:
        async for key in keys():
            self.interrupted = False
            desk, action = pressed(self._desk, key)
            if isinstance(action, Detach):
                break
            if action is not None:
                # Beside the keys: a mailbox may be full, and its sender stands in line.
                nursery.start_soon(self._act, action)
            self._put(desk)
        everything.cancel()

    async def _act(self, action: Say | Decide | Interrupt) -> None:
        try:
            if isinstance(action, Say):
                await self._client.call(protocol.Send(self._member, action.text, mode="steer"))
            elif isinstance(action, Interrupt):
                done = await self._client.call(protocol.Interrupt(self._member))
                if not done.changed:
                    self._print("-- no turn is in flight")
            elif action.approve:
                await self._client.call(protocol.Approve(action.key, user(), action.arguments))
            else:
                await self._client.call(protocol.Deny(action.key, user(), action.reason))
        except NotServed:
            return  # whoever reads the records ends this
        except ApprovalRefused as error:
            self._print(f"-- not decided: {error.reason}")
            await self._ask_what_waits()
        except MobError as error:
            self._print(f"-- {paragraph(error)}")
            if isinstance(action, Decide):
                await self._ask_what_waits()

    # -- the screen ------------------------------------------------------------------------

    def _print(self, text: str) -> None:
        self._screen.above(f"{safe(text)}\n")

    def _draw(self) -> None:
        width, height = self._screen.size
        width -= 1
        said = self._clean.text(self._streamed[1]).splitlines()
        lines = [piece for each in said for piece in _wrapped(each, width)]
        row = self._model.rows.get(self._member)
        state = Line(((self._member, "bold"),))
        if row is not None:
            state = member_line(row, trio.current_time() + self._ahead_s, width)
        asked = _wrapped(self._desk.question, width) if self._desk.question else []
        lines, asked = stacked(lines, asked, height)
        streamed = [Line(((piece, ""),)) for piece in lines]
        question = [Line(((piece, "bold yellow"),)) for piece in asked]
        self._screen.draw([*streamed, state, *question, _typed(self._desk, width)])


def _wrapped(text: str, width: int) -> list[str]:
    """The line in pieces that fit, divided at blanks where there are some."""
    found = [""]
    for word in re.findall(r" *[^ ]*", text):
        if cell_len(found[-1]) + cell_len(word) > width and found[-1]:
            found.append("")
            word = word.lstrip(" ")
        for char in word:
            if cell_len(found[-1]) + cell_len(char) > width:
                found.append("")
            found[-1] += char
    return found


def _typed(desk: Desk, width: int) -> Line:
    """The prompt and the line, as much of it around the cursor as fits."""
    prompt = desk.prompt(width)[: max(1, width - 8)]
    room = max(2, width - cell_len(prompt) - 1)
    begin = max(0, desk.at - room + 1)
    while cell_len(desk.line[begin : desk.at]) >= room:
        begin += 1
    end = begin
    while end < len(desk.line) and cell_len(desk.line[begin : end + 1]) < room:
        end += 1
    line = desk.line.replace("\n", _NEWLINE)
    before, behind = line[begin : desk.at], line[desk.at : end]
    cursor = (behind[:1] or " ", "reverse")
    return Line(((prompt, "bold"), (before, ""), cursor, (behind[1:], "")))
