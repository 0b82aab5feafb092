"""The suites for what can be replaced above the store: run them against your own.

Owns: `SessionStoreConformance` and `SessionManagerConformance`, Hypothesis state machines, and the
suites for session services and model clients, which are plain tests. Must not: know an
implementation. Needs Hypothesis, which nothing outside this package imports; docs/conformance.md
shows how the suites are used, that of `stores.conformance` among them, and docs/models.md those for
models.
"""

from runtime.conformance.managers import SessionManagerConformance
from runtime.conformance.models import ModelConformance, ProviderConformance
from runtime.conformance.services import SessionServiceConformance
from runtime.conformance.sessions import SessionStoreConformance

__all__ = [
    "ModelConformance",
    "ProviderConformance",
    "SessionManagerConformance",
    "SessionServiceConformance",
    "SessionStoreConformance",
]
