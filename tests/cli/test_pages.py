"""What is read a page at a time is told whole: records, runs of flows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from mob import MobDefinition, open_mob
from stores import open_lmdb
from tests.cli.commands import ECHO
from tests.cli.inside import mob_inside

#: More than two pages of records.
ASKS = 300


def test_records_and_runs_of_many_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = mob_inside(tmp_path, capsys, monkeypatch)
    flow = '[flows.f.steps.a]\nmember = "lead"\nmessage = "x"\n'
    (tmp_path / "mob.toml").write_text(ECHO + flow)

    async def fill() -> int:
        definition = MobDefinition.load(tmp_path / "mob.toml")
        async with open_lmdb(tmp_path / ".mob") as store:
            async with open_mob(definition, store=store) as mob, trio.open_nursery() as nursery:
                for number in range(ASKS):
                    nursery.start_soon(mob.ask, "lead", str(number))
                for _ in range(5):
                    await (await mob.run_flow("f")).result()
            return store.last(b"realm/echo")

    last = trio.run(fill)
    assert last > 2 * 256
    for after in (0, 1, 256):
        told = inside("events", "echo", "--after", str(after)).stdout.splitlines()
        assert [json.loads(line)["seq"] for line in told] == list(range(after + 1, last + 1))
    everything = json.loads(inside("flow", "ls", "--json").stdout)["runs"]
    assert len({each["run"] for each in everything}) == 5
    for page in (1, 2, 5):
        monkeypatch.setattr("mob.cli.flow._PAGE", page)
        assert json.loads(inside("flow", "ls", "--json").stdout)["runs"] == everything
