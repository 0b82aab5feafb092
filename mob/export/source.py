"""What is exported from: a mob's journal and folds, of one that is open here or only stored.

Owns: `Source`. Must not: change anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import attrs

from mob.export.who import Who
from mob.folds import MobFolds
from mob.roster import Roster
from mob.runs import past
from runtime.journal import Journal
from runtime.models.redaction import Redactor
from runtime.state import RealmState


@attrs.define(slots=False)
class Source:
    """A mob to look back on. `redactor` is asked about every text that leaves it."""

    mob_id: str
    state: RealmState
    folds: MobFolds
    journal: Journal
    redactor: Redactor

    @property
    def roster(self) -> Roster:
        return self.folds.roster

    @cached_property
    def who(self) -> Who:
        """Whose each session is."""
        return Who(self.state, self.roster, self.redactor)

    def events(self) -> Iterator[tuple[int, Any]]:
        """The committed records with their numbers, a page at a time. Raises as `Journal.read`."""
        for event in past(self.journal):
            yield event.seq, event.record
