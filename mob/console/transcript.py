"""What is said in one session, as lines, while it happens: from the records of its mob. Pure.

Owns: `Transcript`. Must not: read records (it is given them as `mob.shapes.event_shape` says them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mob.console.words import one_line, readable
from runtime.models.redaction import Redactor

#: Characters of a tool's arguments and result that are shown.
_SHORT: Final = 160


class Transcript:
    """Turns records, given in order, into the lines that a reader of the session sees."""

    def __init__(self, session_id: str, clean: Redactor | None = None) -> None:
        """`clean` takes secrets out of what is shown."""
        self.session_id = session_id
        self._clean = Redactor() if clean is None else clean
        #: Messages of the turn in flight that were told, by its id.
        self._told: tuple[str, int] = ("", 0)

    def before(
        self,
        ended: Sequence[dict[str, Any]],
        run_id: str,
        partial: Sequence[dict[str, Any]],
        waiting: Sequence[dict[str, Any]],
    ) -> list[str]:
        """The lines of what was said before the first record: the messages of the last turn, those
        of the turn in flight (`run_id`, empty if there is none), and inputs that no turn has taken.
        """
        self._told = (run_id, len(partial))
        asked = [line for each in waiting for line in self._input(each)]
        return [*self._messages(ended, whole=True), *self._messages(partial, whole=True), *asked]

    def tell(self, event: dict[str, Any]) -> list[str]:
        """The lines that a record adds; none if it is another session's or says nothing."""
        if event.get("session_id") != self.session_id:
            return []
        kind = event["type"]
        if kind == "InputAccepted":
            return self._input(event)
        if kind == "TurnProgressed":
            run, told = self._told
            told = told if run == event["run_id"] else 0
            self._told = (event["run_id"], told + len(event["messages"]))
            return self._messages(event["messages"])
        if kind == "TurnEnded":
            run, told = self._told
            self._told = ("", 0)
            rest = event["messages"][told if run == event["run_id"] else 0 :]
            lines = self._messages(rest)
            if event["outcome"] != "completed":
                how = event["outcome"].replace("_", " ")
                lines.append(f"-- turn {how}: {self._short(event['error'] or '', 300)}")
            return lines
        if kind == "ModelRetried":
            return [f"-- tries again: {self._short(event['error'], 300)}"]
        return []

    def _short(self, text: str, most: int = _SHORT) -> str:
        return one_line(readable(self._clean.written(text)), most)

    def _input(self, said: dict[str, Any]) -> list[str]:
        who = f"{said['sender']}: " if said["sender"] else ""
        return [f"> {who}{self._clean.text(said['text'])}"]

    def _messages(self, messages: Sequence[dict[str, Any]], *, whole: bool = False) -> list[str]:
        """The lines of what was said; of what the session was told only with `whole`: while it
        happens, inputs are told when they are accepted."""
        lines: list[str] = []
        for message in messages:
            if whole and "sender" in message:
                lines += self._input(message)
            elif "tool_calls" in message:
                lines += self._clean.text(message["text"]).splitlines()
                lines += [
                    f"-> {self._short(call['name'])} {self._short(call['arguments'])}"
                    for call in message["tool_calls"]
                ]
            elif "outcome" in message:
                failed = "" if message["outcome"] == "ok" else f" ({message['outcome']})"
                name = self._short(message["name"])
                lines.append(f"<- {name}{failed} {self._short(message['text'])}")
        return lines
