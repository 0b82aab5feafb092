"""`mob approvals`: the tool calls that wait for approval; and deciding about them from `mob run`.

Owns: the verb, what is said of a call that waits, asking on a terminal. Must not: decide by itself.
"""

from __future__ import annotations

import getpass
import shlex
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from mob.app import stored_mob
from mob.cli.display import Display
from mob.cli.options import DEFAULT_STATE, Json, Labels, Only, State, existing_store
from mob.cli.output import narrate, result, result_json
from mob.cli.stored import looking_into, when
from mob.cli.target import chosen_mobs
from mob.console.narrator import path_of
from mob.mob import Mob
from mob.shapes import jsonable
from runtime.approvals import Approval
from runtime.errors import ApprovalNotFound, ApprovalRefused, SessionError

EXAMPLES = """    mob approvals
    mob approvals research --state .mob --json
"""

_QUESTION: Final = "      [y]es, [n]o, [e]dit the arguments, [l]ater? "


async def approvals(
    mob: Only = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """List the tool calls that wait for approval, and how each is decided.

    Only looks; the store may belong to a running process.
    """
    existing_store(state)
    found = []
    with looking_into(state) as store:
        for mob_id in chosen_mobs(store, mob, label):
            stored = stored_mob(store, mob_id)
            waiting = [each for each in stored.state.approvals if each.waits]
            found += [(mob_id, path_of(stored.state, each.session_id), each) for each in waiting]
    if json:
        shapes = [
            {"key": each.key, "mob": mob_id, "who": who, **jsonable(each)}
            for mob_id, who, each in found
        ]
        result_json({"state": str(state), "approvals": shapes})
        return 0
    keys = Counter(each.key for _, _, each in found)
    for mob_id, who, each in found:
        of = mob_id if keys[each.key] > 1 else None  # of a mob and of its fork
        result("\n".join([f"{mob_id}/{described(who, each)}", *commands(each, state, of)]))
    if not found:
        narrate("mob: nothing waits for approval")
    return 0


def described(who: str, approval: Approval) -> str:
    """A call in one line."""
    at = when(approval.asked_at_ns)
    return f"{who} waits since {at} for approval of {approval.tool} {approval.arguments}"


def commands(approval: Approval, state: Path, of: str | None = None) -> list[str]:
    """The command lines that decide about a call; `of` is its mob, if that has to be said."""
    where = [] if of is None else ["--mob", of]
    where += [] if state == DEFAULT_STATE else ["--state", str(state)]
    key = [approval.key, *where]
    return [
        "  " + shlex.join(["mob", "approve", *key]),
        "  " + shlex.join(["mob", "deny", *key, "--reason", "..."]),
    ]


def user() -> str:
    """Who decides, unless the command says."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user in this container
        return "somebody"


def say_what_waits(mob: Mob, display: Display, state: Path) -> None:
    """Say which calls wait, and the commands that decide."""
    for each in mob.approvals():
        display.say(described(path_of(mob.realm.state, each.session_id), each))
        for line in commands(each, state):
            display.say(line)


async def answered(
    mob: Mob, ask: Callable[[], Awaitable[object]], display: Display, *, patient: bool = False
) -> bool:
    """Wait for what `ask` asks for; False if only decisions can bring it, unless `patient`.

    On a terminal each call that waits is asked about. Raises the `SessionError` that `ask` does.
    """
    if patient and not _on_terminal():
        await ask()
        return True
    told: list[bool] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            later: set[str] = set()
            while True:
                await mob.wait_blocked()
                waiting = [each for each in mob.approvals() if each.key not in later]
                if not waiting or not _on_terminal():
                    told.append(False)
                    nursery.cancel_scope.cancel()
                    return
                with display.paused():
                    for each in waiting:
                        if not await _asked(mob, display, each):
                            later.add(each.key)

        nursery.start_soon(watch)
        failure: SessionError | None = None
        try:
            await ask()
        except SessionError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return not told


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


async def _asked(mob: Mob, display: Display, approval: Approval) -> bool:
    """Ask whoever sits at the terminal about one call; whether it was decided."""
    display.say(described(path_of(mob.realm.state, approval.session_id), approval))
    while True:
        word = (await _line(_QUESTION)).strip().lower()
        try:
            if word in ("y", "yes"):
                await mob.approve(approval.key, by=user())
            elif word in ("n", "no"):
                reason = await _line("      why (the model reads it): ")
                await mob.deny(approval.key, by=user(), reason=reason.strip())
            elif word in ("e", "edit"):
                arguments = await _line("      arguments as JSON: ")
                await mob.approve(approval.key, by=user(), arguments=arguments.strip())
            elif word in ("l", "later"):
                return False
            else:
                continue
        except ApprovalRefused as error:
            display.say(str(error))
            continue
        except ApprovalNotFound:
            pass  # its turn has ended meanwhile
        return True


async def _line(prompt: str) -> str:
    """A line of the terminal. A signal ends the wait; the thread then waits for one more line."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return line or "later"
