"""`mob show`: a stored mob, or one of its members with its transcript, as it is or was.

Owns: the verb. Must not: write to the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import Parameter

from mob.addresses import find_session
from mob.app import StoredMob
from mob.cli.completing import whole_or_members
from mob.cli.exits import NothingThere
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import one_line, plural, result, result_json, spent_text
from mob.cli.stored import looking_into, say_when, updated_ns, when
from mob.cli.target import addressed
from mob.console.narrator import path_of
from mob.elsewhere import mob_at
from mob.shapes import jsonable
from runtime.ids import SessionId
from runtime.messages import AssistantMessage, Message, SystemMessage, ToolResult, UserMessage
from runtime.session import SessionHead

EXAMPLES = """    mob show research
    mob show last
    mob show research/lead --messages 50
    mob show research/lead/bees           # a child session
    mob show "research@before the review" # as it was at a point, or a record
    mob show research/lead@120
    mob show research/r-0 --json | jq '.messages[-1].text'
"""

_INDENT = "    "


def show(
    name: Annotated[
        str | None,
        Parameter(
            name="MOB/MEMBER/SESSION",
            show_default=False,
            help="MOB, MOB/MEMBER or a session below one; names may be shortened. With @RECORD or"
            " @LABEL behind it, what it was then.",
            completer=whole_or_members,
        ),
    ] = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    messages: Annotated[
        int, Parameter(help="How many of a member's latest messages to show.")
    ] = 20,
    json: Json = False,
) -> int:
    """Show a mob, or one member or a session below it with its transcript, as it is or was.

    Works while another process runs the mob: it reads what is committed. A retired
    member's history can be shown too. MOB@LABEL and MOB@RECORD show what was: at a point
    (`mob snapshot` lists them), or right after a record (`mob events` numbers them).
    """
    address = addressed(state, name, label or ())
    with looking_into(state) as store:
        stored = mob_at(store, address.mob, address.at)
        if not address.path:
            shape = _mob(stored)
        else:
            shape = _session(stored, address.path, max(0, messages))
    say_when(stored, address)
    if json:
        result_json(shape)
    elif not address.path:
        _print_mob(shape)
    else:
        _print_member(shape)
    return 0


def _mob(stored: StoredMob) -> dict[str, Any]:
    heads = stored.state.heads
    members = [
        {
            "name": row.name,
            "profile": row.profile,
            "session_id": row.session_id,
            **_head(heads[row.session_id]),
            "restarts": row.restarts,
            "last_exit": row.last_exit,
        }
        for row in stored.roster.members.values()
    ]
    return {
        "id": stored.mob_id,
        "state": stored.roster.mob_state.value,
        "created_at_ns": stored.roster.created_at_ns,
        "updated_at_ns": updated_ns(stored),
        "records": stored.last,
        "sessions": len(heads),
        "runs_reported": len(stored.roster.reported),
        "members": members,
        "retired": list(stored.roster.retired),
    }


def _head(head: SessionHead) -> dict[str, Any]:
    return {
        "status": head.status.value,
        "turns": head.turns,
        "usage": head.usage,
        "inputs_waiting": len(head.inputs or ()),
        "turn_in_flight": head.partial is not None,
        "children": len(head.children or ()),
    }


def _session(stored: StoredMob, path: tuple[str, ...], most: int) -> dict[str, Any]:
    session_id = find_session(path, stored.state, stored.roster)
    head = stored.state.heads.get(session_id)
    if head is None:
        raise NothingThere(f"member {path[0]!r} was retired, and its session deleted")
    rows = stored.roster.members.values()
    row = next((each for each in rows if each.session_id == session_id), None)
    gone = {each: who for who, each in stored.roster.retired.items()}
    name = row.name if row is not None else gone.get(session_id, path_of(stored.state, session_id))
    partial = head.partial.messages if head.partial is not None else []
    past = stored.journal.messages(head.head, max(0, most - len(partial)))
    return {
        "mob": stored.mob_id,
        "name": name,
        "profile": head.harness_id,
        "session_id": session_id,
        "retired": row is None and session_id in gone,
        "restarts": 0 if row is None else row.restarts,
        "last_exit": None if row is None else row.last_exit,
        **_head(head),
        "child_sessions": [_child(stored, child) for child in head.children or ()],
        "message_count": head.message_count + len(partial),
        "messages": [_message(each) for each in [*past, *partial[max(0, len(partial) - most) :]]],
    }


def _child(stored: StoredMob, session_id: SessionId) -> dict[str, Any]:
    head = stored.state.heads[session_id]
    return {"session_id": session_id, "title": head.title, **_head(head)}


def _message(message: Message) -> dict[str, Any]:
    roles: dict[type, str] = {
        UserMessage: "user",
        AssistantMessage: "assistant",
        ToolResult: "tool",
        SystemMessage: "system",
    }
    return {"role": roles[type(message)], **jsonable(message)}


def _print_mob(shape: dict[str, Any]) -> None:
    result(f"mob {shape['id']}: {shape['state']}")
    result(f"created {when(shape['created_at_ns'])}, changed {when(shape['updated_at_ns'])}")
    result(
        f"{plural(shape['sessions'], 'session')}, {plural(shape['records'], 'record')},"
        f" {plural(shape['runs_reported'], 'run')} reported"
    )
    for member in shape["members"]:
        result(f"{member['name']} ({member['profile']}): {_in_short(member)}")
        if member["last_exit"] is not None:
            result(f"{_INDENT}last crash: {one_line(member['last_exit'])}")
    if shape["retired"]:
        result(f"retired: {', '.join(shape['retired'])}")


def _in_short(shape: dict[str, Any]) -> str:
    parts = [shape["status"], plural(shape["turns"], "turn"), spent_text(shape["usage"])]
    if shape["children"]:
        parts.append(f"{shape['children']} child sessions")
    if shape["turn_in_flight"]:
        parts.append("a turn in flight")
    if shape["inputs_waiting"]:
        parts.append(f"{plural(shape['inputs_waiting'], 'input')} not answered")
    if shape.get("restarts"):
        parts.append(plural(shape["restarts"], "restart"))
    return ", ".join(parts)


def _print_member(shape: dict[str, Any]) -> None:
    gone = ", retired" if shape["retired"] else ""
    result(f"{shape['mob']}/{shape['name']} ({shape['profile']}{gone}): {_in_short(shape)}")
    result(f"session {shape['session_id']}")
    if shape["last_exit"] is not None:
        result(f"last crash: {one_line(shape['last_exit'])}")
    for child in shape["child_sessions"]:
        result(f"child {child['title'] or child['session_id']}: {_in_short(child)}")
    left_out = shape["message_count"] - len(shape["messages"])
    if left_out:
        result(f"... {plural(left_out, 'earlier message')}; --messages {shape['message_count']}")
    for line in _lines(shape["messages"]):
        result(line)


def _lines(messages: Iterable[dict[str, Any]]) -> Iterable[str]:
    for message in messages:
        yield ""
        who = message["role"]
        if who == "user":
            who = f"user {message['sender']}" if message["sender"] else "user"
        elif who == "tool":
            outcome = "" if message["outcome"] == "ok" else f" ({message['outcome']})"
            who = f"tool {message['name']}{outcome}"
        yield f"[{who}]"
        if message["text"]:
            yield message["text"]
        for call in message.get("tool_calls", ()):
            yield f"-> {call['name']} {call['arguments']}"
