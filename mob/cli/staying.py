"""A mob that stays up: served on a socket, until somebody stops it.

Owns: serving the mob of a `mob run` where that can be done, noticing that it was stopped by others,
the launch record of one that was detached. Must not: stop anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs

from mob.cli.display import Display
from mob.errors import FolderUnsafe, ServerMissing
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.records import MobStateChanged
from mob.server.serving import Server, serve
from mob.shapes import jsonable
from runtime.journal import Event

#: In the environment of a process that is being detached: the number of the descriptor to which its
#: launch record goes, and the file that has its output.
LAUNCH_FD: Final = "MOB_LAUNCH_FD"
LAUNCH_LOG: Final = "MOB_LAUNCH_LOG"


@attrs.frozen
class Launch:
    """A mob that is up in a process of its own."""

    mob: str
    pid: int
    state: str
    socket: str | None
    log: str
    #: The number of the last record when it came up: what it does since is behind it.
    after: int


@asynccontextmanager
async def served(mob: Mob, display: Display) -> AsyncIterator[Server | None]:
    """Serve the mob in this block; without the packages, or a place for a socket, it is run all the
    same, and only the latter is worth a word."""
    async with AsyncExitStack() as stack:
        server = None
        try:
            server = await stack.enter_async_context(serve(mob))
        except ServerMissing:
            pass
        except (FolderUnsafe, OSError) as error:
            display.say(f"other terminals do not reach this mob: {error}")
        yield server


async def stopped_by_others(mob: Mob) -> None:
    """Park until the mob is recorded as anything but running."""
    async with aclosing(mob.subscribe(types=(MobStateChanged,))) as changes:
        if mob.state is not MobState.RUNNING:
            return
        async for event in changes:
            if isinstance(event, Event) and event.record.state != MobState.RUNNING.value:
                return


def tell_launch(mob: Mob, server: Server | None, state: Path, after: int) -> None:
    """Tell the process that detached this one, if one did, that the mob is up."""
    number = os.environ.pop(LAUNCH_FD, None)
    if number is None:
        return
    socket = None if server is None else str(server.path)
    log = os.environ.pop(LAUNCH_LOG, "")
    launch = Launch(mob.id, os.getpid(), str(state.absolute()), socket, log, after)
    with open(int(number), "wb") as to:
        to.write(json.dumps(jsonable(launch)).encode())
