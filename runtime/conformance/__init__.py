"""The suites for what can be replaced above the store: run them against your own.

Owns: `SessionStoreConformance` and `SessionManagerConformance`, Hypothesis state machines. Must
not: know an implementation. Needs Hypothesis, which nothing outside this package imports;
docs/conformance.md shows how the suites are used, that of `stores.conformance` among them.
"""

from runtime.conformance.managers import SessionManagerConformance
from runtime.conformance.sessions import SessionStoreConformance

__all__ = ["SessionManagerConformance", "SessionStoreConformance"]
