"""Who is told which peers there are: of whom a member may send to, and who joins and leaves.

Owns: the records of that, for verbs that commit them with what they are about. Must not: commit
anything, or wake anybody: it is system context, in the next turn's or that of the turn in flight.

A member is told if its profile has tools for peers, or says up to how many it is to be told of, and
as long as its peers are at most so many (`runtime.peering`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mob.comms.wiring import Wiring
from mob.core import MobCore
from mob.records import MemberSpawned
from mob.roster import Member
from runtime import peering
from runtime.ids import SessionId
from runtime.records import InputAccepted
from runtime.session import PeerCard


class Announcing(MobCore):
    """What `mob.mob.Mob` has of this module."""

    def card(self, name: str, profile: str | None = None) -> PeerCard:
        """What other members see of a member. Raises `MemberNotFound` unless `profile` is given."""
        profile = profile or self._row(name).profile
        return PeerCard(name, self._harnesses.description_of(name, profile))

    # -- inside ----------------------------------------------------------------------------

    def _joined_notices(self, joined: Sequence[MemberSpawned]) -> list[InputAccepted]:
        """What is told because these members join: to each who is there, and to those who may send
        to them."""
        if not self._announces:
            return []
        profiles = {each.name: each.profile for each in joined}
        wiring, sessions = self._together(profiles)
        sessions.update({each.name: each.session_id for each in joined})
        told: list[InputAccepted] = []
        for name in wiring.names:
            if name in profiles:
                told += self._here(wiring, name, sessions[name])
                continue
            told += self._notices(
                wiring,
                sessions,
                name,
                {each: peering.joined(self.card(each, profiles[each])) for each in profiles},
            )
        return told

    def _respawned_notices(self, new: Member) -> list[InputAccepted]:
        """What the next generation of a member is told of its peers: it has not heard of any."""
        if not self._announces:
            return []
        wiring, _ = self._together({new.name: new.profile})
        return self._here(wiring, new.name, new.session_id)

    def _left_notices(self, name: str) -> list[InputAccepted]:
        """What those who may send to the member are told because it leaves."""
        if not self._announces:
            return []
        wiring, sessions = self._together({name: self.roster.members[name].profile})
        words = {name: peering.left(name)}
        return [
            notice
            for other in wiring.names
            if other != name
            for notice in self._notices(wiring, sessions, other, words, more=-1)
        ]

    def _wired_notices(
        self, pairs: Sequence[tuple[str, str]], *, gone: bool
    ) -> list[InputAccepted]:
        """What the first of each pair is told: it may send to the second now, or no more."""
        if not self._announces:
            return []
        told: list[InputAccepted] = []
        for sender, recipient in pairs:
            row, more = self._row(sender), -1 if gone else 1
            if self._hears(self.wiring, sender) and self._few(self.wiring, sender, more):
                card = self.card(recipient)
                text = peering.cut_off(card) if gone else peering.reachable(card)
                told.append(self._notice(row.session_id, text))
        return told

    @property
    def _announces(self) -> bool:
        return any(each.comms.told for each in self.definition.profiles.values())

    def _together(self, more: Mapping[str, str]) -> tuple[Wiring, dict[str, SessionId]]:
        """The wiring as if `more` were members too, and the sessions of those there are."""
        rows = self.roster.members
        profiles = {name: row.profile for name, row in rows.items() if name not in self._leaving}
        profiles.update(more)
        return self.wiring.of(profiles), {name: row.session_id for name, row in rows.items()}

    def _here(self, wiring: Wiring, name: str, session_id: SessionId) -> list[InputAccepted]:
        peers = wiring.peers_of(name) if self._hears(wiring, name) else ()
        if not peers or not self._few(wiring, name):
            return []
        cards = [self.card(each, wiring.profile(each)) for each in peers]
        return [self._notice(session_id, peering.here(cards))]

    def _notices(
        self,
        wiring: Wiring,
        sessions: Mapping[str, SessionId],
        name: str,
        words: Mapping[str, str],
        more: int = 0,
    ) -> Iterator[InputAccepted]:
        if not self._hears(wiring, name):
            return
        about = [text for each, text in words.items() if wiring.may_send(name, each).allows]
        if about and self._few(wiring, name, more):
            for text in about:
                yield self._notice(sessions[name], text)

    def _hears(self, wiring: Wiring, name: str) -> bool:
        return self.definition.profiles[wiring.profile(name) or ""].comms.told

    def _few(self, wiring: Wiring, name: str, more: int = 0) -> bool:
        """Whether the peers of the member, with `more` of them, are few enough to be told of."""
        wanted = self.definition.profiles[wiring.profile(name) or ""].comms.inline_peers
        most = peering.inline_limit(wanted)
        return most == -1 or peering.is_told(wanted, wiring.count(name, most - more) + more)

    def _notice(self, session_id: SessionId, text: str) -> InputAccepted:
        return self.realm.inputs.context(session_id, text, peering.SOURCE)
