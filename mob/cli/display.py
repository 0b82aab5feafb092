"""How a running mob is shown: live tree, plain lines, JSON lines, or nothing.

Owns: choosing a display, the line-by-line ones. Must not: touch the mob; a display only looks.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol, TypeAlias

import trio

from mob.cli.output import age, narrate, result_json
from mob.console.narrator import Narrator
from mob.mob import Mob
from mob.records import MemberExited
from mob.shapes import event_shape
from runtime.journal import Event
from runtime.live import Doing

Kind: TypeAlias = Literal["live", "plain", "json", "none"]

#: How closely the end of a restart's backoff is watched for, in seconds.
_RESTART_WATCH_S: Final = 0.05


class Display(Protocol):
    """Shows a running mob. `run` ends by cancellation only; `finish` shows what is left to show."""

    def say(self, text: str) -> None:
        """Show a line of narration."""
        ...

    def paused(self) -> AbstractContextManager[None]:
        """A block in which somebody is asked on the terminal: nothing is drawn over it."""
        ...

    async def run(self, mob: Mob, after: int) -> None:
        """Show the mob and every event above `after`."""
        ...

    def finish(self, mob: Mob) -> None:
        """Show what `run` had not come to."""
        ...


def open_display(kind: Kind | None) -> Display:
    """The display called `kind`; None chooses. A live one needs a terminal to draw on."""
    if kind is None or kind == "live":
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
            from mob.cli.live import LiveTree

            return LiveTree()
        return PlainLines()
    kinds: dict[str, type[Silent]] = {"plain": PlainLines, "json": JsonLines, "none": Silent}
    return kinds[kind]()


class Silent:
    """Shows nothing but narration."""

    def say(self, text: str) -> None:
        """See `Display.say`."""
        narrate(f"mob: {text}")

    def paused(self) -> AbstractContextManager[None]:
        """See `Display.paused`: lines stand where they are."""
        return nullcontext()

    async def run(self, mob: Mob, after: int) -> None:
        """See `Display.run`."""
        await trio.sleep_forever()

    def finish(self, mob: Mob) -> None:
        """See `Display.finish`."""


class _Lines(Silent):
    """Follows the journal; subclasses show one event."""

    _after = 0

    async def run(self, mob: Mob, after: int) -> None:
        """See `Display.run`."""
        self._after = after
        async with trio.open_nursery() as nursery:
            async for event in mob.events(after):
                self._after = event.seq
                self.show(mob, event, nursery)

    def finish(self, mob: Mob) -> None:
        """See `Display.finish`."""
        while events := mob.realm.journal.read(self._after):
            for event in events:
                self._after = event.seq
                self.show(mob, event, None)

    def show(self, mob: Mob, event: Event, nursery: trio.Nursery | None) -> None:
        """Show one event; `nursery` is for what follows from it, while there is time for that."""
        raise NotImplementedError


class JsonLines(_Lines):
    """Every event as a line of JSON on stdout: ``{"type", "seq", ...the record's fields}``."""

    def show(self, mob: Mob, event: Event, nursery: trio.Nursery | None) -> None:
        """See `_Lines.show`."""
        result_json(event_shape(event), line=True)


class PlainLines(_Lines):
    """Every event worth telling as a line on stderr, with the time since the display began."""

    def __init__(self) -> None:
        self._began = trio.current_time()
        self._narrator: Narrator | None = None

    def say(self, text: str) -> None:
        """See `Display.say`."""
        self._line("mob", text)

    def show(self, mob: Mob, event: Event, nursery: trio.Nursery | None) -> None:
        """See `_Lines.show`."""
        if self._narrator is None:
            self._narrator = Narrator(mob.realm.state)
        told = self._narrator.tell(event)
        if told is not None:
            self._line(*told)
        record = event.record
        if isinstance(record, MemberExited) and record.restart_in_s is not None and nursery:
            nursery.start_soon(self._restarted, mob, record.name, record.restart_in_s)

    async def _restarted(self, mob: Mob, name: str, delay_s: float) -> None:
        """Say when a member is back: no record does, because nothing follows from it."""
        await trio.sleep(delay_s)
        while name in mob.at_work:
            if mob.realm.live(mob.session_of(name)).doing is not Doing.RESTARTING:
                self._line(name, "restarted: continues its turn from what is on disk")
                return
            await trio.sleep(_RESTART_WATCH_S)

    def _line(self, who: str, what: str) -> None:
        narrate(f"{age(trio.current_time() - self._began):>6}  {who:<14} {what}")
