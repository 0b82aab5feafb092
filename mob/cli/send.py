"""`mob send`: send a message to a member, and return once it is on disk.

Owns: the verb. Must not: wait for an answer.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, MobFile, State, Whom
from mob.cli.output import narrate, result, result_json
from mob.cli.target import Resting, addressed, chosen_member, reaching
from mob.cli.validate import read
from mob.server.protocol import Send
from mob.shapes import jsonable

EXAMPLES = """    mob send research/lead "Also look at bees."
    mob send research/lead "Stop that, try the other file." --mode steer
    git log -1 | mob send review/lead -
"""


async def send(
    to: Whom,
    text: Annotated[
        str,
        Parameter(name="TEXT", allow_leading_hyphen=True, help="What; '-' reads it from stdin."),
    ],
    /,
    *,
    mode: Annotated[
        Literal["queue", "steer"],
        Parameter(
            help="queue: a turn of its own, behind what waits; steer: into the turn in flight,"
            " before its next model call."
        ),
    ] = "queue",
    key: Annotated[
        str | None,
        Parameter(show_default=False, help="Sent once however often this is run with the key."),
    ] = None,
    label: Labels = None,
    file: MobFile = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Send a message to a member; done once it is on disk, the answer is not waited for.

    A running mob works on it at once; one that no process runs does when it is run
    again. A stopped mob takes none: `mob resume` it first. Prints the message's id.
    """
    words = given_text(text)
    address = addressed(state, to, label or ())
    member = chosen_member(state, address)
    definition = None if file is None else read(file)
    async with reaching(state, address.mob, definition) as mob:
        receipt = await mob.call(Send(member, words, mode=mode, idempotency_key=key))
        if isinstance(mob, Resting):
            narrate(f"mob: no process runs {mob.mob_id!r}: it works on this when it is next run")
    if json:
        result_json({"mob": address.mob, **jsonable(receipt)})
    else:
        result(receipt.input_id)
    return 0


def given_text(text: str) -> str:
    """The words on the command line, or from stdin. Raises `UsageWrong` if there are none."""
    words = sys.stdin.read() if text == "-" else text
    if not words.strip():
        raise UsageWrong("the text is empty: give TEXT, or '-' and write it to stdin")
    return words
