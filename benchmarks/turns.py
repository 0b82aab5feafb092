"""Durable turns per CPU second of a swarm, beside a bare Trio and LMDB loop in the same run.

    python benchmarks/turns.py [--members N] [--turns T] [--repeats R] [--json]

One member is one task that asks its member T times, each time with 200 bytes of text which
``sim:echo`` sends back. Every turn is synced to disk before it is reported. The floor does the same
with no framework: tasks, one group-commit loop, one LMDB record a turn; ``duties`` does with none
what a turn owes besides (two records, a task, a scope, an answer). All run with `tuned_gc`, as
`mob run` does; ``untuned`` is the swarm with the interpreter's own settings. Each figure is the
median of R runs; they alternate, each run in a fresh process, because machines are noisy. The ratio
is what to trust.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

import trio
from floor import MESSAGE, every, group_commit
from fresh import Figures, Spent, Work, alternating, bytes_kept, in_fresh_process, parser, ran_here

_NOTHING: Final[AbstractContextManager[object]] = nullcontext()


async def swarm(
    folder: str, members: int, turns: int, around: AbstractContextManager[object] = _NOTHING
) -> Figures:
    """The project's own turns, as `mob run` runs them; `around` is entered about the turns."""
    from mob import tuned_gc

    with tuned_gc():
        return await untuned(folder, members, turns, around)


async def untuned(
    folder: str, members: int, turns: int, around: AbstractContextManager[object] = _NOTHING
) -> Figures:
    """The project's own turns in a program that leaves the collector alone."""
    from mob import MobDefinition, open_mob
    from stores import open_lmdb

    definition = MobDefinition.from_table(
        {
            "mob": {"id": "swarm", "lead": "m-0"},
            "models": {"echo": {"model": "sim:echo"}},
            "profiles": {"talker": {"model": "echo"}},
            "members": {"m": {"profile": "talker", "replicas": members}},
        }
    )
    async with open_lmdb(folder) as store, open_mob(definition, store=store) as mob:

        async def drive(index: int) -> None:
            for _ in range(turns):
                result = await mob.ask(f"m-{index}", MESSAGE)
            assert result.text == MESSAGE

        with Spent() as spent, around:
            await every(members, drive)
    return spent.figures(bytes=bytes_kept(folder))


async def floor(folder: str, members: int, turns: int) -> Figures:
    """What Trio and LMDB cost without a framework: one record a turn, group commit, one wait."""
    from mob import tuned_gc

    async with group_commit(folder) as disk:

        async def drive(index: int) -> None:
            for turn in range(turns):
                await trio.lowlevel.checkpoint()  # the model call
                record = json.dumps([MESSAGE, MESSAGE]).encode()
                await disk.put(b"%08d/%08d" % (index, turn), record)

        with tuned_gc(), Spent() as spent:
            await every(members, drive)
    return spent.figures(bytes=bytes_kept(folder))


async def duties(folder: str, members: int, turns: int) -> Figures:
    """The floor with what a turn of ours owes to its contracts, and no line of ours: the input is a
    record of its own, a member at work is a task, its turn can be cancelled by itself, whoever
    asked waits beside it, and what was committed is known in memory."""
    from mob import tuned_gc

    histories: list[list[str]] = [[] for _ in range(members)]

    async with group_commit(folder) as disk, trio.open_nursery() as activations:

        async def activation(index: int, turn: int, done: trio.Event) -> None:
            with trio.CancelScope():
                await trio.lowlevel.checkpoint()  # the model call
            record = json.dumps([MESSAGE, MESSAGE]).encode()
            await disk.put(b"%08d/%08d/1" % (index, turn), record)
            histories[index] += (MESSAGE, MESSAGE)
            done.set()

        async def drive(index: int) -> None:
            for turn in range(turns):
                disk.submit(b"%08d/%08d/0" % (index, turn), json.dumps([MESSAGE]).encode())
                done = trio.Event()
                activations.start_soon(activation, index, turn, done)
                await done.wait()

        with tuned_gc(), Spent() as spent:
            await every(members, drive)
    return spent.figures(bytes=bytes_kept(folder))


WORKS: dict[str, Work] = {"floor": floor, "duties": duties, "swarm": swarm, "untuned": untuned}


def main() -> None:
    options_of = parser(__doc__, repeats=5)
    options_of.add_argument("--members", type=int, default=1000)
    options_of.add_argument("--turns", type=int, default=10, help="turns of each member")
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return
    sizes = (options.members, options.turns)
    measured = alternating(
        {name: partial(in_fresh_process, name, *sizes) for name in WORKS}, options.repeats
    )
    total = options.members * options.turns
    report = {
        name: {
            "turns_per_cpu_s": total / each["cpu_s"],
            "turns_per_s": total / each["wall_s"],
            "bytes_per_turn": each["bytes"] / total,
        }
        for name, each in measured.items()
    }
    ratio = report["floor"]["turns_per_cpu_s"] / report["swarm"]["turns_per_cpu_s"]
    if options.json:
        print(json.dumps({"members": options.members, "turns": total, **report, "ratio": ratio}))
        return
    print(f"{options.members} members, {options.turns} durable turns each,")
    print(f"medians of {options.repeats} runs, each in a fresh process")
    for name, figures in report.items():
        per_cpu, per_s = figures["turns_per_cpu_s"], figures["turns_per_s"]
        size = figures["bytes_per_turn"]
        print(
            f"  {name:7} {per_cpu:9,.0f} turns/CPU s {per_s:9,.0f} turns/s {size:7,.0f} bytes/turn"
        )
    owed = report["duties"]["turns_per_cpu_s"] / report["swarm"]["turns_per_cpu_s"]
    print(f"  a turn costs {ratio:.2f} times the CPU of the floor, {owed:.2f} times its duties")


if __name__ == "__main__":
    main()
