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
from rich.text import Text

from mob import MobDefinition, open_mob
from mob.console.model import Model
from mob.console.picture import Line, picture
from mob.console.source import Source, open_source

ROOT = Path(__file__).parents[1]
QUESTION = "How can a sailor see a lighthouse from far away and know which one it is?"
WIDTH = 93
HEIGHT = 24

#: Fonts are those of whoever looks: the picture fetches nothing.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def drawn(source: Source, model: Model) -> tuple[Line, ...]:
    """What a terminal is shown now."""
    model.apply(source.frame())
    return picture(model, trio.current_time(), WIDTH, HEIGHT).lines


def styled(lines: tuple[Line, ...]) -> Text:
    """Lines as rich draws them."""
    return Text("\n").join(Text.assemble(*line.spans) for line in lines)


async def main() -> None:
    file = MobDefinition.load(ROOT / "examples/research/mob.toml")
    small = attrs.evolve(file.models["small"], model="sim:agent", options={"latency_s": 2.5})
    seen: list[tuple[int, float, tuple[Line, ...]]] = []

    async def watch(source: Source, model: Model) -> None:
        while True:
            lines = drawn(source, model)
            at_work = sum("model 0:" in line.text or "tool " in line.text for line in lines)
            seen.append((at_work, trio.current_time(), lines))
            await trio.sleep(0.1)

    async with open_mob(attrs.evolve(file, models={"small": small})) as mob:
        model = Model()
        async with open_source(mob) as source:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, source, model)
                result = await mob.ask("lead", QUESTION)
                nursery.cancel_scope.cancel()
            last = drawn(source, model)
    *_, busiest = max(seen)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(f'$ mob run examples/research/mob.toml --prompt "{QUESTION[:37]}..."')
    console.print(styled(busiest))
    console.print()
    console.print(styled(last))
    console.print()
    console.print(json.loads(result.text)["answer"])
    svg = console.export_svg(title="mob run", code_format=FORMAT, unique_id="run")
    (ROOT / "docs" / "run.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    trio.run(main)
