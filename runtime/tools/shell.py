"""A shell for models: off unless a profile turns it on.

Owns: `ShellTool` and what it lets through: the folder, the environment, time and output. Must not:
be taken for a jail. A command runs as the user who runs the mob and can read what that user can;
what is confined is where it begins, what it inherits and how long it lives.

Each command has a process group of its own, which ends with the call: by its own end, by the
deadline, or because the turn is cancelled. What it left in the background ends with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from runtime.models.base import ToolSpec
from runtime.tools.base import ToolContext, ToolFailed
from runtime.tools.processes import Group, open_group

SHELL: Final = "shell"

#: Variables that every command gets, as far as they are set: what programs need to be found and to
#: print in the user's language. None of them holds a secret.
INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")

#: Seconds for the last output to arrive after everything that could write it was killed. A program
#: that left the group may hold the pipe open for ever.
DRAIN_S: Final = 1.0


class Clipped:
    """The beginning and the end of a stream of bytes, and how much was between.

    Never holds more than `limit` bytes and one chunk.
    """

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.dropped = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        surplus = len(self._tail) - self._tail_limit
        if surplus > 0:
            del self._tail[:surplus]
            self.dropped += surplus

    def text(self) -> str:
        """What is kept, with a note where something is missing."""
        head = self._head.decode("utf-8", "replace")
        tail = self._tail.decode("utf-8", "replace")
        if not self.dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        return f"{head}\n[{self.dropped} bytes of output were left out here]\n{tail}"


@attrs.frozen
class ShellTool:
    """Runs commands of ``/bin/sh`` in `folder`.

    `env` names variables of the mob's own environment that commands get besides `INHERITED`. A
    call may ask for less time than `limit_s`, never for more.
    """

    folder: Path
    limit_s: float = 60.0
    max_output_bytes: int = 30_000
    env: tuple[str, ...] = ()
    idempotent: bool = False
    #: The tool keeps its own deadline, to be able to say what a command had printed by then.
    timeout_s: float | None = None

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(
            SHELL,
            "Run a command in a POSIX shell and read what it prints. It has no terminal and no"
            f" input, ends after {self.limit_s:g} s at the latest, and everything it started ends"
            f" with it. Of more than {self.max_output_bytes} bytes of output you see the beginning"
            " and the end.",
            {
                "type": "object",
                "properties": {
                    "command": {"type": "string", "minLength": 1, "description": "What to run."},
                    "folder": {
                        "type": "string",
                        "description": "Where below the working folder (default: right there).",
                    },
                    "timeout_s": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": self.limit_s,
                        "description": "Seconds it may take.",
                    },
                },
                "required": ["command"],
                "additionalProperties": False,
            },
        )

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """The exit code and the output. A command that fails is an answer, not an error.

        Raises:
            ToolFailed: the folder is not one below the working folder, the command could not be
                started, or it took too long; then with what it had printed.
        """
        command = arguments["command"]
        if "\0" in command:
            raise ToolFailed("the command has a NUL character in it")
        folder = self._inside(arguments.get("folder", "."))
        limit_s = arguments.get("timeout_s", self.limit_s)
        kept = Clipped(self.max_output_bytes)
        code: int | None = None
        try:
            with trio.move_on_after(limit_s) as deadline:
                async with open_group(
                    ["/bin/sh", "-c", command], cwd=folder, env=self._environment()
                ) as group:
                    code = await _follow(group, kept)
        except OSError as error:
            raise ToolFailed(f"the shell cannot be started: {error}") from error
        if deadline.cancelled_caught:
            printed = kept.text() or "nothing"
            raise ToolFailed(f"ended after {limit_s:g} s; until then it had printed:\n{printed}")
        return f"exit code {code}\n{kept.text()}"

    def _inside(self, name: str) -> Path:
        try:
            root = self.folder.resolve()
            folder = (root / name).resolve()
            if folder.is_relative_to(root) and folder.is_dir():
                return folder
        except (OSError, ValueError):
            pass
        raise ToolFailed(f"{name!r} is not a folder below the working folder")

    def _environment(self) -> dict[str, str]:
        """What the command inherits. Its home is the working folder: the user's own holds keys."""
        names = (*INHERITED, *self.env)
        given = {name: os.environ[name] for name in names if name in os.environ}
        return {"HOME": str(self.folder.resolve()), **given}


async def _follow(group: Group, kept: Clipped) -> int | None:
    """Read what the group prints until its leader ends; end the rest of it; the exit code."""

    async def read() -> None:
        while chunk := await group.stdout.receive_some():
            kept.add(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await group.wait()
        code = await group.end()
        nursery.cancel_scope.deadline = trio.current_time() + DRAIN_S
    return code
