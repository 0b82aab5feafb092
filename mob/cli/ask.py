"""`mob ask`: ask a member of a mob, wait for its turn, print the answer.

Owns: the verb. Must not: know how a turn runs.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.app import open_mob
from mob.cli.completing import whole_or_members
from mob.cli.display import Silent
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import answer_text, narrate, plural, result, result_json, spent_text
from mob.cli.send import given_text
from mob.cli.target import addressed, chosen_member, is_served, reaching
from mob.cli.validate import read
from mob.cli.weights import have_weights
from mob.server.protocol import Ask
from mob.shapes import jsonable
from runtime.results import TurnResult
from stores import open_lmdb

EXAMPLES = """    mob ask research/lead "What did you find?"
    mob ask research "..." --json | jq -r .text      # the lead
    mob ask research/lead "..." --file mob.toml     # a mob that no process runs
"""


async def ask(
    whom: Annotated[
        str,
        Parameter(
            name="MOB/MEMBER", help="Whom; MOB alone means its lead.", completer=whole_or_members
        ),
    ],
    text: Annotated[
        str,
        Parameter(name="TEXT", allow_leading_hyphen=True, help="What; '-' reads it from stdin."),
    ],
    /,
    *,
    key: Annotated[
        str | None,
        Parameter(
            show_default=False, help="Asked once: the same key later prints the same answer."
        ),
    ] = None,
    label: Labels = None,
    file: Annotated[
        Path | None,
        Parameter(
            name="--file",
            show_default=False,
            help="The mob's file: run the mob here for this question if no process runs it.",
        ),
    ] = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Ask a member of a mob that a process runs, wait for its turn, print the answer.

    Ctrl-C ends the wait, not the turn. With --file it works on a mob that no process
    runs, too.
    """
    words = given_text(text)
    address = addressed(state, whom, label or ())
    member = chosen_member(state, address, lead=True)
    if file is not None and not is_served(state, address.mob):
        answer = await _here(file, state, member, words, key)
    else:
        async with reaching(state, address.mob) as mob:
            try:
                answer = await mob.call(Ask(member, words, idempotency_key=key))
            except KeyboardInterrupt:
                narrate(f"mob: the turn goes on: `mob show {address.mob}/{member}` has its answer")
                raise
    calls = plural(answer.usage.model_calls, "model call")
    narrate(f"mob: spent {spent_text(answer.usage)} in {calls}")
    if json:
        result_json({"mob": address.mob, **jsonable(answer)})
    else:
        result(answer.text if answer.output is None else answer_text(answer.output))
    return 0


async def _here(file: Path, state: Path, member: str, words: str, key: str | None) -> TurnResult:
    """Ask in this process, which runs the mob for as long as that takes."""
    definition = read(file)
    await have_weights(definition.models, Silent())
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_lmdb(state))
        mob = await stack.enter_async_context(open_mob(definition, store=store))
        return await mob.ask(member, words, idempotency_key=key)
