"""The disk between us and the disk: builds `shim.c`, runs programs under it, drives it.

Owns: compiling, preloading, the record of writes and syncs. Must not: know a store.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[3]


class NoCompiler(RuntimeError):
    """There is no C compiler on this machine."""


def build(folder: Path) -> Path:
    """Compile the shim into `folder`.

    Raises:
        NoCompiler: neither `cc` nor what `CC` names is there.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompiler("no C compiler (cc) to build the shim with")
    shim = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(shim)]
    source = str(Path(__file__).with_name("shim.c"))
    subprocess.run([*command, source, "-ldl", "-lpthread"], check=True)
    return shim


def run_under(shim: Path, module: str, *args: object) -> str:
    """Run `python -m module` with the shim preloaded; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def shim() -> ctypes.CDLL:
    """The functions of the shim, in a process that runs under it."""
    return ctypes.CDLL(None)


@attrs.frozen
class Event:
    """One thing that happened: a write ('w'), one that was synced by itself ('d'), a sync ('s')
    of everything so far, or an acknowledgement ('a') whose number is `offset`."""

    kind: str
    offset: int
    data: bytes


def read_record(file: Path) -> Iterator[Event]:
    """The events that the shim wrote to `file`, in order."""
    raw = file.read_bytes()
    at = 0
    while at < len(raw):
        kind, offset, length = struct.unpack_from("=cQQ", raw, at)
        at += 17
        yield Event(kind.decode(), offset, raw[at : at + length])
        at += length
