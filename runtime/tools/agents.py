"""Tools over the session seam: how a model starts a child agent.

Owns: `spawn_agent`. Must not: touch the runtime other than through `LocalSessionRunner`.

A child is found again by its call (parent session, turn, call id), so one that is repeated after a
crash continues the child it already made and never makes a second (CONTRACTS 1.9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from runtime.errors import AgentError, LimitExceeded
from runtime.ids import HarnessId
from runtime.models.base import ToolSpec
from runtime.tools.base import ToolContext, ToolFailed

SPAWN_AGENT: Final = "spawn_agent"


@attrs.frozen
class SpawnAgent:
    """Start a child session, run one turn on the instructions, return its answer.

    The child runs on `harness_id`, or on the parent's harness, one level deeper. It is archived
    when it has answered; its history stays readable.
    """

    spec: ToolSpec = ToolSpec(
        SPAWN_AGENT,
        "Start a helper agent of your own, give it one task, and wait for its answer.",
        {
            "type": "object",
            "properties": {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 64,
                    "description": "A short name for the helper.",
                },
                "instructions": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The whole task; the helper sees nothing else.",
                },
            },
            "required": ["name", "instructions"],
            "additionalProperties": False,
        },
    )
    idempotent: bool = True
    timeout_s: float | None = None
    harness_id: HarnessId | None = None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Raises `ToolFailed` when a limit forbids the child or its turn ends without an answer."""
        runner = context.runner
        parent = await runner.get_session(context.session_id)
        assert parent is not None, "a running session exists"
        key = context.key
        try:
            child = await runner.create_session(
                self.harness_id or parent.harness_id,
                parent.agent_id,
                title=arguments["name"],
                locale=parent.locale,
                parent_session_id=context.session_id,
                spawn_key=key,
            )
            result = await runner.send_message(
                child.session_id, arguments["instructions"], idempotency_key=key
            )
        except LimitExceeded as error:
            raise ToolFailed(str(error)) from error
        except AgentError as error:
            if error.session_id is not None:
                await runner.archive_session(error.session_id, "failed")
            raise ToolFailed(f"the helper ended without an answer: {error}") from error
        await runner.archive_session(child.session_id, "finished")
        return result.text
