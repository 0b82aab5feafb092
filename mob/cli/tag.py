"""`mob tag`: label a point of a mob, or a session of it.

Owns: the verb. Must not: change what it labels.
"""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from mob.cli.completing import whole_or_members
from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import result, result_json
from mob.cli.target import addressed, chosen_session, reaching, say_where
from mob.errors import AddressInvalid
from mob.server.protocol import Snapshot, TagSession
from runtime.manager import MAX_TAG

EXAMPLES = """    mob tag research "before the review"     # then: mob fork "research@before..."
    mob tag research/lead good keep
    mob tag research/lead keep --remove
"""


async def tag(
    what: Annotated[
        str,
        Parameter(
            name="MOB/MEMBER/SESSION",
            help="What to label: MOB, MOB/MEMBER or a session below one.",
            completer=whole_or_members,
        ),
    ],
    labels: Annotated[
        list[str],
        Parameter(name="LABEL", negative=(), help="What it is called: one for a mob, or more."),
    ],
    /,
    *,
    remove: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Take them off a session.")
    ] = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Label a mob as it is now, to fork from or go back to; or a session, to find it again.

    A mob's label is a point, as of `mob snapshot`: MOB@LABEL is the mob as it was then,
    and a label is given once. A session has labels of up to 64 characters.
    """
    address = addressed(state, what, label or ())
    if address.at is not None:
        raise AddressInvalid(what, "only what is now can be labelled")
    session_id = chosen_session(state, address) if address.path else None
    if session_id is None and (remove or len(labels) != 1):
        raise UsageWrong("a mob is given one label at a time, and keeps it")
    long = next((each for each in labels if not 1 <= len(each) <= MAX_TAG), None)
    if session_id is not None and long is not None:
        raise UsageWrong(f"{long!r:.80}: a label of a session has 1 to {MAX_TAG} characters")
    shape: dict[str, Any]
    async with reaching(state, address.mob) as target:
        if session_id is not None:
            add, gone = ((), tuple(labels)) if remove else (tuple(labels), ())
            await target.call(TagSession(session_id, add, gone))
            shape = {"session_id": session_id, "added": add, "removed": gone}
            words = str(session_id)
        else:
            point = await target.call(Snapshot(labels[0]))
            shape = {"label": point.label, "at": point.at}
            words = f"{address.mob}@{point.label}"
        say_where(target)
    if json:
        result_json({"mob": address.mob, **shape})
    else:
        result(words)
    return 0
