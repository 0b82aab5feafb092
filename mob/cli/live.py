"""The live tree: a running mob drawn on a terminal, a few times a second.

Owns: when to draw. Must not: decide what a node looks like (`mob.cli.draw`), run in a thread: it is
a Trio task, so what it reads cannot change under it.

A frame is drawn when the view has changed, and once a second while anything is at work, because
then only the ages have. Looking costs little, and rests eight times as long as it took.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio
from rich.console import Console
from rich.live import Live

from mob.cli.draw import tree_table
from mob.cli.output import narrate, safe
from mob.mob import Mob
from mob.view import MobView, live_view
from runtime.ids import SessionId
from runtime.results import last_text
from runtime.session import SessionHead
from runtime.watching import TextDelta

#: Seconds between two looks: about 7 a second is as smooth as text gets.
FRAME_S: Final = 0.14
#: Columns left free at the right: a terminal echoes Ctrl-C as two characters where the cursor is,
#: and wrapping them would move the tree down a line under the next frame.
_ECHO: Final = 4
#: Seconds between two frames that differ in their ages only.
_AGES_S: Final = 1.0
#: Share of the time that looking may take.
_RESTS: Final = 8
#: Characters of streamed text kept per session.
_TAIL: Final = 240
#: Characters of it shown: the end, since the beginning was seen already.
_SHOWN: Final = 40
#: Sessions whose last words are remembered, before all are forgotten and looked up again.
_MAX_WORDS: Final = 4096


class LiveTree:
    """A `Display` that draws on the terminal behind stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        #: What is drawn with now; None also while it is paused.
        self._live: Live | None = None
        self._paused: Live | None = None
        #: The call and the end of what the model has streamed in it.
        self._streams: dict[SessionId, tuple[int, str]] = {}
        #: Last words by the turn they were said in.
        self._words: dict[int, str] = {}

    def say(self, text: str) -> None:
        """See `mob.cli.display.Display.say`: above the tree while there is one."""
        if self._live is None:
            narrate(f"mob: {text}")
        else:
            self._console.print(f"mob: {safe(text)}", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See `mob.cli.display.Display.paused`: the tree stays as it is, and goes on below."""
        live = self._paused = self._live
        if live is None:
            yield
            return
        self._live = None
        live.stop()  # which also takes its hands from stderr
        try:
            yield
        finally:
            if self._paused is live:
                self._paused, self._live = None, live
                live.start()

    async def run(self, mob: Mob, after: int) -> None:
        """See `mob.cli.display.Display.run`."""
        live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="crop",
        )
        with live:
            self._live = live
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, mob)
                    await self._frames(mob, live)
            finally:
                if self._live is not None:
                    self._draw(live, self._look(mob))
                self._live = self._paused = None

    def finish(self, mob: Mob) -> None:
        """See `mob.cli.display.Display.finish`: the last frame shows it."""

    async def _frames(self, mob: Mob, live: Live) -> None:
        shown: MobView | None = None
        size = (0, 0)
        drawn_at = 0.0
        while True:
            now = trio.current_time()
            view = self._look(mob)
            busy = any(node.busy for node in view.members)
            aged = busy and now - drawn_at >= _AGES_S
            changed = view != shown or size != live.console.size or aged
            if changed and self._live is not None:
                self._draw(live, view)
                shown, size, drawn_at = view, live.console.size, now
            await trio.sleep(max(FRAME_S, _RESTS * (trio.current_time() - now)))

    def _draw(self, live: Live, view: MobView) -> None:
        width, height = live.console.size
        width -= _ECHO
        live.update(tree_table(view, trio.current_time(), width, height - 2), refresh=True)

    def _look(self, mob: Mob) -> MobView:
        def words(head: SessionHead) -> str:
            if not head.head:
                return ""
            if head.head not in self._words:
                if len(self._words) >= _MAX_WORDS:
                    self._words.clear()
                self._words[head.head] = last_text(mob.realm.turn(head.head))
            return self._words[head.head]

        def streamed(session_id: SessionId) -> str:
            running = mob.realm.running(session_id)
            call, text = self._streams.get(session_id, (0, ""))
            if running is None or running.activity != call:
                return ""
            return text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"

        return live_view(mob, words, streamed=streamed, most=self._console.size.height)

    async def _listen(self, mob: Mob) -> None:
        """Keep the end of what each model streams."""
        with mob.watch() as watch:
            async for seen in watch:
                if isinstance(seen, TextDelta):
                    call, text = self._streams.get(seen.session_id, (seen.call, ""))
                    text = text if call == seen.call else ""
                    self._streams[seen.session_id] = (seen.call, (text + seen.text)[-_TAIL:])
