"""`mob tree`: a stored mob's members and child sessions with what they spent, now or then.

Owns: the verb. Must not: write to the store.
"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from mob.cli.completing import mobs
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import result_json, result_raw
from mob.cli.stored import looking_into, say_when, whole_view
from mob.cli.target import addressed
from mob.elsewhere import mob_at
from mob.errors import AddressInvalid
from mob.view import MobView

EXAMPLES = """    mob tree research
    mob tree "research@before the review"
    mob tree research --json | jq '.members[] | {name, state}'
"""

#: Columns when nobody's terminal sets a width: lines in a file or a pipe are not cut.
_UNBOUNDED = 10_000


def tree(
    name: Annotated[
        str | None,
        Parameter(
            name="MOB",
            show_default=False,
            help="Which mob; may be shortened. With @RECORD or @LABEL behind it, what it was then.",
            completer=mobs,
        ),
    ] = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Show a mob's members and child sessions with what they spent, now or at a moment.

    A member's tokens include those of its children. Works while another process
    runs the mob: it reads what is committed, so a turn in flight shows as
    "unfinished".
    """
    address = addressed(state, name, label or ())
    if address.path:
        raise AddressInvalid(name or "", "a tree is of a mob as a whole: write MOB, or mob show it")
    with looking_into(state) as store:
        stored = mob_at(store, address.mob, address.at)
        view = whole_view(stored)
    say_when(stored, address)
    if json:
        result_json(view)
    else:
        for line in drawn(view, coloured=sys.stdout.isatty()):
            result_raw(line)
    return 0


def drawn(view: MobView, *, coloured: bool = False) -> list[str]:
    """The tree as lines; as wide as the terminal and `coloured`, or plain and never cut."""
    from rich.console import Console

    from mob.cli.draw import tree_table

    console = Console(width=None if coloured else _UNBOUNDED, no_color=not coloured or None)
    with console.capture() as captured:
        console.print(tree_table(view, 0.0, console.width, expand=False))
    return [line.rstrip() for line in captured.get().splitlines()]
