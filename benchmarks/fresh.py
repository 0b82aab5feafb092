"""What the benchmarks share: fresh processes, alternating runs, medians, counters.

Each piece of work runs in a process of its own (`in_fresh_process` starts this very program again
with ``--only``), because what one leaves behind, garbage, caches, a grown heap, is not the next
one's cost. What is compared alternates, because machines are shared and their pace drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

import trio

Figures = dict[str, float]

#: Work of a process: gets a folder, returns figures.
Work = Callable[..., Awaitable[Figures]]


class Spent:
    """CPU and wall seconds of this process between entering and leaving."""

    def __enter__(self) -> Spent:
        self.cpu_s, self.wall_s = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cpu_s = time.process_time() - self.cpu_s
        self.wall_s = time.perf_counter() - self.wall_s

    def figures(self, **more: float) -> Figures:
        """The two, and `more`."""
        return {"cpu_s": self.cpu_s, "wall_s": self.wall_s, **more}


def bytes_written() -> int:
    """Bytes that this process has handed to the system to write, as Linux counts them."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def bytes_kept(folder: str) -> int:
    """What the store in `folder` takes of the disk."""
    return os.path.getsize(f"{folder}/data.mdb")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for one run."""
    return tempfile.TemporaryDirectory(prefix="mob-bench-")


def parser(doc: str, *, repeats: int) -> argparse.ArgumentParser:
    """The options that every benchmark has; `doc` is what ``--help`` says."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--repeats", type=_one_or_more, default=repeats, help="runs of each")
    made.add_argument("--json", action="store_true", help="one JSON object instead of text")
    made.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    made.add_argument("--folder", help=argparse.SUPPRESS)
    return made


def _one_or_more(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def ran_here(options: argparse.Namespace, works: Mapping[str, Work]) -> bool:
    """If this process was started for one piece of work: do it, print its figures, say so."""
    if not options.only:
        return False
    name, *sizes = options.only
    with nullcontext(options.folder) if options.folder else scratch() as folder:
        print(json.dumps(trio.run(works[name], folder, *map(int, sizes))), flush=True)
    return True


def in_fresh_process(name: str, *sizes: int, folder: str | None = None) -> Figures:
    """The figures of the work `name`, done in a process of its own."""
    command = [sys.executable, sys.argv[0], "--only", name, *map(str, sizes)]
    command += ["--folder", folder] if folder else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def alternating(
    works: Mapping[str, Callable[[], Figures]], repeats: int, label: str = ""
) -> dict[str, Figures]:
    """The medians of `repeats` runs of each, in turn."""
    runs: dict[str, list[Figures]] = {name: [] for name in works}
    for repeat in range(repeats):
        for name, work in works.items():
            told(f"{label} {name} {repeat + 1}/{repeats}".strip())
            runs[name].append(work())
    told("")
    return {
        name: {key: statistics.median(run[key] for run in done) for key in done[0]}
        for name, done in runs.items()
    }


def told(text: str) -> None:
    """Show on a terminal what is under way."""
    if sys.stderr.isatty():
        print(f"\r{text:50}\r", end="", file=sys.stderr, flush=True)
