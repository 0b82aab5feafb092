"""What one run of a scenario is to do, and what is expected of it.

Owns: the values that shapes and assertions pass to each other, and judging an assertion. Must not:
run anything: an expectation that could see the run would agree with it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from mob.definition import MobDefinition

#: Standard errors by which a measured share may miss its closed form: of 15,000 right ones one
#: does. The seeds of a scenario stand in its file, so that a run that passed passes again.
SIGMAS: Final = 4.0

#: What ``equals`` says for the value that the shape computes.
ORACLE: Final = "oracle"


@attrs.frozen
class Plan:
    """One run: how much of what, from which seed, by which mob.

    `size` is what `--scale` multiplies, `settings` what it leaves alone.
    """

    size: Mapping[str, int]
    settings: Mapping[str, Any]
    seed: int
    scale: float
    definition: MobDefinition

    def option(self, name: str, default: float) -> float:
        """The number that the mob's models are told as the option `name`: that of a profile, else
        that of a model; the first that has it counts."""
        told = [each.options for each in self.definition.profiles.values()]
        told += [each.options for each in self.definition.models.values()]
        return next((float(options[name]) for options in told if name in options), default)


@attrs.frozen
class Expected:
    """What a closed form says: a value, and its standard error from the size of the sample (0: it
    must come out exactly, but for rounding)."""

    value: float
    stderr: float = 0.0


class Outcome(enum.Enum):
    """What became of an assertion."""

    PASSED = "passed"
    FAILED = "failed"
    #: It counts from another scale on.
    SKIPPED = "skipped"


@attrs.frozen
class Assertion:
    """What must hold of one figure of a run.

    `equals` is a number or `ORACLE`; it is met within `tolerance` (None: so many standard errors of
    the oracle). With `from_scale` it is passed over below that scale: what is too small to measure
    proves nothing.
    """

    metric: str
    equals: float | str | None = None
    at_least: float | None = None
    at_most: float | None = None
    tolerance: float | None = None
    sigmas: float = SIGMAS
    from_scale: float = 0.0

    def __str__(self) -> str:
        parts = []
        if self.equals is not None:
            parts.append(f"= {self.equals}")
        if self.at_least is not None:
            parts.append(f">= {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"<= {self.at_most:g}")
        return f"{self.metric} {' and '.join(parts)}"


@attrs.frozen
class Verdict:
    """An assertion judged: what was found, what was expected, and within what."""

    assertion: str
    metric: str
    outcome: Outcome
    found: float
    expected: float | None = None
    within: float | None = None

    def __str__(self) -> str:
        text = f"{self.assertion}: found {self.found:.6g}"
        if self.expected is not None:
            text += f", expected {self.expected:.6g}"
        if self.within:
            text += f" within {self.within:.3g}"
        return text


def judge(
    assertion: Assertion,
    figures: Mapping[str, float],
    oracle: Mapping[str, Expected],
    scale: float,
) -> Verdict:
    """What became of the assertion. A figure that is no number meets none."""
    found = figures.get(assertion.metric, math.nan)
    expected: float | None = None
    within: float | None = None
    if assertion.equals is not None:
        value = oracle[assertion.metric] if assertion.equals == ORACLE else None
        expected = value.value if value is not None else float(assertion.equals)
        within = assertion.tolerance
        if within is None:
            spread = assertion.sigmas * value.stderr if value is not None else 0.0
            # Sums of a hundred thousand floats are off by less than this.
            within = max(spread, 1e-9 * max(1.0, abs(expected)))
    holds = not math.isnan(found)
    if expected is not None and within is not None:
        holds = holds and abs(found - expected) <= within
    if assertion.at_least is not None:
        holds = holds and found >= assertion.at_least
    if assertion.at_most is not None:
        holds = holds and found <= assertion.at_most
    outcome = Outcome.PASSED if holds else Outcome.FAILED
    if scale < assertion.from_scale:
        outcome = Outcome.SKIPPED
    return Verdict(str(assertion), assertion.metric, outcome, found, expected, within)
