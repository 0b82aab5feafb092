"""What sessions say to each other, and what they are told of each other, in words. Pure.

Owns: how a message of a peer reads, who is told who comes and goes, and how that reads. Must not:
know how a message reaches its session. Sessions of a service and members of a mob share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from runtime.session import PeerCard

#: Up to how many peers a session is told who joins and leaves, unless it says otherwise: lines of a
#: prompt beyond that cost more than they say.
INLINE_PEERS: Final = 50

#: As whose context a session is told of its peers.
SOURCE: Final = "peers"

#: The intent of a message that says nothing else.
MESSAGE: Final = "message"


def inline_limit(wanted: int | None) -> int:
    """Up to how many peers a session is told of them, -1: however many, that wants it so."""
    return INLINE_PEERS if wanted is None else wanted


def is_told(wanted: int | None, peers: int) -> bool:
    """Whether a session with so many peers is told who joins and leaves."""
    most = inline_limit(wanted)
    return most == -1 or (most > 0 and peers <= most)


def said(card: PeerCard) -> str:
    """A peer in a few words."""
    labels = ", ".join(f"{key}={value}" for key, value in sorted(card.labels.items()))
    about = " ".join(part for part in (card.description, f"[{labels}]" if labels else "") if part)
    return f"{card.name} ({about})" if about else card.name


def joined(card: PeerCard) -> str:
    """What the others are told of a peer that comes."""
    return f"Peer {said(card)} has joined."


def left(name: str) -> str:
    """What the others are told of a peer that goes."""
    return f"Peer {name} has left."


def reachable(card: PeerCard) -> str:
    """What a peer is told that may send to another one from now on."""
    return f"You may send to peer {said(card)} now."


def cut_off(card: PeerCard) -> str:
    """What a peer is told that may send to another one no more."""
    return f"You may not send to peer {card.name} any more."


def here(cards: Iterable[PeerCard]) -> str:
    """What a session is told of the peers that it finds."""
    return "Your peers are: " + "; ".join(map(said, cards)) + "."


def worded(intent: str, text: str) -> str:
    """A message that begins a turn."""
    return text if intent == MESSAGE else f"[{intent}] {text}"


def aside(sender: str | None, intent: str, text: str) -> str:
    """A message that is recorded and wakes nobody."""
    return f"{sender} ({intent}): {text}" if sender is not None else f"({intent}): {text}"
