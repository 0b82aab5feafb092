"""Where the CPU time of a durable turn goes, by cause.

    python benchmarks/causes.py [--members N] [--turns T] [--untuned] [--json]

The swarm of `turns.py` under a sampler of our own: every millisecond of CPU time a signal looks
which Python function runs, and what C it calls counts as its own. What the committing thread does
while the loop waits for it is told apart from what the loop does; while both run, a sample is the
loop's. Shares are right to a percent or two with the default sizes; the microseconds are those of
this machine now.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import signal
import time
from types import FrameType
from typing import Final

import trio
from fresh import scratch
from turns import swarm, untuned

_EVERY_S: Final = 0.001

#: Which part of a file's name says what it is about, first match first.
_CAUSES: Final = (
    ("_io_epoll", "disk: LMDB's commit, on its thread while the loop waits"),
    ("trio/", "Trio: tasks, scopes, events, threads"),
    ("outcome/", "Trio: tasks, scopes, events, threads"),
    ("contextlib", "Trio: tasks, scopes, events, threads"),
    ("<attrs", "making values: records, effects, messages"),
    ("stores/", "store: queue, envelopes, group commit"),
    ("runtime/records", "journal: packing and queueing records"),
    ("runtime/messages", "journal: packing and queueing records"),
    ("runtime/journal", "journal: packing and queueing records"),
    ("msgpack", "journal: packing and queueing records"),
    ("runtime/state", "fold: applying committed records"),
    ("runtime/chain", "fold: applying committed records"),
    ("runtime/checkpoint", "fold: applying committed records"),
    ("runtime/ports", "ids and clocks"),
    ("runtime/", "turn: driver, machine, model call"),
    ("mob/", "member: admission, mailbox, queue, activation"),
    ("benchmarks/", "the benchmark's own tasks"),
)


class Sampler:
    """Counts what runs, between entering and leaving."""

    def __init__(self) -> None:
        self.samples: collections.Counter[str] = collections.Counter()
        self.gc_s = 0.0
        self._gc_began = 0.0

    def __enter__(self) -> Sampler:
        gc.callbacks.append(self._collecting)
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        gc.callbacks.remove(self._collecting)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        name = "" if frame is None else frame.f_code.co_filename
        found = (cause for part, cause in _CAUSES if part in name)
        self.samples[next(found, "other: the standard library")] += 1

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.thread_time()
        else:
            self.gc_s += time.thread_time() - self._gc_began


def main() -> None:
    options_of = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options_of.add_argument("--members", type=int, default=1000)
    options_of.add_argument("--turns", type=int, default=50, help="turns of each member")
    options_of.add_argument("--untuned", action="store_true", help="leave the collector alone")
    options_of.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = options_of.parse_args()
    work = untuned if options.untuned else swarm
    sampler = Sampler()
    with scratch() as folder:
        figures = trio.run(work, folder, options.members, options.turns, sampler)
    turns = options.members * options.turns
    turn_us = figures["cpu_s"] / turns * 1e6
    total = sum(sampler.samples.values())
    shares = {cause: count / total for cause, count in sampler.samples.most_common()}
    gc_us = sampler.gc_s / turns * 1e6
    if options.json:
        print(json.dumps({"turn_us": turn_us, "shares": shares, "gc_us": gc_us}))
        return
    print(f"{options.members} members, {options.turns} durable turns each: {turn_us:.0f} us of CPU")
    for cause, share in shares.items():
        print(f"  {share * 100:4.0f} % {share * turn_us:6.1f} us  {cause}")
    print(f"  {'':6} {gc_us:6.1f} us  of that, wherever it came: garbage collection")


if __name__ == "__main__":
    main()
