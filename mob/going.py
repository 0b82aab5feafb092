"""A turn of a member that goes on by itself, and the tool by which it rests.

Owns: what is committed with the end of such a turn: the next prompt, or a restart. Must not: decide
when it rests (`mob.autonomy` does) or how often it is restarted (`mob.supervision` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from mob.autonomy import REST, SELF, count_of, prompt_id, rests
from mob.jobs import Job
from mob.records import MemberExited
from mob.supervision import Exit, Restart, RestartWhen, decide
from runtime.ids import InputId, RunId
from runtime.records import InputAccepted, TurnEnded
from runtime.session import PendingInput
from runtime.tools.function import tool

if TYPE_CHECKING:
    from mob.activation import Activations
    from mob.jobs import LiveMember
    from runtime.realm import Realm


async def rest(reason: str = "") -> str:
    """Stop working until somebody sends you a message.

    Args:
        reason: Why there is nothing more to do.
    """
    return "You rest when this turn has ended."


REST_TOOL: Final = tool(rest, name=REST, idempotent=True)


@attrs.define(eq=False)
class GoingOn:
    """One turn of an autonomous member (`runtime.ledger.AppliedRun`). After it, `delay_s` is how
    long to wait before the prompt to go on with, which is queued by then if there is one."""

    activations: Activations
    live: LiveMember
    job: Job
    realm: Realm
    delay_s: float = 0.0
    run_id: RunId = attrs.field(init=False)
    input_ids: tuple[InputId, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.run_id = RunId(self.realm.ports.ids.new())
        self.input_ids = (self.job.pending.input_id,)

    def settled(self, record: TurnEnded) -> tuple[TurnEnded, Sequence[Any]]:
        """What is committed with the end of the turn."""
        return record, self._also(record)

    def _also(self, record: TurnEnded) -> Sequence[Any]:
        live = self.live
        if self.activations.completing or live.gone or len(live.jobs) > 1:
            return ()  # nothing more is begun, or what waits comes first
        limits = self.activations.limits
        if limits is not None and limits.spent(live.row):
            return ()
        profile = self.activations.profile(live.row.profile)
        assert profile.autonomy is not None
        count = count_of(self.job.pending)
        why = rests(profile.autonomy, record, count)
        if why is None:
            return (self._prompt(profile.autonomy.continue_with, count + 1),)
        if profile.restart.when is not RestartWhen.ALWAYS:
            return ()
        decision = decide(profile.restart, live.recent, Exit(why, True, trio.current_time()))
        now = self.realm.ports.clock.now_ns()
        row = live.row
        if not isinstance(decision, Restart):
            return (MemberExited(row.name, row.session_id, decision.reason, None, now),)
        live.recent, self.delay_s = decision.recent, decision.delay_s
        exited = MemberExited(row.name, row.session_id, why, decision.delay_s, now)
        return (exited, self._prompt(profile.autonomy.continue_with, 1))

    def _prompt(self, text: str, count: int) -> InputAccepted:
        # It waits from here on, as all that is accepted does: a respawn carries it over, and limits
        # count it, while it is on its way to the disk.
        ports = self.realm.ports
        pending = PendingInput(prompt_id(ports.ids.new(), count), text, SELF, None)
        self.live.jobs.append(Job(pending, nested=False))
        return InputAccepted(
            self.live.row.session_id,
            pending.input_id,
            text,
            SELF,
            None,
            ports.clock.now_ns(),
        )
