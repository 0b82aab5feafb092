"""The frames of a mob, folded: its rows, how many of a profile do what, how fast it goes. Pure.

Owns: `Model`. Must not: read a clock, say how anything looks.

A row costs the same however many others there are: sums are moved, never made anew, and rows stand
in lines by how much they need somebody's eye. So a picture of the few that matter reads only those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final

import attrs

from mob.console.rows import Frame, Row, Totals
from runtime.messages import Usage

#: How much a state needs somebody's eye, the most first: a decision, a failure, work, rest.
DECISION: Final = 0
FAILURE: Final = 1
WORK: Final = 2
REST: Final = 3
RANKS: Final = {
    "waiting": DECISION,
    "quarantined": FAILURE,
    "failed": FAILURE,
    "restarting": FAILURE,
    "retrying": FAILURE,
    "tool": WORK,
    "model": WORK,
    "saving": WORK,
    "starting": WORK,
    "unfinished": WORK,
    "queued": WORK,
    "idle": REST,
    "archived": REST,
}
#: Seconds over which events are counted for how many there are in one.
_RATE_S: Final = 3.0


def rank_of(state: str) -> int:
    """A state that is not in the table is work: it is shown."""
    return RANKS.get(state, WORK)


@attrs.define
class Group:
    """The members of a profile: sums, and their keys by rank; who has a state longest is first."""

    states: dict[str, int] = attrs.Factory(dict)
    ranks: tuple[dict[str, None], ...] = attrs.Factory(lambda: ({}, {}, {}, {}))
    tokens: int = 0
    nano_usd: int = 0
    calls: int = 0
    priced: int = 0
    inputs: int = 0
    restarts: int = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.ranks))

    @property
    def rank(self) -> int:
        """That of whichever member needs somebody's eye most."""
        return next((rank for rank, keys in enumerate(self.ranks) if keys), REST)

    @property
    def usage(self) -> Usage:
        return Usage(
            self.tokens,
            model_calls=self.calls,
            cost_nano_usd=self.nano_usd,
            priced_calls=self.priced,
        )

    @property
    def busy(self) -> int:
        """How many are not at rest."""
        return sum(map(len, self.ranks[:REST]))

    def members(self) -> Iterator[str]:
        """The keys of all, those that need somebody's eye first."""
        return chain.from_iterable(self.ranks)

    def add(self, row: Row, sign: int) -> None:
        """Count the row, or with -1 count it no more."""
        self.states[row.state] = self.states.get(row.state, 0) + sign
        if not self.states[row.state]:
            del self.states[row.state]
        self.tokens += sign * row.usage.total_tokens
        self.nano_usd += sign * row.usage.cost_nano_usd
        self.calls += sign * row.usage.model_calls
        self.priced += sign * row.usage.priced_calls
        self.inputs += sign * row.inputs
        self.restarts += sign * row.restarts


class Model:
    """All that is known of a mob from its frames."""

    def __init__(self) -> None:
        self.totals = Totals("", "")
        #: In order of joining.
        self.rows: dict[str, Row] = {}
        self.groups: dict[str, Group] = {}
        self._marks: deque[tuple[float, int]] = deque()

    def apply(self, frame: Frame) -> None:
        """Take a frame in."""
        if frame.whole:
            self.rows, self.groups = {}, {}
            self._marks.clear()
        self.totals = frame.totals
        for key in frame.gone:
            row = self.rows.pop(key, None)
            if row is not None:
                self._leave(row, None)
        for row in frame.rows:
            before = self.rows.get(row.key)
            if before is not None:
                self._leave(before, row)
            self.rows[row.key] = row
            group = self.groups.setdefault(row.profile, Group())
            group.add(row, 1)
            group.ranks[rank_of(row.state)][row.key] = None
        self._marks.append((frame.now_s, frame.totals.events))
        while self._marks[0][0] < frame.now_s - _RATE_S and len(self._marks) > 1:
            self._marks.popleft()

    def _leave(self, row: Row, after: Row | None) -> None:
        group = self.groups[row.profile]
        group.add(row, -1)
        rank = rank_of(row.state)
        if after is None or after.profile != row.profile or rank_of(after.state) != rank:
            del group.ranks[rank][row.key]
        if not any(group.ranks) and (after is None or after.profile != row.profile):
            del self.groups[row.profile]

    @property
    def busy(self) -> int:
        """How many members are not at rest."""
        return sum(group.busy for group in self.groups.values())

    @property
    def states(self) -> dict[str, int]:
        """How many members are in each state."""
        found: dict[str, int] = {}
        for group in self.groups.values():
            for state, number in group.states.items():
                found[state] = found.get(state, 0) + number
        return found

    def rate(self, now_s: float) -> float:
        """Events a second, over the last few seconds."""
        inside = [mark for mark in self._marks if mark[0] >= now_s - _RATE_S]
        if not inside:
            return 0.0
        since_s, events = inside[0]
        return (self.totals.events - events) / max(now_s - since_s, 1.0)
