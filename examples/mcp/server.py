"""An MCP server that knows a few lighthouses. It could be any program, in any language.

The mob starts it when a session first needs one of its tools, and ends it.
"""

from typing import Literal

from mcp.server.mcpserver import MCPServer

#: What each shows at sea: flashes, and how many seconds until they begin again.
LIGHTS = {
    "Eddystone": (2, 10),
    "Bell Rock": (1, 5),
    "Fastnet": (1, 5),
    "Bishop Rock": (2, 15),
}

server = MCPServer("lights")


@server.tool()
def character_of(lighthouse: Literal["Eddystone", "Bell Rock", "Fastnet", "Bishop Rock"]) -> str:
    """Say how the light of a lighthouse flashes, by which sailors tell it from others."""
    flashes, period_s = LIGHTS[lighthouse]
    return f"{lighthouse} shows {flashes} white every {period_s} seconds."


@server.tool()
def seen_flashing(flashes: int, period_s: int) -> list[str]:
    """List the lighthouses that flash like that."""
    return [name for name, shown in LIGHTS.items() if shown == (flashes, period_s)]


@server.tool()
def put_out(lighthouse: str) -> str:
    """Put a light out."""
    raise RuntimeError(f"{lighthouse} must not be put out")


if __name__ == "__main__":
    server.run("stdio")
