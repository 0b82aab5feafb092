"""What the tools of servers are called: by us in lists, and by models.

Owns: both names of a server's tool. Must not: know a server.

Lists name a tool ``mcp.SERVER.TOOL``. Providers accept letters, digits, ``_`` and ``-``, at most 64
(OpenAI's rule is the narrowest), so models are told ``SERVER__TOOL``; where that breaks the rule,
what does not fit is replaced and a digest of the whole name is put behind it, which keeps names
apart and is the same in every process: a resumed turn finds its tool by it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MCP_PREFIX: Final = "mcp."
_SEPARATOR: Final = "__"
_LONGEST: Final = 64
_DIGEST_CHARS: Final = 8


def qualified_name(server: str, tool: str) -> str:
    """What lists call the tool that `server` calls `tool`."""
    return f"{MCP_PREFIX}{server}.{tool}"


def wire_name(server: str, tool: str) -> str:
    """What models call the tool that `server` calls `tool`."""
    name = f"{server}{_SEPARATOR}{tool}"
    fitting = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if fitting == name and len(name) <= _LONGEST:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_CHARS // 2)
    return f"{fitting[: _LONGEST - _DIGEST_CHARS - 1]}_{digest.hexdigest()}"


def was_fitted(wire: str) -> bool:
    """Whether what models call `wire` may be a name that did not fit: it ends as those do."""
    return re.search(r"_[0-9a-f]{8}\Z", wire) is not None


def is_from(server: str, wire: str) -> bool:
    """Whether what models call `wire` is a tool of `server`.

    Servers' names are at most 63 characters; of a longer one less than the separator may be left.
    """
    prefix = f"{server}{_SEPARATOR}"[: _LONGEST - _DIGEST_CHARS - 1]
    return wire.startswith(prefix)
