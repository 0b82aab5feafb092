"""Carrying out what the supervisors of groups decide.

Owns: the count of failures of each group, and the effects of a decision: siblings cut off, a member
told, the mob stopped. Must not: decide (`mob.groups` does), restart whoever failed (its own
activation does).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from mob.groups import SUPERVISOR, GroupTree, RestartThese, StopMob, TellMember, decide_group
from mob.jobs import Job
from mob.supervision import GiveUp, Restart
from runtime.ids import InputId
from runtime.records import InputAccepted
from runtime.session import PendingInput

if TYPE_CHECKING:
    from mob.activation import Activations
    from mob.dependencies import Dependencies
    from mob.jobs import LiveMember
    from mob.records import MemberExited
    from mob.roster import Member, Roster
    from runtime.realm import Realm


@attrs.define(eq=False)
class Failure:
    """What the groups above a member decided on one failure of it.

    `records` belong into the commit that records the failure; `carry_out` is called once that is on
    disk. `reason` is why the member's turn is given up, if a group says so; `stops` whether the mob
    is being stopped, and the turn left where it is.
    """

    records: tuple[Any, ...] = ()
    carry_out: Callable[[], None] = lambda: None
    reason: str | None = None
    stops: bool = False


NO_FAILURE: Final = Failure()

#: The cause of an exit that is no failure of the member's own: it was cut off with its group.
_TOGETHER: Final = re.compile("group '.*' restarts: '")


class Supervisors:
    """The supervisors of one mob's groups."""

    def __init__(
        self, tree: GroupTree, activations: Activations, realm: Realm, roster: Roster
    ) -> None:
        self._tree = tree
        self._activations = activations
        self._realm = realm
        self._roster = roster
        self._recent: Mapping[str, tuple[float, ...]] = {}
        #: Who is there under a name to take what comes next; set by whoever knows who comes and
        #: goes.
        self.row_of: Callable[[str], Member | None] = roster.members.get
        #: Stops the mob; set by whoever has that verb.
        self.stop: Callable[[str], None] = lambda reason: None
        #: None if no member depends on another.
        self.dependencies: Dependencies | None = None

    def recall(self) -> None:
        """Count what the journal knows of restarts before this process, as old as the wall clock
        says; one that is ahead of us counts as of now. So a member that crashes the program again
        and again is given up as one is that only crashes itself."""
        clock = self._realm.ports.clock
        now_s, now_ns = trio.current_time(), clock.now_ns()
        groups: dict[str, list[float]] = {}
        for each in self._roster.exits:
            row = self._roster.members.get(each.name)
            if each.restart_in_s is None or row is None or row.session_id != each.session_id:
                continue
            at_s = now_s - max(now_ns - each.at_ns, 0) / 1e9
            live = self._activations.live(row)
            live.recent = tuple(sorted((*live.recent, at_s)))
            group = self._tree.of(each.name)
            if group is not None and not _TOGETHER.match(each.cause):
                groups.setdefault(group.name, []).append(at_s)
        self._recent = {name: tuple(sorted(times)) for name, times in groups.items()}

    def failed(self, live: LiveMember, cause: str) -> Failure:
        """The decision of the groups above `live` on its failure."""
        if not self._tree:
            return NO_FAILURE
        name = live.row.name
        decision = decide_group(self._tree, name, self._recent, cause, trio.current_time())
        self._recent = {**self._recent, **decision.recent}
        if not decision.actions:
            return NO_FAILURE
        (action,) = decision.actions
        if isinstance(action, RestartThese):
            why = f"group '{action.group}' restarts: {name!r} has failed: {cause}"
            members = action.members
            return Failure(carry_out=lambda: self._restart(members, why))
        if isinstance(action, TellMember):
            told = self._tell(action, name)
            if told is not None:
                return told
            action = StopMob(action.group, f"{action.reason}; {action.member!r} is not there")
        reason = action.reason
        return Failure(carry_out=lambda: self.stop(reason), reason=reason, stops=True)

    def told(self, live: LiveMember, above: Failure, decision: Restart | GiveUp) -> tuple[Any, ...]:
        """What belongs into the commit that records the failure of `live`."""
        if self.dependencies is None or not isinstance(decision, GiveUp):
            return above.records
        return (*above.records, *self.dependencies.told(live.row.name, decision.reason))

    def _restart(self, names: tuple[str, ...], cause: str) -> None:
        for name in names:
            live = self._activations.members.get(name)
            if live is not None:
                live.together = self._realm.abort(live.row.session_id, cause) or live.together

    def _tell(self, action: TellMember, failed: str) -> Failure | None:
        row = self.row_of(action.member)
        if row is None:
            return None
        text = f"Member {failed!r} has failed, and group {action.group!r} gives up: {action.reason}"
        pending = PendingInput(InputId(self._realm.ports.ids.new()), text, SUPERVISOR, None)
        # It waits from here on, as all that is accepted does: a respawn carries it over, and limits
        # count it, while it is on its way to the disk.
        self._activations.enqueue(self._activations.live(row), Job(pending, nested=False))
        record = InputAccepted(
            row.session_id,
            pending.input_id,
            text,
            SUPERVISOR,
            None,
            self._realm.ports.clock.now_ns(),
        )
        return Failure((record,), reason=action.reason)


def exits_of(roster: Roster, member: str | None) -> tuple[MemberExited, ...]:
    """The latest bad exits, oldest first: of one member, present or not, or of all."""
    return tuple([each for each in roster.exits if member is None or each.name == member])
