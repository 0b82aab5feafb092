"""benchmarks/peers/table.py and the rounds of run.py: medians, ratios, cells, notes, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def figure(peers: Any, kind: str, n: int, value: float | None, note: str = "") -> Any:
    return peers.protocol.Figure(kind, n, value, peers.protocol.UNITS[kind], note)


def one(peers: Any, before: float, after: float, **others: float | None) -> Any:
    """A round of ``swarm`` with 100 members."""
    made = {name: figure(peers, "swarm", 100, value) for name, value in others.items()}
    ends = [figure(peers, "swarm", 100, value) for value in (before, after)]
    return peers.table.Round(*ends, made)


def test_a_ratio_is_taken_within_a_round_and_the_median_over_rounds(peers: Any) -> None:
    """The machine is twice, then five times as slow: the ratio of 3 is the same in each round."""
    rounds = [one(peers, base, base, x=3 * base) for base in (10, 20, 50)]
    [base, other] = peers.table.combined(rounds)
    assert (base.contestant, base.figure.value, base.ratio) == ("mob", 20, 1)
    assert (other.contestant, other.figure.value, other.ratio) == ("x", 60, 3)
    [_, other] = peers.table.combined([one(peers, 10, 30, x=40)])
    assert other.ratio == 2


def test_how_much_mob_moved_is_a_share_of_the_smaller(peers: Any) -> None:
    assert one(peers, 10, 12.5).moved == pytest.approx(0.25)
    assert one(peers, 12.5, 10).moved == pytest.approx(0.25)


def test_of_turns_lost_the_count_is_shown_and_of_ours_the_worse_one(peers: Any) -> None:
    ends = [figure(peers, "kill", 5, value, "of 1,200") for value in (0.0, 2.0)]
    others = {"x": figure(peers, "kill", 5, 7.0, "of 3,000; by the application")}
    results = peers.table.combined([peers.table.Round(*ends, others)])
    assert [(each.figure.value, each.ratio) for each in results] == [(2.0, None), (7.0, None)]
    row = peers.table.table(results, ["mob", "x"]).splitlines()[-1]
    assert row == "| `kill -9`, safest setting | 2 of 1,200 lost | 7 of 3,000 |"
    assert peers.table.notes(results, ["x"]) == "- **x**: kill: by the application."


def test_rows_are_in_order_and_what_is_missing_is_a_dash_with_its_reason(peers: Any) -> None:
    results = []
    for kind, n, value in (("durable", 100, 60.0), ("swarm", 1000, 12.34), ("swarm", 100, 0.5)):
        results.append(peers.table.Result("mob", figure(peers, kind, n, value), 1.0))
        results.append(peers.table.Result("x", figure(peers, kind, n, value * 1.5), 1.5))
    why = figure(peers, "swarm", 5000, None, "more than 60 CPU s")
    results += [
        peers.table.Result("mob", figure(peers, "swarm", 5000, 1.0), 1.0),
        peers.table.Result("x", why, None),
        peers.table.Result("x", figure(peers, "import", 1, 2.0, "x 1.2"), 20.0),
        peers.table.Result("mob", figure(peers, "memory", 100, 3.0), 1.0),
    ]
    assert peers.table.table(results, ["mob", "x"]).splitlines() == [
        "|  | mob | x |",
        "|---|---|---|",
        "| swarm in memory, 100 members | 0.50 CPU µs a turn | 1.5x |",
        "| swarm in memory, 1,000 members | 12 CPU µs a turn | 1.5x |",
        "| swarm in memory, 5,000 members | 1.0 CPU µs a turn | - |",
        "| durable swarm, 100 members | 60 CPU µs a turn | 1.5x |",
        "| import | - | 20x |",
    ]
    notes = peers.table.notes(results, ["mob", "x"])
    assert notes == "- **x**: x 1.2; swarm 5,000: more than 60 CPU s."


def test_the_page_keeps_what_is_around_the_markers(peers: Any) -> None:
    table = peers.table
    first = table.placed("# Performance\n\ntext\n", "one")
    assert first.startswith("# Performance\n\ntext\n\n## Beside others\n\n")
    page = first.replace("text", "other text") + "\n## More\n"
    second = table.placed(page, "two")
    assert second == page.replace("\none\n", "\ntwo\n")
    for wrong in (
        first.replace(table.END, ""),
        first.replace(table.BEGIN, ""),
        f"{table.END}\n{table.BEGIN}",
        first + first,
    ):
        with pytest.raises(ValueError, match="once"):
            table.placed(wrong, "x")


def test_a_round_is_measured_again_only_if_mob_moved(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: who has no figure for a size is not asked for a larger one, and the reason stays."""
    asked: list[tuple[str, str, int]] = []
    paces = iter([10.0, 13.0, 10.0, 11.0, 10.0, 10.0])

    def measure(contestant: Any, python: str, kind: str, n: int, limit_s: int) -> list[Any]:
        asked.append((contestant.name, kind, n))
        if contestant.name == "mob":
            return [figure(peers, kind, n, next(paces)), figure(peers, "memory", n, 4.0)]
        return [figure(peers, kind, n, None, "too slow")]

    monkeypatch.setattr(peers.run, "measure", measure)
    who = [peers.run.Contestant("mob", "", ()), peers.run.Contestant("x", "", ())]
    scale = peers.run.Scale({"swarm": (100, 1000)}, limit_s=1, rounds=3)
    results = list(peers.run.Run(who, scale, tmp_path).results())
    assert [name for name, _, n in asked if n == 100] == ["mob", "x", "mob", "mob", "mob"]
    assert [name for name, _, n in asked if n == 1000] == ["mob", "mob"]
    values = {(each.contestant, *each.figure[:2]): each.figure for each in results}
    assert values["mob", "swarm", 100].value == pytest.approx(11.0)
    assert values["x", "swarm", 1000].note == "too slow"
    assert values["x", "memory", 1000][2:] == (None, "", "")


def test_the_scales_measure_every_kind_and_every_file_is_a_contestant(peers: Any) -> None:
    run = peers.run
    for scale in run.SCALES.values():
        assert set(scale.sizes) | set(peers.protocol.ALONG) == set(peers.protocol.UNITS)
        assert all(list(sizes) == sorted(sizes) for sizes in scale.sizes.values())
    assert set(peers.table.ROWS) == set(peers.protocol.UNITS)
    files = {each.name for each in peers.folder.glob("*.py")}
    assert files == {each.file for each in run.CONTESTANTS} | {"protocol.py", "run.py", "table.py"}
