"""What the contestants share: the kinds of work, how each is measured, the lines that come out.

Owns: `Figure` (one JSON line), `Peer` (what a contestant's file says of itself) and the measuring
of each kind. Must not: import anything but the standard library, Trio apart: it runs in the virtual
environment of every peer.

`python on_X.py KIND N` measures one kind in this process and prints its figures. All values are
costs, so that more is worse everywhere: CPU microseconds, bytes, KB, lost turns. Making the members
is not counted as time, keeping them is counted as memory.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

#: Turns of each member of a swarm.
TURNS = 10
#: What a model call takes where a process is killed; everywhere else it takes nothing.
PAUSE_S = 0.01
_TEXT = ("the quick brown fox jumps over the lazy dog " * 5)[:200]

UNITS: Mapping[str, str] = {
    "swarm": "CPU µs a turn",
    "memory": "KB an agent",
    "durable": "CPU µs a turn",
    "disk": "bytes a turn",
    "written": "bytes a turn",
    "history": "CPU µs a turn",
    "messages": "CPU µs a message",
    "resume": "CPU µs a session",
    "kill": "turns lost",
    "kill_default": "turns lost",
    "import": "CPU ms",
}
#: Kinds that another one measures on the way.
ALONG: Mapping[str, str] = {"memory": "swarm", "disk": "durable", "written": "durable"}


class Figure(NamedTuple):
    """One measurement; without a value the note says why there is none."""

    kind: str
    n: int
    value: float | None
    unit: str
    note: str = ""

    def line(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def parse(cls, line: str) -> Figure:
        """Raises ValueError if the line is not a figure of a kind that we know."""
        found = json.loads(line)
        if not isinstance(found, dict) or set(found) != set(cls._fields):
            raise ValueError(f"not a figure, it needs the keys {cls._fields}: {line!r}")
        figure = cls(**found)
        if figure.kind not in UNITS:
            raise ValueError(f"no kind {figure.kind!r}, there are {sorted(UNITS)}")
        return figure


def text(number: int) -> str:
    """200 bytes, another text for each number: some stores drop a message that they have."""
    return f"{number:08d}{_TEXT[8:]}"


#: Told the number of a member at each turn of which the application has learned.
Heard = Callable[[int], None]


class Turns(Protocol):
    """Has one member take turns; each is a question and an answer that it keeps."""

    async def __call__(self, member: int, count: int, heard: Heard | None = None) -> None: ...


class Loop(NamedTuple):
    """How a contestant's coroutines are run."""

    run: Callable[[Callable[[], Awaitable[Any]]], Any]
    together: Callable[[int, Callable[[int], Awaitable[None]]], Awaitable[None]]


async def _gathered(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    await asyncio.gather(*(work(index) for index in range(count)))


def _in_asyncio(main: Callable[[], Awaitable[Any]]) -> Any:
    async def awaited() -> Any:
        return await main()

    return asyncio.run(awaited())


ASYNCIO = Loop(_in_asyncio, _gathered)


def trio_loop() -> Loop:
    """Trio's, for the two that have it."""
    import trio

    async def together(count: int, work: Callable[[int], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            for index in range(count):
                nursery.start_soon(work, index)

    return Loop(trio.run, together)


class Peer(NamedTuple):
    """A contestant. `absent` says of kinds that it cannot do why, `notes` how it does others."""

    loop: Loop
    #: Members 0 to n-1, in a folder if one is given, with the setting that loses least or the
    #: default one; the model takes that long for a call.
    team: Callable[[int, str | None, bool, float], AbstractAsyncContextManager[Turns]]
    #: Turns that the folder has of each of n members, their messages loaded as for going on.
    stored: Callable[[str, int], Awaitable[list[int]]]
    #: Two members; what it yields passes one message back and forth n times in all.
    pair: Callable[[int], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]] | None = None
    notes: Mapping[str, str] = {}
    absent: Mapping[str, str] = {}
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


class Spent:
    """CPU seconds of this process between entering and leaving."""

    def __enter__(self) -> Spent:
        gc.collect()
        self.cpu_s = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = time.process_time() - self.cpu_s

    def us(self, count: int) -> float:
        return self.cpu_s / count * 1e6


def resident_kb() -> int:
    """What this process has in memory, as Linux counts it."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def bytes_in(folder: str) -> int:
    return sum(each.stat().st_size for each in Path(folder).rglob("*") if each.is_file())


def bytes_written() -> int:
    """Bytes that this process has handed to the system to write, as Linux counts them."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def replace_synced(path: Path, data: bytes) -> None:
    """What an application does for a peer that stores nothing: the whole state, anew, synced."""
    new = path.with_suffix(".new")
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def kept(folder: str, member: int) -> Path:
    """Where that is for a member."""
    return Path(folder, f"{member}.json")


def read_kept(folder: str, member: int) -> bytes | None:
    """What was written there last, if anything was."""
    path = kept(folder, member)
    return path.read_bytes() if path.exists() else None


class Job(NamedTuple):
    """One kind to be measured here."""

    peer: Peer
    n: int
    folder: str
    seconds: float


Found = Iterable[tuple[str, int, float, str]]


async def _swarm(job: Job, folder: str | None) -> tuple[float, float]:
    """CPU microseconds a turn, KB a member."""
    before = resident_kb()
    async with job.peer.team(job.n, folder, True, 0.0) as turns:
        with job.peer.around(), Spent() as spent:
            await job.peer.loop.together(job.n, lambda index: turns(index, TURNS))
        after = resident_kb()
    return spent.us(job.n * TURNS), (after - before) / job.n


async def swarm(job: Job) -> Found:
    us, kb = await _swarm(job, None)
    return [("swarm", job.n, us, ""), ("memory", job.n, kb, "")]


async def durable(job: Job) -> Found:
    count, before = job.n * TURNS, bytes_written()
    us, _ = await _swarm(job, job.folder)
    written = (bytes_written() - before) / count
    kept = bytes_in(job.folder) / count
    return [
        ("durable", job.n, us, ""),
        ("disk", job.n, kept, ""),
        ("written", job.n, written, ""),
    ]


async def history(job: Job) -> Found:
    """The mean over a tenth more turns, 20 at least, so that what is done now and then is in."""
    more = max(20, job.n // 10)
    async with job.peer.team(1, job.folder, True, 0.0) as turns:
        with job.peer.around():
            for _ in range(job.n):
                await turns(0, 1)
            with Spent() as spent:
                for _ in range(more):
                    await turns(0, 1)
    return [("history", job.n, spent.us(more), "")]


async def messages(job: Job) -> Found:
    assert job.peer.pair is not None, "a peer without messages says why in `absent`"
    async with job.peer.pair(job.n) as passing:
        with job.peer.around(), Spent() as spent:
            await passing()
    return [("messages", job.n, spent.us(job.n), "")]


async def populate(job: Job) -> Found:
    """Sessions to be resumed, made by a process that ends well."""
    async with job.peer.team(job.n, job.folder, True, 0.0) as turns:
        await job.peer.loop.together(job.n, lambda index: turns(index, TURNS))
    return []


async def resume(job: Job) -> Found:
    _again("populate", job)
    with job.peer.around(), Spent() as spent:
        found = await job.peer.stored(job.folder, job.n)
    assert found == [TURNS] * job.n, f"it came back with {sorted(set(found))} turns of {TURNS}"
    return [("resume", job.n, spent.us(job.n), "")]


async def talk(job: Job) -> Found:
    """Turns without end, each written down when it was heard of; the process is killed in it."""
    return await _talk(job, safest=True)


async def talk_default(job: Job) -> Found:
    """The same with the settings that nobody chose."""
    return await _talk(job, safest=False)


async def _talk(job: Job, *, safest: bool) -> Found:
    heard = os.open(f"{job.folder}.heard", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    async with job.peer.team(job.n, job.folder, safest, PAUSE_S) as turns:
        await job.peer.loop.together(
            job.n, lambda index: turns(index, 1_000_000, lambda each: _wrote(heard, each))
        )
    return []


def _wrote(heard: int, member: int) -> None:
    os.write(heard, b"%d\n" % member)


async def kill(job: Job) -> Found:
    return _killed(job, "kill", "talk")


async def kill_default(job: Job) -> Found:
    return _killed(job, "kill_default", "talk_default")


def _killed(job: Job, kind: str, work: str) -> Found:
    """Turns that were heard of and are not there for the process that comes after."""
    noted = Path(f"{job.folder}.heard")
    with subprocess.Popen(_command(work, job), stdout=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and not (noted.exists() and noted.stat().st_size):
                time.sleep(0.01)
            time.sleep(job.seconds)
            assert process.poll() is None, f"it ended by itself, with {process.returncode}"
        finally:
            process.kill()
    heard = Counter(map(int, noted.read_text(encoding="ascii").split()))
    there = json.loads(_again("stored", job))
    lost = sum(max(0, heard[index] - there[index]) for index in range(job.n))
    return [(kind, job.n, float(lost), f"of {heard.total():,}")]


def _command(work: str, job: Job) -> list[str]:
    return [sys.executable, sys.argv[0], work, str(job.n), "--folder", job.folder]


def _again(work: str, job: Job) -> str:
    """What this program prints when it does `work` in a process of its own."""
    command = _command(work, job)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


WORKS: Mapping[str, Callable[[Job], Awaitable[Found]]] = {
    each.__name__: each
    for each in (
        *(swarm, durable, history, messages, resume, kill, kill_default),
        *(populate, talk, talk_default),
    )
}


def serve(peer: Peer) -> None:
    """What a contestant's file does when it is run."""
    options_of = argparse.ArgumentParser()
    options_of.add_argument("kind", choices=[*WORKS, "stored"])
    options_of.add_argument("n", type=int)
    options_of.add_argument("--folder", help="where to store; default: a temporary one")
    options_of.add_argument("--seconds", type=float, default=3.0, help="until the kill")
    options_of.add_argument("--limit", type=int, default=0, help="CPU seconds that it may take")
    options, _ = options_of.parse_known_args()
    if options.limit:
        resource.setrlimit(resource.RLIMIT_CPU, (options.limit, options.limit + 5))
    if options.kind in peer.absent:
        _tell([Figure(options.kind, options.n, None, "", peer.absent[options.kind])])
        return
    with tempfile.TemporaryDirectory(prefix="mob-peers-") as made:
        folder = options.folder or f"{made}/store"
        Path(folder).mkdir(exist_ok=True)
        job = Job(peer, options.n, folder, options.seconds)
        if options.kind == "stored":
            print(json.dumps(peer.loop.run(lambda: peer.stored(job.folder, job.n))))
            return
        found = peer.loop.run(lambda: WORKS[options.kind](job))
    _tell(
        Figure(
            kind, n, value, UNITS[kind], "; ".join(filter(None, (note, peer.notes.get(kind, ""))))
        )
        for kind, n, value, note in found
    )


def _tell(figures: Iterable[Figure]) -> None:
    for each in figures:
        print(each.line(), flush=True)


def imported(modules: Iterable[str], packages: Iterable[str]) -> Figure:
    """CPU of importing ``module:name`` here, which lazy packages import only when it is named; the
    note has the versions of the packages."""
    with Spent() as spent:
        for each in modules:
            module, _, name = each.partition(":")
            getattr(importlib.import_module(module), name)
    versions = []
    for each in filter(None, packages):
        try:
            versions.append(f"{each} {importlib.metadata.version(each)}")
        except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
            versions.append(each)
    return Figure("import", 1, spent.cpu_s * 1e3, UNITS["import"], ", ".join(versions))


if __name__ == "__main__":
    _tell([imported(sys.argv[1].split(","), sys.argv[2].split(","))])
