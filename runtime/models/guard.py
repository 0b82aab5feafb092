"""The switch that keeps a test from calling a real provider.

Owns: whether models that leave this process may be used. Must not: know which models those are;
they ask here before each call.

The idea is pydantic-ai's ``ALLOW_MODEL_REQUESTS``: a forgotten fake should fail a test at once,
not send a bill.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import ModelUnavailable

# Process-wide on purpose, not a ContextVar: pytest runs fixtures and tests in different contexts,
# and a guard that a thread or a task can lose is none. A count, so that uses may nest.
_forbidden = 0


@contextmanager
def forbid_real_models() -> Iterator[None]:
    """While this is open, every model behind a network refuses to be opened or called.

    For a whole test run, open it in a session-scoped autouse fixture.
    """
    global _forbidden  # noqa: PLW0603 - the switch is the state this module exists for
    _forbidden += 1
    try:
        yield
    finally:
        _forbidden -= 1


def check_real_models_allowed(model: str, provider: str) -> None:
    """Return if `model`, which needs a network, may be used now.

    Raises:
        ModelUnavailable: within `forbid_real_models`.
    """
    if _forbidden:
        raise ModelUnavailable(
            f"{model} is a real model, and real models are forbidden here (forbid_real_models);"
            " use sim:echo, sim:agent or a ScriptedModel",
            provider=provider,
        )
