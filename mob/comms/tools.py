"""The tools by which a member's model talks to its peers and, if it may, changes who there is.

Owns: `comms_tools`, those that a profile turns on. Must not: decide anything; each calls a verb of
the mob for its member.

What a call does is keyed by the call, so one that is repeated after a crash changes nothing more.
No tool waits for room in a mailbox: two turns could wait for each other's. Whatever is refused is
told to the model in the words of the error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.comms.letters import QUEUE, STEER, Letter
from mob.comms.settings import RAISE, CommsDefinition
from runtime import peering
from runtime.errors import MobError
from runtime.models.base import ToolSpec
from runtime.tools.base import Tool, ToolContext, ToolFailed
from stores import CommitUnknown, StoreUnavailable

if TYPE_CHECKING:
    from mob.mob import Mob

#: Seconds that a request waits for its reply if the model does not say.
DEADLINE_S: Final = 60.0


@attrs.frozen(eq=False)
class CommsTool:
    """One of the tools of `member`. `does` is given the mob, the member, arguments and call."""

    mob: Mob
    member: str
    spec: ToolSpec
    does: Callable[[Mob, str, Mapping[str, Any], ToolContext], Awaitable[Any]]
    waits_for_others: bool = False
    idempotent: bool = True
    timeout_s: float | None = None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Raises `ToolFailed` with the words of what the mob refused."""
        with _told(self.mob):
            return await self.does(self.mob, self.member, arguments, context)


def comms_tools(mob: Mob, member: str, comms: CommsDefinition) -> list[Tool]:
    """The tools that a profile turns on for one of its members."""
    return [
        CommsTool(mob, member, _SPECS[name], _DOES[name], waits_for_others=name == "send_request")
        for name in comms.all_tools
    ]


@contextmanager
def _told(mob: Mob) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, CommitUnknown) as error:
        mob.realm.failed = error
        raise
    except MobError as error:
        raise ToolFailed(str(error)) from error


# -- what they do --------------------------------------------------------------------------------


async def _peers(mob: Mob, member: str, _: Mapping[str, Any], __: ToolContext) -> Any:
    return [attrs.asdict(mob.card(name), filter=_shown) for name in mob.peers_of(member)]


def _shown(field: Any, value: Any) -> bool:
    return field.name in ("name", "description") or (field.name == "labels" and bool(value))


async def _send_message(
    mob: Mob, member: str, arguments: Mapping[str, Any], context: ToolContext
) -> str:
    letter = Letter(
        member,
        arguments["text"],
        arguments.get("intent", peering.MESSAGE),
        arguments.get("mode", QUEUE),
        context.key,
    )
    await mob.post("send", arguments["to"], letter, when_full=RAISE)
    return "sent"


async def _send_request(
    mob: Mob, member: str, arguments: Mapping[str, Any], context: ToolContext
) -> str:
    return await mob.request_inside(
        member,
        arguments["to"],
        arguments["text"],
        float(arguments.get("deadline_s", DEADLINE_S)),
        context.key,
    )


async def _reply(mob: Mob, member: str, arguments: Mapping[str, Any], _: ToolContext) -> str:
    await mob.reply_inside(member, arguments["request_id"], arguments["text"])
    return "replied"


async def _list(mob: Mob, _: str, __: Mapping[str, Any], ___: ToolContext) -> Any:
    at_work = set(mob.at_work)
    return [
        {
            "name": name,
            "profile": row.profile,
            "description": mob.card(name).description,
            "at_work": name in at_work,
            "may_send_to": list(mob.wiring.peers_of(name)),
        }
        for name, row in mob.roster.members.items()
    ]


async def _spawn(mob: Mob, _: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
    name, profile = arguments["name"], arguments["profile"]
    made = mob.realm.state.spawned.get(context.key)
    if made is None:
        await mob.spawn(name, profile=profile, spawn_key=context.key)
    return f"{name} has joined"


async def _retire(mob: Mob, member: str, arguments: Mapping[str, Any], _: ToolContext) -> str:
    name = arguments["name"]
    if name == member:
        raise ToolFailed("a member does not retire itself: its turn would end with it")
    await mob.retire(name, arguments.get("reason", f"retired by {member}"))
    return f"{name} has left"


async def _wire(mob: Mob, _: str, arguments: Mapping[str, Any], __: ToolContext) -> str:
    one, other = arguments["a"], arguments["b"]
    new = await mob.wire(one, other, directed=arguments.get("directed", False))
    return "wired" if new else "they were wired already"


async def _unwire(mob: Mob, _: str, arguments: Mapping[str, Any], __: ToolContext) -> str:
    one, other = arguments["a"], arguments["b"]
    gone = await mob.unwire(one, other, directed=arguments.get("directed", False))
    return "unwired" if gone else "they were not wired"


_DOES: Final[dict[str, Callable[[Mob, str, Mapping[str, Any], ToolContext], Awaitable[Any]]]] = {
    "peers": _peers,
    "send_message": _send_message,
    "send_request": _send_request,
    "reply": _reply,
    "mob_list_members": _list,
    "mob_spawn_member": _spawn,
    "mob_retire_member": _retire,
    "mob_wire": _wire,
    "mob_unwire": _unwire,
}

# -- how they are advertised ---------------------------------------------------------------------


def _spec(tool: str, about: str, required: tuple[str, ...], **properties: Any) -> ToolSpec:
    return ToolSpec(
        tool,
        about,
        {
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        },
    )


def _text(about: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": about}


_TO: Final = _text("The name of the member.")
_PAIR: Final[dict[str, Any]] = {
    "a": _text("The name of one member."),
    "b": _text("The name of the other."),
    "directed": {"type": "boolean", "description": "Only from a to b."},
}

_SPECS: Final = {
    each.name: each
    for each in (
        _spec("peers", "Say to whom you may send, by name, and what they do.", ()),
        _spec(
            "send_message",
            "Send a message to another member. Does not wait for an answer.",
            ("to", "text"),
            to=_TO,
            text=_text("What to say; they see nothing else."),
            intent=_text("One word for what it is about."),
            mode={
                "type": "string",
                "enum": [QUEUE, STEER],
                "description": "steer: put before them while they work, not after.",
            },
        ),
        _spec(
            "send_request",
            "Ask another member for a reply, and wait for that.",
            ("to", "text"),
            to=_TO,
            text=_text("What to ask; they see nothing else."),
            deadline_s={
                "type": "number",
                "exclusiveMinimum": 0,
                "description": f"Seconds to wait at most ({DEADLINE_S:.0f}).",
            },
        ),
        _spec(
            "reply",
            "Reply to a request: a message that begins with [request ID].",
            ("request_id", "text"),
            request_id=_text("The ID."),
            text=_text("The reply."),
        ),
        _spec("mob_list_members", "List all members and to whom each may send.", ()),
        _spec(
            "mob_spawn_member",
            "Add a member to the mob.",
            ("name", "profile"),
            name=_text("Its name: letters, digits, - and _."),
            profile=_text("What kind of member."),
        ),
        _spec(
            "mob_retire_member",
            "Remove another member from the mob. Its turn is cancelled.",
            ("name",),
            name=_TO,
            reason=_text("Why, for the records."),
        ),
        _spec("mob_wire", "Let two members send to each other.", ("a", "b"), **_PAIR),
        _spec("mob_unwire", "Let two members send to each other no more.", ("a", "b"), **_PAIR),
    )
}
