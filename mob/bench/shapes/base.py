"""The shape of a workload: what a scenario names, and the table of shapes is made of.

Owns: `Shape` and the types of its two halves, the oracle and the run. Must not: know a shape.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs

from mob.bench.plan import Expected, Plan
from mob.bench.stage import Stage

#: Figures of a run by name, beside those that are measured of every run.
Figures: TypeAlias = dict[str, float]


@attrs.frozen
class Shape:
    """A workload. `expect` says from the plan alone what must come out; `run` does it, over the
    public handle, and says what came out. `edges` are laid over the wiring of the mob.

    `size` is what it takes of [size] with the least of each, `settings` what of [settings] with
    their defaults. `figures` names all that `run` returns; those of `expect` are among them, or
    among what is measured of every run.
    """

    about: str
    size: Mapping[str, int]
    figures: tuple[str, ...]
    expect: Callable[[Plan], dict[str, Expected]]
    run: Callable[[Stage], Awaitable[Figures]]
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    edges: Callable[[Plan], tuple[tuple[str, str], ...]] | None = None
    #: What its own process does, which `run` starts and kills (`mob.bench.victim`): it is given a
    #: stage on the same store, and somebody to tell how far it is.
    victim: Callable[[Stage, Callable[[Any], None]], Awaitable[None]] | None = None
    #: Why it needs a store on disk, if it does.
    needs_disk: str = ""
