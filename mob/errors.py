"""What can go wrong with a mob, beyond its sessions and its store.

MobError (runtime.errors)
+-- DefinitionInvalid       the mob file is wrong; `mistakes` says where, one by one
+-- DefinitionChanged       the file no longer is what the stored mob was made from
+-- MobNotFound             the store holds no mob of this id
+-- MobInUse                this process has the mob open already
+-- MobClosed               the block of `open_mob` was left; the mob itself goes on when reopened
+-- MobDestroyed            the mob was ended for good before this was done
+-- MemberNotFound          the mob has no member of this name
+-- MemberExists            the name is taken, or about to be
+-- ProfileNotFound         the definition has no profile of this name
+-- StaleFence              the member has another generation by now than the token says
+-- MemberFailed            the supervisor gave the member's turn up
+-- AskCycle                a member would wait for itself
+-- MobBusy                 the mob cannot be brought back to a point while somebody is at work
+-- MobRewound              what was waited for was left behind when the mob was brought back
+-- BoardMisuse             the state of a task on the board does not allow the verb
|   +-- BoardCycle          a task would wait for itself
|   +-- BoardKeyUsed        the idempotency key was used for something else
|   +-- TaskBlocked         a task is claimed whose blockers are not done
+-- BoardTaskNotFound       the board has no such task
+-- NotWired                one member may not send to the other; `rule` says why
+-- MailboxFull             no room for a message, and whoever sends it does not wait
+-- RequestNotOpen          there is no such request, or it has ended
+-- RequestFailed           it ended without a reply
|   +-- DeadlinePassed      its deadline has passed
+-- FlowNotFound            the definition has no flow of this name
+-- FlowRunNotFound         there is no such run of a flow
+-- FlowParamsInvalid       a flow was given other parameters than it takes
+-- FlowKeyUsed             the idempotency key was used for another run
+-- AddressInvalid          a name of a mob, member or session cannot be read
+-- AddressUnknown          nothing has this name
+-- AddressAmbiguous        several have names that begin so, and one is needed
+-- RequestInvalid          what was asked over the socket of a mob does not fit the protocol
+-- FolderUnsafe            others could use the folder for sockets
+-- NotServed               no process can be reached that runs the mob
+-- ServerMissing           the packages that serve a mob, or reach one, are not installed
+-- ServerFailed            the process that runs the mob failed at what was asked of it
+-- VerbRefused             (mob.lifecycle) the mob's state does not allow it
"""

from __future__ import annotations

import attrs

from runtime.errors import AgentError, MobError
from runtime.ids import InputId, SessionId


@attrs.frozen
class Mistake:
    """One thing wrong in a definition: `path` is the dotted key, `hint` what to do, or empty."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.path}: {self.message}{hint}"


class DefinitionInvalid(MobError):
    """A definition that cannot be used. `source` is the file, or ``definition`` for one in Python.

    All mistakes that could be found are reported at once, in the order of the file.
    """

    def __init__(self, source: str, mistakes: tuple[Mistake, ...]) -> None:
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{source} is not a valid mob definition: {count}\n{lines}")
        self.source = source
        self.mistakes = mistakes


class DefinitionChanged(MobError):
    """The definition differs from the one the stored mob runs on; nothing was changed."""

    def __init__(self, mob_id: str, changed: tuple[str, ...]) -> None:
        super().__init__(
            f"mob {mob_id!r} was made from a definition that differs in: {', '.join(changed)}."
            " A stored mob is never rewritten silently: pass adopt=True (command line: --adopt) to"
            " take the new definition over, or give the new one another id or another --state."
        )
        self.mob_id = mob_id
        self.changed = changed


class MobNotFound(MobError):
    """The store holds no such mob; `known` are the ids it does hold."""

    def __init__(self, mob_id: str, known: tuple[str, ...], location: str) -> None:
        there = f"it holds: {', '.join(known)}" if known else "it holds none"
        super().__init__(f"no mob {mob_id!r} in the store at {location}; {there}")
        self.mob_id = mob_id
        self.known = known


class MobInUse(MobError):
    """This process has it open already, in the task `owner`; nothing was opened or fenced off."""

    def __init__(self, what: str, location: str, owner: str) -> None:
        super().__init__(
            f"{what} in the store at {location} is in use by this process already, in the task"
            f" {owner!r}: share that handle, or leave its block first"
        )
        self.owner = owner


class MobClosed(MobError):
    """This handle was closed. What the mob had accepted is on disk and continues when it is opened
    again; `mob_id` names it."""

    def __init__(self, mob_id: str) -> None:
        super().__init__(
            f"the handle of mob {mob_id!r} is closed, its open_mob block was left; what was"
            " accepted before is continued when the mob is opened again"
        )
        self.mob_id = mob_id


class MobDestroyed(MobError):
    """The mob was destroyed before it did what was asked of it; `mob_id` names it."""

    def __init__(self, mob_id: str) -> None:
        super().__init__(
            f"mob {mob_id!r} was destroyed, and what it had not done by then never will be; its"
            " histories can still be read"
        )
        self.mob_id = mob_id


class MemberNotFound(MobError):
    """The mob has no such member; `known` are the names it has."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        super().__init__(f"no member {name!r}; the members are: {shown or 'none'}")
        self.name = name
        self.known = known


class ProfileNotFound(MobError):
    """The mob has no such profile; `known` are those it has. Nothing was done."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no profile {name!r}; the profiles are: {', '.join(known)}")
        self.name = name
        self.known = known


class MemberExists(MobError):
    """The name belongs to a member already, or a spawn of it is under way."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a member named {name!r} already; retire it or choose another")
        self.name = name


class StaleFence(MobError):
    """The token is that of another generation of the member; nothing was done."""

    def __init__(self, name: str, held: int, generation: int) -> None:
        super().__init__(
            f"the fence of {name!r} is that of generation {held}, and generation {generation} is"
            " there by now: whatever it was meant for has ended; get a new one with mob.fence"
            f"({name!r}) if it is meant for that one too"
        )
        self.name = name
        self.held = held
        self.generation = generation


class MemberFailed(AgentError):
    """The supervisor gave a turn of this member up; the member takes further work."""

    def __init__(self, name: str, reason: str, session_id: SessionId) -> None:
        super().__init__(f"member {name!r} failed: {reason}", session_id)
        self.name = name
        self.reason = reason


class AskCycle(MobError):
    """`asker` would wait for `target`, for its answer or for room in its mailbox, and that one
    waits for `asker` already; nothing was sent."""

    def __init__(self, asker: str, target: str) -> None:
        already = f"{target!r}, which waits for {asker!r} already, itself or through others"
        whom = "itself" if asker == target else already
        super().__init__(f"{asker!r} cannot wait for {whom}; nothing was sent")
        self.asker = asker
        self.target = target


class BoardMisuse(MobError):
    """Something about the task board does not go; nothing was changed. `task_id` is the task."""

    def __init__(self, why: str, task_id: str | None = None) -> None:
        super().__init__(why)
        self.task_id = task_id


class BoardCycle(BoardMisuse):
    """A task would wait for itself; `way` is over which tasks, from it to itself."""

    def __init__(self, way: tuple[str, ...]) -> None:
        super().__init__(f"task {way[0]} would wait for itself: {' -> '.join(way)}", way[0])
        self.way = way


class BoardKeyUsed(BoardMisuse):
    """The idempotency key was used for `verb` on `task_id`, which is something else."""

    def __init__(self, key: str, verb: str, task_id: str) -> None:
        super().__init__(
            f"the key {key!r} was used to {verb} task {task_id}; use another one here", task_id
        )
        self.key = key
        self.verb = verb


class TaskBlocked(BoardMisuse):
    """A task may not have an owner yet; `blockers` are those that are not done, with the state."""

    def __init__(self, task_id: str, blockers: tuple[tuple[str, str], ...]) -> None:
        told = ", ".join(f"{each} ({state})" for each, state in blockers)
        super().__init__(
            f"task {task_id} is blocked by {told}: it may be claimed when they are done", task_id
        )
        self.blockers = blockers


class BoardTaskNotFound(MobError):
    """The board has no such task; `known` are the newest it has."""

    def __init__(self, task_id: str, known: tuple[str, ...]) -> None:
        shown = ("..., " if len(known) > 12 else "") + ", ".join(known[-12:])
        super().__init__(f"there is no task {task_id!r} on the board; there are: {shown or 'none'}")
        self.task_id = task_id
        self.known = known[-12:]


class NotWired(MobError):
    """`sender` may not send to `to`; `why` says what of the wiring forbids it. Nothing was sent."""

    def __init__(self, sender: str, to: str, why: str) -> None:
        super().__init__(f"{sender!r} may not send to {to!r}: {why}")
        self.sender = sender
        self.to = to
        self.why = why


class MailboxFull(MobError):
    """There is no room in the mailbox of `member` for a message of `size` bytes: `depth` messages
    of `depth_bytes` are in it, and `waiting` senders stand before this one. Nothing was sent."""

    def __init__(
        self,
        member: str,
        depth: int,
        max_messages: int,
        depth_bytes: int,
        max_bytes: int,
        size: int,
        waiting: int = 0,
    ) -> None:
        behind = f", and {waiting} senders wait" if waiting else ""
        super().__init__(
            f"the mailbox of {member!r} has no room for {size} bytes more: {depth} of at most"
            f" {max_messages} messages and {depth_bytes} of at most {max_bytes} bytes are in it"
            f"{behind}; send again later, or send less at a time"
        )
        self.member = member
        self.depth = depth
        self.max_messages = max_messages
        self.depth_bytes = depth_bytes
        self.max_bytes = max_bytes
        self.size = size
        self.waiting = waiting


class RequestNotOpen(MobError):
    """No request of this id waits for a reply; `how` it ended, None if there never was one."""

    def __init__(self, request_id: InputId, how: str | None) -> None:
        what = f"has ended: {how}" if how else "is not known here"
        super().__init__(f"request {request_id} {what}; nothing was replied")
        self.request_id = request_id
        self.how = how


class RequestFailed(MobError):
    """The request ended without a reply, and `why`."""

    def __init__(self, request_id: InputId, to: str, why: str) -> None:
        super().__init__(f"request {request_id} to {to!r} has no reply: {why}")
        self.request_id = request_id
        self.to = to


class DeadlinePassed(RequestFailed):
    """Nobody replied in time. A reply that comes later is refused."""


class FlowNotFound(MobError):
    """The definition has no flow of this name; `known` are those it has."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no flow {name!r}; the flows are: {', '.join(known) or 'none'}")
        self.name = name
        self.known = known


class FlowRunNotFound(MobError):
    """There is no run of this id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r} of a flow; `mob flow ls` lists them")
        self.run_id = run_id


class FlowParamsInvalid(MobError):
    """A flow was given other parameters than it takes; nothing was started."""

    def __init__(self, flow: str, mistakes: tuple[str, ...]) -> None:
        super().__init__(f"flow {flow!r} cannot be run with this: {'; '.join(mistakes)}")
        self.flow = flow
        self.mistakes = mistakes


class FlowKeyUsed(MobError):
    """The idempotency key was used for a run of another flow or with other parameters."""

    def __init__(self, key: str, run_id: str) -> None:
        super().__init__(
            f"idempotency key {key!r} was used for run {run_id}, of another flow or with other"
            " parameters; use another one here"
        )
        self.key = key
        self.run_id = run_id


class MobBusy(MobError):
    """The mob cannot be brought back to an earlier point now; `busy` are those at work."""

    def __init__(self, mob_id: str, busy: tuple[str, ...]) -> None:
        shown = ", ".join(busy[:12]) + (", ..." if len(busy) > 12 else "")
        super().__init__(
            f"mob {mob_id!r} cannot be brought back while somebody is at work: {shown}; wait for"
            " them (`wait_idle`), or stop the mob"
        )
        self.busy = busy


class MobRewound(MobError):
    """What was waited for was left behind: the mob was brought back to an earlier point."""

    def __init__(self, mob_id: str, why: str) -> None:
        super().__init__(f"mob {mob_id!r}: {why}, and what was waited for is left behind")
        self.mob_id = mob_id


class RequestInvalid(MobError):
    """A request over the socket of a mob does not fit the protocol; nothing was done."""


class NotServed(MobError):
    """No process can be reached that runs the mob, or the one that did has gone. `mob_id` is the
    mob; what had been accepted is on disk."""

    def __init__(self, mob_id: str, why: str) -> None:
        super().__init__(f"mob {mob_id!r} cannot be reached: {why}")
        self.mob_id = mob_id


class ServerFailed(MobError):
    """The process that runs the mob failed at what was asked of it, in a way that is a bug."""


class ServerMissing(MobError):
    """The packages that serve a mob, or reach one, are not installed; `package` is the first."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"other terminals reach a running mob with the package {package!r}, which is not"
            " installed: pip install 'trio-mob[server]', also where the mob runs"
        )
        self.package = package


class FolderUnsafe(MobError):
    """The folder for sockets could be used by others than its user; nothing was done."""

    def __init__(self, folder: str, why: str) -> None:
        super().__init__(
            f"{folder} is no safe place for sockets: {why}; set XDG_RUNTIME_DIR to a folder that"
            " only you can use"
        )
        self.folder = folder


class AddressInvalid(MobError):
    """What was typed as the name of a mob, member or session cannot be read."""

    def __init__(
        self, text: str, why: str = "write MOB[/MEMBER[/SESSION]][@RECORD|@LABEL]"
    ) -> None:
        super().__init__(f"{text!r} names nothing: {why}")
        self.text = text


class AddressUnknown(MobError):
    """Nothing of this name is there; `known` is what is."""

    def __init__(self, wanted: str, what: str, known: tuple[str, ...]) -> None:
        named = f"{what} {wanted!r}" if wanted else what
        super().__init__(f"no {named}; there are: {_listed(known)}")
        self.wanted = wanted
        self.known = known


class AddressAmbiguous(MobError):
    """Several fit where one is needed; nothing was done. `candidates` are those."""

    def __init__(self, wanted: str, what: str, candidates: tuple[str, ...]) -> None:
        named = f"{wanted!r} is the beginning of several" if wanted else "several fit"
        super().__init__(f"which {what}? {named}: {_listed(candidates)}; give more of the name")
        self.wanted = wanted
        self.candidates = candidates


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
