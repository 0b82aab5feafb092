"""What a mob file says about tools: functions, the shell, MCP servers, and who may call what.

Owns: the definition types of ``[tools.X]``, ``[mcp.X]``, ``[profiles.X.shell]`` and of the lists
``tools``, reading them, and the rules about them. Must not: load a function, start a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from mob.errors import Mistake
from mob.tables import TableReader, nearest
from runtime.tools.names import MCP_PREFIX
from runtime.tools.policy import ToolPolicy, listed, matches

if TYPE_CHECKING:
    from mob.definition import MobDefinition

#: Tools that exist by configuration and not by a [tools.X] table.
SPAWN_AGENT: Final = "spawn_agent"
SHELL: Final = "shell"
#: What comes with `SPAWN_AGENT` if children may work in the background.
TASK_TOOLS: Final = ("list_tasks", "get_task", "message_task", "wait_task", "cancel_task")
LOAD_SKILL: Final = "load_skill"
SEARCH_MEMORY: Final = "search_memory"
BOARD_TOOLS: Final = ("board_list", "board_add", "board_claim", "board_finish")
ASK_PREFIX: Final = "ask_"

#: Whether a call of a tool waits for somebody's approval (`runtime.approvals`).
UNASKED: Final = "never"
ASK: Final = "ask"

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The names that HTTP allows for headers (RFC 9110, 5.6.2).
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@attrs.frozen
class ToolDefinition:
    """A Python function as a tool: ``function = "file.py:name"``, the file beside the mob file.
    With `approve` of ``ask`` each call of it waits for an approval, whoever makes it."""

    function: str
    idempotent: bool = False
    timeout_s: float | None = None
    approve: str = UNASKED


@attrs.frozen
class ShellDefinition:
    """A profile's shell. `cwd` is relative to the mob file; `env` names variables that commands
    get besides those that every command gets."""

    cwd: str = "."
    timeout_s: float = 60.0
    max_output_bytes: int = 30_000
    env: tuple[str, ...] = ()


@attrs.frozen
class McpDefinition:
    """An MCP server: a `command` that speaks over its pipes, or a `url`.

    In the values of `env` and `headers`, ``${NAME}`` stands for a variable of the mob's own
    environment, so that no secret is in the file. `idempotent` are patterns over the server's own
    names for its tools.
    """

    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = attrs.field(factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    timeout_s: float = 60.0
    start_timeout_s: float = 30.0
    idempotent: tuple[str, ...] = ()


@attrs.frozen
class ToolLists:
    """Patterns: what is allowed (None: no allow list) and what is denied."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    @property
    def policy(self) -> ToolPolicy:
        return listed(self.allow, self.deny)


NO_LISTS: Final = ToolLists()


def read_tool(table: TableReader) -> ToolDefinition:
    """A table [tools.X]."""
    tool = ToolDefinition(
        table.required("function", str, "tools.py:tool"),
        table.take("idempotent", bool, False),
        table.take("timeout_s", float),
        table.choice("approve", UNASKED, (UNASKED, ASK)),
    )
    table.done()
    return tool


def read_lists(owner: TableReader) -> ToolLists:
    """The value of `tools` in a profile or member: what is allowed, or a table of two lists."""
    if not isinstance(owner.raw("tools"), dict):
        return ToolLists(owner.texts("tools") if "tools" in owner else None)
    table = owner.table("tools")
    lists = ToolLists(table.texts("allow") if "allow" in table else None, table.texts("deny"))
    table.done()
    return lists


def read_shell(owner: TableReader) -> ShellDefinition | None:
    """The table `shell` of a profile; without one the profile has no shell."""
    if owner.take("shell", dict) is None:
        return None
    table, default = owner.table("shell"), ShellDefinition()
    shell = ShellDefinition(
        table.take("cwd", str, default.cwd),
        table.take("timeout_s", float, default.timeout_s),
        table.take("max_output_bytes", int, default.max_output_bytes),
        table.texts("env"),
    )
    table.done()
    return shell


def read_mcp(table: TableReader) -> McpDefinition:
    """A table [mcp.X]."""
    default = McpDefinition()
    server = McpDefinition(
        table.take("command", str),
        table.texts("args"),
        _read_texts(table, "env"),
        table.take("cwd", str),
        table.take("url", str),
        _read_texts(table, "headers"),
        table.take("timeout_s", float, default.timeout_s),
        table.take("start_timeout_s", float, default.start_timeout_s),
        table.texts("idempotent"),
    )
    table.done()
    return server


def _read_texts(owner: TableReader, key: str) -> dict[str, str]:
    given = owner.take(key, dict, {})
    for name, value in given.items():
        if not isinstance(value, str):
            owner.wrong(f"{key}.{name}", f"expected text, found {value!r}")
    return {name: value for name, value in given.items() if isinstance(value, str)}


def bounded_tools(definition: MobDefinition) -> Iterable[tuple[str, float | None, float, float]]:
    """Every number about tools with a bound: its path, its value, the least and the most."""
    inf = float("inf")
    for name, tool in definition.tools.items():
        yield f"tools.{name}.timeout_s", tool.timeout_s, 0.001, inf
    for name, server in definition.mcp.items():
        yield f"mcp.{name}.timeout_s", server.timeout_s, 0.001, inf
        yield f"mcp.{name}.start_timeout_s", server.start_timeout_s, 0.001, inf
    for name, profile in definition.profiles.items():
        if profile.shell is not None:
            path = f"profiles.{name}.shell"
            yield f"{path}.timeout_s", profile.shell.timeout_s, 0.001, inf
            yield f"{path}.max_output_bytes", profile.shell.max_output_bytes, 100, inf


def _taken(definition: MobDefinition) -> list[str]:
    """The names of the built-in tools that this mob has, and of those that every mob may have."""
    subagents = [profile.subagents for profile in definition.profiles.values()]
    taken = [SPAWN_AGENT, SHELL]
    if any(each is not None and each.background for each in subagents):
        taken += TASK_TOOLS
    if definition.skills:
        taken.append(LOAD_SKILL)
    if any(profile.memory is not None for profile in definition.profiles.values()):
        taken.append(SEARCH_MEMORY)
    if any(profile.board for profile in definition.profiles.values()):
        taken += BOARD_TOOLS
    return [*taken, *_comms_tools(definition)]


def _comms_tools(definition: MobDefinition) -> list[str]:
    """The tools for peers that some profile has."""
    profiles = definition.profiles.values()
    return list(dict.fromkeys(name for each in profiles for name in each.comms.all_tools))


def check_tools(definition: MobDefinition) -> Iterable[Mistake]:
    """What does not hold of tools, servers and lists, each with its path."""
    taken = _taken(definition)
    for name, tool in definition.tools.items():
        path = f"tools.{name}"
        if name in taken or name.startswith(ASK_PREFIX):
            yield Mistake(path, "the name is taken by a built-in tool", "rename it")
        owner = next((each for each in definition.mcp if name.startswith(f"{each}__")), None)
        if owner is not None:
            why = f"the name could be that of a tool of mcp.{owner}"
            yield Mistake(path, why, "rename one of them")
        if not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", tool.function):
            form = f"{tool.function!r} is not of the form file.py:function_name"
            yield Mistake(f"{path}.function", form)
    for name, server in definition.mcp.items():
        yield from _check_server(f"mcp.{name}", name, server)
    known = _known(definition)
    for name, profile in definition.profiles.items():
        allowed = [*definition.tools]
        yield from _check_list(definition, f"profiles.{name}.tools", profile.tools, allowed)
        asked = f"profiles.{name}.approve"
        yield from _check_list(definition, asked, profile.approve, known)
        denied = f"profiles.{name}.tools.deny"
        yield from _check_list(definition, denied, profile.tools_deny, known)
        if profile.shell is not None:
            for variable in profile.shell.env:
                if not _VARIABLE.fullmatch(variable):
                    why = f"{variable!r} is not the name of an environment variable"
                    yield Mistake(f"profiles.{name}.shell.env", why)
    for name, member in definition.members.items():
        path = f"members.{name}.tools"
        yield from _check_list(definition, path, member.tools.allow or (), known)
        yield from _check_list(definition, path, member.tools.deny, known)


def _check_server(path: str, name: str, server: McpDefinition) -> Iterable[Mistake]:
    if "__" in name:
        yield Mistake(path, "two underscores end a server's name in its tools' names", "rename it")
    if (server.command is None) == (server.url is None):
        yield Mistake(path, "give either a command or a url")
        return
    wrong = ("args", "env", "cwd") if server.command is None else ("headers",)
    for key in wrong:
        if getattr(server, key):
            goes = "command" if server.command is None else "url"
            yield Mistake(f"{path}.{key}", f"goes with a {goes}, which this server has not")
    if server.url is not None and not re.match(r"https?://[^/]", server.url):
        yield Mistake(
            f"{path}.url", f"{server.url!r} is not an address that begins with http(s)://"
        )
    for key, form in (("env", _VARIABLE), ("headers", _HEADER)):
        for each in getattr(server, key):
            if not form.fullmatch(each):
                yield Mistake(f"{path}.{key}", f"{each!r} is not a name")


def _known(definition: MobDefinition) -> list[str]:
    """The tools that a member could have, but for those of MCP servers, which only they know."""
    asking = [f"{ASK_PREFIX}{profile}" for profile in definition.profiles]
    return [
        *definition.tools,
        *(SPAWN_AGENT, *TASK_TOOLS, SHELL),
        *asking,
        *_comms_tools(definition),
    ]


def _check_list(
    definition: MobDefinition, path: str, patterns: tuple[str, ...], known: Iterable[str]
) -> Iterable[Mistake]:
    """A pattern that fits nothing is a slip of the pen; in a deny list a dangerous one."""
    known = tuple(known)
    for index, pattern in enumerate(patterns):
        if pattern in patterns[:index]:
            yield Mistake(path, f"{pattern!r} is listed more than once")
        elif any(matches((pattern,), name) for name in known):
            continue
        elif not pattern.startswith(MCP_PREFIX):
            why = f"there is no tool {pattern!r}"
            if "*" in pattern:
                why = f"no tool fits {pattern!r}"
            yield Mistake(path, why, nearest(pattern, known))
        else:
            server, dot, tool = pattern.removeprefix(MCP_PREFIX).partition(".")
            if not any(matches((server,), each) for each in definition.mcp):
                hint = nearest(server, definition.mcp)
                yield Mistake(path, f"there is no MCP server {server!r}", hint)
            elif "*" not in server and not (dot and tool):
                yield Mistake(path, f"{pattern!r} names no tool", f"write {pattern.rstrip('.')}.*")
