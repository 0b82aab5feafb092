"""Messages between members per CPU second, in memory and on disk, beside a bare Trio channel.

    python benchmarks/messages.py [--messages N] [--senders S] [--repeats R] [--json]

Two members send to each other along an edge, S tasks at the same time, each message 200 bytes of
text. It is measured without its turn: checked against the wiring and the mailbox, numbered, in the
journal, committed, in the recipient's queue, and acknowledged with a receipt. (Both members are in
a turn whose model never answers, so messages wait; what a turn costs is measured by `turns.py`.)

The floor does that with no framework: a Trio channel between two tasks; on disk with one LMDB
record a message, a group-commit loop and a wait for it. Each figure is the median of R runs; floor
and members alternate, each in a fresh process. The ratio is what to trust.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import trio
import trio.testing
from floor import MESSAGE, every, group_commit
from fresh import Figures, Spent, Work, alternating, in_fresh_process, parser, ran_here


async def _members(store: Any, messages: int, senders: int) -> Figures:
    from mob import MobDefinition, open_mob
    from runtime.models.base import ModelReply, ModelRequest
    from runtime.models.scripted import ScriptedModel

    async def silent(_: ModelRequest) -> str | ModelReply:
        await trio.sleep_forever()
        raise AssertionError("it never answers")

    definition = MobDefinition.from_table(
        {
            "mob": {"id": "pair", "lead": "a"},
            "models": {"m": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "m"}},
            "members": {"a": {"profile": "p"}, "b": {"profile": "p"}},
            "wiring": {"edges": [["a", "b"]]},
            "mailbox": {"max_messages": messages, "max_bytes": messages * 1000},
        }
    )
    models = {"m": ScriptedModel(silent)}
    async with open_mob(definition, store=store, models=models, grace_s=0) as mob:
        for name in "ab":
            await mob.send(name, "begin")
        await trio.testing.wait_all_tasks_blocked(0.01)

        async def drive(index: int) -> None:
            sender, to = ("a", "b") if index % 2 else ("b", "a")
            for _ in range(messages // senders):
                await mob.send(to, MESSAGE, sender=sender)

        with Spent() as spent:
            await every(senders, drive)
    return spent.figures()


async def memory(_folder: str, messages: int, senders: int) -> Figures:
    """Two members of a mob in memory."""
    from stores import open_memory

    async with open_memory() as store:
        return await _members(store, messages, senders)


async def disk(folder: str, messages: int, senders: int) -> Figures:
    """Two members of a mob in LMDB."""
    from stores import open_lmdb

    async with open_lmdb(folder) as store:
        return await _members(store, messages, senders)


async def channel(_folder: str, messages: int, senders: int) -> Figures:
    """The floor in memory: a channel, and whoever takes from it."""
    send, receive = trio.open_memory_channel[str](1000)
    taken = 0

    async def take() -> None:
        nonlocal taken
        async for _ in receive:
            taken += 1

    async def drive(_: int) -> None:
        for _ in range(messages // senders):
            await send.send(MESSAGE)

    with Spent() as spent:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await every(senders, drive)
            await send.aclose()
    assert taken == messages // senders * senders
    return spent.figures()


async def channel_disk(folder: str, messages: int, senders: int) -> Figures:
    """The floor on disk: a channel, one LMDB record a message, group commit, one wait."""
    send, receive = trio.open_memory_channel[str](messages)

    async def take() -> None:
        async for _ in receive:
            pass

    async with group_commit(folder) as disk:

        async def drive(index: int) -> None:
            for number in range(messages // senders):
                await disk.put(b"%08d/%08d" % (index, number), MESSAGE.encode())
                await send.send(MESSAGE)

        with Spent() as spent:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                await every(senders, drive)
                nursery.cancel_scope.cancel()
    return spent.figures()


WORKS: dict[str, Work] = {
    "channel": channel,
    "memory": memory,
    "channel_disk": channel_disk,
    "disk": disk,
}


def main() -> None:
    options_of = parser(__doc__, repeats=5)
    options_of.add_argument("--messages", type=int, default=20_000)
    options_of.add_argument("--senders", type=int, default=200, help="tasks that send")
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return
    sizes = (options.messages, options.senders)
    measured = alternating(
        {name: partial(in_fresh_process, name, *sizes) for name in WORKS}, options.repeats
    )
    total = options.messages // options.senders * options.senders
    per_cpu_s = {name: total / each["cpu_s"] for name, each in measured.items()}
    ratios = {
        "memory": per_cpu_s["channel"] / per_cpu_s["memory"],
        "disk": per_cpu_s["channel_disk"] / per_cpu_s["disk"],
    }
    if options.json:
        print(json.dumps({"messages": total, "per_cpu_s": per_cpu_s, "ratio": ratios}))
        return
    print(f"{total} messages between two members, {options.senders} tasks that send,")
    print(f"medians of {options.repeats} runs, each in a fresh process")
    for name, figure in per_cpu_s.items():
        print(f"  {name:12} {figure:9,.0f} messages/CPU s")
    for name, ratio in ratios.items():
        print(f"  {name}: a message costs {ratio:.1f} times the CPU of the floor")


if __name__ == "__main__":
    main()
