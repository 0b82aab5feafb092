"""What the command line says of itself, to people and to shells."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mob.cli.app import VERBS
from tests.cli.commands import ECHO, PATIENCE_S, environment, mob
from tests.cli.inside import Mob, mob_inside


@pytest.fixture
def inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Mob:
    monkeypatch.setenv("COLUMNS", "80")
    return mob_inside(tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does_and_gives_an_example(verb: str, inside: Mob) -> None:
    shown = inside(verb, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"Usage: mob {verb}" in shown.stdout
    assert "Examples:" in shown.stdout
    assert f"mob {verb}" in shown.stdout.partition("Examples:")[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes(shell: str, inside: Mob) -> None:
    script = inside("completion", shell)
    assert script.returncode == 0, script.stderr
    for word in ("respawn", "detach", "__complete"):
        assert word in script.stdout


def test_a_shell_completes_mobs_and_members(tmp_path: Path, inside: Mob) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    offered = [inside("__complete", "send", "e").stdout]
    assert inside("run", "mob.toml", "--prompt", "x").returncode == 0
    offered += [inside("__complete", *each).stdout for each in (("send", "e"), ("send", "echo/"))]
    offered.append(inside("__complete", "stop", "").stdout)
    found = [each.replace("\x1fbegin", "").split() for each in offered]
    assert found == [[], ["echo/"], ["echo/lead"], ["echo"]]


#: Calls the function that bash would, with the words up to the cursor, and says what it offers.
_DRIVE = """
source ./script
compopt() { echo -n "[$*] "; }
offered() {
  COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
  "${spec[-2]}"
  echo "${COMPREPLY[@]}"
}
read -ra spec <<< "$(complete -p mob)"
offered mob res
offered mob run mob.toml --display ''
offered mob send --mo
offered mob flow can
offered mob show e
offered mob send ec/l
offered mob stop --state .mob ''
offered mob retire ''
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_verbs_options_choices_mobs_and_members(tmp_path: Path, inside: Mob) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    assert inside("run", "mob.toml", "--prompt", "x").returncode == 0
    (tmp_path / "script").write_text(inside("completion", "bash").stdout)
    command = tmp_path / "bin" / "mob"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m mob.cli "$@"\n')
    command.chmod(0o755)
    env = environment()
    env["PATH"] = f"{command.parent}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", _DRIVE],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "resume respawn restore restore-backup",
        "live plain json none",
        "--mode",
        "cancel",
        "echo echo/",
        "ec/lead",
        "echo",
        "[-o nospace] echo/",
    ]


def test_help_is_there_at_once(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert mob("--help", cwd=tmp_path).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4
