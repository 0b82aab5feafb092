"""A model that is given up when it falls silent.

Owns: the deadline of one call, which moves with every piece that arrives. Must not: try again
(`runtime.retry` decides that), poll.

Two limits, because two things can be slow: the first piece of an answer (a queue at the provider, a
long prompt, a model that thinks) and the pieces after it (a connection that died without saying
so). A call whose model streams nothing has only the first. A long answer that keeps coming is never
cut, however long it takes.
"""

from __future__ import annotations

from typing import Final

import trio

from runtime.errors import ModelError
from runtime.models.base import Emit, Model, ModelReply, ModelRequest

#: Seconds until the first piece. Models that think send nothing for minutes; an embedded one reads
#: a prompt of 8,000 tokens for a minute or two on two cores.
TIMEOUT_S: Final = 600.0
#: Seconds between two pieces of one answer. A client passes text on and no parts of tool calls, so
#: this has room for the longest call: 20,000 tokens at 70 a second.
STALL_S: Final = 300.0

_NEVER: Final = float("inf")


class ModelStalled(ModelError):
    """The model sent nothing for `silent_s` seconds and the call was cancelled. Retryable."""

    def __init__(self, name: str, silent_s: float, pieces: int) -> None:
        what = "in the middle of its answer" if pieces else "before its answer began"
        super().__init__(
            f"{name} sent nothing for {silent_s:g} s {what}, and the call was cancelled",
            provider=name.partition(":")[0],
            retryable=True,
        )
        self.silent_s = silent_s


class Watched:
    """A model whose calls end with `ModelStalled` after `timeout_s` without a first piece, or after
    `stall_s` without another one. None: no limit. An empty piece counts as one."""

    def __init__(
        self, model: Model, *, timeout_s: float | None = TIMEOUT_S, stall_s: float | None = STALL_S
    ) -> None:
        self._model = model
        self._timeout_s = _NEVER if timeout_s is None else timeout_s
        self._stall_s = _NEVER if stall_s is None else stall_s

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def supports_tools(self) -> bool:
        return self._model.supports_tools

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """See `Model.generate`. Raises `ModelStalled` besides what the model does."""
        pieces = 0
        heard_s = trio.current_time()

        def hear(piece: str) -> None:
            nonlocal pieces, heard_s
            pieces += 1
            heard_s = trio.current_time()
            scope.deadline = heard_s + self._stall_s
            if emit is not None:
                emit(piece)

        with trio.CancelScope(deadline=heard_s + self._timeout_s) as scope:
            return await self._model.generate(request, hear)
        raise ModelStalled(self.name, trio.current_time() - heard_s, pieces)

    async def aclose(self) -> None:
        await self._model.aclose()


def watched(model: Model, timeout_s: float | None = None, stall_s: float | None = None) -> Model:
    """`model` with these limits, or with the defaults where one is None.

    A simulated model is watched only if it is asked for: what it does not send it never will, and
    its time is its own.
    """
    if timeout_s is None and stall_s is None and model.name.startswith("sim:"):
        return model
    return Watched(
        model,
        timeout_s=TIMEOUT_S if timeout_s is None else timeout_s,
        stall_s=STALL_S if stall_s is None else stall_s,
    )
