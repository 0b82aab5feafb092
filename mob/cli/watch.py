"""`mob watch`: a mob that another process runs, as it goes on; or one that nobody runs, as it is.

Owns: the verb, its screen and keys. Must not: change anything.
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from typing import Final

import attrs
import trio

from mob.app import StoredMob, stored_mob
from mob.cli.keys import key_by_key, keys
from mob.cli.options import DEFAULT_STATE, Json, Labels, State, Which
from mob.cli.output import age, narrate, result, result_json
from mob.cli.screen import Screen, terminal
from mob.cli.stored import looking_into, whole_view
from mob.cli.target import whole_mob
from mob.console.aiming import aimed, note_of
from mob.console.model import Model
from mob.console.picture import Aim, Picture, picture
from mob.console.source import AGES_S
from mob.console.still import still
from mob.errors import NotServed
from mob.secrecy import redactor_here
from mob.server.client import Client, open_client

EXAMPLES = """    mob watch                     # the only mob there is
    mob watch research            # q quits, arrows and enter fold, / finds
    mob watch research | tee log  # a line for each thing that happens
    mob watch research --json     # its records
"""

#: Columns of a picture in a file or a pipe, and its lines beside those of members.
_WIDE: Final = 200
_MORE: Final = 40


async def watch(
    mob: Which = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Watch a mob that a process runs, until that ends or q is pressed.

    On a terminal the mob is drawn as `mob run` draws it, and can be folded and searched;
    elsewhere there is a line for each thing that happens from now on, with --json the
    record. A mob that no process runs is shown once, as it is.
    """
    mob_id = whole_mob(state, mob, label, needed=False)
    try:
        async with open_client(state, mob_id) as client:
            if json:
                await _records(client)
            elif not terminal(sys.stdout):
                await _lines(client)
            elif not await _Watching(client).run():
                return 0
    except NotServed:
        with looking_into(state) as store:
            _still(stored_mob(store, mob_id), json=json)
        narrate(f"mob: no process runs {mob_id!r}: this is how it stands")
        return 0
    narrate(f"mob: the process that ran {mob_id!r} has ended")
    return 0


async def _records(client: Client) -> None:
    last = (await client.info()).last
    try:
        async with client.events(last) as found:
            async for each in found:
                result_json(each, line=True)
    except NotServed:
        pass  # its process was killed


async def _lines(client: Client) -> None:
    began = trio.current_time()
    last = (await client.info()).last
    try:
        async with client.told(last) as found:
            narrate(f"mob: watching {client.mob_id!r}: a line for each thing that happens now")
            async for each in found:
                passed = age(trio.current_time() - began)
                result(f"{passed:>6}  {each.who:<14} {each.what}")
    except NotServed:
        pass  # its process was killed


def _still(stored: StoredMob, *, json: bool) -> None:
    """The mob as it stands: drawn, or as JSON the tree that `mob tree` prints."""
    redactor_here()
    view = whole_view(stored)
    if json:
        result_json(view, line=True)
        return
    model = Model()
    model.apply(still(view, stored.state, stored.roster))
    screen = Screen(sys.stdout)
    if terminal(sys.stdout):
        width, height = screen.size
        screen.draw(picture(model, 0.0, width - 1, height - 2).lines)
        return
    for line in picture(model, 0.0, _WIDE, len(model.rows) * 2 + _MORE).lines:
        result(line.text)


class _Watching:
    """A picture that follows the mob, and keys."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._screen = Screen(sys.stdout)
        self._model = Model()
        self._aim = Aim()
        self._ahead_s = 0.0
        self._ended = False
        #: Whether the last picture said a speed that has gone down since.
        self._fading = False

    async def run(self) -> bool:
        """Watch; whether it was the mob that ended and not whoever looked."""
        typed = sys.stdin.isatty()
        with ExitStack() as stack:
            stack.enter_context(self._screen)
            if typed:
                stack.enter_context(key_by_key())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, nursery.cancel_scope)
                nursery.start_soon(self._grow_old)
                nursery.start_soon(self._signals, nursery.cancel_scope)
                if typed:
                    nursery.start_soon(self._keys, nursery.cancel_scope)
            self._aim = attrs.evolve(self._aim, at=None)
            self._draw(last=True)
        return self._ended

    async def _follow(self, everything: trio.CancelScope) -> None:
        try:
            async with self._client.frames() as frames:
                async for frame in frames:
                    self._model.apply(frame)
                    self._ahead_s = frame.now_s - trio.current_time()
                    self._draw()
        except NotServed:
            pass  # its process was killed
        self._ended = True
        everything.cancel()

    async def _grow_old(self) -> None:
        """Draw what differs in its ages only."""
        while True:
            await trio.sleep(AGES_S)
            if self._model.busy or self._model.rate(self._now_s) or self._fading:
                self._fading = bool(self._model.rate(self._now_s))
                self._draw()

    async def _signals(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGWINCH) as signals:
            async for number in signals:
                if number == signal.SIGINT:
                    everything.cancel()
                self._draw()

    async def _keys(self, everything: trio.CancelScope) -> None:
        async for key in keys():
            aim = aimed(self._aim, key, self._picture())
            if aim is None:
                everything.cancel()
                return
            self._aim = aim
            self._draw()

    @property
    def _now_s(self) -> float:
        return trio.current_time() + self._ahead_s

    def _picture(self, *, last: bool = False) -> Picture:
        width, height = self._screen.size
        note = "" if last else note_of(self._aim)
        return picture(self._model, self._now_s, width - 1, height - 1, self._aim, note)

    def _draw(self, *, last: bool = False) -> None:
        if self._model.totals.mob_id:
            self._screen.draw(self._picture(last=last).lines)
