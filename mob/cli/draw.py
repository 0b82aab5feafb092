"""What a mob looks like: a `MobView` as a table whose first column is a tree.

Owns: columns, colours, what is left out when there is little room. Must not: look at a mob.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from mob.cli.output import age, count, one_line, plural, spent_text
from mob.console.picture import CALLED, STYLES
from mob.view import MobView, Node

#: Below these widths in characters a column is left out.
_WORDS_FROM: Final = 84
_TOKENS_FROM: Final = 64
#: Characters of a tool's or child's name in the tree.
_NAME: Final = 28
#: Columns of the state of a mob that moves.
_STATE: Final = 20
_WIDE_STATE: Final = 26
#: From this width in characters the state column is a wide one.
_WIDE_FROM: Final = 110


def tree_table(
    view: MobView, now_s: float, width: int, height: int | None = None, *, expand: bool = True
) -> Table:
    """The mob's members and child sessions, one a row, cut to `height` rows."""
    live = any(node.busy for node in view.members)
    wide = _WIDE_STATE if width >= _WIDE_FROM else _STATE
    words = width >= _WORDS_FROM
    tokens = width >= _TOKENS_FROM
    table = Table(box=None, width=width if expand else None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(_heading(view, short=not words), no_wrap=True, overflow="ellipsis", ratio=None)
    # Kept wide enough for most states, so that columns do not jump while one watches.
    table.add_column("state", no_wrap=True, overflow="ellipsis", min_width=wide if live else 4)
    if tokens:
        for heading in ("turns", "tokens", "restarts"):
            table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    if words:
        table.add_column("last words", no_wrap=True, overflow="ellipsis", ratio=1)
    rows = list(_rows(view.members))
    room = len(rows) if height is None else max(1, height - 2)
    for prefix, node in rows[:room]:
        cells = [_name(prefix, node), _state(node, now_s)]
        if tokens:
            cells += [Text(str(node.turns)), Text(count(node.total.total_tokens))]
            cells.append(Text(str(node.restarts) if node.restarts else "", "red"))
        if words:
            cells.append(Text(one_line(node.words), "italic dim"))
        table.add_row(*cells)
    left = len(rows) - room
    if left > 0 or view.hidden:
        more = [plural(left, "row")] if left > 0 else []
        more += [plural(view.hidden, "member")] if view.hidden else []
        table.add_row(Text(f"... {' and '.join(more)} not shown", "dim"))
    return table


def _heading(view: MobView, *, short: bool) -> Text:
    text = Text(view.mob_id, "bold")
    spent = "" if short else f", {spent_text(view.usage)}"
    text.append(f" {view.state}{spent}", "not bold dim")
    return text


def _rows(nodes: Sequence[Node], indent: str = "", top: bool = True) -> Iterator[tuple[str, Node]]:
    for index, node in enumerate(nodes):
        last = index == len(nodes) - 1 and not top
        branch = "" if top else ("└─ " if last else "├─ ")
        yield indent + branch, node
        deeper = indent + ("" if top else ("   " if last else "│  "))
        yield from _rows(node.children, deeper + (" " if top else ""), top=False)


def _name(prefix: str, node: Node) -> Text:
    text = Text(prefix, "dim")
    text.append(one_line(node.name, _NAME), "bold" if not prefix else "not dim")
    if node.profile != node.name:
        text.append(f" {node.profile}", "dim")
    if node.task:
        text.append(f" {node.task}", "magenta")
    if node.hidden:
        text.append(f" (+{node.hidden} done)", "dim")
    return text


def _state(node: Node, now_s: float) -> Text:
    text = CALLED.get(node.state, node.state)
    if node.state == "waiting":
        text = f"{text}: {one_line(node.detail, 24)}"
    if node.state == "tool":
        text = f"{text} {one_line(node.detail, 24)}"
    if node.until_s is not None:
        text = f"{text} in {age(node.until_s - now_s)}"
    elif node.since_s is not None and node.state != "starting":  # which begins nowhere
        text = f"{text} {age(now_s - node.since_s)}"
    return Text(text, STYLES.get(node.state, ""))
