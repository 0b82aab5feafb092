"""The live view: a running mob drawn on a terminal, a few times a second.

Owns: when to draw. Must not: decide what is shown (`mob.console` does), run in a thread: it is a
Trio task, so what it reads cannot change under it.

A frame costs what has changed, and is rested from for nineteen times as long as it took. A mob that
rests is not looked at.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from mob.cli.output import narrate
from mob.cli.screen import Screen
from mob.console.model import Model
from mob.console.picture import picture
from mob.console.source import AGES_S, EVERY_S, RESTS, Source, open_source
from mob.mob import Mob


class LiveTree:
    """A `Display` that draws on the terminal behind stderr."""

    def __init__(self, screen: Screen | None = None) -> None:
        """`screen` is another terminal than that of stderr."""
        self._screen = Screen(sys.stderr) if screen is None else screen
        self._model = Model()

    def say(self, text: str) -> None:
        """See `mob.cli.display.Display.say`: above the tree while there is one."""
        narrate(f"mob: {text}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See `mob.cli.display.Display.paused`: the tree stays as it is, and goes on below."""
        self._screen.leave()
        self._screen.paused = True
        try:
            yield
        finally:
            self._screen.paused = False

    async def run(self, mob: Mob, after: int) -> None:
        """See `mob.cli.display.Display.run`."""
        with self._screen:
            async with open_source(mob) as source, trio.open_nursery() as nursery:
                nursery.start_soon(_resized, source)
                try:
                    await self._frames(source)
                finally:
                    self._look(source)
                    self._draw()

    def finish(self, mob: Mob) -> None:
        """See `mob.cli.display.Display.finish`: the last frame shows it."""

    async def _frames(self, source: Source) -> None:
        drawn_at, size = float("-inf"), (0, 0)
        while True:
            began = trio.current_time()
            changed = self._look(source)
            if changed or size != self._screen.size or began - drawn_at >= AGES_S:
                self._draw()
                drawn_at, size = began, self._screen.size
            await trio.sleep(max(EVERY_S, RESTS * (trio.current_time() - began)))
            if not source.restless and not self._model.rate(trio.current_time()):
                # Whoever waits for a decision does nothing, and waits longer and longer.
                with trio.move_on_after(AGES_S if self._model.busy else float("inf")):
                    await source.stirred()

    def _look(self, source: Source) -> bool:
        """Take the next frame in; whether it is another picture."""
        frame = source.frame()
        before = self._model.totals
        self._model.apply(frame)
        return bool(frame.rows or frame.gone or frame.whole or frame.totals != before)

    def _draw(self) -> None:
        width, height = self._screen.size
        shown = picture(self._model, trio.current_time(), width - 1, height - 2)
        self._screen.draw(shown.lines)


async def _resized(source: Source) -> None:
    """A terminal that became another size is drawn on anew at once."""
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _ in signals:
            source.stir()
