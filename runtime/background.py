"""Background children: running them, ending them, waiting for them.

Owns: the trio tasks of the children that run in the background of one realm, and who waits for
which. Must not: own the nursery they run in (whoever serves it does), decide what a turn does.

A child in the background is a row of the fold (`runtime.tasks`) and, while its turns run, one trio
task in the nursery of whoever owns the realm, so that it outlives the turn that started it. It is
made with its work in one commit and begins when the fold learns of it, so a crash leaves all of it
or nothing, and whoever opens the store takes up what runs (`resume`). When no input of it is left
it ends: in one commit its end, its archiving, and what its parent is to be told.

A *linked* child ends with its parent. Since it does not run below its parent's turn, that is done
by hand: `end_below` cancels what is linked, the deepest level first, and waits for each level
before the next; only then is the parent said to have ended. While that goes on nothing is started
below (CONTRACTS 1.10).

Nothing here polls; a child at rest has no task, and a realm without such children pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from runtime.asking import TurnWaits
from runtime.driver import TurnAborted
from runtime.errors import (
    AgentError,
    RecordUnreadable,
    SessionBusy,
    SessionError,
    SessionNotFound,
    SessionQuarantined,
    TaskNotFound,
    Unsupported,
)
from runtime.ids import AgentId, HarnessId, InputId, SessionId
from runtime.messages import TASKS
from runtime.records import (
    InputAccepted,
    SessionArchived,
    SessionDeleted,
    SessionMended,
    TaskEnded,
    TaskStarted,
    TurnEnded,
)
from runtime.results import last_text
from runtime.runner import turn_on
from runtime.session import NO_SPEC, Lifetime, SessionHead, SessionSpec, TaskState
from runtime.tasks import NewTask, TaskView, due, ending, notice, outlives, viewed
from stores import Damaged, StoreError, Ticket

if TYPE_CHECKING:
    from runtime.realm import Realm

#: Seconds that a cancelled child's tools have to unwind before its parent is reported as ended all
#: the same: as long as leaving a mob gives them.
UNWIND_S: Final = 5.0


@attrs.define(eq=False)
class _Runner:
    """The trio task of one child. `message` is the latest input on its way to the disk."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    gone: trio.Event = attrs.field(factory=trio.Event)
    message: Ticket | None = None
    again: bool = False
    halted: bool = False


@attrs.define(eq=False)
class _Waiting:
    """Those who wait for one child. `trusted`: its end told nobody else, because they wait."""

    count: int = 0
    changed: trio.Event = attrs.field(factory=trio.Event)
    trusted: str | None = None


class BackgroundChildren:
    """The children of one realm that run in the background."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._nursery: trio.Nursery | None = None
        #: Invariant: exactly those whose trio task has been started and has not ended.
        self._running: dict[SessionId, _Runner] = {}
        #: Sessions that are being ended: no child is started below them, no message taken.
        self._ending: set[SessionId] = set()
        self._waiting: dict[SessionId, _Waiting] = {}
        #: Children that are being archived from outside, of which their parents are to hear.
        self._stopped: set[SessionId] = set()
        self._quiet: trio.Event | None = None
        #: Whether nothing is begun; what runs was cancelled and is continued by `resume`.
        self.halted = False
        #: Told of a session for which a notice has arrived.
        self.noticed: Callable[[SessionId], None] = lambda _: None
        realm.decisions.woken.append(self._begin)
        self._watch_the_fold()

    # -- life ------------------------------------------------------------------------------

    def serve(self, nursery: trio.Nursery) -> None:
        """Run children in `nursery` from now on; it outlives every turn of the realm."""
        self._nursery = nursery

    def resume(self) -> None:
        """Begin, or take up again, every child that has not ended."""
        self.halted = False
        for session_id in list(self._realm.state.tasks):
            self._begin(session_id, again=True)

    def halt(self) -> None:
        """Cancel what runs; turns in flight stay in flight in the journal."""
        self.halted = True
        for runner in self._running.values():
            runner.halted = True
            runner.scope.cancel()

    async def quiet(self) -> None:
        """Park until no child runs."""
        while self._running:
            if self._quiet is None:
                self._quiet = trio.Event()
            await self._quiet.wait()

    @property
    def running(self) -> int:
        """How many children have a task now."""
        return len(self._running)

    def names(self) -> tuple[SessionId, ...]:
        """The children that have a task now."""
        return tuple(self._running)

    def only_wait(self) -> bool:
        """Whether no child is between two turns."""
        return all(self._realm.running(session_id) for session_id in self._running)

    # -- verbs -----------------------------------------------------------------------------

    async def start(
        self,
        parent: SessionId,
        harness_id: HarnessId,
        name: str,
        task: NewTask,
        *,
        agent_id: AgentId | None = None,
        locale: str | None = None,
        spec: SessionSpec = NO_SPEC,
        spawn_key: str | None = None,
    ) -> TaskView:
        """Make a child and its work durable in one commit, and begin it. A `spawn_key` that was
        used before finds the child it made.

        Raises:
            Unsupported: nobody serves background children here.
            SessionNotFound, LimitExceeded: nothing was created.
            SessionError: the parent is archived, or is being ended.
        """
        if self._nursery is None:
            raise Unsupported(
                "background children", "a session runner without a nursery of its own"
            )
        above: SessionId | None = parent
        while above is not None:
            if above in self._ending:
                raise SessionError(f"session {above} is ending and takes no children", above)
            head = self._realm.state.head(above)
            detached = head.task is not None and head.task.lifetime is Lifetime.DETACHED
            above = None if detached else head.lineage.parent
        made = await self._realm.create(
            harness_id,
            agent_id=agent_id,
            title=name,
            locale=locale,
            parent=parent,
            spec=spec,
            spawn_key=spawn_key,
            task=task,
        )
        return self.view(made)

    def of(self, parent: SessionId) -> tuple[TaskView, ...]:
        """The background children of a session, in order of their creation."""
        return tuple(self.view(head) for head in self._heads_of(parent))

    def get(self, parent: SessionId, task_id: SessionId) -> TaskView:
        """One of them. Raises `TaskNotFound`."""
        return self.view(self._own(parent, task_id))

    async def message(
        self, parent: SessionId, task_id: SessionId, text: str, *, key: str | None = None
    ) -> TaskView:
        """Let a message in for the next turn of a child that has not ended; return when it is on
        disk. A key that was used before sends nothing again.

        Raises:
            TaskNotFound: the session has no such child.
            SessionError: it has ended, or is just ending.
        """
        head = self._own(parent, task_id)
        inputs = self._realm.inputs
        if key is None or inputs.settled(task_id, key) is None:
            if not self._is_running(head) or task_id in self._ending:
                raise SessionError(f"task {task_id} has ended and takes no message", task_id)
            ticket = inputs.accept(task_id, text, idempotency_key=key).ticket
            if ticket is not None:
                runner = self._running.get(task_id)
                if runner is not None:
                    runner.message = ticket
                await ticket.wait()
            else:
                await self._realm.store.barrier()
        return self.get(parent, task_id)

    async def wait(
        self, parent: SessionId, task_id: SessionId, timeout_s: float | None = None
    ) -> TaskView:
        """Park until the child has ended, `timeout_s` at most: then the view says `timed_out`.

        Raises:
            TaskNotFound: the session has no such child, or it was deleted meanwhile.
        """
        head = self._own(parent, task_id)
        if not self._is_running(head):
            return self.view(head)
        waiting = self._waiting.setdefault(task_id, _Waiting())
        waiting.count += 1
        try:
            with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
                while self._is_running(self._own(parent, task_id)):
                    await waiting.changed.wait()
        except trio.Cancelled:
            self._tell_instead(parent, waiting)
            raise
        finally:
            waiting.count -= 1
            if not waiting.count:
                self._waiting.pop(task_id, None)
        view = self.get(parent, task_id)
        return attrs.evolve(view, timed_out=view.state is TaskState.RUNNING)

    async def cancel(self, parent: SessionId, task_id: SessionId, reason: str) -> TaskView:
        """Cancel the child's running turn and what is linked to it, deepest first, and archive it.
        One that has ended stays as it is. Raises `TaskNotFound`."""
        if self._is_running(self._own(parent, task_id)):
            await self._realm.archive(task_id, reason, tell=False)
        return self.get(parent, task_id)

    async def end_below(self, session_id: SessionId) -> None:
        """Cancel the linked children below the session, deepest first, and wait until they are
        gone. What is recorded of them is the caller's; until then they are unfinished."""
        if self._running:
            await self._end(session_id, itself=False)

    async def end(self, session_id: SessionId) -> None:
        """As `end_below`, and then the session itself if it is such a child."""
        if self._running:
            await self._end(session_id, itself=True)

    # -- views -----------------------------------------------------------------------------

    def view(self, head: SessionHead) -> TaskView:
        """The child as its parent sees it. One that is quarantined has failed, for now."""
        assert head.task is not None, "only tasks are viewed"
        live = self._realm.running(head.session_id)
        doing = "" if live is None else f"{live.doing.value} {live.detail}".strip()
        last: TurnEnded | str = "there is none"
        if head.task.state is TaskState.COMPLETED:
            try:
                last = self._realm.turn(head.task.turn)
            except (Damaged, RecordUnreadable) as damage:
                last = str(damage)
        return viewed(head, head.task, last, doing)

    def _heads_of(self, parent: SessionId) -> list[SessionHead]:
        state = self._realm.state
        children = [state.heads[each] for each in state.head(parent).children or ()]
        return sorted(
            (head for head in children if head.task is not None),
            key=lambda head: (head.created_at_ns, head.session_id),
        )

    def _own(self, parent: SessionId, task_id: SessionId) -> SessionHead:
        head = self._realm.state.heads.get(task_id)
        if head is None or head.task is None or head.lineage.parent != parent:
            known = tuple(each.session_id for each in self._heads_of(parent))
            raise TaskNotFound(task_id, known)
        return head

    def _is_running(self, head: SessionHead) -> bool:
        return head.task is not None and head.task.running and head.quarantined is None

    # -- running ---------------------------------------------------------------------------

    def _begin(self, session_id: SessionId, *, again: bool = False) -> None:
        """Start the child's trio task if it has none and there is something to do for it."""
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            return
        if self.halted or session_id in self._running:
            return
        head = self._realm.state.heads.get(session_id)
        if head is not None and self._is_running(head):
            runner = self._running[session_id] = _Runner(again=again)
            self._nursery.start_soon(self._run, session_id, runner, name=f"task {head.title}")

    async def _run(self, session_id: SessionId, runner: _Runner) -> None:
        waits = False
        try:
            with runner.scope:
                if runner.again:  # what an earlier task of it queued must be known first
                    await self._realm.store.barrier()
                await self._realm.unchanging(session_id)
                with self._realm.hold(session_id):
                    await self._work(session_id, runner)
        except (SessionBusy, SessionNotFound, SessionQuarantined):
            pass  # somebody else has it, or it is gone: nothing is lost, the row says what it is
        except TurnWaits:
            waits = True
        finally:
            del self._running[session_id]
            runner.gone.set()
            self._changed(session_id)
            if self._quiet is not None and not self._running:
                self._quiet.set()
                self._quiet = None
            # If halting was taken back before it was gone; if a decision came in the last instant.
            if runner.halted or (waits and not self._realm.decisions.parked(session_id)):
                self._begin(session_id, again=True)
            self._realm.decisions.stir()

    async def _work(self, session_id: SessionId, runner: _Runner) -> None:
        """Run the child's turns until no input is left, then end it."""
        realm = self._realm
        while self._is_running(head := realm.state.head(session_id)):
            inputs = due(head)
            if inputs is None:
                if runner.message is None or runner.message.done:
                    return await self._settle(session_id)
                await runner.message.wait()
                continue
            try:
                await turn_on(realm, session_id, inputs)
            except AgentError:
                continue  # recorded: the turn has ended, and what is queued behind it goes on
            except TurnAborted:
                await realm.store.barrier()
        return None

    async def _settle(self, session_id: SessionId) -> None:
        """No input is left: record how the child ended, in one commit with all that follows."""
        realm = self._realm
        self._ending.add(session_id)
        try:
            await self.end_below(session_id)
            head = realm.state.head(session_id)
            if not self._is_running(head):
                return
            last: TurnEnded | None = None
            if head.head:
                with realm.reading(session_id):
                    last = realm.turn(head.head)
            ended = ending(head, last, realm.ports.clock.now_ns())
            said = notice(head, ended, "" if last is None else last_text(last))
            told = self._told(head, said)
            archived = realm.archive_records(session_id, "finished")
            await realm.append(*told, ended, *archived).wait()
        finally:
            self._ending.discard(session_id)

    def told_of(self, session_id: SessionId, reason: str) -> tuple[InputAccepted, ...]:
        """What is to be recorded with the archiving of a session from outside: if it is a child
        that has not ended, its parent is told of this end as of any other."""
        head = self._realm.state.heads.get(session_id)
        if head is None or not self._is_running(head):
            return ()
        self._stopped.add(session_id)
        ended = TaskEnded(session_id, TaskState.CANCELLED, 0, reason, 0)
        return self._told(head, notice(head, ended, ""))

    def _told(self, head: SessionHead, said: str) -> tuple[InputAccepted, ...]:
        """The record by which the parent is told, unless it waits for the child just now."""
        waiting = self._waiting.get(head.session_id)
        if waiting is not None:
            waiting.trusted = said
            return ()
        return self._notice(head.lineage.parent, said)

    def _notice(self, parent: SessionId | None, said: str) -> tuple[InputAccepted, ...]:
        above = None if parent is None else self._realm.state.heads.get(parent)
        if above is None or above.archived or above.quarantined is not None:
            return ()
        ports = self._realm.ports
        now = ports.clock.now_ns()
        return (InputAccepted(above.session_id, InputId(ports.ids.new()), said, TASKS, None, now),)

    def _tell_instead(self, parent: SessionId, waiting: _Waiting) -> None:
        """Whoever waited is cut off and cannot say it: a notice does."""
        if waiting.trusted is None or waiting.count > 1:
            return
        try:
            if told := self._notice(parent, waiting.trusted):
                self._realm.append(*told)
        except StoreError:
            pass  # the store is gone, and whatever cut the wait off goes on

    # -- ending ----------------------------------------------------------------------------

    async def _end(self, session_id: SessionId, *, itself: bool) -> None:
        mine = session_id not in self._ending
        self._ending.add(session_id)
        try:
            # Shielded, because what is ended must be gone before it is said to be; bounded, because
            # a tool may refuse to unwind.
            deadline = trio.current_time() + UNWIND_S
            with trio.CancelScope(shield=True, deadline=deadline):
                while below := list(self._linked(session_id)):
                    deepest = max(depth for depth, _ in below)
                    await self._gone([one for depth, one in below if depth == deepest])
                runner = self._running.get(session_id)
                if itself and runner is not None:
                    await self._gone([runner])
        finally:
            if mine:
                self._ending.discard(session_id)

    @staticmethod
    async def _gone(runners: list[_Runner]) -> None:
        for runner in runners:
            runner.scope.cancel()
        for runner in runners:
            await runner.gone.wait()

    def _linked(self, session_id: SessionId) -> Iterator[tuple[int, _Runner]]:
        """What runs below a session and ends with it, each with its depth."""
        heads = self._realm.state.heads
        ahead = [session_id]
        while ahead:
            for child in heads[ahead.pop()].children or ():
                head = heads[child]
                if head.archived or outlives(head):
                    continue
                ahead.append(child)
                if child in self._running:
                    yield head.lineage.depth, self._running[child]

    # -- the fold --------------------------------------------------------------------------

    def _watch_the_fold(self) -> None:
        transitions = self._realm.state.transitions

        def after(kind: type, then: Callable[[Any], None]) -> None:
            fold = transitions[kind]

            def both(seq: int, record: Any) -> None:
                fold(seq, record)
                then(record)

            transitions[kind] = both

        after(TaskStarted, lambda record: self._begin(record.session_id))
        after(SessionMended, lambda record: self._begin(record.session_id))
        after(TaskEnded, self._ended)
        after(SessionArchived, self._over)
        after(SessionDeleted, self._over)

    def _ended(self, record: TaskEnded | SessionArchived | SessionDeleted) -> None:
        head = self._realm.state.heads.get(record.session_id)
        self._changed(record.session_id)
        if head is not None and head.lineage.parent is not None:
            self.noticed(head.lineage.parent)

    def _over(self, record: SessionArchived | SessionDeleted) -> None:
        """The session is over for good: a child that runs all the same is stopped."""
        if record.session_id in self._running:
            self._running[record.session_id].scope.cancel()
        if record.session_id not in self._stopped:
            return self._changed(record.session_id)
        self._stopped.remove(record.session_id)
        return self._ended(record)

    def _changed(self, session_id: SessionId) -> None:
        waiting = self._waiting.get(session_id)
        if waiting is not None:
            waiting.changed.set()
            waiting.changed = trio.Event()
