"""A mob that nobody runs, as one frame.

Owns: `still`. Must not: read a store. Pure.
"""

from __future__ import annotations

from mob.console.rows import Frame, Row, Totals
from mob.console.words import shown
from mob.roster import Roster
from mob.view import MobView, Node
from runtime.state import RealmState


def still(view: MobView, state: RealmState, roster: Roster) -> Frame:
    """What `view` says, with the mailboxes of `state`."""
    rows = tuple(_row(node, state, roster) for node in view.members)
    totals = Totals(view.mob_id, view.state, view.usage, view.turns)
    return Frame(0.0, totals, rows, whole=True)


def _row(node: Node, state: RealmState, roster: Roster) -> Row:
    head = state.heads[node.session_id]
    return Row(
        node.name if node.name in roster.members else node.session_id,
        node.name,
        node.profile,
        node.state,
        node.detail,
        turns=node.turns,
        usage=node.total,
        inputs=len(head.inputs or ()),
        restarts=node.restarts,
        words=shown(node.words, 200),
        children=tuple(_row(child, state, roster) for child in node.children),
        more=node.hidden,
    )
