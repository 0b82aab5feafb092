"""A mob as a tree of frozen data: members, their child sessions, what each is doing. Pure.

Owns: `MobView` and how it is read from a fold, alone (a stored mob) or with the live side of a
running one. Must not: read a clock, draw (the command line and the console do).

Ages are not in here: a node says since when it does what it does, on Trio's clock, and whoever
draws subtracts. So two views are equal exactly when nothing but time has passed between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from mob.roster import Roster
from runtime.ids import SessionId
from runtime.messages import NO_USAGE, AssistantMessage, Message, Usage
from runtime.notebook import table
from runtime.prices import cost_text
from runtime.session import Lifetime, SessionHead, SessionStatus
from runtime.state import RealmState
from runtime.tasks import waits

if TYPE_CHECKING:
    from mob.mob import Mob

#: Finished children shown below a session; the rest are a number. The latest are what matters.
FINISHED_CHILDREN: Final = 3
#: Messages looked at, from the newest, for a session's last words.
_WORDS_WITHIN: Final = 6


@attrs.frozen
class Activity:
    """What a session does: ``model``, ``retrying``, ``tool``, ``saving``, ``restarting`` or
    ``starting``.

    `detail` names the tools, or why it tries again or restarts. `since_s` is on Trio's clock, and
    so is `until_s`: when what it waits for will be over, None if nobody knows.
    """

    doing: str
    detail: str
    since_s: float
    words: str = ""
    until_s: float | None = None


@attrs.frozen
class Node:
    """A session. `state` is its activity's `doing`, or ``idle``, ``queued`` (has work it has not
    begun), ``waiting`` (for approval of the calls in `detail`), ``unfinished`` (a turn is in flight
    on disk), ``failed``,
    ``quarantined`` (`detail` says what is damaged) or ``archived``.

    `usage` is its own with the turn in flight as far as it is journalled; `total` adds all below,
    hidden ones included. `hidden` counts children that are not in `children`.
    """

    session_id: SessionId
    name: str
    profile: str
    state: str
    detail: str
    since_s: float | None
    turns: int
    usage: Usage
    total: Usage
    restarts: int = 0
    last_exit: str | None = None
    words: str = ""
    children: tuple[Node, ...] = ()
    hidden: int = 0
    until_s: float | None = None
    #: Of a child that works beside its parent: ``background``, or ``detached`` if it outlives it.
    task: str = ""

    @property
    def busy(self) -> bool:
        """Whether it or something below it is at work."""
        return self.since_s is not None or any(child.busy for child in self.children)


@attrs.frozen
class MobView:
    """A mob at one moment. `turns`, `usage` and `sessions` count everything ever in it."""

    mob_id: str
    state: str
    members: tuple[Node, ...]
    turns: int
    usage: Usage
    sessions: int
    #: Members that are not in `members` because there are too many to show.
    hidden: int = 0

    def _repr_html_(self) -> str:
        """For notebooks: the tree, a row for each session."""
        names = ("", "profile", "state", "turns", "tokens", "cost", "")
        spent = f"{self.usage.total_tokens:,} tokens, {cost_text(self.usage)}"
        more = f", {self.hidden:,} members not shown" if self.hidden else ""
        title = f"mob {self.mob_id}: {self.state}, {self.turns:,} turns, {spent}{more}"
        return table(title, names, _rows(self.members, ""))


def _rows(nodes: Iterable[Node], indent: str) -> Iterator[tuple[object, ...]]:
    for node in nodes:
        state = f"{node.state} {node.detail}".rstrip()
        spent = (f"{node.total.total_tokens:,}", cost_text(node.total))
        note = f"{node.restarts} restarts: {node.last_exit}" if node.restarts else ""
        yield (f"{indent}{node.name}", node.profile, state, f"{node.turns:,}", *spent, note)
        yield from _rows(node.children, f"{indent}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}")
        if node.hidden:
            yield (f"{indent}\N{NO-BREAK SPACE}… {node.hidden} more", *[""] * 6)


#: What a session is doing now; None if it is at rest.
Activities: TypeAlias = Callable[[SessionId], Activity | None]
#: A session's last words when it is at rest.
Words: TypeAlias = Callable[[SessionHead], str]


def at_rest(_: SessionId) -> Activity | None:
    """The activities of a mob that is not running."""
    return None


def no_words(_: SessionHead) -> str:
    """Last words when nobody looks for them."""
    return ""


def mob_view(
    mob_id: str,
    state: RealmState,
    roster: Roster,
    activity: Activities = at_rest,
    words: Words = no_words,
    *,
    members: Iterable[str] | None = None,
    finished: int | None = FINISHED_CHILDREN,
) -> MobView:
    """The mob as it stands. `members` names those to show (None: all, in order of joining).

    `finished` bounds the archived children shown per session; None shows them all.
    """
    shown = list(roster.members if members is None else members)
    nodes = []
    for name in shown:
        row = roster.members[name]
        node = _node(state, state.heads[row.session_id], activity, words, finished)
        nodes.append(attrs.evolve(node, name=name, restarts=row.restarts, last_exit=row.last_exit))
    nodes += [_node(state, head, activity, words, finished) for head in _apart(state, roster)]
    turns, usage = 0, NO_USAGE
    for head in state.heads.values():
        turns += head.turns
        usage = usage + _own_usage(head)
    return MobView(
        mob_id,
        roster.mob_state.value,
        tuple(nodes),
        turns,
        usage,
        len(state.heads),
        len(roster.members) - len(shown),
    )


def live_view(
    mob: Mob,
    words: Words = no_words,
    *,
    streamed: Callable[[SessionId], str] | None = None,
    most: int | None = None,
) -> MobView:
    """A running mob as it stands. At most `most` members are shown: those at work first."""
    at_work = set(mob.at_work)
    names = list(mob.members)
    if most is not None and len(names) > most:
        names.sort(key=lambda name: name not in at_work)  # stable: in order of joining otherwise
        names = names[:most]
    starting = {mob.session_of(name) for name in at_work if name in mob.roster.members}

    def activity(session_id: SessionId) -> Activity | None:
        live = mob.realm.running(session_id)
        if live is None:
            if session_id not in starting:
                return None
            live = mob.realm.live(session_id)  # between two turns, or waiting to be restarted
        doing = live.doing.value if live.doing.value != "idle" else "starting"
        said = streamed(session_id) if streamed is not None else ""
        until_s = live.until_s if live.until_s < float("inf") else None
        words = said or last_words(live.history)
        return Activity(doing, live.detail, live.since, words, until_s)

    return mob_view(mob.id, mob.realm.state, mob.roster, activity, words, members=names)


def last_words(messages: list[Message]) -> str:
    """The newest thing a model said among the last few messages; empty if there is none."""
    for message in reversed(messages[-_WORDS_WITHIN:]):
        if isinstance(message, AssistantMessage) and message.text:
            return message.text
    return ""


def _node(
    state: RealmState,
    head: SessionHead,
    activity: Activities,
    words: Words,
    finished: int | None,
) -> Node:
    heads = [state.heads[child] for child in head.children or ()]
    if finished is not None:
        over = sum(child.archived for child in heads) - finished
        shown = []
        for child in heads:
            if child.archived and over > 0:
                over -= 1
            else:
                shown.append(child)
    else:
        shown = heads
    now = activity(head.session_id)
    said = words(head) if now is None else now.words  # looking may find damage: before the state
    own = _own_usage(head)
    total = own
    for child in heads:
        total = total + _total_usage(state, child)
    return Node(
        head.session_id,
        head.title or head.agent_id or head.session_id,
        head.harness_id,
        resting(head) if now is None else now.doing,
        _resting_detail(state, head) if now is None else now.detail,
        None if now is None else now.since_s,
        head.turns,
        own,
        total,
        words=said,
        children=tuple(_node(state, child, activity, words, finished) for child in shown),
        hidden=len(heads) - len(shown),
        until_s=None if now is None else now.until_s,
        task=_task(head),
    )


def _task(head: SessionHead) -> str:
    if head.task is None:
        return ""
    return "detached" if head.task.lifetime is Lifetime.DETACHED else "background"


def _apart(state: RealmState, roster: Roster) -> list[SessionHead]:
    """The running children that no member shows: what they belonged to has ended."""
    shown = {row.session_id for row in roster.members.values()}
    found = []
    for session_id in state.tasks:
        head = above = state.heads[session_id]
        while above.lineage.parent is not None and above.lineage.parent in state.heads:
            parent = state.heads[above.lineage.parent]
            if parent.session_id in state.tasks:
                break  # shown below that one
            above = parent
        else:
            if above.session_id not in shown:
                found.append(head)
    return found


def resting(head: SessionHead) -> str:
    """The state of a session at rest, as `Node` has it."""
    if head.quarantined is not None:
        return "quarantined"
    if head.archived:
        return "archived"
    if head.status is SessionStatus.WAITING:
        return "waiting"
    if head.partial is not None:
        return "unfinished"
    if head.inputs and not all(map(waits, head.inputs.values())):
        return "queued"
    return "failed" if head.status.value == "failed" else "idle"


def _resting_detail(state: RealmState, head: SessionHead) -> str:
    if head.quarantined is not None:
        return head.quarantined
    waiting = [each.tool for each in state.approvals.current(head.session_id) if each.waits]
    return ", ".join(dict.fromkeys(waiting))


def _own_usage(head: SessionHead) -> Usage:
    return head.usage if head.partial is None else head.usage + head.partial.usage


def _total_usage(state: RealmState, head: SessionHead) -> Usage:
    total = _own_usage(head)
    for child in head.children or ():
        total = total + _total_usage(state, state.heads[child])
    return total
