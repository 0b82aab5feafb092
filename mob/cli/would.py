"""What a verb with ``--dry-run`` finds out: whether it would be done, and to what.

Owns: asking the state of a stored mob. Must not: change anything, or reach whoever runs the mob:
what is committed is looked at.
"""

from __future__ import annotations

from pathlib import Path

from mob.app import StoredMob, stored_mob
from mob.blueprints import definition_of
from mob.cli.exits import NothingThere
from mob.cli.stored import looking_into
from mob.comms.wiring import Wiring
from mob.errors import ProfileNotFound
from mob.lifecycle import TRANSITIONS, admit, after
from runtime.ids import SessionId


def would(state: Path, mob_id: str, verb: str) -> StoredMob:
    """The stored mob, if its state allows `verb`; its journal can be read no more.

    Raises:
        VerbRefused: it does not.
        MobNotFound, NothingThere: as `stored_mob`.
    """
    with looking_into(state) as store:
        stored = stored_mob(store, mob_id)
    changes = any(verb == each for _, each in TRANSITIONS)
    (after if changes else admit)(stored.roster.mob_state, verb)
    return stored


def check_profile(stored: StoredMob, profile: str | None) -> None:
    """Raises `ProfileNotFound` if the mob has no such profile."""
    known = definition_of(stored.roster.blueprint or "{}", stored.mob_id).profiles
    if profile is not None and profile not in known:
        raise ProfileNotFound(profile, tuple(known))


def check_branch(stored: StoredMob, session_id: SessionId, branch: int) -> None:
    """Raises `NothingThere` if no rewind of the session left such a branch."""
    count = len(stored.state.heads[session_id].branches)
    if not -count <= branch < count:
        there = f"its branches are 0 to {count - 1}" if count else "it was never rewound"
        raise NothingThere(f"session {session_id} has no branch {branch}: {there}")


def may_send(stored: StoredMob, one: str, two: str, *, directed: bool) -> bool:
    """Whether the first may send to the second, or without `directed` one of them to the other."""
    rows = stored.roster.members
    wiring = Wiring(
        definition_of(stored.roster.blueprint or "{}", stored.mob_id),
        lambda name: rows[name].profile,
        lambda: rows,
        lambda name: rows[name].joined,
        stored.folds.graph,
    )
    pairs = ((one, two),) if directed else ((one, two), (two, one))
    return any(wiring.may_send(*pair).allows for pair in pairs)
