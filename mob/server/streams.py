"""What flows out of a running mob for whoever watches: records, also in words, pictures of the
whole and what changes in them, live text.

Owns: the streams of named pieces, and their form as server-sent events. Must
not: keep anything for a reader that is slow, or slow the mob down.

A piece is a name, JSON, and for records the number to resume at (``id``), which a client gives back
as ``Last-Event-ID`` or ``after``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import attrs
import trio

from mob.console.narrator import Narrator
from mob.console.source import EVERY_S as FRAMES_S
from mob.console.source import RESTS, open_source
from mob.mob import Mob
from mob.server.protocol import Look, Told, to_json
from mob.shapes import event_shape
from mob.view import MobView, live_view
from runtime.ids import SessionId
from runtime.journal import Event
from runtime.results import last_text
from runtime.session import SessionHead
from runtime.watching import Gap, TextDelta

#: Seconds between two looks at a mob that works, at least; and the least that may be asked for.
EVERY_S: Final = 0.25
LEAST_EVERY_S: Final = 0.1
#: A look may take this part of the time: it rests so many times as long as it took.
_RESTS: Final = 19
#: Characters of streamed text in a look at a session.
_TAIL: Final = 240
#: Sessions whose last words are remembered, before all are forgotten and looked up again.
_WORDS: Final = 4096
#: Members in a frame at most: some milliseconds of work.
_ROWS: Final = 400
#: Members in a look unless more are asked for.
MOST: Final = 200


@attrs.frozen
class Piece:
    """One server-sent event."""

    name: str
    data: Any
    at: int | None = None

    def encode(self) -> bytes:
        """As it goes over the wire."""
        place = "" if self.at is None else f"id: {self.at}\n"
        data = json.dumps(self.data, ensure_ascii=False)
        return f"{place}event: {self.name}\ndata: {data}\n\n".encode("utf-8", "replace")


#: Takes the next piece, and returns when there is room for another.
Emit: TypeAlias = Callable[[Piece], Awaitable[None]]


async def events(mob: Mob, after: int, emit: Emit, *, follow: bool) -> None:
    """Every record above `after` as `mob.shapes.event_shape` says it; with `follow` also those to
    come, without end."""
    if follow:
        async with aclosing(mob.events(after)) as found:
            async for event in found:
                await emit(_record(event))
    while page := mob.realm.journal.read(after):
        for event in page:
            await emit(_record(event))
        after = page[-1].seq


def _record(event: Event) -> Piece:
    shape = event_shape(event)
    return Piece(shape["type"], shape, event.seq)


async def text(mob: Mob, member: str | None, emit: Emit) -> None:
    """What models say while they say it: pieces ``text``, or ``gap`` where some were missed."""
    with mob.watch(member) as watch:
        async for seen in watch:
            await emit(Piece("text" if isinstance(seen, TextDelta) else "gap", to_json(seen)))


def look(mob: Mob, most: int = MOST) -> Look:
    """The mob as it is now, without live text."""
    return Look(live_view(mob, _Words(mob), most=most), trio.current_time())


async def looks(mob: Mob, most: int, every_s: float, emit: Emit) -> None:
    """Pieces ``look``: the mob now, and again whenever it is another, at most every `every_s`.

    While nobody is at work nothing is looked at until a record is committed.
    """
    words, tails = _Words(mob), _Tails()
    shown: MobView | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tails.listen, mob)
        while True:
            began = trio.current_time()
            last = mob.realm.journal.last
            view = live_view(mob, words, streamed=lambda each: tails.of(mob, each), most=most)
            if view != shown:
                shown = view
                await emit(Piece("look", to_json(Look(view, trio.current_time()))))
            spent = trio.current_time() - began
            await trio.sleep(max(every_s, LEAST_EVERY_S, _RESTS * spent))
            if not (mob.at_work or mob.realm.background.running):
                await _another_record(mob, last)


async def _another_record(mob: Mob, last: int) -> None:
    async with aclosing(mob.events(last)) as found:
        async for _ in found:
            return


async def told(mob: Mob, after: int, emit: Emit) -> None:
    """Pieces ``told``: what the records above `after` say in words, those to come too."""
    narrator = Narrator(mob.realm.state)
    async with aclosing(mob.events(after)) as found:
        async for event in found:
            words = narrator.tell(event)
            if words is not None:
                await emit(Piece("told", to_json(Told(*words)), event.seq))


async def frames(mob: Mob, emit: Emit) -> None:
    """Pieces ``frame``: what is another since the one before, the first ones everything.

    Never more than a twentieth of the time, but while the first ones are made; nothing while the
    mob rests. Whoever is slow gets fewer and larger ones.
    """
    async with open_source(mob, _ROWS) as source:
        totals, begun = None, False
        while True:
            began = trio.current_time()
            frame = source.frame()
            if frame.rows or frame.gone or frame.whole or frame.totals != totals:
                totals = frame.totals
                await emit(Piece("frame", to_json(frame)))
            begun = begun or len(frame.rows) < _ROWS
            spent = trio.current_time() - began
            await trio.sleep(max(FRAMES_S, RESTS * spent) if begun else spent)
            if not source.restless:
                await source.stirred()


class _Words:
    """The last words of sessions at rest, by the turn they were said in."""

    def __init__(self, mob: Mob) -> None:
        self._mob = mob
        self._known: dict[int, str] = {}

    def __call__(self, head: SessionHead) -> str:
        if not head.head or head.quarantined is not None:
            return ""
        if head.head not in self._known:
            if len(self._known) >= _WORDS:
                self._known.clear()
            self._known[head.head] = last_text(self._mob.realm.turn(head.head))[:_TAIL]
        return self._known[head.head]


class _Tails:
    """The end of what each model streams in its present call."""

    def __init__(self) -> None:
        self._streams: dict[SessionId, tuple[int, str]] = {}

    def of(self, mob: Mob, session_id: SessionId) -> str:
        running = mob.realm.running(session_id)
        call, said = self._streams.get(session_id, (0, ""))
        return "" if running is None or running.activity != call else said

    async def listen(self, mob: Mob) -> None:
        with mob.watch() as watch:
            async for seen in watch:
                if isinstance(seen, Gap):
                    continue
                call, said = self._streams.get(seen.session_id, (seen.call, ""))
                said = said if call == seen.call else ""
                self._streams[seen.session_id] = (seen.call, (said + seen.text)[-_TAIL:])
