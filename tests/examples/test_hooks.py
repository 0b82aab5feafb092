"""The hooks example: what is denied, and what is written down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.commands import ROOT, mob


def run(folder: Path, prompt: str) -> tuple[str, str, list[dict[str, str]]]:
    shutil.copytree(ROOT / "examples" / "hooks", folder / "hooks", dirs_exist_ok=True)
    done = mob("run", "hooks/mob.toml", "--prompt", prompt, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = (folder / "hooks" / "audit.log").read_text().splitlines()
    return done.stdout, done.stderr, [json.loads(line) for line in lines]


def test_the_guard_refuses_secrets_and_the_audit_has_every_call(tmp_path: Path) -> None:
    answer, said, audit = run(tmp_path, "Read the secrets.")
    assert "denied by hook 'guard': secrets are not read here" in answer
    assert "hook guard denied at before_tool: secrets are not read here" in said
    assert [each["point"] for each in audit] == ["before_tool", "run_completed"]


def test_what_is_no_secret_is_read(tmp_path: Path) -> None:
    answer, _, _ = run(tmp_path, "Read the menu, please.")
    assert "what stands in" in answer
