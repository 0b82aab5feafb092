"""A tool that tells the time.

Owns: `CurrentTime`. Must not: read a clock of its own: it is handed the port.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from runtime.models.base import ToolSpec
from runtime.ports import Clock
from runtime.tools.base import ToolContext


@attrs.frozen(eq=False)
class CurrentTime:
    """The time in UTC, to the second."""

    clock: Clock
    idempotent: bool = True
    timeout_s: float | None = None
    spec: ToolSpec = ToolSpec(
        "current_time",
        "Say what time it is now, in UTC.",
        {"type": "object", "properties": {}, "additionalProperties": False},
    )

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """ISO 8601, as ``2026-01-02T03:04:05+00:00``."""
        seconds = self.clock.now_ns() // 1_000_000_000
        return datetime.fromtimestamp(seconds, UTC).isoformat()
