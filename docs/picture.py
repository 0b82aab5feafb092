"""Records docs/run.svg anew: the research example at work, with a model that needs no key.

    python docs/picture.py

It is what `mob run` draws on a terminal, taken at the busiest moment and at the end.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import attrs
import trio
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from mob import Mob, MobDefinition, open_mob
from mob.cli.draw import tree_table
from mob.view import MobView, live_view
from runtime.results import last_text
from runtime.session import SessionHead

ROOT = Path(__file__).parents[1]
QUESTION = "How can a sailor see a lighthouse from far away and know which one it is?"
WIDTH = 108

#: Fonts are those of whoever looks: the picture fetches nothing.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def look(mob: Mob) -> MobView:
    """The mob as a tree, with what each session said last."""

    def words(head: SessionHead) -> str:
        return last_text(mob.realm.turn(head.head)) if head.head else ""

    return live_view(mob, words)


def busy(view: MobView) -> int:
    """How many are at work."""
    nodes = [*view.members, *(child for node in view.members for child in node.children)]
    return sum(node.busy for node in nodes)


async def main() -> None:
    file = MobDefinition.load(ROOT / "examples/research/mob.toml")
    small = attrs.evolve(file.models["small"], model="sim:agent", options={"latency_s": 2.5})
    seen: list[tuple[int, MobView, float]] = []

    async def watch(mob: Mob) -> None:
        while True:
            view = look(mob)
            seen.append((busy(view), view, trio.current_time()))
            await trio.sleep(0.1)

    async with open_mob(attrs.evolve(file, models={"small": small})) as mob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, mob)
            result = await mob.ask("lead", QUESTION)
            nursery.cancel_scope.cancel()
        last = (look(mob), trio.current_time())
    _, view, at = max(seen, key=lambda each: (each[0], each[2]))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(f'$ mob run examples/research/mob.toml --prompt "{QUESTION[:44]}..."')
    console.print(tree_table(view, at, WIDTH))
    console.print()
    console.print(tree_table(last[0], last[1], WIDTH))
    console.print()
    console.print(json.loads(result.text)["answer"])
    svg = console.export_svg(title="mob run", code_format=FORMAT, unique_id="run")
    (ROOT / "docs" / "run.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    trio.run(main)
