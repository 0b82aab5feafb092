"""A hook that observes: every event it is told of becomes a line of a file beside it."""

import json
from pathlib import Path

from runtime.hooks import HookEvent

LOG = Path(__file__).with_name("audit.log")


def note(event: HookEvent) -> None:
    """Write the event down."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(json.dumps(event.as_json()) + "\n")
