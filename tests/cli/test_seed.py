"""`mob run --seed`: what model calls sample from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mob.cli.binding import bound_models
from mob.cli.exits import UsageWrong
from mob.modeldefs import ModelDefinition
from tests.cli.commands import refused
from tests.cli.inside import mob_inside

#: A lead that answers with a number that is drawn, and asks a worker who does so first.
DRAWN = """
[mob]
id = "drawn"
lead = "lead"
[models.main]
model = "sim:agent"
options = { latency_s = 0.001, seed = 1 }
[profiles.lead]
model = "main"
options = { seed = 2 }
tool_choice = ["ask_worker"]
output_schema = { type = "array", items = { type = "integer" }, minItems = 9, maxItems = 9 }
[profiles.worker]
model = "main"
output_schema = { type = "array", items = { type = "integer" }, minItems = 9, maxItems = 9 }
[members.lead]
profile = "lead"
[members.worker]
profile = "worker"
replicas = 2
[wiring]
edges = [["lead", "worker"]]
"""


def test_the_same_seed_in_a_fresh_store_gives_the_same_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over the seeds of the file, and in a recording."""
    inside = mob_inside(tmp_path, capsys, monkeypatch)
    (tmp_path / "mob.toml").write_text(DRAWN)

    def answers(state: str, *more: str) -> list[list[str]]:
        done = inside("run", "mob.toml", "--prompt", "draw", "--state", state, *more)
        assert done.returncode == 0, done.stderr
        found = []
        for member in ("lead", "worker-0", "worker-1"):
            told = inside("show", f"drawn/{member}", "--state", state, "--json")
            found.append([each["text"] for each in json.loads(told.stdout)["messages"]])
        return found

    first = answers("a", "--seed", "7", "--record", "calls.jsonl")
    assert first == answers("b", "--seed", "7")
    assert first == answers("c", "--seed", "7", "--replay", "calls.jsonl")
    others = [answers("d", "--seed", "8"), answers("e")]
    for member in range(3):
        assert len({each[member][-1] for each in (first, *others)}) == 3
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert {each["request"]["options"]["seed"] for each in calls if "request" in each} == {7}
    refused(2, "from 0 to 2147483647", done=inside("run", "mob.toml", "--seed", "-1", "--stay"))


def test_a_provider_that_takes_no_seed_is_named_and_left_alone() -> None:
    models = {"a": ModelDefinition("anthropic:x"), "b": ModelDefinition("vllm:y")}
    bound, told = bound_models(models, None, 3)
    assert told == "--seed has no effect on a (anthropic:x): the provider takes none"
    assert [each.seed for each in bound.values()] == [None, 3]
    assert bound_models(models, ["a=sim:echo"], 3)[1] == ""
    assert bound_models(models, None, None) == (models, "")
    with pytest.raises(UsageWrong):
        bound_models(models, None, 2**31)
