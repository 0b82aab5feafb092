"""How costs grow with members, history, mailbox and store: plots and the numbers, from one command.

    python benchmarks/scaling.py FOLDER [--most N] [--repeats R] [--json]

Writes ``members.svg``, ``history.svg``, ``mailbox.svg``, ``store.svg`` and ``scaling.json`` to the
folder. Each plot has a handful of sizes up to `--most` (members; the other axes go as far as they
need). A line that is flat says that a cost does not grow. Each figure is the median of R runs, each
in a fresh process. The plots need ``pip install 'trio-mob[bench]'``.
"""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import history
import trio
import trio.testing
from floor import MESSAGE, every
from fresh import Figures, Spent, Work, alternating, bytes_kept, in_fresh_process, parser, ran_here

from mob import Mob, MobDefinition, open_mob, tuned_gc
from mob.bench.plots import lines
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from stores import open_lmdb

#: Turns that are measured where the size is something else than turns.
_TURNS = 2000
#: Messages that are measured at each length of a mailbox.
_SENT = 500


def _definition(members: int, mailbox: int = 1000) -> MobDefinition:
    return MobDefinition.from_table(
        {
            "mob": {"id": "scaling", "lead": "m-0"},
            "models": {"echo": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "echo"}},
            "members": {"m": {"profile": "p", "replicas": members}},
            "mailbox": {"max_messages": mailbox, "max_bytes": mailbox * 1000},
        }
    )


def _resident() -> int:
    """Bytes of this process in memory."""
    lines_of = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines_of if line.startswith("VmRSS"))


async def _asked(mob: Mob, members: int, turns: int) -> None:
    """Ask for so many turns, spread over the members, a thousand at the same time."""
    numbers = iter(range(turns))

    async def work(_: int) -> None:
        for number in numbers:
            await mob.ask(f"m-{number % members}", MESSAGE)

    await every(min(1000, members), work)


async def members(folder: str, count: int) -> Figures:
    """Memory of an idle member, and a durable turn among so many members."""
    with tuned_gc():
        before = _resident()
        async with open_lmdb(folder) as store, open_mob(_definition(count), store=store) as mob:
            idle = (_resident() - before) / count
            with Spent() as spent:
                await _asked(mob, count, max(_TURNS, count))
    turns = max(_TURNS, count)
    return {"idle_bytes": idle, "us": spent.cpu_s / turns * 1e6}


async def mailbox(folder: str, waiting: int) -> Figures:
    """One message more for a member for whom so many wait."""

    async def silent(_: ModelRequest) -> str | ModelReply:
        await trio.sleep_forever()
        raise AssertionError("it never answers")

    definition = _definition(1, waiting + _SENT + 1)
    models = {"echo": ScriptedModel(silent)}
    with tuned_gc():
        async with (
            open_lmdb(folder) as store,
            open_mob(definition, store=store, models=models, grace_s=0) as mob,
        ):

            async def send(_: int) -> None:
                await mob.send("m-0", MESSAGE)

            for begin in range(0, waiting, 1000):
                await every(min(1000, waiting - begin), send)
            with Spent() as spent:
                await every(_SENT, send)
    return {"us": spent.cpu_s / _SENT * 1e6}


async def store(folder: str, turns: int) -> Figures:
    """A store that holds so many turns of a hundred members: opening the mob, the first turn of
    each (which reads its history), and a turn after that."""
    definition = _definition(100)
    with tuned_gc():
        async with open_lmdb(folder) as kept, open_mob(definition, store=kept) as mob:
            await _asked(mob, 100, turns)
            await mob.stop()
        async with open_lmdb(folder) as kept:
            async with AsyncExitStack() as stack:
                with Spent() as opening:
                    mob = await stack.enter_async_context(open_mob(definition, store=kept))
                await mob.resume()
                with Spent() as first:
                    await _asked(mob, 100, 100)
                with Spent() as spent:
                    await _asked(mob, 100, _TURNS)
    return {
        "us": spent.cpu_s / _TURNS * 1e6,
        "open_ms": opening.cpu_s * 1e3,
        "first_ms": first.cpu_s / 100 * 1e3,
        "bytes": bytes_kept(folder),
    }


WORKS: dict[str, Work] = {
    "members": members,
    "history": history.turn,
    "mailbox": mailbox,
    "store": store,
}


@attrs.frozen
class Axis:
    """One plot: sizes, what they are, and the lines with the figure that each shows."""

    title: str
    x: str
    sizes: tuple[int, ...]
    y: str
    series: dict[str, tuple[str, float]]


def axes(most: int) -> dict[str, Axis]:
    """The plots; `most` bounds the sizes."""

    def sizes(*wanted: int) -> tuple[int, ...]:
        return tuple(each for each in wanted if each <= most) or wanted[:1]

    cost = {"CPU of a durable turn (us)": ("us", 1.0)}
    return {
        "members": Axis(
            "Members of a mob",
            "members",
            sizes(100, 1000, 10_000, 50_000),
            "us; bytes / 100",
            {**cost, "memory of an idle member (bytes / 100)": ("idle_bytes", 0.01)},
        ),
        "history": Axis(
            "Turns of a session's history",
            "turns before",
            sizes(10, 100, 1000, 10_000, 100_000),
            "us",
            {"CPU of a durable turn, one at a time (us)": ("us", 1.0)},
        ),
        "mailbox": Axis(
            "Messages that wait for a member",
            "waiting",
            sizes(10, 100, 1000, 10_000),
            "us",
            {"CPU of a durable message (us)": ("us", 1.0)},
        ),
        "store": Axis(
            "Turns that a store holds",
            "turns",
            sizes(100, 1000, 10_000, 100_000),
            "us; ms",
            {
                **cost,
                "CPU of opening the mob (ms)": ("open_ms", 1.0),
                "CPU of a member's first turn since (ms)": ("first_ms", 1.0),
            },
        ),
    }


def main() -> int:
    options_of = parser(__doc__, repeats=3)
    options_of.add_argument("out", nargs="?", metavar="FOLDER", help="where plots and numbers go")
    options_of.add_argument("--most", type=int, default=100_000, help="the largest size")
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return 0
    if options.out is None:
        options_of.error("name the folder that plots and numbers go to")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for name, axis in axes(options.most).items():
        works = {str(size): partial(in_fresh_process, name, size) for size in axis.sizes}
        measured = alternating(works, options.repeats, name)
        report[name] = {"x": axis.x, "figures": measured}
        series = {
            label: [(size, measured[str(size)][key] * factor) for size in axis.sizes]
            for label, (key, factor) in axis.series.items()
        }
        (out / f"{name}.svg").write_text(
            lines(axis.title, axis.x, axis.y, series), encoding="utf-8"
        )
    (out / "scaling.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(report))
        return 0
    for name, each in report.items():
        for size, figures in each["figures"].items():
            shown = "  ".join(f"{key} {value:,.1f}" for key, value in figures.items())
            print(f"  {name:8} {int(size):>9,} {each['x']:13} {shown}")
    print(f"plots and numbers are in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
