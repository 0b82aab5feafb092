"""MCP servers that are real processes, over pipes and over HTTP on the loopback."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome, ToolResult
from runtime.tools.base import Toolbox, ToolContext
from runtime.tools.mcp import McpServer, ServerSettings, open_servers
from runtime.tools.policy import listed
from runtime.tools.processes import open_group
from tests.architecture.repository import ROOT
from tests.runtime.fakes import call
from tests.runtime.test_shell import gone, number_in
from tests.runtime.test_tools_function import NO_RUNNER

MODULE = ("-m", "tests.runtime.mcp_server")
OLD = str(ROOT / "tests" / "runtime" / "old_mcp_server.py")


@asynccontextmanager
async def serving(notes: Path, *args: str, **more: Any) -> AsyncIterator[McpServer]:
    """The server called ``web``, not started yet."""
    env = {"NOTES": str(notes), **more.pop("env", {})}
    given = {"cwd": ROOT, "env": env, "command": sys.executable, "args": args or MODULE, **more}
    with trio.fail_after(60):
        async with open_servers({"web": ServerSettings(**given)}) as servers:
            yield servers["web"]


async def ask(box: Toolbox, name: str, arguments: str = "{}") -> ToolResult:
    context = ToolContext(SessionId("s"), RunId("r"), call("c", name, arguments), NO_RUNNER)
    return await box.run(context)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(1000):
        if done():
            return
        await trio.sleep(0.01)
    raise AssertionError("it does not come")


async def test_its_tools_are_offered_called_and_their_results_become_text(tmp_path: Path) -> None:
    async with serving(tmp_path, idempotent=("look.*",)) as server:
        box = Toolbox(policy=listed(["mcp.web.*"], ["mcp.web.die"]), sources=[server])
        assert box.specs == ()
        assert server.connections == 0, "it is started when its tools are first needed"
        offer = await box.offer()
        specs = {spec.name: spec for spec in offer.specs}
        looking = next(name for name in specs if name.startswith("web__look_up_"))
        assert set(specs) == {
            f"web__{name}" for name in ("add", "picture", "environment", "fail", "wait", "learn")
        } | {looking}
        assert specs["web__add"].description == "Add two numbers."
        assert set(specs["web__add"].parameters["properties"]) == {"a", "b"}
        assert offer.missing == ""
        assert (await ask(box, "web__add", '{"a": 2, "b": 3}')).text == "5"
        found = await ask(box, looking, '{"word": "mob"}')
        assert '"means": "something"' in found.text
        assert found.text.count("means") == 1, "structured and text are the same thing"
        seen = await ask(box, "web__picture")
        assert seen.text.startswith("a dot:\n[image of about 300 bytes, image/png, not shown]")
        assert box.idempotent(looking)
        assert not box.idempotent("web__add")
        assert (await ask(box, "web__die")).outcome is ToolOutcome.DENIED
        assert server.connections == 1
    assert await gone(await number_in(tmp_path / "server"))


async def test_what_goes_wrong_in_a_tool_is_told_to_the_model(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        box = Toolbox(sources=[server])
        failed = await ask(box, "web__fail")
        assert failed.outcome is ToolOutcome.ERROR
        assert "it went wrong" in failed.text
        wrong = await ask(box, "web__add", '{"a": 1}')
        assert "'b' is a required property" in wrong.text
        none = await ask(box, "web__nothing")
        assert "no tool named 'web__nothing' any more; available: web__add" in none.text


async def test_it_inherits_what_its_table_says_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("WEB_TOKEN", "t0ken")
    async with serving(tmp_path, env={"TOKEN": "it is ${WEB_TOKEN}", "MODE": "x"}) as server:
        said = (await ask(Toolbox(sources=[server]), "web__environment")).text
    assert "s3cret" not in said
    assert {"TOKEN=it is t0ken", "MODE=x"} <= set(said.splitlines())
    async with serving(tmp_path, env={"TOKEN": "${NOT_SET_ANYWHERE}"}) as server:
        told = (await Toolbox(sources=[server]).offer()).missing
    assert "the environment variable NOT_SET_ANYWHERE is not set" in told


async def test_a_call_that_is_cancelled_or_late_is_cancelled_in_the_server(tmp_path: Path) -> None:
    """CONTRACTS 4.3: an interrupt is prompt; the server is told, and serves on."""
    async with serving(tmp_path, timeout_s=0.5) as server:
        box = Toolbox(sources=[server])
        late = await ask(box, "web__wait", '{"seconds": 60}')
        assert late.text == "error: timed out after 0.5 s"
        await until((tmp_path / "cancelled").exists)
        (tmp_path / "cancelled").unlink()
        (tmp_path / "waiting").unlink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, box, "web__wait", '{"seconds": 60}')
            await until((tmp_path / "waiting").exists)
            began = time.monotonic()
            nursery.cancel_scope.cancel()
        assert time.monotonic() - began < 3
        await until((tmp_path / "cancelled").exists)
        assert (await ask(box, "web__wait", '{"seconds": 0}')).text == "waited"
        assert server.connections == 1


async def test_calls_run_at_the_same_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        box = Toolbox(sources=[server])
        await box.offer()
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, box, "web__wait", '{"seconds": 0.5}')
        assert time.monotonic() - began < 2
        assert server.connections == 1


async def test_one_that_dies_is_started_again_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        box = Toolbox(sources=[server])
        died = await ask(box, "web__die")
        assert died.outcome is ToolOutcome.ERROR
        assert "'web' was lost while the tool ran" in died.text
        assert "whether the tool did its work is unknown" in died.text
        assert await gone(await number_in(tmp_path / "child")), "what it started ends with it"
        assert (await ask(box, "web__add", '{"a": 2, "b": 3}')).text == "5"
        assert server.connections == 2
        os.kill(await number_in(tmp_path / "server"), signal.SIGKILL)  # while nobody calls it
        await until(lambda: not server.tools)
        assert len((await box.offer()).specs) == 8
        assert server.connections == 3
    assert await gone(await number_in(tmp_path / "server"))


async def test_tools_that_are_added_are_offered_from_then_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        box = Toolbox(sources=[server])
        await box.offer()
        assert (await ask(box, "web__learn")).text == "learnt"
        for _ in range(100):
            if "web__learnt" in {spec.name for spec in (await box.offer()).specs}:
                break
            await trio.sleep(0.02)
        assert (await ask(box, "web__learnt")).text == "I know"
        assert server.connections == 1


async def test_a_server_of_the_older_kind_is_understood(tmp_path: Path) -> None:
    """The handshake of 2025, noise among its messages, a list in pages, and a changed list."""
    async with serving(tmp_path, OLD) as server:
        box = Toolbox(sources=[server])
        assert [spec.name for spec in (await box.offer()).specs] == ["web__first"]
        assert (await ask(box, "web__first")).text == "called first"
        await until(lambda: server._stale)
        assert [spec.name for spec in (await box.offer()).specs] == ["web__first", "web__second"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"args": (OLD, "broken")}, "no database to speak to"),
        ({"args": (OLD, "mute"), "start_timeout_s": 0.5}, "did not start within 0.5 s"),
        ({"command": "/nonexistent/server"}, "No such file or directory"),
        ({"command": None, "url": "http://127.0.0.1:9/mcp"}, "ConnectError"),
    ],
)
async def test_one_that_does_not_start_is_told_to_the_model_and_tried_again_later(
    settings: dict[str, Any], told: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, **settings) as server:
        box = Toolbox(sources=[server])
        offer = await box.offer()
        assert offer.specs == ()
        assert offer.missing.startswith("The tools of 'web' cannot be had at the moment: ")
        assert told in offer.missing
        began = time.monotonic()
        assert (await box.offer()).missing == offer.missing, "not tried again at once"
        assert time.monotonic() - began < 0.1
        failed = await ask(box, "web__first")
        assert (failed.outcome, told in failed.text) == (ToolOutcome.ERROR, True)
        await trio.sleep(0.6)
        assert told in (await box.offer()).missing
        assert server._failures == 2


async def test_whoever_is_cancelled_while_it_starts_leaves_it_to_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        box = Toolbox(sources=[server])
        with trio.move_on_after(0.05):
            await box.offer()
        assert server.connections == 0
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(box.offer)
        assert server.connections == 1


async def test_the_same_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "t0ken")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"PATH": os.environ["PATH"], "NOTES": str(tmp_path)}
    command = [sys.executable, *MODULE, str(port)]
    settings = ServerSettings(
        url=f"http://127.0.0.1:{port}/mcp", headers={"Authorization": "Bearer ${WEB_TOKEN}"}
    )
    with trio.fail_after(60):
        async with open_servers({"web": settings}) as servers:
            server = servers["web"]
            box = Toolbox(sources=[server])
            async with open_group(command, cwd=ROOT, env=env, grace_s=3.0) as group:
                await _listening(port)
                assert len((await box.offer()).specs) == 8
                assert (await ask(box, "web__add", '{"a": 2, "b": 3}')).text == "5"
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, box, "web__wait", '{"seconds": 60}')
                    await until((tmp_path / "waiting").exists)
                    nursery.cancel_scope.cancel()
                await until((tmp_path / "cancelled").exists)
                group.kill()
            lost = await ask(box, "web__add", '{"a": 2, "b": 3}')
            assert lost.outcome is ToolOutcome.ERROR
            async with open_group(command, cwd=ROOT, env=env, grace_s=3.0):
                await _listening(port)
                await trio.sleep(1.0)
                assert (await ask(box, "web__add", '{"a": 2, "b": 3}')).text == "5"
            assert server.connections == 2


async def _listening(port: int) -> None:
    for _ in range(1000):
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.02)
        else:
            await stream.aclose()
            return
    raise AssertionError("it does not listen")
