"""Running the blocks of a page: Python in one namespace, commands in one folder.

Owns: how a block is run. Must not: know a page; what a page takes for granted (a mob that is open,
a file that is there) is in `tests.docs.settings`.
"""

from __future__ import annotations

import ast
import copy
import inspect
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from tests.docs.blocks import ROOT, Block

#: None takes a tenth of it: a block that waits for something that does not come is a mistake.
PATIENCE_S: Final = 20.0
#: For all commands of a page, each of which starts Python anew.
COMMANDS_S: Final = 240.0

Names = dict[str, Any]


def run_plainly(block: Block, names: Names) -> None:
    """Run a block as a module is run, in a namespace that the blocks of its page share."""
    exec(compile(block.padded, block.page, "exec"), names)


async def run_inside(block: Block, names: Names) -> None:
    """Run a block that may wait: it stands for the inside of an async function."""
    code = compile(block.padded, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with trio.fail_after(PATIENCE_S):
        done = eval(code, names)
        if inspect.isawaitable(done):
            await done


def commands_of(block: Block) -> str:
    """What a shell is given: a ``console`` block shows what is typed behind a ``$``, then what
    comes of it."""
    if block.language == "sh":
        return block.text
    typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    return "\n".join(typed)


def run_commands(
    blocks: Sequence[Block],
    folder: Path,
    before: str = "",
    after: str = "",
    instead: Mapping[str, str] | None = None,
) -> str:
    """Run what the blocks of a page say, in `folder`, in one shell that ends at the first failure.

    `mob` and `python` are those of this checkout. `instead` has what is replaced before, so that
    a thousand of something may be two. Returns what was said.
    """
    programs = folder / ".programs"
    programs.mkdir()
    for name, words in (("mob", "-m mob.cli"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)
    said = "\n".join(commands_of(block) for block in blocks)
    for shown, done in (instead or {}).items():
        assert shown in said, f"{blocks[0].page} no longer says {shown!r}"
        said = said.replace(shown, done)
    script = "\n".join(["set -eu", before, "set -x", said])
    if after:
        script = f"trap '{after}' EXIT\n{script}"
    kept = {key: os.environ[key] for key in ("LANG", "TMPDIR") if key in os.environ}
    done_ = subprocess.run(
        [
            "timeout",
            str(COMMANDS_S),
            "bash",
            "-c",
            script,
        ],  # which ends what they have started, too
        cwd=folder,
        env={
            **kept,
            "HOME": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CHECKOUT": str(ROOT),
            "MOB_FORBID_REAL_MODELS": "1",
            "XDG_RUNTIME_DIR": str(folder / "r"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMANDS_S + PATIENCE_S,
        check=False,
    )
    assert done_.returncode == 0, f"{blocks[0].page}: exit code {done_.returncode}\n{done_.stdout}"
    return done_.stdout


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the tables of `over` laid over its own, key by key."""
    laid = dict(copy.deepcopy(base))
    for key, value in over.items():
        below = laid.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        laid[key] = laid_over(below, value) if both else value
    return laid
