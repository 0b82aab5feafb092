"""Many seeds of one target over worker processes, and what they came to together.

Owns: `Job`, `Outcome`, `Tally`, `run_seeds` and the life of the workers. Must not: import a
scenario into this process, draw progress (whoever iterates does).

A worker is a fresh interpreter (`mob.simulation.worker`) that is given one seed at a time, so
whatever ends it, a segmentation fault or the kernel's want of memory, names the seed it had. Seeds
are handed out in order, and a tally knows them by seed: what it says does not depend on how many
workers there were or who was faster.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from typing import IO, Any, Final, final

import attrs

from mob.simulation.faults import Fault, FaultPlan
from mob.simulation.run import HEAL_S, WATCHDOG_S, Run, attempt
from mob.simulation.target import Target
from mob.simulation.world import Failure

#: Real seconds beyond its watchdog after which a worker that has not answered is ended: it hangs
#: where no alarm reaches it.
_GRACE_S: Final = 30.0

#: Characters of what a worker had said on stderr when it died.
_LAST_WORDS: Final = 2000


class WorkerFailed(Exception):
    """A worker could not begin; the message is its own."""


@attrs.frozen
class Job:
    """How each seed is run: the arguments of `attempt`, as text that crosses to a worker.

    `faults` is the text of a plan. `keep` are the numbers of the steps that take part (None: all).
    """

    target: str
    faults: str = "light"
    heal_s: float = HEAL_S
    watchdog_s: float = WATCHDOG_S
    keep: frozenset[int] | None = None

    def attempt(self, target: Target, seed: int, only: Iterable[Fault] | None = None) -> Run:
        """Run `seed` here and now; with exactly the faults of `only`, if it is given."""
        plan = FaultPlan.parse(self.faults)
        if only is not None:
            plan = attrs.evolve(plan, rates={}, only=frozenset(only))
        return attempt(
            target.scenario(),
            seed,
            faults=plan,
            invariants=target.invariants,
            heal_s=self.heal_s,
            watchdog_s=self.watchdog_s,
            keep=None if self.keep is None else self.keep.__contains__,
        )

    def to_json(self) -> str:
        """For a worker."""
        keep = None if self.keep is None else sorted(self.keep)
        return json.dumps({**attrs.asdict(self), "keep": keep})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `to_json` wrote."""
        table = json.loads(text)
        keep = table.pop("keep")
        return cls(**table, keep=None if keep is None else frozenset(keep))


@attrs.frozen
class Outcome:
    """What is kept of one run among many."""

    seed: int
    #: The plan as drawn for this seed.
    plan: str = ""
    digest: str = ""
    fired: Mapping[str, int] = attrs.field(factory=dict)
    recoveries: Mapping[str, int] = attrs.field(factory=dict)
    steps: int = 0
    commits: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    failure: Failure | None = None

    @classmethod
    def of(cls, run: Run) -> Outcome:
        """The outcome of `run`."""
        return cls(
            seed=run.seed,
            plan=run.plan,
            digest=run.digest,
            fired={kind.value: times for kind, times in run.fired.items()},
            recoveries=dict(run.recoveries),
            steps=run.steps,
            commits=len(run.disk.commits),
            virtual_s=run.virtual_s,
            cpu_s=run.cpu_s,
            failure=run.failure,
        )

    def to_json(self) -> str:
        """For the process that waits for it."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """What `to_json` wrote."""
        table = json.loads(text)
        failure = table.pop("failure")
        return cls(**table, failure=None if failure is None else Failure(**failure))


@final
class Tally:
    """The outcomes so far, in order of their seeds whatever order they came in.

    `enough` counterexamples end a run early (0: none do); seeds behind the last of them do not
    count then, so that the tally is the same however many workers there were.
    """

    def __init__(self, seeds: Iterable[int], enough: int = 0) -> None:
        self.asked = list(seeds)
        self._enough = enough
        self._found: dict[int, Outcome] = {}
        self._began = time.perf_counter()
        self.wall_s = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take one in."""
        self._found[outcome.seed] = outcome
        self.wall_s = time.perf_counter() - self._began

    @property
    def satisfied(self) -> bool:
        """Whether there are enough counterexamples, and no earlier seed is still to come."""
        return self._enough > 0 and self._end() is not None

    @property
    def outcomes(self) -> list[Outcome]:
        """Those that count, in order of their seeds."""
        end = self._end()
        seeds = self.asked if end is None else self.asked[:end]
        return [self._found[seed] for seed in seeds if seed in self._found]

    def _end(self) -> int | None:
        """How many seeds count, if there is an early end."""
        failures = 0
        for number, seed in enumerate(self.asked):
            outcome = self._found.get(seed)
            if outcome is None:
                return None
            failures += outcome.failure is not None
            if failures == self._enough > 0:
                return number + 1
        return None

    # -- totals ----------------------------------------------------------------------------

    @property
    def done(self) -> int:
        """How many runs there were."""
        return len(self._found)

    @property
    def failures(self) -> list[Outcome]:
        """The counterexamples."""
        return [each for each in self.outcomes if each.failure is not None]

    def fired(self) -> Counter[str]:
        """How often each kind of fault fired."""
        return _summed(each.fired for each in self.outcomes)

    def recoveries(self) -> Counter[str]:
        """How often each way of coming back was gone."""
        return _summed(each.recoveries for each in self.outcomes)

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all runs."""
        return sum(each.cpu_s for each in self.outcomes)

    @property
    def virtual_s(self) -> float:
        """Virtual seconds of all runs."""
        return sum(each.virtual_s for each in self.outcomes)

    @property
    def digest(self) -> str:
        """One digest over those of all runs, in order of their seeds."""
        hashed = blake2b(digest_size=16)
        for each in self.outcomes:
            hashed.update(f"{each.seed} {each.digest}\n".encode())
        return hashed.hexdigest()


def _summed(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def run_seeds(job: Job, seeds: Iterable[int], workers: int = 1) -> Generator[Outcome, None, None]:
    """Run every seed of `seeds` in `workers` processes; yield outcomes as they come.

    Closing the iterator, or an exception thrown into it, ends the workers.

    Raises:
        WorkerFailed: one could not load the target.
    """
    waiting = iter(seeds)
    with closing(_Crew(job)) as crew:
        for seed in waiting:
            crew.hand_out(seed, workers)
            if crew.full(workers):
                yield from crew.wait()
        while crew.busy:
            yield from crew.wait()


@final
class _Crew:
    """The workers of one run, and who has which seed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Worker] = []
        self.busy: list[_Worker] = []

    def full(self, workers: int) -> bool:
        """Whether nobody is left to give a seed to."""
        return not self._idle and len(self.busy) >= workers

    def hand_out(self, seed: int, workers: int) -> None:
        """Give `seed` to an idle worker or to a new one. There must be room."""
        assert not self.full(workers)
        if self._idle:
            worker = self._idle.pop()
        else:
            worker = _Worker(self._job)
            self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        worker.begin(seed)
        self.busy.append(worker)

    def wait(self) -> Iterator[Outcome]:
        """Park until somebody has answered or died; yield what came."""
        patience_s = min(worker.patience_s() for worker in self.busy)
        ready = [key.data for key, _ in self._selector.select(max(0.0, patience_s))]
        ready += [each for each in self.busy if each.patience_s() <= 0 and each not in ready]
        for worker in ready:
            if worker not in self.busy:  # an idle one that died: it is noticed when it is used
                self._dismiss(worker)
                continue
            outcome = worker.answer()
            if outcome is None:  # not a whole line yet
                continue
            self.busy.remove(worker)
            if worker.alive:
                self._idle.append(worker)
            else:
                self._dismiss(worker)
            yield outcome

    def _dismiss(self, worker: _Worker) -> None:
        self._selector.unregister(worker.answers)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.end()

    def close(self) -> None:
        """End all of them, whatever they are doing."""
        for worker in (*self.busy, *self._idle):
            worker.end()
        self._selector.close()


@final
class _Worker:
    """One interpreter that runs seeds."""

    def __init__(self, job: Job) -> None:
        self._job = job
        #: What it writes for people: of interest only if it dies.
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mob.simulation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            # A Ctrl-C is for us; workers end when we say so, or when we are gone.
            process_group=0,
        )
        assert self._process.stdout is not None
        self.answers: IO[bytes] = self._process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self._heard = b""
        self._seed = 0
        self._until = 0.0
        self.alive = True
        self._write(job.to_json())

    def begin(self, seed: int) -> None:
        """Have it run `seed`."""
        self._seed = seed
        self._until = time.monotonic() + self._job.watchdog_s * 2 + _GRACE_S
        self._write(str(seed))

    def patience_s(self) -> float:
        """Real seconds that it may still take for its seed."""
        return self._until - time.monotonic()

    def answer(self) -> Outcome | None:
        """What became of its seed; None if the answer is not all here."""
        if self.patience_s() <= 0:
            return self._died(f"it did not answer within {self._job.watchdog_s * 2 + _GRACE_S:g} s")
        try:
            piece = os.read(self.answers.fileno(), 65536)
        except BlockingIOError:
            return None
        self._heard += piece
        line, newline, rest = self._heard.partition(b"\n")
        if newline:
            self._heard = rest
            table: dict[str, Any] = json.loads(line)
            if "cannot" in table:
                raise WorkerFailed(table["cannot"])
            return Outcome.from_json(line.decode())
        return None if piece else self._died(_ending(self._process.wait()))

    def end(self) -> None:
        """Be rid of it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        for stream in (self._process.stdin, self.answers, self._said):
            try:
                stream.close()
            except BrokenPipeError:
                pass  # what it was still to be told concerns nobody

    def _died(self, how: str) -> Outcome:
        self.alive = False
        self._process.kill()
        self._process.wait()
        self._said.seek(0)
        words = self._said.read()[-_LAST_WORDS:].decode("utf-8", "replace").strip()
        message = f"{how}; it had said:\n{words}" if words else how
        return Outcome(self._seed, failure=Failure("the interpreter survives", message, 0))

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead: its answers end, and that is told of the seed


def _ending(code: int) -> str:
    if code >= 0:
        return f"the worker exited with {code}"
    name = signal.Signals(-code).name
    why = " (often for want of memory)" if name == "SIGKILL" else ""
    return f"the worker was ended by {name}{why}"
