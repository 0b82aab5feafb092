"""`mob gc` as a process: what it frees, when it refuses, and that the mob goes on as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mob.app import open_mob, stored_realm
from mob.runs import needed_for_report, past, read_run, run_key
from runtime.records import InputAccepted
from runtime.retention import Retention
from stores import MemoryStore
from tests.cli.commands import TEAM, mob, refused, run_team
from tests.mob.mobs import define, echo, models


def figures(*arguments: str, cwd: Path) -> dict[str, Any]:
    done = mob("gc", "--json", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def run(cwd: Path, prompt: str) -> str:
    (cwd / "mob.toml").write_text(TEAM % 0)
    done = mob("run", "mob.toml", "--prompt", prompt, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_frees_what_it_said_and_the_mob_goes_on(tmp_path: Path) -> None:
    run(tmp_path, "one")
    shown = mob("show", "team/lead", cwd=tmp_path).stdout
    assert figures(cwd=tmp_path)["bytes"] == 0  # the newest ten thousand are kept
    planned = figures("--dry-run", "--keep-events", "0", cwd=tmp_path)
    assert planned["dry_run"] is True
    freed = figures("team", "--keep-events", "0", cwd=tmp_path)
    assert freed["mobs"] == planned["mobs"]
    (counts,) = freed["mobs"]
    assert counts["id"] == "team"
    assert counts["inputs"] > 0
    assert counts["progress"] > 0
    assert freed["bytes"] == counts["bytes"] > 0
    assert figures("--keep-events", "0", cwd=tmp_path)["bytes"] == 0
    assert mob("show", "team/lead", cwd=tmp_path).stdout == shown
    checked = mob("doctor", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert run(tmp_path, "two")
    assert run(tmp_path, "one")
    done = mob("gc", "--keep-events", "0", cwd=tmp_path)
    assert "team: freed" in done.stdout
    assert "does not shrink" in done.stderr


def test_it_needs_the_store_for_itself_but_for_a_dry_run(tmp_path: Path) -> None:
    with run_team(tmp_path, latency_s=20.0) as running:
        running.wait_for("is asked")
        refused(75, "in use", done=mob("gc", cwd=tmp_path))
        assert figures("--dry-run", "--keep-events", "0", cwd=tmp_path)["dry_run"] is True
        assert running.process.poll() is None


def test_what_is_not_there_or_makes_no_sense_is_refused(tmp_path: Path) -> None:
    refused(4, "no store", done=mob("gc", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []
    run(tmp_path, "one")
    refused(4, "'other'", "team", done=mob("gc", "other", cwd=tmp_path))
    refused(2, "--keep-events -1", done=mob("gc", "--keep-events=-1", cwd=tmp_path))


async def test_a_run_whose_answer_nobody_saw_can_still_be_reported() -> None:
    """`mob run` joins it by its key, and prints it from the journal."""
    store, definition = MemoryStore(), define("a")
    shown, unseen = run_key("shown", ()), run_key("unseen", ())
    async with open_mob(definition, store=store, models=models(echo)) as at_work:
        await at_work.ask("a", "shown", idempotency_key=shown)
        await at_work.report_run(shown)
        await at_work.ask("a", "unseen", idempotency_key=unseen)
    realm, roster = stored_realm(store, "t")
    before = read_run("t", unseen, past(realm.journal), realm.state.heads)
    assert before is not None
    await Retention(realm, 0, lambda record: needed_for_report(record, roster.reported)).run()
    assert read_run("t", unseen, past(realm.journal), realm.state.heads) == before
    left = [e.record.text for e in past(realm.journal) if isinstance(e.record, InputAccepted)]
    assert left == ["unseen"]
    async with open_mob(definition, store=store, models=models(echo)) as at_work:
        assert (await at_work.ask("a", "unseen", idempotency_key=unseen)).text == "unseen"
        assert (await at_work.ask("a", "shown", idempotency_key=shown)).text == "shown"
