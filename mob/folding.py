"""How a fold of a mob's journal hears of its records. Pure.

Owns: `fold_on`. Must not: know a record or a fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.state import RealmState


def fold_on(state: RealmState, kind: type, transition: Callable[[int, Any], None]) -> None:
    """Have `transition` called with (sequence number, record) for each record of `kind`, after
    those that were there before, so that several folds may read one record.

    Records that the loaded rows hold already (`RealmState.folded`) are passed over: whole rows
    stand for the state at that number.
    """
    before = state.transitions.get(kind)

    def apply(seq: int, record: Any) -> None:
        if before is not None:
            before(seq, record)
        if seq > state.folded:
            transition(seq, record)

    state.transitions[kind] = apply
