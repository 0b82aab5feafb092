"""The table ``[sim]`` of a mob file: how `mob sim` rehearses the mob.

Owns: the settings, reading them and what is wrong with them. Must not: know a fault or run
anything; the fault plan is judged by `mob sim` and `mob validate`, which may import the simulation.
"""

from __future__ import annotations

from typing import Final

import attrs

from mob.tables import TableReader

#: Virtual seconds of a simulated model call: least and most.
LATENCY_S: Final = (0.01, 0.3)


@attrs.frozen
class SimDefinition:
    """How the mob is simulated; no part of the blueprint.

    `seed` is the one `mob sim` takes when it is given none (a run of many begins there), `faults`
    a plan as `FaultPlan.parse` reads it. `invariants` is a Python file beside the mob file: every
    function in it that is decorated with `@invariant` must hold.
    """

    seed: int = 0
    latency_s: tuple[float, float] = LATENCY_S
    faults: str = "light"
    invariants: str | None = None


#: What holds when the file has no such table.
DEFAULT_SIM: Final = SimDefinition()


def read_sim(table: TableReader) -> SimDefinition:
    """The settings that a table says. Mistakes are noted in the table."""
    seed = table.take("seed", int, DEFAULT_SIM.seed)
    if seed < 0:
        table.wrong("seed", f"must be at least 0, found {seed}")
    sim = SimDefinition(
        seed,
        _read_latency(table),
        table.take("faults", str, DEFAULT_SIM.faults),
        table.take("invariants", str),
    )
    table.done()
    return sim


def _read_latency(table: TableReader) -> tuple[float, float]:
    given = table.raw("latency_s")
    if given is None:
        return LATENCY_S
    pair = given if isinstance(given, list) else [given, given]
    numbers = [
        each for each in pair if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    if len(numbers) == len(pair) == 2 and 0 <= numbers[0] <= numbers[1] < float("inf"):
        return float(numbers[0]), float(numbers[1])
    table.wrong("latency_s", f"expected seconds, or the least and the most, found {given!r}")
    return LATENCY_S
