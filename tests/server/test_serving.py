"""A mob behind a real socket, and clients of it."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from mob import MobDefinition, open_mob
from mob.console.model import Model
from mob.errors import (
    FolderUnsafe,
    MemberNotFound,
    NotServed,
    RequestInvalid,
    ServerFailed,
    ServerMissing,
)
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.server import Client, open_client, serve, sockets
from mob.server.client import _Pieces
from mob.server.protocol import Ask, Done, Interrupt, Request, Send, Stop, Told, Wait
from mob.server.sockets import remove_dead, runtime_folder, socket_of, somebody_listens
from mob.server.streams import Piece
from mob.view import live_view
from runtime.errors import MobError
from stores import open_lmdb, open_memory
from tests.mob.mobs import Stuck, define, opened, table


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "mob"


@asynccontextmanager
async def served(state: Path, *names: str) -> AsyncIterator[tuple[Mob, Client]]:
    """A served mob on a store, and a client of it."""
    async with open_lmdb(state) as store, opened(define(*names), store=store) as mob:
        async with serve(mob), open_client(state, "t") as client:
            yield mob, client


async def test_what_is_asked_of_the_mob_is_done(tmp_path: Path) -> None:
    async with served(tmp_path, "a", "b") as (mob, client):
        info = await client.info()
        assert (info.mob_id, info.lead, info.members, info.pid) == ("t", "a", 2, os.getpid())
        receipt = await client.call(Send("a", "hello", idempotency_key="k"))
        assert await client.call(Send("a", "hello", idempotency_key="k")) == receipt
        answer = await client.call(Ask("a", "and you?"))
        assert (answer.text, answer.session_id) == ("and you?", mob.session_of("a"))
        assert (await client.look()).view.members[0].turns == 2
        assert (await client.call(Interrupt("b"))).changed is False
        with pytest.raises(MemberNotFound) as caught:
            await client.call(Ask("nobody", "x"))
        assert caught.value.known == ("a", "b")
        assert (await client.call(Stop())).cancelled == ()
        assert mob.state is MobState.STOPPED
        with pytest.raises(VerbRefused) as refused:
            await client.call(Ask("a", "x"))
        assert refused.value.state is MobState.STOPPED


async def test_records_go_on_at_the_cursor_without_a_gap(tmp_path: Path) -> None:
    async with served(tmp_path, "a") as (mob, client):
        await mob.ask("a", "one")
        async with client.events(follow=False) as found:
            past = [each["seq"] async for each in found]
        assert past == list(range(1, mob.realm.journal.last + 1))
        async with client.events(past[2]) as found:
            seen = []
            async for each in found:
                seen.append(each["seq"])
                if len(seen) == len(past) - 3:
                    await client.call(Send("a", "two"))
                if each["type"] == "TurnEnded" and each["seq"] > past[-1]:
                    break
        assert seen == list(range(past[2] + 1, mob.realm.journal.last + 1))


async def test_looks_come_when_the_mob_is_another_and_end_with_it(tmp_path: Path) -> None:
    turns = []
    async with open_lmdb(tmp_path) as store, opened(define("a"), store=store) as mob:
        async with serve(mob), open_client(tmp_path, "t") as client:
            async with client.looks(every_s=0.1) as found:
                async for look in found:
                    turns.append(look.view.turns)
                    if turns == [0]:
                        await mob.ask("a", "x")
                    if turns[-1] == 1:
                        break
                with trio.move_on_after(0.3) as nothing_more:
                    await anext(found)
    assert nothing_more.cancelled_caught
    assert set(turns) == {0, 1}


async def test_whoever_waits_is_told_when_the_process_ends(tmp_path: Path) -> None:
    ended: list[str] = []
    stuck, seen = Stuck(), trio.Event()
    async with open_lmdb(tmp_path) as store, opened(define("a"), stuck, store=store) as mob:
        last = mob.realm.journal.last

        async def ask() -> None:
            async with open_client(tmp_path, "t") as client:
                with pytest.raises(NotServed):
                    await client.call(Ask("a", "x"))
            ended.append("ask")

        async def follow() -> None:
            async with open_client(tmp_path, "t") as client, client.events(last) as found:
                assert (await anext(found))["type"] == "InputAccepted"
                seen.set()
                assert [each async for each in found] == []
            ended.append("events")

        async with trio.open_nursery() as nursery:
            async with serve(mob):
                nursery.start_soon(follow)
                nursery.start_soon(ask)
                await stuck.entered.wait()
                await seen.wait()
                leaving = trio.current_time()
            assert trio.current_time() - leaving < 0.4, "there was nobody to wait for"
        assert sorted(ended) == ["ask", "events"]
        stuck.gate.set()
        await mob.wait_idle()
        assert mob.state is MobState.RUNNING


async def test_a_client_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """Its socket is full, and Hypercorn shields the send."""
    async with open_lmdb(tmp_path) as store, opened(define("a"), store=store) as mob:
        for _ in range(4):
            await mob.ask("a", "x" * 500_000)
        async with serve(mob) as server:
            stream = await trio.open_unix_socket(server.path)
            await stream.send_all(b"GET /v1/events?follow=1 HTTP/1.1\r\nhost: mob\r\n\r\n")
            assert await stream.receive_some(100)
            async with open_client(tmp_path, "t") as client:
                assert (await client.call(Ask("a", "y"))).text == "y"
            leaving = trio.current_time()
        assert 0.4 < trio.current_time() - leaving < 2.0, "it had its grace, and no more"
        await stream.aclose()


async def test_whoever_goes_away_ends_the_wait_and_not_the_turn(tmp_path: Path) -> None:
    stuck = Stuck()
    async with open_lmdb(tmp_path) as store, opened(define("a"), stuck, store=store) as mob:
        async with serve(mob), open_client(tmp_path, "t") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call, Ask("a", "x", idempotency_key="k"))
                await stuck.entered.wait()
                nursery.cancel_scope.cancel()
            stuck.gate.set()
            assert (await client.call(Ask("a", "x", idempotency_key="k"))).text == "done x"
            assert stuck.calls == ["x"]


async def test_whoever_goes_away_leaves_no_wait_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a stream: what waits for the mob ends with the connection, not with the mob."""
    begun, ended = [trio.Event(), trio.Event()], [trio.Event(), trio.Event()]

    async def parked(number: int) -> None:
        begun[number].set()
        try:
            await trio.sleep_forever()
        finally:
            ended[number].set()

    monkeypatch.setattr("mob.server.api.perform", lambda _mob, _request: parked(0))
    monkeypatch.setattr("mob.server.streams.told", lambda _mob, _after, _emit: parked(1))
    async with served(tmp_path, "a") as (_, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, Wait(("stopped",)))
            async with client.told():
                for each in begun:
                    await each.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            for each in ended:
                await each.wait()


async def test_a_past_of_many_pages_is_told_whole(tmp_path: Path) -> None:
    """Records are read a page (256) at a time, from wherever somebody begins."""
    async with open_memory() as store, opened(define("a"), store=store) as mob:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(mob.ask, "a", str(number))
        last = mob.realm.journal.last
        assert last > 2 * 256
        async with serve(mob, socket=tmp_path / "s.sock") as server:
            async with open_client("nowhere", "t", socket=server.path) as client:
                for after, follow in ((0, False), (3, False), (256, True), (3, True)):
                    async with client.events(after, follow=follow) as found:
                        seen = []
                        async for each in found:
                            seen.append(each["seq"])
                            if follow and each["seq"] == last:
                                break
                    assert seen == list(range(after + 1, last + 1))


async def test_a_bug_in_a_verb_is_no_end_of_the_mob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, "a") as (mob, client):
        monkeypatch.setattr(mob, "interrupt", lambda _member: 1 // 0)
        with pytest.raises(ServerFailed, match="ZeroDivisionError"):
            await client.call(Interrupt("a"))
        assert "a request failed" in caplog.text
        assert (await client.call(Ask("a", "x"))).text == "x"


async def test_requests_that_are_none_are_refused(tmp_path: Path) -> None:
    @attrs.frozen
    class Fly(Request[Done]):
        verb = "fly"
        reply = Done

    async with served(tmp_path, "a") as (_, client):
        with pytest.raises(RequestInvalid, match="no verb 'fly'; the verbs: approvals, "):
            await client.call(Fly())
        async with client.events(-1) as found:
            with pytest.raises(RequestInvalid, match="after='-1' is no whole number"):
                await anext(found)
        async with client.text("nobody") as words:
            with pytest.raises(MemberNotFound):
                await anext(words)


async def test_only_its_user_can_use_the_socket(tmp_path: Path, own_folder: Path) -> None:
    async with served(tmp_path, "a"):
        path = socket_of(tmp_path, "t")
        assert path.parent == own_folder
        modes = [stat.S_IMODE(os.stat(each).st_mode) for each in (path, own_folder)]
        assert modes == [0o600, 0o700]
    assert os.listdir(own_folder) == []


@pytest.mark.parametrize("made", ["open", "file", "link"])
def test_a_folder_that_others_can_use_is_refused(own_folder: Path, made: str) -> None:
    if made == "open":
        own_folder.mkdir()
        own_folder.chmod(0o750)
    elif made == "file":
        own_folder.touch()
    else:
        own_folder.symlink_to(own_folder.parent, target_is_directory=True)
    with pytest.raises(FolderUnsafe, match="XDG_RUNTIME_DIR"):
        runtime_folder()


async def test_a_path_that_is_too_long_for_a_socket_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    async with open_lmdb(tmp_path / "s") as store, opened(define("a"), store=store) as mob:
        with pytest.raises(FolderUnsafe, match="107 bytes"):
            async with serve(mob):
                pass


async def test_a_socket_that_a_dead_process_left_is_no_obstacle(tmp_path: Path) -> None:
    path = socket_of(tmp_path, "t")
    left_behind(path)
    assert not somebody_listens(path)
    assert not path.exists()
    left_behind(path)
    with pytest.raises(NotServed):
        async with open_client(tmp_path, "t"):
            pass
    assert not path.exists()
    left_behind(path)
    async with served(tmp_path, "a") as (_, client):
        assert (await client.info()).mob_id == "t"


def test_sockets_of_the_dead_are_removed_and_no_others(
    tmp_path: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of any mob, and also half made ones; nothing while somebody is making one."""
    folder = runtime_folder()
    with sockets.listening(folder / "alive.sock"), sockets.listening(folder / "busy.sock", 0):
        with socket.socket(socket.AF_UNIX) as waiting:  # its queue is full
            waiting.connect(str(folder / "busy.sock"))
            for name in ("a.sock", "b.4711"):
                left_behind(folder / name)
            (folder / "note.txt").touch()
            with sockets._turn(folder):
                assert not somebody_listens(folder / "a.sock")
                assert (remove_dead(), (folder / "a.sock").exists()) == (0, True)
            assert remove_dead() == 2
        assert sorted(os.listdir(folder)) == ["alive.sock", "busy.sock", "note.txt"]
        assert remove_dead() == 0

        def begun(path: Path) -> bool | None:
            """It refuses, and then somebody has begun to listen there."""
            sockets._listens = listens
            left_behind(folder / "beside")
            (folder / "alive.sock").rename(path)
            return False

        listens = sockets._listens
        monkeypatch.setattr(sockets, "_listens", begun)
        assert not somebody_listens(folder / "new.sock")
        assert (folder / "new.sock").exists()
        (folder / "new.sock").rename(folder / "alive.sock")
    assert sorted(os.listdir(folder)) == ["beside", "note.txt"]


def left_behind(path: Path) -> None:
    """A socket as a process leaves it that is killed."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_whoever_only_looks_whether_it_is_served_costs_nothing(tmp_path: Path) -> None:
    """What serves is not loaded, and nobody is waited for who says nothing."""
    async with open_lmdb(tmp_path) as store, opened(define("a"), store=store) as mob:
        async with serve(mob) as server:
            assert somebody_listens(server.path)
            stream = await trio.open_unix_socket(server.path)
            await wait_all_tasks_blocked(0.01)
            assert server._engine is None
            leaving = trio.current_time()
        assert trio.current_time() - leaving < 0.4
        await stream.aclose()


def test_a_later_owners_socket_is_left_alone(own_folder: Path) -> None:
    """Whoever was there first and ends takes its own socket away, which is there no more."""
    path = runtime_folder() / "t.sock"
    first, second = sockets.listening(path), sockets.listening(path)
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert somebody_listens(path)
    assert os.listdir(own_folder) == []


async def test_a_stream_that_is_left_half_read_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither whoever reads no more, nor whoever is told of an error in the middle."""
    complaints: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    async with served(tmp_path, "a") as (mob, client):
        for _ in range(5):
            await mob.ask("a", "x")
        for read in (0, 1, 3, 9):
            async with client.events() as found:
                for _ in range(read):
                    await anext(found)
                await wait_all_tasks_blocked(0.01)  # the next one is there, and nobody takes it
            gc.collect()
        async with client.text("nobody") as words:
            with pytest.raises(MemberNotFound):
                await anext(words)
        gc.collect()
    assert complaints == []


@settings(max_examples=25)
@given(st.lists(st.text()), st.lists(st.integers(0, 200)))
def test_a_stream_is_read_wherever_it_is_split(texts: list[str], cuts: list[int]) -> None:
    sent = [Piece("text", text, at) for at, text in enumerate(texts)]
    data = b": mob\n\n" + b"".join(each.encode() for each in sent)
    places = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    pieces = _Pieces()
    found = [event for a, b in itertools.pairwise(places) for event in pieces.read(data[a:b])]
    # What UTF-8 has no form for is sent as a question mark.
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    assert [(each.name, each.data, each.at) for each in found] == [
        ("text", text, at) for at, text in enumerate(texts)
    ]


async def lead_of(state: Path, mob_id: str) -> str:
    async with open_client(state, mob_id) as client:
        return (await client.info()).lead


async def test_each_mob_has_its_own_socket(tmp_path: Path) -> None:
    two = MobDefinition.from_table(table(("b",)) | {"mob": {"id": "u", "lead": "b"}})
    async with open_lmdb(tmp_path / "s") as store, open_lmdb(tmp_path / "other") as other:
        async with opened(define("a"), store=store) as t, open_mob(two, store=store) as u:
            async with opened(define("c"), store=other) as v:
                async with serve(t), serve(u), serve(v):
                    for state, mob_id, lead in (
                        ("s", "t", "a"),
                        ("s", "u", "b"),
                        ("other", "t", "c"),
                    ):
                        async with open_client(tmp_path / state, mob_id) as client:
                            assert (await client.info()).lead == lead


async def test_a_mob_in_memory_is_served_where_its_user_says(tmp_path: Path) -> None:
    async with open_memory() as store, opened(define("a"), store=store) as mob:
        with pytest.raises(MobError, match="say where its socket is"):
            async with serve(mob):
                pass
        async with serve(mob, socket=tmp_path / "s.sock") as server:
            async with open_client("nowhere", "t", socket=server.path) as client:
                assert (await client.info()).mob_id == "t"


async def test_without_the_packages_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "hypercorn" else found(name)
    )
    async with open_memory() as store, opened(define("a"), store=store) as mob:
        with pytest.raises(ServerMissing, match=r"pip install 'trio-mob\[server\]'"):
            async with serve(mob, socket=tmp_path / "s.sock"):
                pass


async def test_frames_make_the_picture_of_the_mob_and_words_tell_its_records(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, "a", "b") as (mob, client):
        model = Model()
        async with client.frames() as frames, client.told() as told:
            with trio.fail_after(20):
                model.apply(await frames.__anext__())
                assert list(model.rows) == ["a", "b"]
                await mob.ask("a", "hello")
                async for frame in frames:
                    assert [row.key for row in frame.rows] in ([], ["a"])
                    model.apply(frame)
                    if model.rows["a"].turns:
                        break
                assert model.totals.usage == live_view(mob).usage
                found = []
                async for each in told:
                    found.append(each)
                    if "turn ended" in each.what:
                        break
        assert found[-2] == Told("a", 'is asked: "hello"')
