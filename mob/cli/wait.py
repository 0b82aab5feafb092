"""`mob wait`: wait until a mob or a member is in a state.

Owns: the verb, how a duration is written. Must not: poll.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from cyclopts import Parameter

from mob.cli.completing import whole_or_members
from mob.cli.exits import DONE, FAILED, UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import narrate, result, result_json
from mob.cli.target import Resting, addressed, chosen_member, reaching
from mob.errors import AddressInvalid, NotServed
from mob.server.protocol import Wait

EXAMPLES = """    mob wait research --for state=idle --timeout 30s
    mob wait research/lead --for state=idle,failed
    mob wait research --for state=waiting && mob approvals research
"""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


async def wait(
    whom: Annotated[
        str | None,
        Parameter(
            name="MOB/MEMBER",
            show_default=False,
            help="Which member, or MOB for the mob itself.",
            completer=whole_or_members,
        ),
    ] = None,
    /,
    *,
    for_: Annotated[
        str,
        Parameter(
            name="--for",
            help="state=STATE[,STATE...]: of a mob idle, waiting (for approval), running, stopped,"
            " completed, destroyed; of a member idle, queued, unfinished, waiting, failed,"
            " retired.",
        ),
    ],
    timeout: Annotated[  # noqa: ASYNC109 what the option is called
        str | None,
        Parameter(show_default=False, help="How long, such as 30s, 2m, 500ms; default: no limit."),
    ] = None,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Wait until a mob, or a member of it, is in a state. Exits with 1 if the time is over.

    A mob that no process runs does not change: it is so already, or this is refused.
    """
    states = _states(for_)
    limit = None if timeout is None else seconds(timeout)
    address = addressed(state, whom, label or ())
    if address.at is not None:
        raise AddressInvalid(whom or "", "what was cannot be waited for")
    member = None if not address.path else chosen_member(state, address, gone=True)
    async with reaching(state, address.mob) as target:
        if isinstance(target, Resting):
            found = await target.look(Wait(states, member, 0.0))
            if not found.held:
                raise NotServed(
                    address.mob, f"no process runs it, and it stays {found.state}: run it first"
                )
        else:
            found = await target.call(Wait(states, member, limit))
    if json:
        result_json(
            {"mob": address.mob, "member": member, "state": found.state, "held": found.held}
        )
    elif found.held:
        result(found.state)
    if not found.held:
        narrate(f"mob: the time is over, and {whom or address.mob} is {found.state}")
    return DONE if found.held else FAILED


def _states(given: str) -> tuple[str, ...]:
    what, equals, states = given.partition("=")
    if what != "state" or not equals:
        raise UsageWrong(f"--for {given}: write state=STATE, such as state=idle")
    return tuple(states.split(","))


def seconds(given: str) -> float:
    """A duration as people write it. Raises `UsageWrong`."""
    found = _DURATION.fullmatch(given)
    if found is None:
        raise UsageWrong(f"{given!r} is no duration: write 30s, 2m, 1h or 500ms")
    return float(found[1]) * _SECONDS[found[2]]
