"""Imports only go down, engines are chosen at the top, and no modules import each other."""

from __future__ import annotations

from tests.architecture import rules
from tests.architecture.repository import FLOORS, ROOT, sources
from tests.architecture.source import Sources

#: What `runtime` and `mob` may know of `stores`: the port, never an engine behind it; and the loop
#: in which the suites of both floors run async code from Hypothesis's rules.
STORE_PORT = ("stores.base", "stores.errors", "stores.guest")

#: Who may choose an engine, and why.
COMPOSITION_ROOTS = {
    "mob.app": "puts the parts of a mob together for users of the library",
    "mob.bench.*": "opens the store that a scenario names",
    "mob.cli.*": "opens the store that the command line names",
    "mob.simulation.*": "plugs a simulated disk under the writer of the real engine",
}


def test_imports_only_go_down() -> None:
    assert rules.imports_go_down(sources(), FLOORS) == []


def test_only_composition_roots_choose_an_engine() -> None:
    complaints = rules.only_the_port(
        sources(),
        package="stores",
        port=STORE_PORT,
        importers=("mob", "runtime"),
        roots=COMPOSITION_ROOTS,
        libraries=("lmdb",),
    )
    assert complaints == []


def test_nothing_depends_on_the_command_line() -> None:
    assert rules.stays_private(sources(), "mob.cli") == []


def test_nothing_depends_on_the_simulation_but_the_command_line_and_pytests_plugin() -> None:
    edges = ("mob.cli", "mob.pytest_plugin")
    library = {
        name: module for name, module in sources().modules.items() if not name.startswith(edges)
    }
    assert rules.stays_private(Sources(ROOT, library), "mob.simulation") == []


def test_nothing_depends_on_the_benchmarks_but_the_command_line() -> None:
    library = {
        name: module for name, module in sources().modules.items() if not name.startswith("mob.cli")
    }
    assert rules.stays_private(Sources(ROOT, library), "mob.bench") == []


def test_no_modules_import_each_other() -> None:
    assert rules.no_cycles(sources()) == []
