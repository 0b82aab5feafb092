"""A small server beside a running mob: other terminals and programs work on it through a socket.

Owns: the names that users need of it. Must not: import what the extra ``server`` brings before it
is used: without it mobs run as ever.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mob.server.client import Client, open_client
    from mob.server.serving import Server, serve

#: Where each name lives.
_HOMES: Final = {
    "Client": "mob.server.client",
    "Server": "mob.server.serving",
    "open_client": "mob.server.client",
    "serve": "mob.server.serving",
}

__all__ = ["Client", "Server", "open_client", "serve"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mob.server' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
