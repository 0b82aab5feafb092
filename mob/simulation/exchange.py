"""The exchange: what the journal says of wiring, mailboxes and requests, told a second time.

Owns: `Exchange`: who may send to whom, what waits for whom, how requests ended. Must not: judge
(`mob.simulation.mailing` does), share code with `mob.comms` but its records.

Unlike the folds it forgets nothing of requests: how one ended that was settled long ago is what
shows that whoever asked was told the truth.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from mob.comms.records import MembersUnwired, MembersWired, RequestSent, RequestSettled
from mob.records import (
    BlueprintAdopted,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
)
from mob.simulation.facts import Written, is_context, waits
from runtime.records import InputAbandoned, InputAccepted, SessionArchived, TurnEnded, TurnOutcome

if TYPE_CHECKING:
    from mob.definition import MobDefinition

Pair = tuple[str, str]

#: How a request reads to the one that is asked.
ASKING: Final = re.compile(r"\[request ([^\]]+)\] (.*)", re.DOTALL)
#: What may stand before a text: its intent, or who says it without waking anybody.
_BARE: Final = re.compile(r"(?:\[[^\]]*\] |(?:\S+ )?\(\w+\): )?(.*)", re.DOTALL)
_RULE: Final = re.compile(r"\s*(\S+)\s*(<->|->)\s*(\S+)\s*")


@attrs.define
class KnownRequest:
    """A request and the process that sent it; how it ended (None: not yet), with what text, by
    which record and process."""

    sent: RequestSent
    text: str
    sent_by: int
    how: str | None = None
    reply: str = ""
    ended: int = 0
    process: int = 0


@attrs.define
class Waiting:
    """An input that waits. `ready`: the next turn begins after it came, and nothing is before it,
    so if it goes with the next turn at the latest it goes with that."""

    sender: str | None
    size: int
    at_once: bool
    ready: bool = False


@final
class Exchange:
    """The comms of one mob."""

    def __init__(self) -> None:
        #: What the processes run on; `opening` says so.
        self.definition: MobDefinition | None = None
        self.profiles: dict[str, str] = {}
        #: Everybody who ever was a member.
        self.ever: dict[str, None] = {}
        self.said: dict[Pair, bool] = {}
        #: The last record that made each pair another one, and when each name last came or went.
        self.changed: dict[Pair, int] = {}
        self.moved: dict[str, int] = {}
        self.requests: dict[str, KnownRequest] = {}
        #: The ids of those that ask for this, in order.
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        #: What waits for each session, in order of acceptance.
        self.waiting: defaultdict[str, dict[str, Waiting]] = defaultdict(dict)
        self._over: set[str] = set()
        #: The inputs that say each text, whatever stands before it.
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self._last_text = ""
        self._steering: set[str] = set()
        self._edges: frozenset[Pair] = frozenset()
        self._roles: dict[Pair, bool] = {}
        self._default: bool | None = None
        self.table: Final[Mapping[type, Callable[[Written, Any], None]]] = {
            MobCreated: self._adopted,
            BlueprintAdopted: self._adopted,
            MemberSpawned: self._joined,
            MemberRespawned: self._joined,
            MemberRetired: self._left,
            MembersWired: lambda written, record: self._say(written, record.pairs, True),
            MembersUnwired: self._unwired,
            RequestSent: self._sent,
            RequestSettled: self._settled,
            MobStateChanged: self._mob_is,
            InputAccepted: self._accepted,
            InputAbandoned: lambda _, record: self._gone(record.session_id, record.input_id),
            SessionArchived: self._archived,
            TurnEnded: self._ended,
        }

    def opening(self, definition: MobDefinition) -> None:
        """A process opens the mob of `definition`."""
        self.definition = definition

    # -- reading ---------------------------------------------------------------------------

    def allowed(self, sender: str, to: str) -> bool:
        """Whether the journal lets one member send to the other."""
        if sender not in self.profiles or to not in self.profiles or sender == to:
            return False
        if "~" in sender or "~" in to:  # a helper, which talks to nobody
            return False
        pair = (sender, to)
        if pair in self.said:
            return self.said[pair]
        if pair in self._edges:
            return True
        role = self._roles.get((self.profiles[sender], self.profiles[to]))
        return role if role is not None else self._default is not False

    def wired(self, sender: str, to: str) -> bool:
        """Whether the two have an edge of their own."""
        return self.said.get((sender, to), (sender, to) in self._edges)

    def since(self, pair: Pair) -> int:
        """The last record that may have made the pair another one."""
        return max(self.changed.get(pair, 0), *(self.moved.get(name, 0) for name in pair))

    def bounds(self, name: str) -> tuple[int, int] | None:
        """How many messages and bytes may wait for a member; None if nobody knows."""
        mob = self.definition
        if mob is None or self.profiles.get(name) not in mob.profiles:
            return None
        own = mob.profiles[self.profiles[name]].comms.mailbox
        most, size = own.max_messages, own.max_bytes
        count = mob.mailbox.max_messages if most is None else most
        used = mob.mailbox.max_bytes if size is None else size
        return count or 0, used or 0

    def is_silent(self, name: str, intent: str) -> bool:
        """Whether a message with this intent wakes the member not."""
        mob = self.definition
        if mob is None:
            return False
        named = self.profiles.get(name) or newcomers_profile(mob, name) or ""
        profile = mob.profiles.get(named)
        return profile is not None and intent in profile.comms.silent_intents

    def steers(self, input_id: str) -> bool:
        """Whether a message was sent to steer a turn."""
        return input_id in self._steering

    def messages(self, session_id: str) -> Iterator[Waiting]:
        """What waits in the mailbox of a session's member."""
        known = self.waiting.get(session_id, {})
        return (each for each in known.values() if not waits(each.sender))

    # -- telling ---------------------------------------------------------------------------

    def _adopted(self, _: Written, record: MobCreated | BlueprintAdopted) -> None:
        table = json.loads(record.blueprint)
        wiring = table.get("wiring")
        if wiring is None:
            return
        self._default = wiring["default"] == "allow"
        names = {base: _names(base, each) for base, each in table.get("members", {}).items()}
        both = [tuple(each) for each in wiring.get("edges", ())]
        one = [tuple(each) for each in wiring.get("directed", ())]
        self._edges = frozenset(
            (left, right)
            for first, second in [*both, *[(b, a) for a, b in both], *one]
            for left in names.get(first, [first])
            for right in names.get(second, [second])
        )
        self._roles = {}
        for rule, way in wiring.get("rules", {}).items():
            found = _RULE.fullmatch(rule)
            assert found is not None, rule
            left, arrow, right = found.groups()
            self._roles[left, right] = way == "allow"
            if arrow == "<->":
                self._roles[right, left] = way == "allow"

    def _joined(self, written: Written, record: MemberSpawned | MemberRespawned) -> None:
        self.profiles[record.name] = record.profile
        self.ever[record.name] = None
        self.moved[record.name] = written.seq

    def _left(self, written: Written, record: MemberRetired) -> None:
        self.profiles.pop(record.name, None)
        self.moved[record.name] = written.seq
        self.said = {pair: said for pair, said in self.said.items() if record.name not in pair}
        for known in self.requests.values():
            if record.name in (known.sent.sender, known.sent.to):
                self._end(written, known, "left", "")

    def _say(self, written: Written, pairs: tuple[Pair, ...], said: bool) -> None:
        for pair in pairs:
            self.said[pair] = said
            self.changed[pair] = written.seq

    def _unwired(self, written: Written, record: MembersUnwired) -> None:
        self._say(written, record.pairs, False)
        for known in self.requests.values():
            if (known.sent.sender, known.sent.to) in record.pairs:
                self._end(written, known, "unwired", "")

    def _sent(self, written: Written, record: RequestSent) -> None:
        found = ASKING.fullmatch(self._last_text)
        text = "" if found is None else found[2]
        self.requests[record.request_id] = KnownRequest(record, text, written.commit.process)
        self.asked[text].append(record.request_id)

    def _settled(self, written: Written, record: RequestSettled) -> None:
        known = self.requests.get(record.request_id)
        if known is not None:
            self._end(written, known, record.how.value, record.text)

    def _mob_is(self, written: Written, record: MobStateChanged) -> None:
        if record.state == "destroyed":
            for known in self.requests.values():
                self._end(written, known, "left", "")

    def _end(self, written: Written, known: KnownRequest, how: str, text: str) -> None:
        if known.how is None:
            known.how, known.reply = how, text
            known.ended, known.process = written.seq, written.commit.process

    def _accepted(self, _: Written, record: InputAccepted) -> None:
        self._last_text = record.text
        bare = _BARE.fullmatch(record.text)
        assert bare is not None
        self.texts[bare[1]].append(record.input_id)
        if record.steer:
            self._steering.add(record.input_id)
        if record.session_id in self._over:
            return  # it was on its way when its session ended, and is given up as it lands
        at_once = record.steer or is_context(record.sender)
        size = len(record.text.encode("utf-8", "surrogatepass"))
        self.waiting[record.session_id][record.input_id] = Waiting(record.sender, size, at_once)

    def _archived(self, _: Written, record: SessionArchived) -> None:
        self._over.add(record.session_id)
        self.waiting[record.session_id].clear()

    def _gone(self, session_id: str, input_id: str) -> None:
        self.waiting[session_id].pop(input_id, None)

    def _ended(self, _: Written, record: TurnEnded) -> None:
        if not record.input_ids:
            return  # somebody saved it by hand
        known = self.waiting[record.session_id]
        for input_id in record.input_ids:
            known.pop(input_id, None)
        before: set[str | None] = set()
        for each in known.values():
            each.ready = each.at_once and (is_context(each.sender) or each.sender not in before)
            if not each.at_once:
                before.add(each.sender)

    def overdue(self, record: TurnEnded) -> str | None:
        """What the turn should have taken in and did not, if anything."""
        if record.outcome is not TurnOutcome.COMPLETED or not record.input_ids:
            return None
        if not record.usage.model_calls:  # an immediate run, which comes by no boundary
            return None
        known = self.waiting.get(record.session_id, {})
        late = (key for key, each in known.items() if each.ready and key not in record.input_ids)
        return next(late, None)


def newcomers_profile(definition: MobDefinition, name: str) -> str | None:
    """The profile on which one joins who is not there and is written to; None: nobody does."""
    rules = definition.spawn.rules.items()
    found = next((to for rule, to in rules if fnmatchcase(name, rule)), definition.spawn.on_unknown)
    return None if found == "refuse" else found


def _names(base: str, member: Mapping[str, Any]) -> list[str]:
    count = member.get("replicas")
    return [base] if count is None else [f"{base}-{place}" for place in range(count)]
