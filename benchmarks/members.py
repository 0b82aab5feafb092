"""What members cost beside their turns: memory idle and at work, opening, and many at once.

    python benchmarks/members.py [--members N] [--repeats R] [--json]

A mob of N members of one profile, on disk. ``idle`` is the memory of a member that has joined and
does nothing, ``active`` of one whose turn waits for its model, ``reopened`` the time until a mob of
N is open again after each has had a turn, ``latency`` N turns whose model takes 1 second each,
20,000 at the same time. Memory is what the process grew by, garbage collected. All run with
`tuned_gc`, as `mob run` does; each in a fresh process.
"""

from __future__ import annotations

import gc
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import trio
from fresh import Figures, Spent, Work, alternating, bytes_kept, in_fresh_process, parser, ran_here

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _held() -> int:
    """Bytes of this process that no file stands behind: pages of the store's map are the cache's
    and not counted."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(fields[1]) - int(fields[2])) * _PAGE


def _peak_kb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _mob(members: int, model: dict[str, Any]) -> Any:
    from mob import MobDefinition

    return MobDefinition.from_table(
        {
            "mob": {"id": "many", "lead": "m-0"},
            "models": {"m": model},
            "profiles": {"talker": {"model": "m"}},
            "members": {"m": {"profile": "talker", "replicas": members}},
        }
    )


_ECHO = {"model": "sim:echo"}


#: Turns at the same time: as many programs as ask one member after the other.
_ASKERS = 20_000


async def _ask_all(mob: Any, members: int) -> None:
    left = iter(range(members))

    async def ask() -> None:
        for index in left:
            await mob.ask(f"m-{index}", "hello")

    async with trio.open_nursery() as nursery:
        for _ in range(min(members, _ASKERS)):
            nursery.start_soon(ask)


async def memory(folder: str, members: int) -> Figures:
    """Bytes of a member, idle and with a turn that waits for its model."""
    from mob import open_mob, tuned_gc
    from runtime.models.scripted import ScriptedModel
    from stores import open_lmdb

    begun = trio.Event()
    turns = 0

    async def silent(_: Any) -> str:
        nonlocal turns
        turns += 1
        if turns == members:
            begun.set()
        await trio.sleep_forever()
        raise AssertionError("it never answers")

    for _ in range(2):  # what the first mob of a process loads is no member's
        async with open_lmdb(f"{folder}/first") as store, open_mob(_mob(2, _ECHO), store=store):
            pass
    definition = _mob(members, _ECHO)
    models = {"m": ScriptedModel(silent)}
    with tuned_gc():
        before = _held()
        async with (
            open_lmdb(f"{folder}/second") as store,
            open_mob(definition, store=store, models=models, grace_s=0) as mob,
        ):
            idle = _held()
            for first in range(0, members, 500):  # so that no more tasks of ours take memory
                async with trio.open_nursery() as nursery:
                    for index in range(first, min(first + 500, members)):
                        nursery.start_soon(mob.send, f"m-{index}", "hello")
            await begun.wait()
            active = _held()
    return {"idle": (idle - before) / members, "active": (active - before) / members}


async def reopened(folder: str, members: int) -> Figures:
    """Opening a mob again whose members have had a turn each."""
    from mob import open_mob, tuned_gc
    from stores import open_lmdb

    definition = _mob(members, _ECHO)
    with tuned_gc():
        async with open_lmdb(folder) as store, open_mob(definition, store=store) as mob:
            await _ask_all(mob, members)
        async with open_lmdb(folder) as store:
            with Spent() as spent:
                async with open_mob(definition, store=store):
                    spent.__exit__(None, None, None)
                    opened = dict(spent.figures())
    return opened


async def latency(folder: str, members: int) -> Figures:
    """One turn of a second of each member, so many at the same time, from making the mob on."""
    from mob import open_mob, tuned_gc
    from runtime.models.base import ModelReply
    from runtime.models.scripted import ScriptedModel
    from stores import open_lmdb

    reply = ModelReply("done")

    async def second(_: Any) -> ModelReply:
        await trio.sleep(1)
        return reply

    models = {"m": ScriptedModel(second)}
    definition = _mob(members, _ECHO)
    with tuned_gc(), Spent() as made:
        async with (
            open_lmdb(folder) as store,
            open_mob(definition, store=store, models=models) as mob,
        ):
            with Spent() as asked:
                await _ask_all(mob, members)
    return {
        **made.figures(peak_kb=_peak_kb(), bytes=bytes_kept(folder)),
        "asked_wall_s": asked.wall_s,
        "asked_cpu_s": asked.cpu_s,
    }


WORKS: dict[str, Work] = {"memory": memory, "reopened": reopened, "latency": latency}


def main() -> None:
    options_of = parser(__doc__, repeats=3)
    options_of.add_argument("--members", type=int, default=10_000)
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return
    members = options.members
    works = {name: partial(in_fresh_process, name, members) for name in WORKS}
    measured = alternating(works, options.repeats)
    if options.json:
        print(json.dumps({"members": members, **measured}))
        return
    held, opened, asked = measured["memory"], measured["reopened"], measured["latency"]
    print(f"{members} members, medians of {options.repeats} runs, each in a fresh process")
    print(f"  idle {held['idle']:8,.0f} bytes a member, at work {held['active']:8,.0f}")
    print(f"  reopened in {opened['wall_s']:.2f} s, {opened['cpu_s']:.2f} CPU s")
    print(
        f"  a turn of 1 s each: {asked['wall_s']:.1f} s from making the mob on,"
        f" {asked['asked_wall_s']:.1f} s for the turns, {asked['cpu_s']:.1f} CPU s,"
        f" peak {asked['peak_kb'] / 1024:,.0f} MB, {asked['bytes'] / 1e6:,.0f} MB on disk"
    )


if __name__ == "__main__":
    main()
