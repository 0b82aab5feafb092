"""What keys do at a member's desk: a line is typed, calls that wait are decided. Pure.

Owns: `Desk`, what is asked of whoever sits there, the actions that come of keys. Must not: read a
key, send anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import attrs

from mob.console.aiming import PASTE
from mob.console.words import readable

#: Lines typed before that ↑ brings back.
_PAST: Final = 100
#: Columns below which prompts are short, and the choices letters.
_NARROW: Final = 50
_NARROWEST: Final = 34
_CHOICES: Final = "[y]es, [n]o, [e]dit the arguments, [l]ater? "
#: Seconds before a question can have been read: a key then was meant for something else.
READ_S: Final = 0.4


@attrs.frozen
class Say:
    """Tell the member this: into its turn in flight, or as a new message."""

    text: str


@attrs.frozen
class Decide:
    """Let the call run, with other `arguments` if any; or not, and why."""

    key: str
    approve: bool
    arguments: str | None = None
    reason: str = ""


@attrs.frozen
class Interrupt:
    """Cancel the turn in flight."""


@attrs.frozen
class Detach:
    """Go, and leave the mob as it is."""


#: Lines of what a model says right now that are drawn, and of a question.
_STREAMED: Final = 8
_ASKED: Final = 6
#: Stands for the rest of a question, which is written above in full.
_REST: Final = "…"

Action: TypeAlias = Say | Decide | Interrupt | Detach


@attrs.frozen
class Call:
    """A call that waits for approval: its key, and what is to be run."""

    key: str
    who: str
    tool: str
    arguments: str

    @property
    def text(self) -> str:
        """Who wants to call what, in full."""
        return f"{self.who} waits for approval of {self.tool} {_spaced(readable(self.arguments))}"


@attrs.frozen
class Desk:
    """The line as far as it is typed, `at` the cursor's place in it; `calls` wait, oldest first.

    `asked` is what the line answers: a message (empty), the ``decision`` about the first call, the
    ``reason`` of a denial, or the ``arguments`` of a call. `later` are calls that were put off,
    `drafts` arguments that were given for a call; if it still waits, they were refused.
    """

    line: str = ""
    at: int = 0
    asked: str = ""
    calls: tuple[Call, ...] = ()
    later: frozenset[str] = frozenset()
    drafts: dict[str, str] = attrs.Factory(dict)
    #: The key of the call whose question was there long enough to be read.
    seen: str = ""
    past: tuple[str, ...] = ()
    #: How far back in `past` the line comes from; 0: it is new.
    back: int = 0

    @property
    def call(self) -> Call | None:
        """The call that is asked about."""
        return next((each for each in self.calls if each.key not in self.later), None)

    @property
    def unread(self) -> str:
        """The key of the call that is asked about and cannot be decided yet; empty if none is."""
        call = self.call
        if self.asked != "decision" or call is None or call.key == self.seen:
            return ""
        return call.key

    @property
    def question(self) -> str:
        """What is decided about; empty if nothing is."""
        call = self.call
        if not self.asked or call is None:
            return ""
        several = sum(each.key not in self.later for each in self.calls)
        return f"?? {f'(1 of {several}) ' if several > 1 else ''}{call.text}"

    def prompt(self, width: int = 80) -> str:
        """What stands before the line, in few words where there are few columns."""
        narrow = width < _NARROW
        if self.asked == "decision":
            full = "[y]es, [n]o, [e]dit, [l]ater? " if narrow else _CHOICES
            return "" if self.unread else "y/n/e/l? " if width < _NARROWEST else full
        if self.asked == "reason":
            return "why? " if narrow else "why (the model reads it): "
        if self.asked:
            return "JSON: " if narrow else "arguments: "
        if self.calls and not self.line:
            one = len(self.calls) == 1
            if narrow:
                return f"({len(self.calls)}: Enter) > "
            return f"({len(self.calls)} {'call waits' if one else 'calls wait'}: Enter) > "
        return "> "


def room_for_question(height: int) -> int:
    """Lines of a question that are drawn on a terminal of so many, beside the member's state, the
    line that is typed and the one that the cursor rests on."""
    return max(min(_ASKED, height - 3), 1)


def stacked(
    streamed: Sequence[str], asked: Sequence[str], height: int
) -> tuple[list[str], list[str]]:
    """What is drawn of live words (their end) and of a question (its beginning), by lines."""
    room = room_for_question(height)
    if len(asked) > room:
        asked = [*asked[: room - 1], _REST]
    left = max(min(_STREAMED, height - 3 - len(asked)), 0)
    return list(streamed[max(len(streamed) - left, 0) :]), list(asked)


def waiting(desk: Desk, calls: tuple[Call, ...]) -> Desk:
    """These calls wait now. What is being typed is not taken away, unless it is about a call that
    was decided elsewhere: it must not decide another one."""
    before = desk.call
    desk = attrs.evolve(desk, calls=calls)
    if desk.asked and (before is None or desk.call is None or desk.call.key != before.key):
        return _next(desk)
    return _next(desk) if not desk.line and not desk.asked else desk


def read(desk: Desk, key: str) -> Desk:
    """The question about this call has been there for `READ_S`."""
    return attrs.evolve(desk, seen=key)


def _next(desk: Desk) -> Desk:
    asked = "" if desk.call is None else "decision"
    return attrs.evolve(desk, asked=asked, line="", at=0, back=0)


def pressed(desk: Desk, key: str) -> tuple[Desk, Action | None]:
    """The desk after a key, and what is to be done."""
    if key == "c-d":
        return desk, Detach()
    if key == "escape":
        if desk.asked in ("reason", "arguments"):
            return _next(desk), None
        return desk, Interrupt()
    if desk.asked == "decision":
        return _decided(desk, key)
    if key == "enter":
        return _entered(desk)
    return _edited(desk, key), None


def _decided(desk: Desk, key: str) -> tuple[Desk, Action | None]:
    call = desk.call
    assert call is not None, "a decision is asked for only where there is a call"
    if desk.unread:
        return desk, None
    if key == "y":
        return _without(desk, call), Decide(call.key, approve=True)
    if key == "n":
        return attrs.evolve(desk, asked="reason", line="", at=0), None
    if key == "e":
        line = desk.drafts.get(call.key, _spaced(readable(call.arguments)))
        return attrs.evolve(desk, asked="arguments", line=line, at=len(line)), None
    if key == "l":
        return _next(attrs.evolve(desk, later=desk.later | {call.key})), None
    return desk, None


def _without(desk: Desk, call: Call) -> Desk:
    return _next(attrs.evolve(desk, calls=tuple(each for each in desk.calls if each != call)))


def _entered(desk: Desk) -> tuple[Desk, Action | None]:
    text, call = desk.line.strip(), desk.call
    if desk.asked and call is not None:
        if desk.asked == "reason":
            return _without(desk, call), Decide(call.key, approve=False, reason=text)
        desk = attrs.evolve(desk, drafts={**desk.drafts, call.key: text})
        return _without(desk, call), Decide(call.key, approve=True, arguments=text)
    if not text:
        return _next(attrs.evolve(desk, later=frozenset())), None
    past = (*desk.past, text)[-_PAST:]
    return _next(attrs.evolve(desk, past=past)), Say(text)


def _edited(desk: Desk, key: str) -> Desk:
    line, at = desk.line, desk.at
    if key.startswith(PASTE):
        # Reasons and arguments are one line; in JSON a line's end is as good as a blank.
        text = "\n".join(key.removeprefix(PASTE).splitlines())
        key = _spaced(text) if desk.asked else text
        return attrs.evolve(desk, line=line[:at] + key + line[at:], at=at + len(key))
    if len(key) == 1:
        return attrs.evolve(desk, line=line[:at] + key + line[at:], at=at + 1)
    if key == "backspace" and at:
        return attrs.evolve(desk, line=line[: at - 1] + line[at:], at=at - 1)
    if key == "delete":
        return attrs.evolve(desk, line=line[:at] + line[at + 1 :])
    if key == "c-u":
        return attrs.evolve(desk, line=line[at:], at=0)
    if key == "c-w":
        kept = line[:at].rstrip()
        kept = kept[: kept.rfind(" ") + 1]
        return attrs.evolve(desk, line=kept + line[at:], at=len(kept))
    if key in ("left", "right", "home", "end"):
        places = {"left": max(at - 1, 0), "right": min(at + 1, len(line)), "home": 0}
        return attrs.evolve(desk, at=places.get(key, len(line)))
    if key in ("up", "down") and not desk.asked:
        back = min(max(desk.back + (1 if key == "up" else -1), 0), len(desk.past))
        line = desk.past[-back] if back else ""
        return attrs.evolve(desk, line=line, at=len(line), back=back)
    return desk


def _spaced(text: str) -> str:
    """The text as one line: what JSON may have between its values becomes blanks."""
    return text.translate({ord(each): " " for each in "\t\r\n"})
