"""The results of runs, as values and as JSON.

Owns: `Run` and the files of `mob bench run --json`. Must not: run or judge anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from mob.bench.plan import Expected, Outcome, Verdict

#: Of the form of the file; a reader of another one must not guess.
FORM: Final = 1


class ResultsUnreadable(ValueError):
    """A file holds no results of `mob bench run --json`; the message says why."""


@attrs.frozen
class Run:
    """One repeat of a scenario: its figures, what the oracle says of them, and the verdicts.

    `clock` says which seconds its latencies are in. `error` is why it came to no end.
    """

    scenario: str
    shape: str
    repeat: int
    seed: int
    scale: float
    store: str
    clock: str
    size: Mapping[str, int]
    figures: Mapping[str, float] = attrs.field(factory=dict)
    oracle: Mapping[str, Expected] = attrs.field(factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    error: str | None = None

    @property
    def failed(self) -> tuple[Verdict, ...]:
        return tuple(each for each in self.verdicts if each.outcome is Outcome.FAILED)

    def table(self) -> dict[str, Any]:
        """The run as JSON can hold it."""
        table = attrs.asdict(self)
        for verdict in table["verdicts"]:
            verdict["outcome"] = verdict["outcome"].value
        return table

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Run:
        """A run out of its table. Raises `KeyError`, `TypeError` or `ValueError` if it is none."""
        oracle = {name: Expected(**each) for name, each in table["oracle"].items()}
        verdicts = tuple(
            Verdict(**{**each, "outcome": Outcome(each["outcome"])}) for each in table["verdicts"]
        )
        return cls(**{**table, "oracle": oracle, "verdicts": verdicts})


def as_json(runs: Iterable[Run]) -> dict[str, Any]:
    """What `mob bench run --json` prints."""
    return {"mob_bench": FORM, "runs": [run.table() for run in runs]}


def load_runs(path: Path) -> list[Run]:
    """The runs in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ResultsUnreadable: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["mob_bench"] != FORM:
            raise ResultsUnreadable(f"{path} is of form {found['mob_bench']!r}, not {FORM}")
        return [Run.of(table) for table in found["runs"]]
    except ResultsUnreadable:
        raise
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ResultsUnreadable(
            f"{path} holds no results of `mob bench run --json` ({reason})"
        ) from None
