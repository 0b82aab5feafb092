"""mob beside other frameworks and beside bare Trio and LMDB, on the same work in the same run.

    python benchmarks/peers/run.py [--only NAME...] [--scale small|full] [--json FILE] [--write]

Each peer gets a virtual environment of its own, made by pip when it is not there. Every measurement
is a fresh process with a no-op model and a limit of CPU seconds. Of each kind of work mob is
measured first and last, the others between; if mob itself moved by more than 20 %, all are measured
again. What is printed are ratios of CPU, bytes and memory to mob's: more is worse, and absolute
figures mean little elsewhere. ``--write`` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from protocol import ALONG, UNITS, Figure
from table import BASE, Result, Round, combined, placed, section

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "performance.md"
#: mob may differ by this share between two measurements of a round; then there is another one.
CALM = 0.2
#: Waiting for a disk or for others' processes may take so many times the limit of CPU seconds.
WALL = 20
LATE = "no end within"


class Contestant(NamedTuple):
    """`packages` are what pip installs; `modules` what a program has to import, as ``module:name``.
    Without packages the interpreter that runs this is used."""

    name: str
    file: str
    modules: tuple[str, ...]
    packages: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


OURS = ("mob:open_mob", "mob:MobDefinition", "stores:open_lmdb")
CONTESTANTS = (
    Contestant(BASE, "ours.py", OURS, versions=("trio-mob",)),
    Contestant("mob, tuned_gc", "ours.py", OURS, options=("--tuned",)),
    Contestant(
        "floor", "floor.py", ("trio:run", "lmdb:open", "json:dumps"), versions=("trio", "lmdb")
    ),
    Contestant(
        "langgraph",
        "on_langgraph.py",
        (
            "langgraph.graph:StateGraph",
            "langchain_core.messages:AIMessage",
            "langgraph.checkpoint.sqlite.aio:AsyncSqliteSaver",
        ),
        ("langgraph", "langgraph-checkpoint-sqlite"),
    ),
    Contestant(
        "autogen",
        "on_autogen.py",
        ("autogen_core:AgentId", "autogen_agentchat.agents:AssistantAgent"),
        ("autogen-core", "autogen-agentchat"),
    ),
    Contestant(
        "agent-framework",
        "on_agent_framework.py",
        ("agent_framework:Agent", "agent_framework:FileHistoryProvider"),
        ("agent-framework-core",),
    ),
    Contestant("openai-agents", "on_openai_agents.py", ("agents:Runner",), ("openai-agents",)),
    Contestant("pydantic-ai", "on_pydantic_ai.py", ("pydantic_ai:Agent",), ("pydantic-ai-slim",)),
)


class Scale(NamedTuple):
    """Sizes of each kind, in rising order; CPU seconds for one measurement; rounds at most."""

    sizes: dict[str, tuple[int, ...]]
    limit_s: int
    rounds: int


SCALES = {
    "small": Scale(
        {
            "swarm": (100, 1000),
            "durable": (100,),
            "history": (10, 100, 1000),
            "messages": (1600,),
            "resume": (100,),
            "kill": (20,),
            "kill_default": (20,),
            "import": (1,),
        },
        limit_s=30,
        rounds=2,
    ),
    "full": Scale(
        {
            "swarm": (100, 1000, 5000),
            "durable": (100, 1000),
            "history": (10, 100, 1000),
            "messages": (1600,),
            "resume": (500,),
            "kill": (50,),
            "kill_default": (50,),
            "import": (1,),
        },
        limit_s=120,
        rounds=3,
    ),
}


def python_of(contestant: Contestant, venvs: Path) -> str | None:
    """The interpreter of a contestant, its environment made if need be; None if pip failed."""
    if not contestant.packages:
        return sys.executable
    folder = venvs / contestant.name
    python, done = folder / "bin" / "python", folder / "packages"
    wanted = "\n".join(contestant.packages)
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return str(python)
    _say(f"installing {', '.join(contestant.packages)}")
    venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *contestant.packages]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=900)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    done.write_text(wanted, encoding="utf-8")
    return str(python)


def measure(contestant: Contestant, python: str, kind: str, n: int, limit_s: int) -> list[Figure]:
    """What one process says of one kind; one figure without a value if it says nothing."""
    if kind == "import":
        known = contestant.versions or contestant.packages
        arguments = ["protocol.py", ",".join(contestant.modules), ",".join(known)]
    else:
        arguments = [contestant.file, kind, str(n), "--limit", str(limit_s), *contestant.options]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if not contestant.packages:
        environment["PYTHONPATH"] = str(ROOT)
    with subprocess.Popen(
        [python, str(HERE / arguments[0]), *arguments[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=limit_s * WALL)
        except subprocess.TimeoutExpired:
            out, errors = "", f"{LATE} {limit_s * WALL} s"
        finally:
            _end(process)
    if process.returncode == -signal.SIGXCPU or errors.startswith(LATE):
        over = errors if errors.startswith(LATE) else f"more than {limit_s} CPU s"
        return [Figure(kind, n, None, "", over)]
    if process.returncode:
        said = [line.strip(" |+-") for line in errors.splitlines()]  # groups are drawn as trees
        last = next((line for line in reversed(said) if line), "it ended without a word")
        return [Figure(kind, n, None, "", f"failed: {last[:160]}")]
    return [Figure.parse(line) for line in out.splitlines()]


def _end(process: subprocess.Popen[str]) -> None:
    """Kill it and what it started; the group is its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Run:
    """Everybody, through all kinds of a scale."""

    def __init__(self, contestants: Sequence[Contestant], scale: Scale, venvs: Path) -> None:
        self._scale = scale
        self._others = [each for each in contestants if each.name != BASE]
        self._base = next(each for each in contestants if each.name == BASE)
        self._pythons = {each.name: python_of(each, venvs) for each in contestants}
        #: Why a contestant has no larger size of a kind any more.
        self._out: dict[tuple[str, str], str] = {}

    def results(self) -> Iterator[Result]:
        """All results, each as soon as its kind is done."""
        for kind, sizes in self._scale.sizes.items():
            for n in sizes:
                yield from self._measured(kind, n)

    def _measured(self, kind: str, n: int) -> Iterator[Result]:
        rounds: dict[tuple[str, int], list[Round]] = {}
        for number in range(self._scale.rounds):
            before = self._of(self._base, kind, n)
            found = {each.name: self._of(each, kind, n) for each in self._others}
            after = self._of(self._base, kind, n)
            for key, figure in before.items():
                missing = Figure(*key, None, "")
                others = {
                    name: figures.get(key) or _first(figures, missing)
                    for name, figures in found.items()
                }
                each = Round(figure, after.get(key, missing), others)
                rounds.setdefault(key, []).append(each)
            own = [each[-1] for (of, _), each in rounds.items() if of == kind]
            moved = max(each.moved for each in own)
            _say(f"{kind} {n}, round {number + 1}: mob moved by {moved:.0%}")
            if moved <= CALM or kind.startswith("kill"):
                break
        for measured in rounds.values():
            yield from combined(measured)

    def _of(self, contestant: Contestant, kind: str, n: int) -> dict[tuple[str, int], Figure]:
        python = self._pythons[contestant.name]
        if python is None:
            return {(kind, n): Figure(kind, n, None, "", "pip could not install it")}
        why = self._out.get((contestant.name, kind))
        if why is not None:
            return {(kind, n): Figure(kind, n, None, "", why)}
        _say(f"{kind} {n}: {contestant.name}")
        figures = measure(contestant, python, kind, n, self._scale.limit_s)
        if figures[0].value is None:
            self._out[contestant.name, kind] = figures[0].note
        return {(each.kind, each.n): each for each in figures}


def _first(figures: dict[tuple[str, int], Figure], missing: Figure) -> Figure:
    """Why there is nothing: said once, of the kind that was asked for."""
    why = next((each.note for each in figures.values() if each.value is None), "")
    return missing._replace(note="" if missing.kind in ALONG else why)


def about(scale: str, limit_s: int) -> str:
    """How the table came about."""
    load = os.getloadavg()[1]
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.0f}"
    return (
        f"`python benchmarks/peers/run.py --scale {scale} --write`, {time.strftime('%Y-%m-%d')}, "
        f"{machine}. Model calls take no time; ten turns a member, 200 bytes a message; a process "
        f"of its own for each figure, at most {limit_s} CPU seconds. Column *mob*: with default "
        "settings, every turn synced before it is reported. The others: their cost divided by "
        "mob's in the same round, so that 2.0x is twice as much; below 1 they are cheaper. `kill "
        "-9`: turns that the application was told of, and that are gone."
    )


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _write(results: Sequence[Result], names: Sequence[str], told: str) -> None:
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Performance\n"
    PAGE.write_text(placed(page, section(results, names, told)), encoding="utf-8")


def _chosen(names: Iterable[str] | None) -> list[Contestant]:
    always = [each for each in CONTESTANTS if not each.packages]
    wanted = [
        each for each in CONTESTANTS if each.packages and (names is None or each.name in names)
    ]
    return [*always, *wanted]


def main() -> None:
    options_of = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers = [each.name for each in CONTESTANTS if each.packages]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    options_of.add_argument("--only", nargs="*", choices=peers, help="these peers, or none")
    options_of.add_argument("--scale", choices=list(SCALES), default="small")
    options_of.add_argument("--json", type=Path, metavar="FILE", help="one line for each result")
    options_of.add_argument("--write", action="store_true", help="into docs/performance.md")
    options_of.add_argument("--venvs", type=Path, default=cache / "trio-mob" / "peers")
    options = options_of.parse_args()
    chosen, scale = _chosen(options.only), SCALES[options.scale]
    assert set(scale.sizes) | set(ALONG) == set(UNITS)
    results: list[Result] = []
    if options.json:
        options.json.write_text("", encoding="utf-8")
    for each in Run(chosen, scale, options.venvs).results():
        results.append(each)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(each.line() + "\n")
    names, told = [each.name for each in chosen], about(options.scale, scale.limit_s)
    print(section(results, names, told))
    if options.write:
        _write(results, names, told)


if __name__ == "__main__":
    main()
