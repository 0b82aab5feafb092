"""One run of one scenario under one seed, and what is known afterwards.

Owns: `simulate`, `attempt`, `Run`. Must not: know a fault or an invariant; `mob.simulation.stage`
has the course of a run.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, overload

import attrs

from mob.app import stored_mobs
from mob.records import MOB_RECORDS
from mob.simulation.disk import SimDisk
from mob.simulation.faults import Fault, FaultPlan
from mob.simulation.invariants import UserInvariant
from mob.simulation.kinds import FaultKind
from mob.simulation.ledger import Ledger
from mob.simulation.stage import Scenario, Stage
from mob.simulation.streams import Streams
from mob.simulation.trace import Trace, digest
from mob.simulation.world import Failure
from runtime.ids import RealmId
from runtime.journal import Event, Journal
from runtime.records import RUNTIME_RECORDS

#: Virtual seconds of the faulty phase, after which a run counts as hung.
DEADLINE_S: Final = 3600.0

#: Virtual seconds of the healed phase.
HEAL_S: Final = 900.0

#: Real seconds that a run may take. The usual one takes a twentieth of one.
WATCHDOG_S: Final = 60.0

#: Seeds of a test that does not say how many, and counterexamples that end it.
SEEDS: Final = 200
FAILURES: Final = 5


@attrs.frozen(eq=False)
class Run:
    """What a run came to."""

    seed: int
    #: The plan as drawn for this seed, in the form that `FaultPlan.parse` reads.
    plan: str
    digest: str
    trace: Trace
    disk: SimDisk
    #: How often each kind of fault struck, and every one of them with its site.
    fired: Counter[FaultKind]
    sites: tuple[Fault, ...]
    #: How many steps the scenario offered, and how many took part.
    offered: int
    steps: int
    #: How often each way of coming back was gone, by name.
    recoveries: Counter[str]
    virtual_s: float
    cpu_s: float
    failure: Failure | None
    #: What `failure` was made from, if it was an exception.
    error: BaseException | None

    @property
    def journal(self) -> dict[str, tuple[Event, ...]]:
        """Every record of every mob, by the mob's id. Decoded anew at each call."""
        platter = self.disk.platter
        found = {}
        for mob_id in stored_mobs(platter):
            journal = Journal(
                platter,
                RealmId(mob_id),
                (*RUNTIME_RECORDS, *MOB_RECORDS),
                lambda _seq, _record: None,
            )
            found[mob_id] = tuple(journal.read(limit=journal.last))
        return found


class Counterexample(AssertionError):
    """A run that failed; `run` is all that is known of it."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"seed {run.seed}: {run.failure}")
        self.run = run


@overload
def simulate(main: Scenario, seed: int, **options: Any) -> Run: ...


@overload
def simulate(
    *,
    seeds: int | Iterable[int] = SEEDS,
    faults: str | FaultPlan = "light",
    failures: int = FAILURES,
    **options: Any,
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]: ...


def simulate(
    main: Scenario | None = None,
    seed: int = 0,
    *,
    seeds: int | Iterable[int] = SEEDS,
    failures: int = FAILURES,
    **options: Any,
) -> Run | Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run `main` under `seed`; or, without them, decorate a test of many seeds.

    As a decorator, ``@simulate(seeds=200, faults="light")`` makes a test of an async function that
    takes a `world` (and any other fixtures): it is played under each of `seeds` (a number of them,
    or which) until `failures` of them have failed. See `attempt` for the other `options`.

    Raises:
        Counterexample: it failed, caused by the exception if there was one.
    """
    if main is None:
        from mob.simulation.plugin import Simulated

        chosen = range(seeds) if isinstance(seeds, int) else tuple(seeds)
        return Simulated(chosen, failures, {"faults": "light", **options}).decorate
    run = attempt(main, seed, **options)
    if run.failure is not None:
        raise Counterexample(run) from run.error
    return run


def attempt(
    main: Scenario,
    seed: int,
    *,
    faults: str | FaultPlan = "none",
    invariants: Sequence[UserInvariant | Callable[[Ledger], None]] = (),
    heal_s: float = HEAL_S,
    deadline_s: float = DEADLINE_S,
    watchdog_s: float = WATCHDOG_S,
    keep: Callable[[int], bool] | None = None,
) -> Run:
    """Run `main` under `seed` and return what came of it, also if it failed.

    `faults` is a plan or its text; its rates are drawn anew for each seed. `heal_s` are the virtual
    seconds in which everything must finish once no fault strikes any more (0: there is no such
    phase), `deadline_s` those that `main` may take; `watchdog_s` are real ones. `keep` says of each
    numbered step whether it takes part.
    """
    began = time.process_time()
    gc.collect(1)  # what earlier runs have left: nobody collects while one goes (see `pinned`)
    streams = Streams(seed)
    plan = FaultPlan.parse(faults) if isinstance(faults, str) else faults
    plan = plan.drawn(streams)
    stage = Stage(
        main, streams, plan, keep, heal_s=heal_s, deadline_s=deadline_s, invariants=invariants
    )
    stage.run(watchdog_s)
    return run_of(stage, began)


def run_of(stage: Stage, began_s: float) -> Run:
    """What `stage` has come to, which began at so many seconds of the processor's time."""
    world = stage.world
    return Run(
        seed=stage.streams.seed,
        plan=str(stage.faults.plan),
        digest=digest(stage.disk, stage.trace),
        trace=stage.trace,
        disk=stage.disk,
        fired=stage.faults.fired,
        sites=tuple(stage.faults.log),
        offered=world.offered if world else 0,
        steps=world.kept if world else 0,
        recoveries=world.recoveries if world else Counter(),
        virtual_s=stage.now(),
        cpu_s=time.process_time() - began_s,
        failure=stage.failure,
        error=stage.error,
    )
