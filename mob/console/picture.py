"""What a mob looks like: a picture as lines of styled text, for any width and height. Pure.

Owns: which members are shown, which are only counted, which columns there is room for; what a state
is called in front of people. Must not: know a terminal.

Few members stand one below the other, with their children. Many are folded into their profiles: a
line for each with how many of it do what, and below it those that need somebody's eye, those that
wait for a decision first, then failures, then work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

import attrs
from rich.cells import cell_len, set_cell_size

from mob.console.model import REST, Group, Model, rank_of
from mob.console.rows import Row
from mob.console.words import age, count, one_line, plural
from runtime.messages import Usage
from runtime.prices import cost_text

#: A piece of text, and its style: words such as ``bold``, ``dim``, ``red``, or none.
Span: TypeAlias = tuple[str, str]

#: Columns of the state, and with room to spare; of the tree at least and at most.
_STATE: Final = 24
_WIDE_STATE: Final = 40
_NAME: Final = 14
_MOST_NAME: Final = 32
#: Billionths of a dollar below which a sum has more digits than there is room for.
_LEAST: Final = 10**5
#: Columns that last words need to be worth showing.
_WORDS: Final = 24
#: Lines that the titles of the columns are left out below.
_TITLES_FROM: Final = 8

#: How states look.
STYLES: Final = {
    "model": "cyan",
    "tool": "yellow",
    "saving": "blue",
    "starting": "cyan",
    "queued": "yellow",
    "unfinished": "yellow",
    "waiting": "bold yellow",
    "retrying": "bold yellow",
    "restarting": "bold red",
    "failed": "red",
    "quarantined": "bold red",
    "idle": "dim",
    "archived": "dim",
}
#: What states are called where they are counted, and where they stand alone.
_COUNTED: Final = {"waiting": "wait for approval", "retrying": "retry", "restarting": "restart"}
CALLED: Final = {"waiting": "waits for approval", "archived": "done"}
#: Those that are followed by what is to be over and when.
_UNTIL: Final = {"retrying": "retry", "restarting": "restart"}


@attrs.frozen
class Line:
    """A line of a picture; `key` names the member or the profile that it shows."""

    spans: tuple[Span, ...]
    key: str = ""

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.spans)


@attrs.frozen
class Aim:
    """What somebody wants to see: members and profiles unfolded and folded by hand, a part of a
    name, profile or state to find, and the line they are at (None: nobody moves about)."""

    opened: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()
    find: str = ""
    at: int | None = None
    #: Whether `find` is being typed.
    typing: bool = False


@attrs.frozen
class Picture:
    """Lines from the top; of `entries` that could be shown the one at `at`, if somebody moves."""

    lines: tuple[Line, ...]
    entries: int = 0
    at: int | None = None
    key: str = ""


@attrs.frozen
class _Entry:
    key: str
    prefix: str
    row: Row | None = None
    group: Group | None = None
    text: str = ""
    #: Whether its profile is worth a word: it stands below no line that names it.
    profile: bool = True


def picture(
    model: Model, now_s: float, width: int, height: int, aim: Aim = Aim(), note: str = ""
) -> Picture:
    """The mob as at most `height` lines of at most `width` columns; `note` is the last of them."""
    head = _head(model, now_s, width)[: max(1, height // 4)]
    columns = _columns(width, model)
    foot = [Line(tuple(_cut([(note, "bold")], width)))] if note else []
    titles = [_titles(columns, width)] if height >= _TITLES_FROM else []
    room = max(1, height - len(head) - len(titles) - len(foot))
    entries = list(_entries(model, aim, room))
    at = None if aim.at is None else max(0, min(aim.at, len(entries) - 1))
    first = 0 if at is None else at // room * room
    if at is None and len(entries) > room:
        left = len(entries) - room + 1
        entries = [*entries[: room - 1], _Entry("", "", text=f"… {plural(left, 'line')} not shown")]
    lines = [
        _line(entry, columns, now_s, width, marked=first + place == at)
        for place, entry in enumerate(islice(entries, first, first + room))
    ]
    key = entries[at].key if at is not None and entries else ""
    return Picture((*head, *titles, *lines, *foot), len(entries), at, key)


def member_line(row: Row, now_s: float, width: int) -> Line:
    """One member by itself: its state, and what is worth a word beside it."""
    spans: list[Span] = [(one_line(row.name, 40), "bold"), ("  ", ""), _wide_state(row, now_s)]
    more = (
        f"{_tokens(row.usage)} tokens" if row.usage.total_tokens else "",
        _money(row.usage),
        plural(row.inputs, "message") if row.inputs else "",
        plural(row.restarts, "restart") if row.restarts else "",
        f"{row.left} left" if row.left else "",
    )
    left = width - sum(cell_len(text) for text, _ in spans)
    for text in filter(None, more):
        left -= cell_len(text) + 2
        if left < 0:
            break
        spans.append((f"  {text}", "dim"))
    return Line(tuple(_cut(spans, width)))


# -- which members -------------------------------------------------------------------------


def _entries(model: Model, aim: Aim, room: int) -> Iterator[_Entry]:
    if aim.find:
        yield from _found(model, aim)
    elif len(model.rows) <= room:
        for row in model.rows.values():
            yield _Entry(row.key, "", row)
            if row.key not in aim.folded:
                yield from _children(row.children, "")
    else:
        yield from _grouped(model, aim, room)


def _found(model: Model, aim: Aim) -> Iterator[_Entry]:
    wanted, nothing = aim.find.lower(), True
    for group in model.groups.values():
        for key in group.members():
            row = model.rows[key]
            seen = f"{row.name} {row.profile} {_called(row.state)} {_doing(row, 100)} {row.detail}"
            if wanted in seen.lower():
                nothing = False
                yield _Entry(key, "", row)
                if key in aim.opened:
                    yield from _children(row.children, "")
    if nothing:
        yield _Entry("", "", text="no member's name, profile or state has it")


def _grouped(model: Model, aim: Aim, room: int) -> Iterator[_Entry]:
    groups = sorted(model.groups.items(), key=lambda each: each[1].rank)  # stable
    tree = [group for name, group in groups if group.size > 1 and _key(name) not in aim.folded]
    shares = dict(zip(map(id, tree), _shares(tree, room - len(groups)), strict=True))
    for name, group in groups:
        key = _key(name)
        if group.size == 1 and key not in aim.folded:
            yield from (_Entry(member, "", model.rows[member]) for member in group.members())
            continue
        yield _Entry(key, "", group=group, text=name)
        if key in aim.folded:
            continue
        opened = key in aim.opened
        shown = list(group.members() if opened else islice(group.members(), shares[id(group)]))
        rest = group.size - len(shown)
        for place, member in enumerate(shown):
            row = model.rows[member]
            last = place == len(shown) - 1 and not rest
            yield _Entry(member, "└─ " if last else "├─ ", row, profile=False)
            if member in aim.opened:
                yield from _children(row.children, "   " if last else "│  ")
        if rest and shown:
            states = dict(group.states)
            for member in shown:
                states[model.rows[member].state] -= 1
            yield _Entry(key, "└─ ", text=f"… {rest:,} more: {_states(states)}")


def _key(profile: str) -> str:
    """The key of a profile, which no member has: names hold no slash."""
    return f"/{profile}"


def _shares(groups: Sequence[Group], room: int) -> list[int]:
    """How many members of each group are shown by themselves in so many lines: of all that wait for
    a decision, then of what failed, then of those at work the same number in each group, and what
    one leaves to the others. The line that counts the rest of a group is paid for, too."""
    shares = [0] * len(groups)
    for rank in range(REST):
        wanted = [len(group.ranks[rank]) for group in groups]
        open_ = sorted((at for at, each in enumerate(wanted) if each), key=lambda at: wanted[at])
        for place, at in enumerate(open_):
            rest = 0 if shares[at] else 1
            share = min(wanted[at], room // (len(open_) - place) - rest)
            if share > 0:
                shares[at] += share
                room -= share + rest
    return shares


def _children(rows: Sequence[Row], indent: str) -> Iterator[_Entry]:
    for place, row in enumerate(rows):
        last = place == len(rows) - 1
        yield _Entry(row.key, f"{indent}{'└─ ' if last else '├─ '}", row)
        yield from _children(row.children, f"{indent}{'   ' if last else '│  '}")


# -- how they look -------------------------------------------------------------------------


@attrs.frozen
class _Column:
    title: str
    width: int
    of_row: Callable[[Row, float], Span]
    of_group: Callable[[Group], str]
    right: bool = True


def _state(row: Row, now_s: float) -> Span:
    return state_text(row, now_s), STYLES.get(row.state, "")


def _wide_state(row: Row, now_s: float) -> Span:
    return state_text(row, now_s, _WIDE_STATE), STYLES.get(row.state, "")


def state_text(row: Row, now_s: float, width: int = _STATE) -> str:
    """What it does and for how long: ``model 0:41``, ``tool shell 0:07``, ``retry in 0:12``; of a
    call that waits for a decision what is asked: ``approve shell? 0:09``. Names of tools are cut so
    that the age is within so many columns."""
    if row.until_s is not None and row.state in _UNTIL:
        return f"{_UNTIL[row.state]} in {age(row.until_s - now_s)}"
    # What starts begins nowhere.
    begun = row.since_s is not None and row.state != "starting"
    old = f" {age(now_s - row.since_s)}" if begun and row.since_s is not None else ""
    return f"{_doing(row, width - len(old))}{old}"


def _doing(row: Row, width: int) -> str:
    before, behind = {"waiting": ("approve ", "?"), "tool": ("tool ", "")}.get(row.state, ("", ""))
    if not before or not row.detail:
        return _called(row.state)
    return f"{before}{one_line(row.detail, max(width - len(before) - len(behind), 4))}{behind}"


def _called(state: str) -> str:
    return CALLED.get(state, state)


def _money(usage: Usage) -> str:
    if not usage.model_calls:
        return ""
    if 0 < usage.cost_nano_usd < _LEAST:
        return "<$0.0001"
    return cost_text(usage).partition(" ")[0]


def _tokens(usage: Usage) -> str:
    return _some(usage.total_tokens)


def _some(number: int) -> str:
    return count(number) if number else ""


def _restarts(group: Group) -> str:
    return _some(group.restarts)


_STATE_COLUMN: Final = _Column("state", _STATE, _state, lambda g: _states(g.states), right=False)
_WIDE_STATE_COLUMN: Final = attrs.evolve(_STATE_COLUMN, width=_WIDE_STATE, of_row=_wide_state)
#: From the most wanted to the least, with the width of a picture from which there is room for it.
_MORE: Final = (
    (48, _Column("tokens", 6, lambda r, _: (_tokens(r.usage), ""), lambda g: count(g.tokens))),
    (56, _Column("mail", 4, lambda r, _: (_some(r.inputs), "yellow"), lambda g: _some(g.inputs))),
    (68, _Column("cost", 9, lambda r, _: (_money(r.usage), ""), lambda g: _money(g.usage))),
    (80, _Column("restarts", 8, lambda r, _: (_some(r.restarts), "red"), _restarts)),
)  # fmt: skip
_LEFT: Final = _Column("left", 9, lambda r, _: (r.left, ""), lambda _: "")
_LEFT_FROM: Final = 94
_WIDE_STATE_FROM: Final = 120


def _columns(width: int, model: Model) -> list[_Column]:
    """The columns there is room for; the first is the tree, the last words if they fit."""
    state = _STATE_COLUMN if width < _WIDE_STATE_FROM else _WIDE_STATE_COLUMN
    columns = [state, *(column for least, column in _MORE if width >= least)]
    if width >= _LEFT_FROM:
        columns.append(_LEFT)
    rest = width - sum(column.width + 2 for column in columns)
    name = min(max(rest, _NAME), _MOST_NAME)
    words = rest - name - 2
    nothing: Callable[[Row, float], Span] = lambda _, __: ("", "")  # noqa: E731
    columns.insert(0, _Column("", name, nothing, lambda _: "", right=False))
    if words >= _WORDS:
        said: Callable[[Row, float], Span] = lambda r, _: (one_line(r.words, words), "dim")  # noqa: E731
        columns.append(_Column("last words", words, said, lambda _: "", right=False))
    return columns


def _titles(columns: Sequence[_Column], width: int) -> Line:
    return Line(tuple(_cut(_joined([(each.title, "dim") for each in columns], columns), width)))


def _line(
    entry: _Entry, columns: Sequence[_Column], now_s: float, width: int, *, marked: bool
) -> Line:
    first = columns[0].width
    if entry.row is not None:
        row = entry.row
        name = [(entry.prefix, "dim"), (one_line(row.name, 60), "" if entry.prefix else "bold")]
        if row.more:
            name.append((f" (+{row.more})", "dim"))
        profile = f" {one_line(row.profile, 30)}"
        if (
            entry.profile
            and row.profile != row.name
            and cell_len("".join(text for text, _ in name) + profile) <= first
        ):
            name.append((profile, "dim"))
        spans = [
            *_fit(name, first),
            *_joined([each.of_row(row, now_s) for each in columns[1:]], columns[1:]),
        ]
    elif entry.group is not None:
        name = [(f"{one_line(entry.text, 60)} ", "bold"), (f"{entry.group.size:,}", "")]
        cells = [(each.of_group(entry.group), "") for each in columns[1:]]
        spans = [*_fit(name, first), *_overflowing(cells, columns[1:])]
    else:
        spans = _cut([(entry.prefix, "dim"), (entry.text, "dim")], width)
    if marked:
        spans = [(text, f"{style} reverse".strip()) for text, style in spans]
    return Line(_trimmed(_cut(spans, width)), entry.key)


def _joined(cells: Sequence[Span], columns: Sequence[_Column]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for (text, style), column in zip(cells, columns, strict=True):
        size = cell_len(text)
        if size > column.width:
            text, size = set_cell_size(text, column.width - 1) + "…", column.width
        gap = " " * (column.width - size)
        spans += [(gap, ""), (text, style)] if column.right else [(text, style), (gap, "")]
        spans.append(("  ", ""))
    return _trimmed(spans)


def _overflowing(cells: Sequence[Span], columns: Sequence[_Column]) -> list[Span]:
    """As `_joined`, but the first may need more room, and takes that of the columns behind it."""
    spans = [cells[0]]
    used = cell_len(cells[0][0])
    begin = 0
    for (text, style), column in zip(cells, columns, strict=True):
        gap = begin + column.width - cell_len(text) - used
        begin += column.width + 2
        if text and gap >= 2 and column is not columns[0]:
            spans += [(" " * gap, ""), (text, style)]
            used += gap + cell_len(text)
    return spans


def _fit(spans: Sequence[Span], width: int) -> list[Span]:
    """The spans in exactly so many columns and two that separate them from what follows."""
    found = _cut(spans, width)
    return [*found, (" " * (width + 2 - sum(cell_len(text) for text, _ in found)), "")]


def _cut(spans: Iterable[Span], width: int) -> list[Span]:
    """The beginning of the spans that fits."""
    found: list[Span] = []
    left = width
    for text, style in spans:
        size = cell_len(text)
        if size > left:
            if left > 0:
                found.append((set_cell_size(text, left - 1) + "…", style))
            break
        found.append((text, style))
        left -= size
    return found


def _trimmed(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Without the blanks at the end and without what is empty."""
    found = [each for each in spans if each[0]]
    while found and not found[-1][0].strip():
        found.pop()
    return tuple(found)


def _states(states: dict[str, int]) -> str:
    """How many do what: ``1 wait for approval, 3 model, 4,996 idle``."""
    order = sorted((rank_of(state), state) for state, number in states.items() if number)
    return ", ".join(
        f"{states[state]:,} {_COUNTED.get(state, _called(state))}" for _, state in order
    )


def _head(model: Model, now_s: float, width: int) -> list[Line]:
    """The sums, in as many lines as they need."""
    totals = model.totals
    parts: list[list[Span]] = [[(totals.mob_id, "bold"), (f" {totals.state}", "dim")]]
    members = (
        plural(len(model.rows), "member")
        if len(model.rows) < 1000
        else f"{len(model.rows):,} members"
    )
    states = model.states
    parts.append([(members, "")])
    for state in sorted(states, key=lambda each: (rank_of(each), each)):
        rank = rank_of(state)
        text = f"{states[state]:,} {_COUNTED.get(state, _called(state))}"
        parts.append([(text, STYLES.get(state, "") if rank < REST else "dim")])
    parts.append([(plural(totals.turns, "turn"), "")])
    parts.append([(f"{count(totals.usage.total_tokens)} tokens", "")])
    if totals.usage.model_calls:
        parts.append([(cost_text(totals.usage), "")])
    if totals.left:
        parts.append([(f"{totals.left} left", "bold")])
    parts.append([(f"{model.rate(now_s):,.0f} events/s", "dim")])
    return [Line(tuple(each)) for each in _flowed(parts, width)]


def _flowed(parts: Sequence[list[Span]], width: int) -> list[list[Span]]:
    lines: list[list[Span]] = [[]]
    used = 0
    for part in parts:
        size = sum(cell_len(text) for text, _ in part)
        if lines[-1] and used + 2 + size > width:
            lines.append([])
            used = 0
        if lines[-1]:
            lines[-1].append(("  ", ""))
            used += 2
        lines[-1] += _cut(part, width)
        used += size
    return lines
