"""Peers: the sessions of a service that others see by name, and what they say to each other.

Owns: the names, who is told of whom, and how a message reaches its session. Must not: run a turn
(`runtime.service.hosting` does).

A session with a `comms_name` is a peer of every other one of the same realm id. A message becomes
an input of its session, durable before the sender goes on; one with an intent that the session
wants silence about becomes system context, which wakes nobody. Who joins and who leaves is told to
the others in the same commit, as system context too, as long as their peers are few enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs

from runtime import peering
from runtime.errors import NameTaken, SessionError, SessionNotFound
from runtime.ids import SessionId
from runtime.models.base import ToolSpec
from runtime.realm import Realm
from runtime.records import InputAccepted, SessionCreated
from runtime.service.requests import PeerMessage
from runtime.session import PeerCard, SessionHead, SessionSpec
from runtime.tools.base import Tool, ToolContext, ToolFailed

#: Peers' names: what a model can write without quoting.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def check_name(name: str) -> None:
    """Raises `SessionError` if no peer can be called this."""
    if not _NAME.fullmatch(name):
        raise SessionError(f"{name!r} is not a name: use letters, digits, - and _, at most 63")


class Peers:
    """The named sessions of one realm."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        #: Invariant: the sessions of the fold that have a card and are not archived.
        self._named: dict[tuple[str | None, str], SessionId] = {}
        self._joining: set[tuple[str | None, str]] = set()
        for head in realm.state.heads.values():
            self.note(head)

    def note(self, head: SessionHead) -> None:
        """The session is new, or its card or status has changed."""
        self.forget(head.session_id)
        if head.spec.peer is not None and not head.archived:
            self._named[_realm_of(head.spec), head.spec.peer.name] = head.session_id

    def forget(self, session_id: SessionId) -> None:
        """The session is gone."""
        for name in [name for name, known in self._named.items() if known == session_id]:
            del self._named[name]

    def find(self, name: str, realm_id: str | None) -> SessionHead:
        """The session called `name`. Raises `SessionNotFound`."""
        session_id = self._named.get((realm_id, name))
        if session_id is None:
            raise SessionNotFound(SessionId(name), "peer")
        return self._realm.state.head(session_id)

    def others(self, spec: SessionSpec, itself: SessionId | None = None) -> list[PeerCard]:
        """What a session of `spec` sees of the others, in order of their names."""
        return [card for _, card in sorted(self._others(spec, itself), key=lambda one: one[1].name)]

    def _others(
        self, spec: SessionSpec, itself: SessionId | None
    ) -> Iterator[tuple[SessionId, PeerCard]]:
        for (realm_id, _), session_id in self._named.items():
            head = self._realm.state.heads.get(session_id)
            if realm_id != _realm_of(spec) or session_id == itself or head is None:
                continue
            if head.spec.peer is not None:
                yield session_id, head.spec.peer

    # -- coming and going --------------------------------------------------------------------

    @contextmanager
    def joining(self, spec: SessionSpec, itself: SessionId | None = None) -> Iterator[None]:
        """Keep the name of `spec` free for a session that is being made. Raises `NameTaken`."""
        if spec.peer is None:
            yield
            return
        name = _realm_of(spec), spec.peer.name
        taken = self._named.get(name)
        if (taken is not None and taken != itself) or name in self._joining:
            raise NameTaken(spec.peer.name, taken or SessionId("being made"))
        self._joining.add(name)
        try:
            yield
        finally:
            self._joining.discard(name)

    def joined(self, made: SessionCreated) -> list[InputAccepted]:
        """What is told because this session is made: to the others, and to it."""
        card = made.spec.peer
        if card is None:
            return []
        told = list(self._tell(made.spec, made.session_id, peering.joined(card), 1))
        there = self.others(made.spec)
        if there and peering.is_told(card.inline_peers, len(there)):
            about = peering.here(there)
            told.append(self._realm.inputs.context(made.session_id, about, peering.SOURCE))
        return told

    def left(self, head: SessionHead) -> list[InputAccepted]:
        """What is told to the others because this session ends."""
        card = head.spec.peer
        if card is None or head.archived:
            return []
        return list(self._tell(head.spec, head.session_id, peering.left(card.name), 0))

    def _tell(
        self, spec: SessionSpec, about: SessionId, text: str, more: int
    ) -> Iterable[InputAccepted]:
        others = list(self._others(spec, about))
        for session_id, card in others:
            if peering.is_told(card.inline_peers, len(others) - 1 + more):
                yield self._realm.inputs.context(session_id, text, peering.SOURCE)

    # -- messages ----------------------------------------------------------------------------

    def addressed(self, message: PeerMessage, realm_id: str | None) -> SessionHead:
        """Whom a message is for.

        Raises:
            SessionNotFound: there is no peer of that name.
            SessionError: the sender's name is none.
        """
        check_name(message.sender)
        return self.find(message.to, realm_id)

    async def deliver(self, message: PeerMessage, head: SessionHead) -> None:
        """Put a message before the session of `head`, durably."""
        card = head.spec.peer
        inputs = self._realm.inputs
        key = None if message.key is None else f"peer:{message.sender}:{message.key}"
        if card is not None and message.intent in card.silent_intents:
            text = peering.aside(message.sender, message.intent, message.text)
            ticket, _ = inputs.append_context(head.session_id, text, message.sender, key)
        else:
            whole = None if key is None else f"{head.session_id}:{key}"
            text = peering.worded(message.intent, message.text)
            admission = inputs.accept(
                head.session_id, text, sender=message.sender, idempotency_key=whole
            )
            ticket = admission.ticket
        if ticket is not None:
            await ticket.wait()
        else:
            await self._realm.store.barrier()


def _realm_of(spec: SessionSpec) -> str | None:
    return None if spec.provenance is None else spec.provenance.realm_id


# -- tools -------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class ListPeers:
    """The tool that says who there is."""

    peers: Peers
    idempotent: bool = True
    timeout_s: float | None = None
    spec: ToolSpec = ToolSpec(
        "list_peers",
        "Say which other agents there are, by name, and what they do.",
        {"type": "object", "properties": {}, "additionalProperties": False},
    )

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """A JSON list of ``{"name", "description", "labels"}``."""
        head = self.peers._realm.state.head(context.session_id)
        return [
            {"name": card.name, "description": card.description, "labels": card.labels}
            for card in self.peers.others(head.spec, head.session_id)
        ]


@attrs.frozen(eq=False)
class SendToPeer:
    """The tool that sends a message to a peer. A call that is repeated sends nothing again."""

    peers: Peers
    sender: str
    realm_id: str | None
    deliver: Any
    idempotent: bool = True
    timeout_s: float | None = None
    spec: ToolSpec = ToolSpec(
        "send_to_peer",
        "Send a message to another agent. Does not wait for an answer.",
        {
            "type": "object",
            "properties": {
                "to": {"type": "string", "description": "The name of the agent."},
                "text": {"type": "string", "minLength": 1},
                "intent": {"type": "string", "description": "One word for what it is about."},
            },
            "required": ["to", "text"],
            "additionalProperties": False,
        },
    )

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Raises `ToolFailed` if there is no such peer."""
        message = PeerMessage(
            arguments["to"],
            arguments["text"],
            self.sender,
            arguments.get("intent", peering.MESSAGE),
            context.key,
        )
        try:
            await self.deliver(message, realm_id=self.realm_id)
        except SessionError as error:
            raise ToolFailed(str(error)) from error
        return "sent"


def peer_tools(peers: Peers, spec: SessionSpec, deliver: Any) -> list[Tool]:
    """The tools of a session that has a name."""
    if spec.peer is None:
        return []
    return [ListPeers(peers), SendToPeer(peers, spec.peer.name, _realm_of(spec), deliver)]
