"""What is simulated, as people name it: a mob file, or a scenario in a Python file.

Owns: finding the scenario, its invariants and its settings. Must not: run it.

A name and not a function crosses over to the worker processes, each of which loads it anew; so a
scenario is found again by whoever reproduces a run.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import attrs

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, Mistake
from mob.harness import load_tools
from mob.sim_table import DEFAULT_SIM, SimDefinition
from mob.simulation.invariants import UserInvariant
from mob.simulation.stage import Scenario
from mob.simulation.workload import Workload
from mob.tooldefs import SHELL
from runtime.tools.shell import ShellTool

#: Beginning of the names under which files are imported, so that none stands for another module.
_PREFIX: Final = "mob_simulated_"


class TargetInvalid(ValueError):
    """What was to be simulated cannot be: the message says what was expected."""


@attrs.frozen
class Target:
    """A scenario with what must hold of it.

    `scenario` makes one for each run, so that none inherits anything from the run before.
    """

    scenario: Callable[[], Scenario]
    invariants: tuple[UserInvariant, ...] = ()
    settings: SimDefinition = DEFAULT_SIM


def load_target(text: str) -> Target:
    """The mob file, or ``FILE.py:SCENARIO``, that `text` names.

    A mob file is played by a `Workload`, its models, tools and hooks replaced by simulated ones. A
    scenario is an async function of a `World`; the invariants of its file hold
    with it.

    Raises:
        FileNotFoundError: there is no such file.
        DefinitionInvalid: the mob file has mistakes.
        TargetInvalid: the Python file cannot be loaded, or has no such scenario.
    """
    path, colon, name = text.rpartition(":")
    if not colon and text.endswith(".py"):
        path, name = text, ""
    if path.endswith(".py"):
        return _in_python(Path(path), name)
    return _in_mob_file(Path(text))


def _in_mob_file(path: Path) -> Target:
    definition = MobDefinition.load(path)
    settings = definition.sim
    invariants: tuple[UserInvariant, ...] = ()
    if settings.invariants is not None:
        try:
            invariants = _invariants(_load(definition.folder / settings.invariants))
        except (FileNotFoundError, TargetInvalid) as error:
            mistake = Mistake("sim.invariants", str(error))
            raise DefinitionInvalid(definition.source, (mistake,)) from error
    tools = load_tools(definition, {})
    for profile in definition.profiles.values():
        if profile.shell is not None:
            tools[SHELL] = ShellTool(definition.folder)
    return Target(lambda: Workload(definition, tools=tools), invariants, settings)


def _in_python(path: Path, name: str) -> Target:
    module = _load(path)
    scenario = getattr(module, name, None) if name else None
    if not callable(scenario):
        found = ", ".join(f"{path}:{each}" for each in _scenarios(module)) or "it has none"
        what = f"has no scenario {name!r}" if name else "needs the name of a scenario"
        raise TargetInvalid(
            f"{path} {what}, an async function that takes a World; choose one of: {found}"
        )
    return Target(lambda: scenario, _invariants(module))


def _scenarios(module: ModuleType) -> list[str]:
    """The async functions of `module` that take one argument."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and len(inspect.signature(value).parameters) == 1
    ]


def _invariants(module: ModuleType) -> tuple[UserInvariant, ...]:
    """What was decorated with `@invariant` in `module` or imported into it, in its order."""
    return tuple(each for each in vars(module).values() if isinstance(each, UserInvariant))


def _load(path: Path) -> ModuleType:
    """The module at `path`, run once; what lies beside it can be imported by it.

    Raises:
        FileNotFoundError: there is no such file.
        TargetInvalid: it raised something.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    name = _PREFIX + path.stem
    module = sys.modules.get(name)
    if module is not None and module.__file__ == str(path.resolve()):
        return module
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise TargetInvalid(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module
