"""`mob sim` as users run it: figures, reproduction lines, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest

from tests.cli.commands import ECHO, TEAM, Running, mob, refused

#: A scenario with a bug of its user's: whoever asks goes on as if a crash took nothing away.
SCENARIO = """
import ctypes

from mob import MobDefinition
from mob.simulation import ProcessDied, invariant

DEFINITION = MobDefinition.from_table({
    "mob": {"id": "s", "lead": "lead"},
    "models": {"m": {"model": "sim:echo"}},
    "profiles": {"p": {"model": "m"}},
    "members": {"lead": {"profile": "p"}},
})


@invariant
def at_most_three_turns(ledger):
    for session in ledger.sessions.values():
        assert session.turns <= LIMIT, f"{session.turns} turns"


LIMIT = 99


async def quiet(world):
    await play(world, 2)


async def busy(world):
    global LIMIT
    LIMIT = 3
    await play(world, 6)


async def dies(world):
    if world.seed == 2:
        ctypes.string_at(0)
    await play(world, 1)


async def play(world, times):
    for number in world.keep(range(times)):
        if world.process is None:
            await world.start(DEFINITION)
        elif not world.process.alive:
            await world.restart()
        process = world.process
        try:
            await process.do(lambda: process.mob.ask("lead", f"question {number}"))
        except ProcessDied:
            pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mob.toml").write_text(ECHO)
    (tmp_path / "s.py").write_text(SCENARIO)
    return tmp_path


def test_a_mob_file_is_run_from_many_seeds_and_all_that_fired_is_told(folder: Path) -> None:
    done = mob("sim", "run", "mob.toml", "--seeds", "0..9", "--faults", "heavy", cwd=folder)
    assert done.returncode == 0, done.stdout
    for words in (
        "seeds       10 of 0..9, healed",
        "plan        heavy: store.error=0.02,",
        "  clock.backwards",
        "  mob.created                        10",
        "seeds per CPU second",
        "virtual seconds per CPU second",
        "failures    0",
    ):
        assert words in done.stdout
    assert "10/10 seeds, 0 failures" in done.stderr
    assert not (folder / ".mob").exists()


def test_workers_change_nothing(folder: Path) -> None:
    def digest(*options: str) -> str:
        run = ("sim", "run", "mob.toml", "--seeds", "0..11", "--json", *options)
        return str(json.loads(mob(*run, cwd=folder).stdout)["digest"])

    one = digest("--workers", "1")
    assert digest("--workers", "3") == one
    assert digest("--workers", "2", "--faults", "none") != one


def test_tools_and_the_shell_of_a_mob_file_are_doubled(folder: Path) -> None:
    """They are called with arguments that fit, and what they are made of does not run."""
    (folder / "tools.py").write_text(
        "def count(things: list[int], deep: bool) -> int:\n    1 / 0\n"
    )
    tools = 'tools = ["count"]\nshell = {}\n[tools.count]\nfunction = "tools.py:count"\n'
    (folder / "mob.toml").write_text(ECHO.replace('model = "main"\n', 'model = "main"\n' + tools))
    replay = ("sim", "replay", "mob.toml", "--faults", "none", "--json")
    done = mob(*replay, cwd=folder)
    assert done.returncode == 0, done.stdout
    said = [json.loads(line).get("what", "") for line in done.stdout.splitlines()]
    called = {name for what in said if what.startswith("calls ") for name in what[6:].split(", ")}
    assert called == {"count", "shell"}
    assert "division" not in done.stdout


def test_the_hooks_of_a_mob_file_are_doubled(folder: Path) -> None:
    """They are asked, and what they are made of does not run."""
    hooks = '[hooks.g]\non = ["before_model"]\nmode = "guardrail"\npython = "none.py:no"\n'
    (folder / "mob.toml").write_text(ECHO + hooks)
    run = ("sim", "run", "mob.toml", "--seeds", "0..9", "--faults", "hook.denies=0.5")
    done = mob(*run, cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "hook.denies" in done.stdout


def test_a_counterexample_exits_with_10_and_the_printed_line_reproduces_it(folder: Path) -> None:
    run = ("sim", "run", "s.py:busy", "--seeds", "0..5", "--faults", "none", "--failures", "2")
    done = mob(*run, "--workers", "2", cwd=folder)
    assert done.returncode == 10
    assert done.stdout.count("at_most_three_turns") == 2
    lines = [line.strip() for line in done.stdout.splitlines() if "mob sim replay" in line]
    assert lines == [f"mob sim replay s.py:busy --seed {seed} --faults none" for seed in (0, 1)]
    again = mob(*shlex.split(lines[1])[1:], cwd=folder)
    assert again.returncode == 10
    assert "FAILED at_most_three_turns, after commit" in again.stdout
    assert "4 turns" in again.stdout
    assert lines[1] in again.stdout


def test_an_early_end_is_the_same_for_any_number_of_workers(folder: Path) -> None:
    run = ("sim", "run", "s.py:busy", "--seeds", "0..30", "--failures", "3", "--json")
    reports = [json.loads(mob(*run, "--workers", n, cwd=folder).stdout) for n in ("1", "3")]
    assert [each["seeds"] for each in reports] == [3, 3]
    assert reports[0]["digest"] == reports[1]["digest"]
    assert reports[0]["failures"][2]["failure"]["invariant"] == "at_most_three_turns"


def test_a_worker_that_dies_names_its_seed_and_the_others_are_run(folder: Path) -> None:
    done = mob("sim", "run", "s.py:dies", "--seeds", "0..5", "--faults", "none", cwd=folder)
    assert done.returncode == 10
    assert "seeds       6 of 0..5" in done.stdout
    assert "failures    1" in done.stdout
    assert "seed 2: the interpreter survives" in done.stdout
    assert "SIGSEGV" in done.stdout


def test_ctrl_c_prints_what_was_done(folder: Path) -> None:
    run = ("sim", "run", "mob.toml", "--seeds", "0..99999", "--workers", "2", "--failures", "0")
    with Running(*run, cwd=folder) as running:
        running.wait_for("seeds/s")
        running.signal(signal.SIGINT)
        code, out, err = running.end()
    assert code == 130
    assert "seeds per CPU second" in out
    assert "interrupted after" in err
    assert "Traceback" not in err


def test_a_replay_is_a_timeline_and_always_the_same(folder: Path) -> None:
    (folder / "team.toml").write_text(TEAM % "0.1")
    replay = ("sim", "replay", "team.toml", "--seed", "3", "--faults", "heavy")
    done = mob(*replay, cwd=folder)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].split()[1:] == ["p1", "process.started", "generation", "1"]
    assert any("p1     #1 mob" in line and "'team' is new" in line for line in lines)
    assert any("fault " in line and "@" in line for line in lines)
    assert lines[-1] == "nothing failed"
    assert mob(*replay, cwd=folder, PYTHONHASHSEED="7").stdout == done.stdout
    assert mob("sim", "replay", "team.toml", "--seed", "4", cwd=folder).stdout != done.stdout


def test_a_replay_goes_as_far_as_asked_and_speaks_json(folder: Path) -> None:
    replay = ("sim", "replay", "mob.toml", "--json")
    entries = [json.loads(line) for line in mob(*replay, cwd=folder).stdout.splitlines()]
    assert {"at_s", "process", "seq", "who", "what"} == set(entries[0])
    assert entries[-1]["type"] == "result"
    assert entries[-1]["failure"] is None
    some = [
        json.loads(line) for line in mob(*replay, "--until", "4", cwd=folder).stdout.splitlines()
    ]
    assert some == entries[: len(some)]
    assert some[-1]["seq"] == 4


def test_faults_and_steps_can_be_named_one_by_one(folder: Path) -> None:
    replay = ("sim", "replay", "mob.toml", "--seed", "3")
    whole = mob(*replay, "--faults", "heavy", "--json", cwd=folder)
    *lines, result = map(json.loads, whole.stdout.splitlines())
    fault = next(line["what"] for line in lines if line["who"] == "fault")
    steps = ",".join(map(str, range(result["steps"])))
    done = mob(*replay, "--only", fault, "--keep", steps, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"1 fault, {result['steps']} of" in done.stdout
    none = mob("sim", "replay", "mob.toml", "--only", "none", "--keep", "none", cwd=folder)
    assert "0 faults, 0 of" in none.stdout


def test_the_settings_of_the_mob_file_are_taken(folder: Path) -> None:
    (folder / "mine.py").write_text(SCENARIO.replace("LIMIT = 99", "LIMIT = 0"))
    sim = '[sim]\nseed = 7\nlatency_s = 2.5\nfaults = "model.error=0.5"\ninvariants = "mine.py"\n'
    (folder / "mob.toml").write_text(ECHO + sim)
    done = mob("sim", "run", "mob.toml", "--failures", "1", cwd=folder)
    assert done.returncode == 10
    assert "of 7..106" in done.stdout
    assert "plan        model.error=0.5: model.error=0.5" in done.stdout
    assert "at_most_three_turns" in done.stdout


def test_a_failing_run_is_made_small_and_the_line_replays_exactly_that(folder: Path) -> None:
    mine = """
from mob.simulation import invariant

@invariant
def at_most_two_processes(ledger):
    assert len(ledger.opened_s) <= 2, "a third process"
"""
    (folder / "mine.py").write_text(mine)
    (folder / "mob.toml").write_text(ECHO + '[sim]\ninvariants = "mine.py"\n')
    faults = ("--faults", "process.crash=0.5,model=0.1")
    found = mob("sim", "run", "mob.toml", "--failures", "1", "--json", *faults, cwd=folder)
    seed = str(json.loads(found.stdout)["failures"][0]["seed"])
    shrink = ("sim", "shrink", "mob.toml", "--seed", seed, "--output", "line.txt", *faults)
    done = mob(*shrink, cwd=folder)
    assert done.returncode == 10, done.stderr
    line = done.stdout.splitlines()[-1]
    assert "FAILED at_most_two_processes" in done.stdout
    assert line.startswith(f"mob sim replay mob.toml --seed {seed} --faults none --only ")
    assert line.count("--only process.crash@step/") == line.count("--only") == 2
    assert (folder / "line.txt").read_text().splitlines()[1] == line
    assert "probes: " in done.stderr
    again = mob(*shlex.split(line)[1:], cwd=folder)
    assert again.returncode == 10
    assert "FAILED at_most_two_processes" in again.stdout
    assert "2 faults, 3 of" in again.stdout


def test_steps_are_left_out_and_a_directed_crash_that_is_needed_stays(folder: Path) -> None:
    shrink = ("sim", "shrink", "s.py:busy", "--faults", "crash=commit.before:99", "--json")
    table = json.loads(mob(*shrink, cwd=folder).stdout)
    assert (len(table["keep"]), table["crashes"], table["faults"]) == (4, [], [])
    assert table["from"] == {"faults": 1, "steps": 6}
    assert table["reproduce"].endswith("--faults none --only none --keep 2,3,4,5")


def test_what_does_not_fail_cannot_be_shrunk(folder: Path) -> None:
    done = mob("sim", "shrink", "s.py:quiet", "--faults", "none", cwd=folder)
    refused(4, "seed 0 does not fail", done=done)


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (4, ("run", "no.toml"), "no.toml"),
        (4, ("run", "no.py:x"), "no.py"),
        (2, ("run", "s.py"), "choose one of: s.py:quiet, s.py:busy"),
        (2, ("run", "s.py:nothing"), "has no scenario 'nothing'"),
        (2, ("run", "broken.py:x"), "cannot be loaded: ZeroDivisionError"),
        (2, ("run", "mob.toml", "--seeds", "9..3"), "write A..B"),
        (2, ("run", "mob.toml", "--faults", "havy"), "no fault plan 'havy'"),
        (2, ("run", "mob.toml", "--faults", "no.toml"), "cannot read the fault plan no.toml"),
        (2, ("run", "mob.toml", "--workers", "0"), "at least one"),
        (2, ("replay", "mob.toml", "--only", "x"), "KIND@SITE"),
        (2, ("replay", "mob.toml", "--keep", "a"), "numbers of steps"),
        (3, ("run", "bad.toml"), "sim.faults: no fault plan 'lite'"),
        (3, ("run", "odd.toml"), "sim.fautls: unknown key (did you mean 'faults'?)"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, code: int, arguments: tuple[str, ...], words: str
) -> None:
    (folder / "broken.py").write_text("1 / 0")
    (folder / "bad.toml").write_text(ECHO + '[sim]\nfaults = "lite"\n')
    (folder / "odd.toml").write_text(ECHO + '[sim]\nfautls = "light"\n')
    refused(code, words, done=mob("sim", *arguments, cwd=folder))


def test_validate_judges_the_settings_too(folder: Path) -> None:
    (folder / "mob.toml").write_text(ECHO + '[sim]\nfaults = "lite"\n')
    refused(3, "sim.faults: no fault plan 'lite'", done=mob("validate", "mob.toml", cwd=folder))
    (folder / "plan.toml").write_text('base = "light"\n')
    (folder / "mob.toml").write_text(ECHO + '[sim]\nfaults = "plan.toml"\n')
    assert mob("validate", "mob.toml", cwd=folder).returncode == 0
    assert mob("sim", "run", "mob.toml", "--seeds", "0", cwd=folder).returncode == 0
