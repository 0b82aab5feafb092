"""What grows with a history, and what does not: each figure beside a floor or a short history.

    python benchmarks/history.py [--turns N] [--sessions N] [--repeats R] [--json]

Measured in CPU time, medians of R runs, each run in a fresh process, alternating:

* a durable turn of one member whose history has 10 turns, and N (100,000) turns; the same with a
  snapshot every 64 turns and without any;
* a fork, and a rewind to the middle and back, of 10 and of N turns;
* opening a mob's worth of sessions (10,000 of 20 messages) after a clean end, and after a kill with
  a full tail, beside a loop that reads the same rows and records with nothing but LMDB and msgpack;
* bytes written to and kept in the file for each byte of text.

Histories are made by production code: `SessionManager.save` for the long one, turns for the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import attrs
import lmdb
import msgpack
import trio
from fresh import (
    Figures,
    Spent,
    Work,
    alternating,
    bytes_kept,
    bytes_written,
    in_fresh_process,
    parser,
    ran_here,
    scratch,
)

from mob import MobDefinition, open_mob
from mob.mob import Mob
from runtime.driver import SessionConfig
from runtime.ids import HarnessId, RealmId, SessionId
from runtime.manager import RealmSessions
from runtime.messages import AssistantMessage, Message, UserMessage
from runtime.models.sim import EchoModel
from runtime.realm import Realm
from runtime.recovery import TAIL
from runtime.store import StoredSessions
from stores import open_lmdb
from stores.codec import record_key, stream_prefix

TEXT = ("the quick brown fox jumps over the lazy dog " * 5)[:200]
REALM = RealmId("bench")
#: Turns that a measurement of turns takes the mean of: several snapshots are among them.
MEASURED = 512
#: Forks and rewinds likewise.
OPERATIONS = 200
#: Messages of each session when many are reopened.
MESSAGES = 20


def _messages(turns: int) -> tuple[Message, ...]:
    """A history; its messages are one object each, so that making it is quick."""
    return (UserMessage(TEXT), AssistantMessage(TEXT)) * turns


async def _with_history(mob: Mob, turns: int) -> None:
    """Give the member that many turns, in one commit and one snapshot, and make it warm."""
    session = await mob.sessions.resume(mob.session_of("a"))
    await mob.sessions.save(attrs.evolve(session, messages=_messages(turns)))
    await mob.ask("a", TEXT)
    await mob.stop()
    await mob.resume()


async def _asked(folder: str, turns: int, every: int) -> Figures:
    definition = MobDefinition.from_table(
        {
            "mob": {"id": "m", "lead": "a"},
            "models": {"echo": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "echo"}},
            "members": {"a": {"profile": "p"}},
            "checkpoint": {"every_turns": every},
        }
    )
    async with open_lmdb(folder) as store, open_mob(definition, store=store) as mob:
        await _with_history(mob, turns)
        with Spent() as spent:
            for _ in range(MEASURED):
                await mob.ask("a", TEXT)
    return {"us": spent.cpu_s / MEASURED * 1e6, "wall_us": spent.wall_s / MEASURED * 1e6}


async def turn(folder: str, turns: int) -> Figures:
    """A turn, with snapshots as they are by default."""
    return await _asked(folder, turns, 64)


async def bare_turn(folder: str, turns: int) -> Figures:
    """A turn, without any snapshot."""
    return await _asked(folder, turns, 1 << 40)


async def _managed(
    folder: str, turns: int, work: Callable[[RealmSessions, Any], Awaitable[None]]
) -> Figures:
    async with open_lmdb(folder) as store:
        realm = _realm(store)
        manager = RealmSessions(realm, StoredSessions(store, REALM))
        head = await realm.create(HarnessId("h"))
        await manager.save(attrs.evolve(realm.snapshot(head.session_id), messages=_messages(turns)))
        await work(manager, head.session_id)
        with Spent() as spent:
            for _ in range(OPERATIONS):
                await work(manager, head.session_id)
    return {"us": spent.cpu_s / OPERATIONS * 1e6}


async def fork(folder: str, turns: int) -> Figures:
    """One fork."""

    async def work(manager: RealmSessions, session: Any) -> None:
        await manager.fork(session)

    return await _managed(folder, turns, work)


async def rewind(folder: str, turns: int) -> Figures:
    """A rewind to the middle, and the way back."""

    async def work(manager: RealmSessions, session: Any) -> None:
        await manager.rewind(session, turns // 2)
        await manager.restore(session)

    return await _managed(folder, turns, work)


def _realm(store: Any) -> Realm:
    model = EchoModel()
    realm = Realm(store, REALM, lambda head: SessionConfig(model))
    realm.recover()
    return realm


async def _populate(store: Any, sessions: int, *, checkpoint_after: int) -> int:
    """Sessions of 20 messages, their rows written after so many of the ten rounds of turns; returns
    how many records are behind the rows."""
    realm = _realm(store)
    made: list[SessionId] = []

    async def create() -> None:
        made.append((await realm.create(HarnessId("h"))).session_id)

    async def talk(session: SessionId) -> None:
        await realm.runner.send_message(session, TEXT)

    await _every(create, [()] * sessions)
    for number in range(MESSAGES // 2):
        if number == checkpoint_after:
            await realm.checkpoint()
        await _every(talk, [(session,) for session in made])
    if checkpoint_after == MESSAGES // 2:
        await realm.checkpoint()
    return realm.recovery.tail


async def _every(work: Callable[..., Awaitable[None]], given: Iterable[tuple[Any, ...]]) -> None:
    async with trio.open_nursery() as nursery:
        for each in given:
            nursery.start_soon(work, *each)


async def populate_clean(folder: str, sessions: int) -> Figures:
    """A store that its owner closed in order."""
    async with open_lmdb(folder) as store:
        return {"tail": await _populate(store, sessions, checkpoint_after=MESSAGES // 2)}


async def populate_killed(folder: str, sessions: int) -> Figures:
    """A store whose owner was killed, with about as long a tail as there may be."""
    async with open_lmdb(folder) as store:
        rounds = max(TAIL // (2 * sessions), 1)  # a turn is two records
        tail = await _populate(store, sessions, checkpoint_after=MESSAGES // 2 - rounds)
        await store.barrier()
        print(json.dumps({"tail": tail}), flush=True)
        os._exit(0)


async def reopen(folder: str, sessions: int) -> Figures:
    """Open the store, and know every session."""
    spent = Spent()
    async with AsyncExitStack() as opened:
        with spent:
            store = await opened.enter_async_context(open_lmdb(folder, verify=False))
            realm = _realm(store)
        assert len(realm.state.heads) == sessions
        assert all(head.message_count == MESSAGES for head in realm.state.heads.values())
    return {"ms": spent.cpu_s * 1e3, "wall_ms": spent.wall_s * 1e3}


async def reopen_floor(folder: str, sessions: int) -> Figures:
    """Read the same rows and records with LMDB and msgpack, and do nothing with them."""
    prefix, stream = b"fold/%s/s/" % REALM.encode(), b"realm/" + REALM.encode()
    read = 0
    with Spent() as spent:
        with lmdb.open(folder, max_dbs=3, map_size=4 << 30) as env:
            keys, streams = env.open_db(b"keys"), env.open_db(b"streams")
            with env.begin() as txn:
                position = msgpack.unpackb(
                    txn.get(b"fold/%s/position" % REALM.encode(), db=keys)[5:]
                )[1]
                cursor = txn.cursor(keys)
                cursor.set_range(prefix)
                for key, raw in cursor:
                    if not key.startswith(prefix):
                        break
                    msgpack.unpackb(raw[5:], use_list=False)
                    read += 1
                cursor = txn.cursor(streams)
                if cursor.set_range(record_key(stream_prefix(stream), position + 1)):
                    for _, raw in cursor:
                        msgpack.unpackb(raw[8:], use_list=False)
    assert read == sessions
    return {"ms": spent.cpu_s * 1e3, "wall_ms": spent.wall_s * 1e3}


async def written(folder: str, turns: int) -> Figures:
    """Bytes of a busy mob's turns, snapshots and rows included, for each byte of text."""
    members = 100
    definition = MobDefinition.from_table(
        {
            "mob": {"id": "m", "lead": "a-0"},
            "models": {"echo": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "echo"}},
            "members": {"a": {"profile": "p", "replicas": members}},
        }
    )

    async def talk(mob: Mob, member: str) -> None:
        for _ in range(turns):
            await mob.ask(member, TEXT)

    async with open_lmdb(folder) as store, open_mob(definition, store=store) as mob:
        before = bytes_written()
        await _every(talk, [(mob, member) for member in mob.members])
        await mob.stop()  # saves the snapshots
        await mob.realm.checkpoint()
        after = bytes_written()
    text = members * turns * 2 * len(TEXT)
    return {"written": (after - before) / text, "kept": bytes_kept(folder) / text}


WORKS: dict[str, Work] = {
    "turn": turn,
    "bare_turn": bare_turn,
    "fork": fork,
    "rewind": rewind,
    "populate_clean": populate_clean,
    "populate_killed": populate_killed,
    "reopen": reopen,
    "reopen_floor": reopen_floor,
    "written": written,
}


def _pair(name: str, short: int, long: int, repeats: int) -> dict[str, Any]:
    """The same work over a short and a long history, alternating."""
    sizes = {"short": short, "long": long}
    works = {which: partial(in_fresh_process, name, size) for which, size in sizes.items()}
    report: dict[str, Any] = alternating(works, repeats, name)
    report["ratio"] = report["long"]["us"] / report["short"]["us"]
    return report


def _reopening(kind: str, sessions: int, repeats: int) -> dict[str, Any]:
    """Opening one store again and again, beside the floor."""
    with scratch() as folder:
        report: dict[str, Any] = in_fresh_process(kind, sessions, folder=folder)
        works = {
            name: partial(in_fresh_process, name, sessions, folder=folder)
            for name in ("reopen", "reopen_floor")
        }
        report.update(alternating(works, repeats, kind))
    report["ratio"] = report["reopen"]["ms"] / report["reopen_floor"]["ms"]
    return report


def main() -> None:
    options_of = parser(__doc__, repeats=3)
    options_of.add_argument("--turns", type=int, default=100_000, help="turns of the long history")
    options_of.add_argument("--sessions", type=int, default=10_000, help="sessions to reopen")
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return
    report: dict[str, Any] = {}
    for name in ("turn", "bare_turn", "fork", "rewind"):
        report[name] = _pair(name, 10, options.turns, options.repeats)
    for name in ("populate_clean", "populate_killed"):
        report[name] = _reopening(name, options.sessions, options.repeats)
    report["written"] = in_fresh_process("written", 128)
    if options.json:
        print(json.dumps(report))
        return
    names = {"turn": "a turn", "bare_turn": "  without snapshots", "fork": "a fork"}
    names["rewind"] = "a rewind and back"
    print(f"CPU us, history of 10 turns and of {options.turns:,}; medians of {options.repeats}")
    for name, text in names.items():
        pair = report[name]
        short, long = pair["short"]["us"], pair["long"]["us"]
        print(f"  {text:20} {short:9,.0f} {long:9,.0f}  ratio {pair['ratio']:.2f}")
    print(f"CPU ms to open {options.sessions:,} sessions of {MESSAGES} messages, and the floor")
    for name, text in (("populate_clean", "after a clean end"), ("populate_killed", "killed")):
        each = report[name]
        mine, bare = each["reopen"]["ms"], each["reopen_floor"]["ms"]
        told = f"{text}, {each['tail']:,.0f} records of tail"
        print(f"  {told:40} {mine:7,.0f} {bare:7,.0f}  ratio {each['ratio']:.2f}")
    sizes = report["written"]
    print("bytes for each byte of text, questions and answers of 200 bytes")
    print(f"  {sizes['written']:.2f} written, {sizes['kept']:.2f} kept")


if __name__ == "__main__":
    main()
