"""What a mob file says about comms: wiring, mailboxes, and what a profile has of them.

Owns: the definition types of ``[wiring]``, ``[mailbox]`` and of the keys of a profile that are
about its peers, reading them, and the rules about them. Must not: decide who may send
(`mob.comms.routing` does).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.errors import Mistake
from mob.tables import TableReader, nearest

if TYPE_CHECKING:
    from mob.definition import MobDefinition

WAYS: Final = ("allow", "deny")
WAIT: Final = "wait"
RAISE: Final = "raise"

#: What a profile's `comms` turns on, all or some.
COMMS_TOOLS: Final = ("peers", "send_message", "send_request", "reply")
#: What its `mob` turns on.
MANAGING_TOOLS: Final = (
    "mob_list_members",
    "mob_spawn_member",
    "mob_retire_member",
    "mob_wire",
    "mob_unwire",
)

_ARROW: Final = re.compile(r"\s*(\S+?)\s*(<->|->)\s*(\S+)\s*")


@attrs.frozen
class WiringDefinition:
    """Who may send to whom. `edges` are undirected pairs of member names, `directed` lead from the
    first to the second; with replicas, the base name stands for all of them. `rules` are about
    profiles: ``"chief -> worker"`` (or ``<->``) to ``allow`` or ``deny``. Where none of these says
    anything, `default` does. Which of them counts is said in `mob.comms.routing`."""

    default: str = "deny"
    edges: tuple[tuple[str, str], ...] = ()
    directed: tuple[tuple[str, str], ...] = ()
    rules: Mapping[str, str] = attrs.field(factory=dict)

    def roles(self) -> dict[tuple[str, str], bool]:
        """What the rules say of messages from one profile to another."""
        said: dict[tuple[str, str], bool] = {}
        for rule, way in self.rules.items():
            for pair in pairs_of(rule):
                said[pair] = way == "allow"
        return said


@attrs.frozen
class MailboxDefinition:
    """How much may wait for a member: so many messages, so many bytes of text. When that is full
    the sender waits (``wait``) or is refused (``raise``). None: as the mob says."""

    max_messages: int | None = None
    max_bytes: int | None = None
    when_full: str | None = None

    def over(self, base: MailboxDefinition) -> MailboxDefinition:
        """These settings laid over those of `base`."""
        return MailboxDefinition(
            base.max_messages if self.max_messages is None else self.max_messages,
            base.max_bytes if self.max_bytes is None else self.max_bytes,
            base.when_full if self.when_full is None else self.when_full,
        )


#: A thousand messages are more than a model works through in an hour.
DEFAULT_MAILBOX: Final = MailboxDefinition(1000, 1_000_000, WAIT)
NO_MAILBOX: Final = MailboxDefinition()


@attrs.frozen
class CommsDefinition:
    """What a profile has of comms. `tools` are those of `COMMS_TOOLS` that its members have, with
    `manages` they have `MANAGING_TOOLS` too. A message with one of `silent_intents` is recorded and
    wakes nobody; who joins and leaves is told while the peers number at most `inline_peers`
    (None: 50, 0: never, -1: always). `mailbox` is laid over the mob's."""

    tools: tuple[str, ...] = ()
    manages: bool = False
    silent_intents: tuple[str, ...] = ()
    inline_peers: int | None = None
    mailbox: MailboxDefinition = NO_MAILBOX

    @property
    def told(self) -> bool:
        """Whether its members are told who joins and leaves at all."""
        return bool(self.tools) or self.inline_peers is not None

    @property
    def all_tools(self) -> tuple[str, ...]:
        """The names of all tools that it turns on."""
        return (*self.tools, *(MANAGING_TOOLS if self.manages else ()))


NO_COMMS: Final = CommsDefinition()


def pairs_of(rule: str) -> tuple[tuple[str, str], ...]:
    """The directed pairs that ``a -> b`` or ``a <-> b`` stands for; none if it is neither."""
    found = _ARROW.fullmatch(rule)
    if found is None:
        return ()
    one, arrow, other = found.groups()
    return ((one, other), (other, one)) if arrow == "<->" else ((one, other),)


# -- reading -----------------------------------------------------------------------------------


def read_wiring(table: TableReader) -> WiringDefinition:
    """The table [wiring]."""
    edges: list[tuple[str, str]] = []
    directed: list[tuple[str, str]] = []
    for key, plain in (("edges", edges), ("directed", directed)):
        for index, edge in enumerate(table.take(key, list, [])):
            if isinstance(edge, str) and (pairs := pairs_of(edge)):
                (directed if len(pairs) == 1 else edges).append(pairs[0])
            elif isinstance(edge, list) and len(edge) == 2 and _are_texts(edge):
                plain.append((edge[0], edge[1]))
            else:
                table.wrong(
                    f"{key}[{index}]",
                    f"expected a pair of member names, found {edge!r}",
                    'write ["a", "b"], or \'a -> b\' for one direction',
                )
    wiring = WiringDefinition(
        table.take("default", str, "deny"), tuple(edges), tuple(directed), _read_rules(table)
    )
    table.done()
    return wiring


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(each, str) for each in values)


def _read_rules(wiring: TableReader) -> dict[str, str]:
    table = wiring.table("rules")
    rules: dict[str, str] = {}
    for rule in table.data:
        rules[rule] = table.take(rule, str, "deny")
    return rules


def read_mailbox(owner: TableReader, base: MailboxDefinition = NO_MAILBOX) -> MailboxDefinition:
    """The table `mailbox` of a mob or profile."""
    table = owner.table("mailbox")
    mailbox = MailboxDefinition(
        table.take("max_messages", int, base.max_messages),
        table.take("max_bytes", int, base.max_bytes),
        table.take("when_full", str, base.when_full),
    )
    table.done()
    return mailbox


def read_comms(table: TableReader) -> CommsDefinition:
    """The keys of a profile that are about its peers."""
    given = table.raw("comms")
    if given is None or isinstance(given, bool):
        tools: tuple[str, ...] = COMMS_TOOLS if given else ()
    else:
        tools = table.texts("comms")
    return CommsDefinition(
        tools,
        table.take("mob", bool, False),
        table.texts("silent_comms_intents"),
        table.take("max_inline_peer_notifications", int),
        read_mailbox(table),
    )


# -- rules -------------------------------------------------------------------------------------


def bounded_comms(definition: MobDefinition) -> Iterable[tuple[str, float | None, float, float]]:
    """Every number about comms with a bound: its path, its value, the least and the most."""
    inf = float("inf")
    boxes = {"mailbox": definition.mailbox} | {
        f"profiles.{name}.mailbox": profile.comms.mailbox
        for name, profile in definition.profiles.items()
    }
    for path, box in boxes.items():
        yield f"{path}.max_messages", box.max_messages, 1, inf
        yield f"{path}.max_bytes", box.max_bytes, 1, inf
    for name, profile in definition.profiles.items():
        path = f"profiles.{name}.max_inline_peer_notifications"
        yield path, profile.comms.inline_peers, -1, inf


def comms_mistakes(definition: MobDefinition) -> Iterable[Mistake]:
    """What does not hold of wiring, mailboxes and tools for peers, each with its path."""
    wiring = definition.wiring
    if wiring.default not in WAYS:
        word = wiring.default
        yield Mistake("wiring.default", f"{word!r} is not possible", nearest(word, WAYS))
    yield from _rule_mistakes(definition)
    for path, full in _full_words(definition):
        if full is not None and full not in (WAIT, RAISE):
            yield Mistake(path, f"{full!r} is not possible", nearest(full, (WAIT, RAISE)))
    for name, profile in definition.profiles.items():
        for tool in profile.comms.tools:
            if tool not in COMMS_TOOLS:
                why = f"there is no tool {tool!r} for peers"
                yield Mistake(f"profiles.{name}.comms", why, nearest(tool, COMMS_TOOLS))


def _full_words(definition: MobDefinition) -> Iterable[tuple[str, str | None]]:
    yield "mailbox.when_full", definition.mailbox.when_full
    for name, profile in definition.profiles.items():
        yield f"profiles.{name}.mailbox.when_full", profile.comms.mailbox.when_full


def _rule_mistakes(definition: MobDefinition) -> Iterable[Mistake]:
    said: dict[tuple[str, str], str] = {}
    for rule, way in definition.wiring.rules.items():
        path = f"wiring.rules.{rule}"
        if way not in WAYS:
            yield Mistake(path, f"{way!r} is not possible", nearest(way, WAYS))
        pairs = pairs_of(rule)
        if not pairs:
            yield Mistake(path, f"{rule!r} is not of the form 'profile -> profile'")
        for profile in dict.fromkeys(each for pair in pairs for each in pair):
            if profile not in definition.profiles:
                why = f"there is no profile {profile!r}"
                yield Mistake(path, why, nearest(profile, definition.profiles))
        for pair in dict.fromkeys(pairs):
            if said.setdefault(pair, way) != way:
                why = f"another rule says {said[pair]!r} of {pair[0]} -> {pair[1]}"
                yield Mistake(path, why, "say one of them")


def edge_mistakes(definition: MobDefinition, known: list[str]) -> Iterable[Mistake]:
    """Edges that name nobody."""
    for key in ("edges", "directed"):
        for index, edge in enumerate(getattr(definition.wiring, key)):
            for end in edge:
                if end not in known:
                    why = f"there is no member {end!r}"
                    yield Mistake(f"wiring.{key}[{index}]", why, nearest(end, known))
