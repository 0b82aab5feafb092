"""What a reader can count on in every file."""

from __future__ import annotations

import re

from tests.architecture import rules
from tests.architecture.repository import ROOT, files, sources
from tests.architecture.source import Sources

MODULES = sources().modules.values()

#: Held to the same sizes as the packages; they may print.
PROGRAMS = Sources.read(ROOT, ("benchmarks", "examples", "tests")).modules.values()

#: What exists on one machine only, or is the reader's own choice. The brackets keep this file
#: from naming them itself.
ELSEWHERE = re.compile(
    r"/wor[k]/"  # a checkout's place
    r"|/tmp/v[/]"  # a scratch environment
    r"|/roo[t]/"  # somebody's home
    r"|pypi-mor[e]|/opt/(?:pyp[i]|whee[l]s)"  # a private package index
    r"|pypi\.org/simpl[e]|pythonhoste[d]\.org"  # which index serves packages is pip's setting
)


def test_every_module_says_what_it_owns() -> None:
    assert [each for module in MODULES for each in rules.described(module)] == []


def test_every_file_fits_a_reader() -> None:
    complaints = []
    for module in (*MODULES, *PROGRAMS):
        complaints += rules.sizes(module, file_lines=500, function_lines=70)
    assert complaints == []


def test_every_handler_lets_cancellation_through() -> None:
    assert [each for module in MODULES for each in rules.catches_everything(module)] == []


def test_only_the_command_line_prints() -> None:
    quiet = [module for module in MODULES if not module.name.startswith("mob.cli")]
    assert [each for module in quiet for each in rules.prints(module)] == []


def test_no_file_names_a_machine_or_a_package_index() -> None:
    found = []
    for path in files():
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        found += [f"{path}: {match[0]}" for match in ELSEWHERE.finditer(text)]
    assert found == []


def test_what_exists_elsewhere_is_recognised() -> None:
    for name in ("/wor" + "k/x", "/tmp/v" + "/dev", "https://pypi.org/simpl" + "e/mob"):
        assert ELSEWHERE.search(f"see {name}"), name
    assert not ELSEWHERE.search("a network of homework and fieldwork/practice, in /tmp/values")
