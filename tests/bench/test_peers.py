"""benchmarks/peers: the protocol, and mob and the floor at the smallest scale.

No peer is installed here: what is theirs is only that their figures are lines of the protocol.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trio

#: A contestant that needs nothing but the standard library, and forgets every second turn.
FORGETFUL = """
import asyncio, contextlib, pathlib
from protocol import ASYNCIO, Peer, serve

@contextlib.asynccontextmanager
async def team(members, folder, safest, pause_s):
    async def turns(member, count, heard=None):
        for number in range(count):
            await asyncio.sleep(pause_s)
            if safest or number % 2:
                with open(f"{folder}/{member}", "a") as file:
                    file.write("x")
            if heard:
                heard(member)
    yield turns

async def stored(folder, members):
    files = [pathlib.Path(folder, str(member)) for member in range(members)]
    return [len(file.read_text()) if file.exists() else 0 for file in files]

absent = {"messages": "nobody to talk to"}
serve(Peer(ASYNCIO, team, stored, notes={"kill": "a note"}, absent=absent))
"""


@pytest.fixture
def forgetful(peers: Any, tmp_path: Path) -> Any:
    """What the program above says of a kind; it lies where the others do."""
    file = tmp_path / "forgetful.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(peers.folder)!r})\n{FORGETFUL}")

    def measured(kind: str, n: int) -> Any:
        contestant = peers.run.Contestant("forgetful", str(file), (), options=("--seconds", "0.3"))
        return peers.run.measure(contestant, sys.executable, kind, n, 20)

    return measured


def test_a_line_comes_back_as_it_was_and_a_strange_one_is_refused(peers: Any) -> None:
    figure = peers.protocol.Figure("swarm", 100, 12.5, "CPU µs a turn", "a note")
    assert peers.protocol.Figure.parse(figure.line()) == figure
    for wrong in ('{"kind": "swarm"}', figure.line().replace("swarm", "storm"), "[]", "12"):
        with pytest.raises(ValueError, match=r"kind|figure"):
            peers.protocol.Figure.parse(wrong)


async def test_mob_and_the_floor_do_every_kind_of_work(peers: Any, tmp_path: Path) -> None:
    for name in ("ours", "floor"):
        peer = getattr(peers, name).PEER
        found = []
        for kind, n in (("swarm", 3), ("durable", 3), ("history", 2), ("messages", 200)):
            folder = tmp_path / name / kind
            folder.mkdir(parents=True)
            job = peers.protocol.Job(peer, n, str(folder), 0.0)
            found += await peers.protocol.WORKS[kind](job)
        values = {kind: value for kind, _, value, _ in found}
        assert set(values) == set(peers.protocol.UNITS) - {
            "resume",
            "kill",
            "kill_default",
            "import",
        }
        # 200 bytes there, 200 back, and no two turns are the same text; memory is in whole pages.
        assert all(value > 400 for kind, value in values.items() if kind in ("disk", "written"))
        assert all(value > 0 for kind, value in values.items() if kind != "memory")
        there = await peer.stored(str(tmp_path / name / "durable"), 3)
        assert there == [peers.protocol.TURNS] * 3


async def test_a_turn_is_over_when_its_model_answered(peers: Any, autojump_clock: object) -> None:
    """What merely sent would be measured without its turns."""
    for peer in (peers.ours.PEER, peers.floor.PEER):
        heard: list[int] = []
        async with peer.team(2, None, True, 5.0) as turns:
            began = trio.current_time()
            await turns(1, 3, heard.append)
            assert (heard, trio.current_time() - began) == ([1, 1, 1], pytest.approx(15.0))


def test_mob_loses_no_turn_to_a_kill(peers: Any) -> None:
    """By the count that is taken of everybody; of `kill_default` it is the same."""
    [mob] = [each for each in peers.run.CONTESTANTS if each.name == peers.table.BASE]
    quick = mob._replace(options=("--seconds", "0.2"))
    [figure] = peers.run.measure(quick, sys.executable, "kill", 2, 60)
    assert (figure.value, figure.note[:3]) == (0, "of ")
    assert int(figure.note.removeprefix("of ")) > 2


def test_a_contestant_that_forgets_is_found_out(forgetful: Any) -> None:
    """Of the turns that its default setting reports, every second one is not there."""
    [safe], [default] = forgetful("kill", 2), forgetful("kill_default", 2)
    assert (safe.value, safe.note.endswith("; a note")) == (0, True)
    heard = int(default.note.removeprefix("of "))
    assert heard > 4
    assert abs(default.value - heard / 2) <= 2


def test_what_a_contestant_cannot_do_has_a_reason(peers: Any, forgetful: Any) -> None:
    [figure] = forgetful("messages", 2)
    assert (figure.value, figure.note) == (None, "nobody to talk to")
    [figure] = forgetful("resume", 2)
    assert figure.value is not None


def test_a_contestant_is_ended_at_its_limit_and_a_failure_is_told(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for name, lines, wall in (
        ("busy", "from protocol import *\ndef team(*_):\n  while True: pass", 60),
        ("stuck", "import time\ntime.sleep(100)", 0.3),
        ("wrong", "raise KeyError('no such model')", 60),
    ):
        file = tmp_path / f"{name}.py"
        path = f"import sys\nsys.path.insert(0, {str(peers.folder)!r})\n"
        file.write_text(f"{path}{lines}\nserve(Peer(ASYNCIO, team, None))")
        monkeypatch.setattr(peers.run, "WALL", wall)
        contestant = peers.run.Contestant(name, str(file), ())
        [figure] = peers.run.measure(contestant, sys.executable, "swarm", 1, 1)
        said[name] = figure.note
        assert figure.value is None
    assert said == {
        "busy": "more than 1 CPU s",
        "stuck": "no end within 0.3 s",
        "wrong": "failed: KeyError: 'no such model'",
    }
