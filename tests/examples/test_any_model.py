"""The examples on other models than their own: all that a real service needs is its key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from mob import MobDefinition
from mob.models import override
from tests.cli.commands import PATIENCE_S, ROOT, environment

EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.glob("*/mob.toml"))
PROGRAMS = ("debate", "hello", "record-and-replay", "structured-output", "swarm")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
@pytest.mark.parametrize("model", ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5"])
def test_every_mob_file_can_be_bound_to_a_service(file: Path, model: str) -> None:
    """Issue: a key and `--model all=...`; what is bound so has no price and no options."""
    definition = MobDefinition.load(file)
    bound = override(definition.models, {"all": model})
    whole = attrs.evolve(definition, models=bound)
    assert {each.model for each in whole.models.values()} == {model}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_takes_a_model(name: str) -> None:
    """Without its key a service is named as what is missing; with a simulated one it runs on."""
    (program,) = (EXAMPLES / name).glob("*.py")

    def run(model: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), "--model", model]
        return subprocess.run(
            command,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    assert run("sim:agent").returncode == 0
    refused = run("openai:gpt-5-mini")
    assert refused.returncode != 0
    assert "ModelUnavailable" in refused.stderr or "forbidden" in refused.stderr
