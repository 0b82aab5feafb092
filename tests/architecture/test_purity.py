"""The cores are pure: no Trio, no clock, no randomness, no operating system.

A decision that takes the time or an id as an argument can be tabulated, replayed and searched;
one that asks for it cannot. **To add a module, add its name to PURE.** What a pure module imports
of ours must be in the list too, so purity cannot leak through an import.
"""

from __future__ import annotations

from tests.architecture import rules
from tests.architecture.repository import sources

PURE = (
    "mob.bench.closed",
    "mob.bench.comparing",
    "mob.bench.plan",
    "mob.bench.results",
    "mob.board",
    "mob.comms.graph",
    "mob.comms.records",
    "mob.comms.requests",
    "mob.comms.routing",
    "mob.console.aiming",
    "mob.console.desk",
    "mob.console.model",
    "mob.console.picture",
    "mob.console.rows",
    "mob.console.still",
    "mob.console.transcript",
    "mob.console.words",
    "mob.errors",
    "mob.export.columns",
    "mob.export.pieces",
    "mob.export.plain",
    "mob.export.spans",
    "mob.export.who",
    "mob.flows.asks",
    "mob.flows.book",
    "mob.flows.conditions",
    "mob.flows.definition",
    "mob.flows.diagram",
    "mob.flows.graph",
    "mob.flows.paths",
    "mob.flows.records",
    "mob.flows.results",
    "mob.flows.scheduler",
    "mob.flows.scoping",
    "mob.flows.state",
    "mob.flows.templates",
    "mob.folding",
    "mob.helpers",
    "mob.lifecycle",
    "mob.records",
    "mob.roster",
    "mob.runs",
    "mob.shapes",
    "mob.simulation.faults",
    "mob.simulation.kinds",
    "mob.supervision",
    "mob.tables",
    "mob.view",
    "runtime.addenda",
    "runtime.approvals",
    "runtime.budget",
    "runtime.chain",
    "runtime.codec",
    "runtime.contexts",
    "runtime.effects",
    "runtime.errors",
    "runtime.heads",
    "runtime.history",
    "runtime.ids",
    "runtime.keyed",
    "runtime.ledger",
    "runtime.messages",
    "runtime.models.base",
    "runtime.models.chatwire",
    "runtime.models.claudewire",
    "runtime.models.geminiwire",
    "runtime.models.recorded",
    "runtime.models.redaction",
    "runtime.models.wire",
    "runtime.notebook",
    "runtime.particulars",
    "runtime.parts",
    "runtime.points",
    "runtime.prices",
    "runtime.records",
    "runtime.restoring",
    "runtime.results",
    "runtime.retry",
    "runtime.session",
    "runtime.state",
    "runtime.structured",
    "runtime.tasks",
    "runtime.tools.names",
    "runtime.tools.policy",
    "runtime.tree",
    "runtime.turn",
    "stores.base",
    "stores.codec",
    "stores.errors",
    "stores.migrations",
    "stores.values",
)

#: Top-level modules a pure module never imports.
IMPURE = (
    "anyio", "asyncio", "lmdb", "os", "random", "secrets", "shutil", "signal", "socket",
    "subprocess", "tempfile", "threading", "time", "trio", "uuid",
)  # fmt: skip

#: Calls that read a clock, a file or a terminal without importing anything listed above.
IMPURE_CALLS = (
    "breakpoint", "date.today", "datetime.now", "datetime.today", "datetime.utcnow", "input",
    "open", "print",
)  # fmt: skip


def test_pure_modules_are_pure() -> None:
    assert rules.pure(sources(), PURE, impure=IMPURE, calls=IMPURE_CALLS) == []


def test_the_list_is_sorted() -> None:
    assert sorted(set(PURE)) == list(PURE)
