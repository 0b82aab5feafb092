"""`mob doctor`: whether this installation and a store are sound.

Owns: the verb and the checks of the installation. Must not: write to a
store it was asked to check.
"""

from __future__ import annotations

import importlib.metadata
import json as json_text
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import attrs
from cyclopts import Parameter

from mob.cli import exits
from mob.cli.options import DEFAULT_STATE, Json, State, existing_store
from mob.cli.output import bytes_text, narrate, plural, result, result_json
from mob.cli.owner import owner_of
from runtime.models.registry import list_providers

EXAMPLES = """    mob doctor
    mob doctor --state /var/lib/mob --json
    mob doctor --state damaged --repair saved
"""

#: The libraries whose versions a report of a bug needs.
_LIBRARIES: Final = ("trio", "lmdb", "msgpack", "attrs", "cattrs", "cyclopts", "rich", "jsonschema")
_PYTHON: Final = (3, 11)


@attrs.frozen
class Check:
    """One line of the report. `ok` is None for what is merely worth knowing."""

    check: str
    ok: bool | None
    text: str


def doctor(
    *,
    state: State = DEFAULT_STATE,
    repair: Annotated[
        Path | None,
        Parameter(
            show_default=False, help="Copy what can be saved into a new store in this directory."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Check this installation and every record of a store.

    One line per check. Reads all of the store, beside a process that may own it,
    and changes nothing. Exits with 1 if something is damaged or missing; a provider
    that is not set up, or a store that does not exist yet, is only mentioned.

    With --repair what is readable of the store is copied into a new one beside it,
    which is then checked too; the damaged one stays as it is.
    """
    checks: list[Check] = []
    for check in _all(state, repair):
        checks.append(check)
        if not json:
            result(f"{_MARKS[check.ok]:8} {check.check}: {check.text}")
    bad = sum(check.ok is False for check in checks)
    if json:
        result_json({"ok": not bad, "checks": checks})
    else:
        narrate(f"mob: {plural(bad, 'problem')} found" if bad else "mob: all is well")
    return exits.FAILED if bad else exits.DONE


_MARKS: Final = {True: "ok", False: "DAMAGED", None: "note"}


def _all(state: Path, repair: Path | None) -> Iterator[Check]:
    if repair is not None:
        yield from _repaired(state, repair)
        return
    yield _python()
    yield from _libraries()
    yield from _providers()
    yield from _weights()
    yield from _store(state)


def _python() -> Check:
    fine = sys.version_info >= _PYTHON
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    wanted = "" if fine else f"; mob needs {_PYTHON[0]}.{_PYTHON[1]} or later"
    return Check("python", fine, text + wanted)


def _libraries() -> Iterator[Check]:
    try:
        yield Check("trio-mob", True, importlib.metadata.version("trio-mob"))
    except importlib.metadata.PackageNotFoundError:
        yield Check("trio-mob", None, "runs from a checkout, not installed")
    versions, missing = [], []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Check("libraries", not missing, ", ".join(versions))
    for name in missing:
        yield Check(name, False, f"not installed: pip install {name}")


def _providers() -> Iterator[Check]:
    for each in list_providers():
        text = "usable" if each.missing is None else f"not usable yet: {each.missing}"
        yield Check(f"models {each.name}", True if each.usable else None, text)


def _weights() -> Iterator[Check]:
    from runtime.errors import ModelUnavailable
    from runtime.models.weights import KNOWN_WEIGHTS, find_weights

    for weights in KNOWN_WEIGHTS.values():
        name = f"weights {weights.name}"
        try:
            path = find_weights(weights)
        except ModelUnavailable as error:
            yield Check(name, False, str(error))
            continue
        if path is None:
            size = bytes_text(weights.wheel_bytes)
            yield Check(name, None, f"not here; the first use fetches them ({size})")
        else:
            yield Check(name, True, f"{path}, hash as expected")


def _repaired(state: Path, target: Path) -> Iterator[Check]:
    from stores import StoreMisuse, repair_lmdb

    try:
        report = repair_lmdb(existing_store(state), target)
    except StoreMisuse as error:
        raise exits.WouldOverwrite(str(error)) from None
    yield Check("saved", True, f"{report.records} records and {report.rows} rows, in {target}")
    for line in report.summary():
        yield Check("lost", None, line)
    yield from _store(target)


def _store(state: Path) -> Iterator[Check]:
    if not state.exists():
        yield Check("store", None, f"none at {state.absolute()}; `mob run` makes one")
        return
    owner = owner_of(state)
    who = "no process has it open" if owner is None else f"process {owner} has it open and runs"
    yield Check("owner", True, who)
    command = [sys.executable, "-m", "mob.cli.probe", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdout is not None
        for line in probe.stdout:
            row = json_text.loads(line)
            yield Check(row["check"], row["ok"], row["text"])
    if probe.returncode < 0:
        name = signal.Signals(-probe.returncode).name
        yield Check(
            "store",
            False,
            f"reading {state / 'data.mdb'} ended the reader with {name}: the file was cut short or"
            " overwritten; keep it as it is, and restore a backup beside it",
        )
    elif probe.returncode:
        yield Check("store", False, f"the reader ended with code {probe.returncode}, see above")
