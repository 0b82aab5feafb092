"""The skills example: what is in the prompt, and what is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import ROOT, mob

EXAMPLE = ROOT / "examples" / "skills" / "mob.toml"


def test_the_model_loads_the_skill(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: loaded on demand."""
    prompt = ("--prompt", "Write the release notes of version 2.")
    done = mob("run", str(EXAMPLE), *prompt, "--state", "state", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "load_skill said: # Release notes" in done.stdout
    shown = mob("show", "skills/writer", "--state", "state", "--json", cwd=tmp_path)
    assert any(
        "template.md" in each.get("text", "") for each in json.loads(shown.stdout)["messages"]
    )


def test_a_mistake_in_a_skill_is_named_with_its_path(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: mistakes are named."""
    (tmp_path / "skills" / "bad").mkdir(parents=True)
    (tmp_path / "skills" / "bad" / "SKILL.md").write_text("no front matter")
    (tmp_path / "mob.toml").write_text(EXAMPLE.read_text())
    done = mob("validate", "mob.toml", cwd=tmp_path)
    assert done.returncode == 3
    for said in ("skills.folders[0]", "bad/SKILL.md: front matter is missing", "release-notes"):
        assert said in done.stderr
