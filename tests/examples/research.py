"""The research example as processes on a disk, and what its journal must hold at any moment.

Owns: a copy of the example on `sim:agent`, running and killing its command, and the checks. Must
not: know moments or seeds (the tests choose them).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from mob.app import stored_mob
from mob.records import RunReported
from runtime.journal import Event
from runtime.messages import AssistantMessage, ToolResult
from runtime.records import InputAccepted, SessionArchived, SessionCreated, TurnEnded, TurnOutcome
from runtime.structured import mistakes_in
from stores import Store, StoreUnreadable, read_lmdb
from tests.cli.commands import ROOT, Running
from tests.mob.mobs import journal

EXAMPLE: Final = ROOT / "examples" / "research"
QUESTION: Final = "How can a sailor see a lighthouse from far away and know which one it is?"
RESEARCHERS: Final = ("optics", "towers", "signals")
#: Seconds of a simulated model call; a run makes eight, one after the other.
LATENCY_S: Final = 0.04


class Research:
    """A copy of the example in `folder`, with its state beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(EXAMPLE, folder / "research")
        file = folder / "research" / "mob.toml"
        text = file.read_text()
        for was, is_now in (
            ('"local:smollm2-135m"', '"sim:agent"'),
            ("temperature = 0.0", f"latency_s = {LATENCY_S}"),
        ):
            assert was in text
            text = text.replace(was, is_now)
        file.write_text(text)

    def start(self) -> Running:
        """The main job under way."""
        return Running(
            "run", "research/mob.toml", "--prompt", QUESTION, "--display", "plain", cwd=self.folder
        )

    def finish(self) -> str:
        """Run the main job to its end; return the answer."""
        with self.start() as running:
            code, answer, said = running.end()
        assert code == 0, said
        return answer

    def store(self) -> AbstractContextManager[Store]:
        """What is on disk, for a block."""
        return read_lmdb(self.folder / ".mob")

    def events(self) -> list[Event]:
        """What is on disk now: every record is one that was acknowledged or about to be."""
        if not (self.folder / ".mob" / "data.mdb").exists():
            return []
        try:
            with self.store() as store:
                if b"realm/research" not in store.streams():
                    return []
                events = journal(store, "research")
        except StoreUnreadable as error:
            # Killed while the store was being made: who opens it next for writing completes it.
            if "never finished" not in str(error):
                raise
            return []
        check_nothing_is_repeated(events)
        return events

    def finding(self, store: Store, member: str) -> Any:
        """The latest answer of a member, parsed."""
        session_id = stored_mob(store, "research").roster.members[member].session_id
        turns = [e.record for e in journal(store, "research") if type(e.record) is TurnEnded]
        output = [turn.output for turn in turns if turn.session_id == session_id][-1]
        assert output is not None
        return json.loads(output)


def is_reported(events: list[Event]) -> bool:
    """Whether the answer has been shown: then the same command would ask again, as it should."""
    return any(type(event.record) is RunReported for event in events)


def check_nothing_is_repeated(events: list[Event]) -> None:
    """At any moment: an input is accepted and consumed once, a call answered once, a child made
    once for its call."""
    records = [event.record for event in events]
    keys = [r.idempotency_key for r in records if type(r) is InputAccepted and r.idempotency_key]
    consumed = [i for r in records if type(r) is TurnEnded for i in r.input_ids]
    made = [r.spawn_key for r in records if type(r) is SessionCreated and r.spawn_key]
    ended = [r.session_id for r in records if type(r) is SessionArchived]
    answered = [
        (record.run_id, message.call_id)
        for record in records
        if type(record) is TurnEnded
        for message in record.messages
        if type(message) is ToolResult
    ]
    for once in (keys, consumed, made, ended, answered):
        assert [each for each, n in Counter(once).items() if n > 1] == []


def check_finished(research: Research, answer: str) -> None:
    """The main job is done: once, by everybody, and the answer that was shown is in the store."""
    events = research.events()
    records = [event.record for event in events]
    turns = [record for record in records if type(record) is TurnEnded]
    assert {turn.outcome for turn in turns} == {TurnOutcome.COMPLETED}
    with research.store() as store:
        stored = stored_mob(store, "research")
        heads = stored.state.heads
        assert research.finding(store, "lead") == {"answer": answer.strip()}
        for name in RESEARCHERS:
            check_finding(research.finding(store, name))
        sessions = {name: row.session_id for name, row in stored.roster.members.items()}
    assert len(heads) == len(sessions) + len(RESEARCHERS), "one child for each researcher"
    assert all(head.turns == 1 and not head.inputs and not head.partial for head in heads.values())
    assert all(head.usage.total_tokens > 0 for head in heads.values())
    for name, session_id in sessions.items():
        children = [heads[child] for child in heads[session_id].children or ()]
        assert len(children) == (name in RESEARCHERS)
        assert all(child.archived for child in children), "an orphan"
    calls = Counter(
        call.name
        for turn in turns
        for message in turn.messages
        if type(message) is AssistantMessage
        for call in message.tool_calls
    )
    assert calls == {"ask_researcher": 1, "spawn_agent": 3, "search_notes": 3, "ask_critic": 1}


def check_finding(finding: Any) -> None:
    """It fits its schema, and the note it names says it."""
    schema = json.loads((EXAMPLE / "finding.schema.json").read_text())
    assert mistakes_in(schema, finding) is None
    assert finding["finding"] in (EXAMPLE / "corpus" / f"{finding['source']}.txt").read_text()
