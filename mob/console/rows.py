"""What flows from a mob that runs to whoever looks at it: rows that are another, and sums.

Owns: `Row`, `Totals`, `Frame`. Must not: say how they look. Pure.

A frame holds only what changed since the one before it, so what it costs follows what happens in
the mob, not how many members it has. Times are on the clock of the process that runs the mob;
`Frame.now_s` is that clock's time.
"""

from __future__ import annotations

import attrs

from runtime.messages import NO_USAGE, Usage


@attrs.frozen
class Row:
    """A member, or a session below one. `state` is as in `mob.view.Node`.

    `usage` is its own and that of all below it; `inputs` is the depth of its mailbox; `left` is
    what its budget has left, in words. `more` counts children that are not in `children`.
    """

    key: str
    name: str
    profile: str
    state: str
    detail: str = ""
    since_s: float | None = None
    until_s: float | None = None
    turns: int = 0
    usage: Usage = NO_USAGE
    inputs: int = 0
    restarts: int = 0
    left: str = ""
    words: str = ""
    children: tuple[Row, ...] = ()
    more: int = 0


@attrs.frozen
class Totals:
    """The whole mob. `events` counts the records since whoever looks began; `left` is what is left
    of the budget on the run, in words."""

    mob_id: str
    state: str
    usage: Usage = NO_USAGE
    turns: int = 0
    events: int = 0
    left: str = ""


@attrs.frozen
class Frame:
    """What is another since the frame before. With `whole` nothing of what was before holds."""

    now_s: float
    totals: Totals
    rows: tuple[Row, ...] = ()
    gone: tuple[str, ...] = ()
    whole: bool = False
