"""A process that forks and rewinds on a real disk, killed at random moments, again and again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import trio

from mob.app import stored_mob, stored_mobs
from runtime.messages import UserMessage
from stores import open_lmdb
from tests.cli.commands import ROOT
from tests.mob.journeys import prefix, stored

KILLS = 8


async def test_a_fork_or_a_rewind_that_was_killed_is_done_or_not_done(tmp_path: Path) -> None:
    """CONTRACTS 3.8, 6.9: and what was acknowledged is there; both fold to what their rows say."""
    chance = random.Random(7)
    told: dict[str, str] = {}
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.mob.travel_worker", str(tmp_path / "store")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, cwd=ROOT, env=environment
        )
        assert process.stdout is not None
        heard = b""
        with trio.fail_after(60):
            wanted = chance.randrange(1, 4)
            async for chunk in process.stdout:
                heard += chunk
                if heard.count(b"\n") >= wanted:
                    await trio.sleep(chance.random() * 0.05)
                    process.kill()
            await process.wait()
        for line in heard.decode().splitlines():
            _, name, text = line.split(" ", 2)
            told[name] = text
        async with open_lmdb(tmp_path / "store") as store:
            mobs = stored_mobs(store)
            assert told.keys() <= set(mobs)
            assert stored(store, "t") == prefix(store, "t", stored_mob(store, "t").last)
            for name in set(mobs) - {"t"}:
                found = stored_mob(store, name)
                row = found.roster.members["a"]
                turn = found.journal.turn(found.state.heads[row.session_id].head)
                assert isinstance(turn.messages[0], UserMessage)
                assert turn.messages[0].text == told.get(name, turn.messages[0].text)
                assert found.roster.mob_id == name
    assert len(told) >= KILLS
