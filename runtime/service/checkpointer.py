"""Who saves a session that stays alive: the seam, and the service's own.

Owns: the protocol (seed: meerkat-core, `SessionCheckpointer`). Must not: decide when to save.
"""

from __future__ import annotations

from typing import Protocol

from runtime.session import Session


class SessionCheckpointer(Protocol):
    """Saves a session while it goes on living."""

    async def checkpoint(self, session: Session) -> None:
        """Save `session`, which is at its latest committed turn.

        It takes no part in control flow: the turn is durable already, so whatever this raises is
        remembered (`SessionHosts.failures`) and ends nothing.
        """
        ...
