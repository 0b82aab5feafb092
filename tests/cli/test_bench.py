"""`mob bench` as users run it: results, exit codes, a report that needs nothing beside it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from tests.cli.commands import Running, mob, refused

VOTE = """
[scenario]
about = "votes"
shape = "vote"
[size]
questions = 30
[replicas]
voter = "voters"
[definition.mob]
id = "vote"
lead = "voter-0"
[definition.models.solver]
model = "sim:solver"
options = { accuracy = 0.7, latency_s = LATENCY }
[definition.profiles.voter]
model = "solver"
[definition.members.voter]
profile = "voter"
replicas = 1
[[assert]]
metric = "accuracy"
equals = "oracle"
[[assert]]
metric = "turns"
equals = TURNS
"""


def scenario(folder: Path, name: str = "vote", turns: str = '"oracle"', latency: str = "0") -> str:
    text = VOTE.replace("TURNS", turns).replace("LATENCY", latency)
    (folder / f"{name}.toml").write_text(text)
    return f"{name}.toml"


def test_run_says_what_came_out_and_writes_a_report(tmp_path: Path) -> None:
    file = scenario(tmp_path)
    options = ("--repeats", "2", "--scale", "0.5", "--store", "memory", "--json")
    done = mob("bench", "run", file, *options, "--report", "out.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [(run["seed"], run["store"], run["size"]) for run in runs] == [
        (1, "memory", {"questions": 15}),
        (2, "memory", {"questions": 15}),
    ]
    assert [run["figures"]["turns"] for run in runs] == [105, 105]
    rates = [run["figures"]["voter_accuracy"] for run in runs]
    assert rates[0] != rates[1], "they have other seeds"
    assert "mob: 2/2 vote, repeat 2" in done.stderr
    page = (tmp_path / "out.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "turns_per_cpu_s" in page
    assert not re.search(r"(src|href)=[\"'](?!#)", page.replace("xlink:href", "href")), "one file"

    (tmp_path / "a.json").write_text(done.stdout)
    slow = json.loads(done.stdout)
    for run in slow["runs"]:
        run["figures"]["turns_per_cpu_s"] /= 50
    (tmp_path / "b.json").write_text(json.dumps(slow))
    same = mob("bench", "compare", "a.json", "a.json", cwd=tmp_path)
    assert same.returncode == 0, same.stderr
    worse = mob("bench", "compare", "a.json", "b.json", "--margin", "0.2", cwd=tmp_path)
    assert worse.returncode == 9, worse.stdout
    assert re.search(r"vote +turns_per_cpu_s\* .* REGRESSION", worse.stdout)
    other = mob("bench", "compare", "a.json", "b.json", "--metric", "tokens", cwd=tmp_path)
    assert other.returncode == 0, other.stdout


def test_an_assertion_that_fails_ends_with_9(tmp_path: Path) -> None:
    file = scenario(tmp_path, turns="7")
    done = mob("bench", "run", file, "--scale", "0.1", cwd=tmp_path)
    assert done.returncode == 9
    assert "vote with seed 1 FAILED turns = 7: found 21, expected 7" in done.stderr
    assert "FAILED  turns = 7" in done.stdout
    assert "ok      accuracy = oracle" in done.stdout


def test_a_run_that_comes_to_no_end_is_said_and_ends_with_1(tmp_path: Path) -> None:
    file = scenario(tmp_path, latency="-1")
    done = mob("bench", "run", file, "--scale", "0.1", cwd=tmp_path)
    assert done.returncode == 1
    assert "NO END with seed 1" in done.stdout


def test_ctrl_c_prints_what_is_done(tmp_path: Path) -> None:
    first, second = scenario(tmp_path, "quick"), scenario(tmp_path, "slow", latency="60")
    command = ("bench", "run", first, second, "--scale", "0.1", "--json")
    with Running(*command, cwd=tmp_path) as running:
        running.wait_for("2/2 slow")
        running.signal(signal.SIGINT)
        code, out, err = running.end()
    assert code == 130, err
    assert [run["scenario"] for run in json.loads(out)["runs"]] == ["quick"]
    assert "interrupted after 1 of 2 runs" in err


def test_ls_lists_scenarios_and_passes_over_what_is_none(tmp_path: Path) -> None:
    scenario(tmp_path)
    (tmp_path / "mob.toml").write_text("[mob]\n")
    done = mob("bench", "ls", ".", "--json", cwd=tmp_path)
    [row] = json.loads(done.stdout)
    assert (row["name"], row["shape"], row["size"]) == ("vote", "vote", {"questions": 30})
    assert "vote: 30 questions; lmdb, real clock" in mob("bench", "ls", ".", cwd=tmp_path).stdout


def test_a_name_that_ls_prints_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "scenarios"
    folder.mkdir(parents=True)
    scenario(folder)
    done = mob("bench", "run", "vote", "--repeats", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [each["scenario"] for each in json.loads(done.stdout)["runs"]] == ["vote"]
    refused(4, "'veto'", "mob bench ls", done=mob("bench", "run", "veto", cwd=tmp_path))


def test_what_cannot_work_is_refused_before_anything_runs(tmp_path: Path) -> None:
    file = scenario(tmp_path)
    run = ("bench", "run", file)
    refused(2, "--scale 0", done=mob(*run, "--scale", "0", cwd=tmp_path))
    refused(4, "none.toml", done=mob("bench", "run", "none.toml", cwd=tmp_path))
    (tmp_path / "bad.toml").write_text('[scenario]\nshap = "vote"\n')
    done = mob("bench", "run", "bad.toml", cwd=tmp_path)
    refused(3, "not a valid scenario", "did you mean 'shape'?", done=done)
    (tmp_path / "x.json").write_text("{}")
    done = mob("bench", "compare", "x.json", "x.json", cwd=tmp_path)
    refused(2, "holds no results", done=done)
