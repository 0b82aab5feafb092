"""Tools over the session seam: how a model starts a child agent.

Owns: `spawn_agent`. Must not: touch the runtime other than through `LocalSessionRunner`.

A child is found again by its call (parent session, turn, call id), so one that is repeated after a
crash continues the child it already made and never makes a second (CONTRACTS 1.9). What a parent
does with children in the background is in `runtime.tools.tasks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from runtime.errors import AgentError, LimitExceeded
from runtime.ids import HarnessId
from runtime.models.base import ToolSpec
from runtime.session import NO_SPEC, Lifetime, SessionMetadata, SessionSpec, TaskState
from runtime.structured import check_schema
from runtime.tasks import NewTask
from runtime.tools.base import ToolContext, ToolFailed

SPAWN_AGENT: Final = "spawn_agent"

_TASK: Final[Mapping[str, Any]] = {
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
    "output_schema": {
        "type": "object",
        "description": "A JSON Schema that the helper's answer must fit; leave out for text.",
    },
}

_BACKGROUND: Final[Mapping[str, Any]] = {
    "mode": {
        "type": "string",
        "enum": ["foreground", "background"],
        "description": "foreground: wait for the answer. background: get a task id at once and go"
        " on; the answer comes by wait_task, or by itself before your next turn.",
    },
    "lifetime": {
        "type": "string",
        "enum": ["linked", "detached"],
        "description": "linked: ends when you are interrupted, fail or leave. detached: goes on.",
    },
}


def _schema(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: each for part in parts for name, each in part.items()},
        "required": ["name", "instructions"],
        "additionalProperties": False,
    }


_FOREGROUND_SPEC: Final = ToolSpec(
    SPAWN_AGENT,
    "Start a helper agent of your own, give it one task, and wait for its answer.",
    _schema(_TASK),
)
_BACKGROUND_SPEC: Final = ToolSpec(
    SPAWN_AGENT,
    "Start a helper agent of your own and give it one task: wait for its answer (foreground), or"
    " let it work while you go on (background).",
    _schema(_TASK, _BACKGROUND),
)


@attrs.frozen
class SpawnAgent:
    """Start a child session on the instructions; return its answer, or its task id.

    The child runs on `harness_id`, or on the parent's harness, one level deeper. In the foreground
    it runs one turn inside the call and is archived when it has answered. In the background (only
    if `background`) it goes on after the call; one in the foreground that is detached is waited
    for, and goes on if the wait is cut off. Histories stay readable.
    """

    harness_id: HarnessId | None = None
    background: bool = False
    idempotent: bool = True
    timeout_s: float | None = None
    waits_for_others: bool = True

    @property
    def spec(self) -> ToolSpec:
        return _BACKGROUND_SPEC if self.background else _FOREGROUND_SPEC

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Raises `ToolFailed` when a limit forbids the child, its schema is none, or it ends
        without an answer."""
        schema = arguments.get("output_schema")
        if schema is not None and (mistake := check_schema(schema)) is not None:
            raise ToolFailed(f"output_schema is {mistake}; nothing was started")
        spec = NO_SPEC if schema is None else SessionSpec(output_schema=json.dumps(schema))
        parent = await context.runner.get_session(context.session_id)
        assert parent is not None, "a running session exists"
        lifetime = Lifetime(arguments.get("lifetime", Lifetime.LINKED.value))
        waited_for = arguments.get("mode", "foreground") == "foreground"
        try:
            if waited_for and lifetime is Lifetime.LINKED:
                return await self._inside(arguments, context, parent, spec)
            return await self._beside(arguments, context, parent, spec, lifetime, waited_for)
        except LimitExceeded as error:
            raise ToolFailed(str(error)) from error

    async def _inside(
        self,
        arguments: Mapping[str, Any],
        context: ToolContext,
        parent: SessionMetadata,
        spec: SessionSpec,
    ) -> Any:
        """Run the child's turn in this call."""
        runner = context.runner
        try:
            child = await runner.create_session(
                self.harness_id or parent.harness_id,
                parent.agent_id,
                title=arguments["name"],
                locale=parent.locale,
                parent_session_id=context.session_id,
                spec=spec,
                spawn_key=context.key,
            )
            result = await runner.send_message(
                child.session_id, arguments["instructions"], idempotency_key=context.key
            )
        except AgentError as error:
            if error.session_id is not None:
                await runner.archive_session(error.session_id, "failed")
            raise ToolFailed(f"the helper ended without an answer: {error}") from error
        await runner.archive_session(child.session_id, "finished")
        return result.text if spec.output_schema is None else result.output

    async def _beside(
        self,
        arguments: Mapping[str, Any],
        context: ToolContext,
        parent: SessionMetadata,
        spec: SessionSpec,
        lifetime: Lifetime,
        waited_for: bool,
    ) -> Any:
        """Start the child beside this call, and wait for it only if asked to."""
        runner = context.runner
        task = await runner.start_task(
            context.session_id,
            self.harness_id or parent.harness_id,
            arguments["name"],
            NewTask(lifetime, arguments["instructions"]),
            spec=spec,
            spawn_key=context.key,
        )
        if not waited_for:
            return {"task_id": task.task_id, "name": task.name, "state": task.state.value}
        task = await runner.wait_task(context.session_id, task.task_id)
        if task.state is not TaskState.COMPLETED:
            raise ToolFailed(f"the helper ended without an answer: {task.error}")
        return task.answer if spec.output_schema is None else task.output
