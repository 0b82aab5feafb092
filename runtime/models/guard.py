"""The switch that keeps a test from calling a real provider.

Owns: whether models that leave this process may be used. Must not: know which models those are;
they ask here before each call.

The idea is pydantic-ai's ``ALLOW_MODEL_REQUESTS``: a forgotten fake should fail a test at once,
not send a bill.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from runtime.errors import ModelUnavailable

#: Set to anything, it turns the switch on in every process that inherits it.
ENVIRONMENT: Final = "MOB_FORBID_REAL_MODELS"


@attrs.define(eq=False)
class _Rule:
    forbids: bool


# Process-wide on purpose, not a ContextVar: pytest runs fixtures and tests in different contexts,
# and a guard that a thread or a task can lose is none. The last rule holds; each takes itself back.
_rules: list[_Rule] = [_Rule(bool(os.environ.get(ENVIRONMENT)))]


@contextmanager
def _ruled(rule: _Rule) -> Iterator[None]:
    _rules.append(rule)
    try:
        yield
    finally:
        _rules.remove(rule)


@contextmanager
def forbid_real_models() -> Iterator[None]:
    """While this is open, every model behind a network refuses to be opened or called.

    For a whole test run, open it in a session-scoped autouse fixture; for processes that a test
    starts, set the environment variable ``MOB_FORBID_REAL_MODELS``.
    """
    with _ruled(_Rule(forbids=True)):
        yield


@contextmanager
def allow_real_models() -> Iterator[None]:
    """While this is open, models behind a network may be used all the same.

    For tests of a client against a server of their own; whatever forbids them within holds.
    """
    with _ruled(_Rule(forbids=False)):
        yield


def check_real_models_allowed(model: str, provider: str) -> None:
    """Return if `model`, which needs a network, may be used now.

    Raises:
        ModelUnavailable: within `forbid_real_models`.
    """
    if _rules[-1].forbids:
        raise ModelUnavailable(
            f"{model} is a real model, and real models are forbidden here (forbid_real_models);"
            " use sim:echo, sim:agent or a ScriptedModel",
            provider=provider,
        )
