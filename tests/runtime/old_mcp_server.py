"""An MCP server of the older kind, by hand: no package, the 2025 handshake, noise on stdout.

Owns: a server that shares no code with the client. Must not: be imported by a test; it is run as
``python old_mcp_server.py [MODE]``, where ``mute`` never answers and ``broken`` ends at once.
"""

from __future__ import annotations

import json
import sys
from typing import Any

TOOLS = [{"name": "first", "inputSchema": {"type": "object", "properties": {}}}]


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of a request, or the error."""
    if method == "initialize":
        made = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
        return {"result": {**made, "serverInfo": {"name": "old", "version": "1"}}}
    if method == "tools/list":
        # One tool a page.
        at = int(params.get("cursor") or 0)
        page: dict[str, Any] = {"tools": TOOLS[at : at + 1]}
        if at + 1 < len(TOOLS):
            page["nextCursor"] = str(at + 1)
        return {"result": page}
    if method == "tools/call":
        TOOLS.append({"name": "second", "description": "2nd", "inputSchema": {"type": "object"}})
        say({"method": "notifications/tools/list_changed"})
        return {"result": {"content": [{"type": "text", "text": f"called {params['name']}"}]}}
    return {"error": {"code": -32601, "message": f"no method {method}"}}


def main(mode: str) -> None:
    if mode == "broken":
        sys.exit("no database to speak to")
    sys.stdout.write("Welcome to the old server!\n")
    sys.stdout.flush()
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and mode != "mute":
            say({"id": message["id"], **answer(message["method"], message.get("params") or {})})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
