"""The shell tool on real processes: what it lets through, and that nothing of it is left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome, ToolResult
from runtime.tools.base import Toolbox, ToolContext, ToolFailed
from runtime.tools.processes import open_group
from runtime.tools.shell import Clipped, ShellTool
from tests.runtime.fakes import call
from tests.runtime.test_tools_function import NO_RUNNER

NO_CONTEXT = cast(ToolContext, None)


def alive(pid: int) -> bool:
    """Whether a process runs: one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pid: int) -> bool:
    """Whether it is gone within a moment: a killed process takes one to go."""
    for _ in range(100):
        if not alive(pid):
            return True
        await trio.sleep(0.02)
    return False


def written(path: Path) -> str:
    """What is in a file, nothing if it is not there or not whole."""
    text = path.read_text() if path.exists() else ""
    return text.strip() if text.endswith("\n") else ""


async def number_in(path: Path) -> int:
    """The number that a command writes into a file, once it has."""
    for _ in range(1000):
        if written(path):
            return int(written(path))
        await trio.sleep(0.01)
    raise AssertionError(f"nothing was written to {path}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@pytest.fixture
def shell(tmp_path: Path) -> ShellTool:
    (tmp_path / "inner").mkdir()
    return ShellTool(tmp_path, limit_s=20.0, max_output_bytes=1000)


async def run(shell: ShellTool, command: str, **more: Any) -> str:
    return await shell.run({"command": command, **more}, NO_CONTEXT)


async def test_a_command_is_answered_with_its_exit_code_and_both_its_outputs(
    shell: ShellTool,
) -> None:
    assert await run(shell, "echo out; echo err >&2; exit 3") == "exit code 3\nout\nerr\n"
    assert await run(shell, "cat") == "exit code 0\n", "it has no input"
    assert (await run(shell, "kill -9 $$")).startswith("exit code -9")


async def test_a_call_goes_through_the_toolbox_with_its_arguments_checked(
    shell: ShellTool,
) -> None:
    async def told(arguments: str) -> ToolResult:
        made = call("c", "shell", arguments)
        context = ToolContext(SessionId("s"), RunId("r"), made, NO_RUNNER)
        return await Toolbox([shell]).run(context)

    assert (await told('{"command": "echo hi"}')).text == "exit code 0\nhi\n"
    for wrong in ("{}", '{"command": ""}', '{"command": "x", "timeout_s": 99}'):
        assert (await told(wrong)).outcome is ToolOutcome.ERROR
    assert "NUL" in (await told('{"command": "a\\u0000b"}')).text


async def test_it_begins_in_its_folder_and_no_folder_outside_is_taken(
    shell: ShellTool, folder: Path, tmp_path: Path
) -> None:
    assert (await run(shell, "pwd")).endswith(f"{folder}\n")
    assert (await run(shell, "pwd", folder="inner")).endswith("/inner\n")
    (tmp_path / "way_out").symlink_to("/")
    (tmp_path / "file").touch()
    for outside in ("..", "/", "inner/../..", "way_out", "file", "nothing", "a\0b"):
        with pytest.raises(ToolFailed, match="not a folder below"):
            await run(shell, "pwd", folder=outside)
    with pytest.raises(ToolFailed, match="not a folder"):
        await run(ShellTool(tmp_path / "nothing"), "pwd")


async def test_it_inherits_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("CI_FLAG", "yes")
    said = await run(ShellTool(folder, env=("CI_FLAG", "NOT_SET")), "env; ls -d ~")
    assert "s3cret" not in said
    assert "CI_FLAG=yes" in said
    assert said.endswith(f"{folder}\n"), "its home is its folder"


async def test_of_much_output_the_beginning_and_the_end_are_kept(shell: ShellTool) -> None:
    said = await run(shell, "echo begins; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo ends")
    assert said.startswith("exit code 0\nbegins\nxxx")
    assert said.endswith("x\nends\n")
    assert "\n[2999013 bytes of output were left out here]\n" in said
    assert len(said) < 1100


def test_clipping_keeps_to_its_limit_however_the_bytes_arrive() -> None:
    data = bytes(range(32, 127)) * 3
    for size in (1, 7, 100, len(data)):
        clipped = Clipped(50)
        for at in range(0, len(data), size):
            clipped.add(data[at : at + size])
        assert clipped.dropped == len(data) - 50
        text = clipped.text()
        assert text.startswith(data[:25].decode())
        assert text.endswith(data[-25:].decode())
    whole = Clipped(5)
    whole.add("aäöb".encode()[:5])
    assert whole.text() == "aäö", "a character across the middle is not torn"


async def test_a_command_that_takes_too_long_ends_with_all_it_started(
    shell: ShellTool, tmp_path: Path
) -> None:
    began = time.monotonic()
    with pytest.raises(ToolFailed, match=r"ended after 0.5 s; .*\nsaid\n"):
        await run(shell, "echo said; (sleep 60 & echo $! > pid; wait)", timeout_s=0.5)
    assert time.monotonic() - began < 10
    assert await gone(await number_in(tmp_path / "pid"))


async def test_a_cancelled_call_leaves_no_grandchild_however_stubborn(
    shell: ShellTool, tmp_path: Path
) -> None:
    """An interrupt ends everything below it: also what ignores the request to end."""
    stubborn = "trap '' TERM HUP INT; echo $$ > child; (trap '' TERM; echo ready; sleep 60) & wait"
    script = f'sh -c "{stubborn.replace("$", chr(92) + "$")}" & sleep 60 & echo $! > other; wait'
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, shell, script)
        pids = [await number_in(tmp_path / name) for name in ("child", "other")]
        assert all(alive(pid) for pid in pids)
        began = time.monotonic()
        nursery.cancel_scope.cancel()
    assert time.monotonic() - began < 5
    for pid in pids:
        assert await gone(pid)


async def test_what_a_command_leaves_in_the_background_ends_with_it(
    shell: ShellTool, tmp_path: Path
) -> None:
    said = await run(shell, "sleep 60 & echo $! > pid; echo done")
    assert said == "exit code 0\ndone\n"
    assert await gone(await number_in(tmp_path / "pid"))


async def test_one_that_leaves_the_group_does_not_hold_the_call(
    shell: ShellTool, tmp_path: Path
) -> None:
    """`setsid` is the one way out (see `runtime.tools.processes`): the call ends all the same."""
    script = "setsid sh -c 'echo $$ > pid; exec sleep 60' & until [ -s pid ]; do :; done; echo x"
    try:
        with trio.fail_after(15):
            said = await run(shell, script)
        assert said == "exit code 0\nx\n"
    finally:
        os.kill(await number_in(tmp_path / "pid"), 9)


async def test_many_commands_leave_no_descriptor(shell: ShellTool) -> None:
    await run(shell, "true")
    before = len(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(run, shell, "echo x")
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_program_that_cannot_be_started_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with open_group([str(tmp_path / "none")], cwd=tmp_path, env={}):
            pass
