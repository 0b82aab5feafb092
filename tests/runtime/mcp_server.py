"""A real MCP server for the tests, over its pipes or over HTTP.

Owns: tools with every kind of result, and tools that go wrong. Must not: be imported by a test; it
is run as ``python -m tests.runtime.mcp_server [PORT]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image

server = MCPServer("test")


def note(name: str, text: str) -> None:
    """Tell the test something, by a file in the folder it named."""
    folder = os.environ.get("NOTES")
    if folder:
        (Path(folder) / name).write_text(f"{text}\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="look.up")
def look_up(word: str) -> dict[str, str]:
    """Look a word up."""
    return {"word": word, "means": "something"}


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """Show a picture."""
    return ["a dot:", Image(data=b"x" * 300, format="png")]


@server.tool()
def environment() -> str:
    """Say what it inherited."""
    return "\n".join(f"{key}={value}" for key, value in sorted(os.environ.items()))


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("it went wrong")


@server.tool()
def die() -> str:
    """End the server in the middle of a call, leaving something behind."""
    child = subprocess.Popen(["sleep", "60"])
    note("child", str(child.pid))
    sys.stderr.write("these are my last words\n")
    sys.stderr.flush()
    os._exit(3)


@server.tool()
async def wait(seconds: float) -> str:
    """Take that long, and note when it is cancelled."""
    note("waiting", "yes")
    try:
        await anyio.sleep(seconds)
    except anyio.get_cancelled_exc_class():
        note("cancelled", "yes")
        raise
    return "waited"


@server.tool()
async def learn(context: Context) -> str:
    """Offer one more tool from now on."""

    def learnt() -> str:
        """What was learnt."""
        return "I know"

    server.add_tool(learnt)
    await context.notify_tools_changed()
    return "learnt"


if __name__ == "__main__":
    note("server", str(os.getpid()))
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
