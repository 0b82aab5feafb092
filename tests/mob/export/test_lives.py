"""Whatever befell a mob, all exports of it can be made, and agree."""

from __future__ import annotations

import json
from typing import Any

import trio

from mob.app import stored_mob, stored_realm
from mob.elsewhere import fork_mob
from mob.export.columns import TABLES
from mob.export.files import json_lines, otlp_lines
from mob.report.document import document
from mob.report.page import page
from runtime.retention import Retention
from stores import Store, open_memory
from tests.mob.export.test_tables import TEAM_FILE
from tests.mob.mobs import opened


def looked_back(store: Store, mob_id: str) -> tuple[list[dict[str, Any]], list[str], Any]:
    """The rows, the names of the spans, and the report's document."""
    source = stored_mob(store, mob_id).source()
    rows = [json.loads(line) for line in json_lines(source, list(TABLES))]
    spans = [
        span["name"]
        for line in otlp_lines(source)
        for span in json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ]
    made = document(source)
    assert json.loads(json.dumps(made)) == made
    assert page(made)
    return rows, spans, made


def check(store: Store, mob_id: str, turns: int) -> list[dict[str, Any]]:
    """All of them, and what they must agree on; the rows."""
    rows, spans, made = looked_back(store, mob_id)
    ended = [row for row in rows if row["table"] == "turns"]
    assert len(ended) == turns
    assert len([name for name in spans if name.startswith("invoke_agent")]) == turns
    assert [turn[1] for turn in made["turns"]] == [row["seq"] for row in ended]
    assert len({lane[13] for lane in made["lanes"]}) == len(made["lanes"])
    assert {row["session_id"] for row in ended} <= {lane[13] for lane in made["lanes"]}
    return rows


async def test_a_mob_that_was_turned_inside_out_can_be_looked_back_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory() as store:
        async with opened(TEAM_FILE, store=store) as mob:
            await mob.ask("lead", "one")  # five turns: three members, two children
            await mob.snapshot("then")
            await mob.ask("worker-0", "two")  # two turns
            await mob.respawn("worker-0")
            await mob.ask("worker-0", "three")  # two turns
            await mob.retire("worker-1")
            rows = check(store, "team", 9)
            former = [row for row in rows if row["table"] == "turns" and row["path"] == "worker-0"]
            assert len({row["session_id"] for row in former}) == 2
            members = [row for row in rows if row["table"] == "members"]
            assert {row["member"]: row["retired"] for row in members} == {
                "lead": False,
                "worker-0": False,
                "worker-1": True,
            }
            await mob.rewind("then")
            await mob.ask("worker-1", "four")  # two turns
            lost = [
                head.session_id for head in mob.realm.state.heads.values() if head.lineage.parent
            ]
            await mob.sessions.delete(lost[0])
        check(store, "team", 11)
        await fork_mob(store, "team", "what-if", at="then")
        rows = check(store, "what-if", 5)
        assert {row["member"] for row in rows if row["table"] == "members"} >= {"lead", "worker-1"}

        async with opened(TEAM_FILE, store=store) as mob:
            await mob.ask("lead", "five")
        before = len([row for row in check_rows(store) if row["type"] == "TurnProgressed"])
        realm, _ = stored_realm(store, "team")
        await Retention(realm, 0, lambda _: False).run()
        after = check_rows(store)
        assert len([row for row in after if row["type"] == "TurnProgressed"]) < before
        looked_back(store, "team")


def check_rows(store: Store) -> list[dict[str, Any]]:
    """The rows of the journal's records."""
    source = stored_mob(store, "team").source()
    return [json.loads(line) for line in json_lines(source, ["events"])]
