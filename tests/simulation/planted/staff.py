"""Bugs in respawns, groups, limits and members that go on by themselves.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import attrs
import trio

from mob import going, supervising
from mob.activation import Activations
from mob.autonomy import SELF, rests
from mob.core import MobCore
from mob.generations import GenerationVerbs
from mob.groups import GroupDecision, GroupTree, Strategy, decide_group
from mob.jobs import LiveMember
from mob.life import LifeVerbs
from mob.limits import Limits
from mob.membership import MemberVerbs
from mob.receipts import MemberHandle
from mob.roster import Member
from mob.supervising import Supervisors
from runtime.ids import InputId, SessionId
from runtime.session import PendingInput
from tests.simulation.planted.table import planted

_TOGETHER = (
    "Let what is queued before a question go without a slot, take a mob whose members wait for"
    " slots for blocked, keep the count of a prompt through a respawn, and count who was cut off"
    " with a group no more when it is opened again"
)


@planted("a_respawn_is_one_commit", within=300)
def a_respawn_turns_the_queue_around() -> Iterator[None]:
    """What waits for a member goes to its next generation the last first.

    CONTRACTS 6.4.
    """
    honest = GenerationVerbs._waiting

    def waiting(self: Any, row: Member) -> dict[InputId, PendingInput]:
        return dict(reversed(honest(self, row).items()))

    with patch.object(GenerationVerbs, "_waiting", waiting):
        yield


@planted("what_staff_was_told_is_on_disk", within=300)
def an_old_fence_holds() -> Iterator[None]:
    """A fence is good for every generation of its member.

    CONTRACTS 6.4.
    """
    honest = MobCore._row

    def row(self: MobCore, name: str, fence: MemberHandle | None = None) -> Member:
        return honest(self, name)

    with patch.object(MobCore, "_row", row):
        yield


@planted("what_staff_was_told_is_on_disk", within=500)
def they_are_hired_one_by_one() -> Iterator[None]:
    """`spawn_many` adds each member by a commit of its own.

    CONTRACTS 6.2.
    """
    honest = MemberVerbs._spawn_all

    async def spawn_all(
        self: Any, wanted: Sequence[tuple[str, str]], spawn_key: str | None = None
    ) -> list[SessionId]:
        made: list[SessionId] = []
        for each in wanted:
            made += await honest(self, [each], spawn_key)
        return made

    with patch.object(MemberVerbs, "_spawn_all", spawn_all):
        yield


@planted("a_completed_mob_has_nothing_left", within=600)
def completed_with_work_left() -> Iterator[None]:
    """A mob is completed while members have still something to do.

    CONTRACTS 5.9, 6.1.
    """

    async def worked_off(self: LifeVerbs) -> None:
        await self.realm.store.barrier()

    with patch.object(LifeVerbs, "_worked_off", worked_off):
        yield


@planted("a_group_cuts_whom_it_may", within=300)
def all_for_one() -> Iterator[None]:
    """Every group cuts everybody in it off, whatever its strategy.

    CONTRACTS 6.8.
    """
    honest = GroupTree.affected

    def affected(self: GroupTree, group: Any, failed: Any) -> tuple[str, ...]:
        return honest(self, attrs.evolve(group, strategy=Strategy.ONE_FOR_ALL), failed)

    with patch.object(GroupTree, "affected", affected):
        yield


@planted("groups_keep_to_their_intensity", within=600)
def a_group_puts_up_with_more() -> Iterator[None]:
    """A group puts up with one failure more than it may.

    CONTRACTS 6.8.
    """

    def decide(
        tree: GroupTree,
        member: str,
        recent: Mapping[str, tuple[float, ...]],
        cause: str,
        at_s: float,
    ) -> GroupDecision:
        patient = {
            name: attrs.evolve(group, max_restarts=group.max_restarts + 1)
            for name, group in tree.groups.items()
        }
        return decide_group(GroupTree(patient), member, recent, cause, at_s)

    with patch.object(supervising, "decide_group", decide):
        yield


@planted("groups_keep_to_their_intensity", within=600)
def groups_begin_afresh_with_their_process() -> Iterator[None]:
    """Of failures in earlier processes groups know nothing.

    CONTRACTS 6.8.
    """
    honest = Supervisors.recall

    def recall(self: Supervisors) -> None:
        honest(self)
        self._recent = {}

    with patch.object(Supervisors, "recall", recall):
        yield


@planted("a_member_goes_on_as_it_may", within=300)
def one_prompt_too_many() -> Iterator[None]:
    """A member that goes on by itself is prompted once more than its profile says.

    CONTRACTS 6.8.
    """

    def later(policy: Any, record: Any, count: int) -> str | None:
        return rests(policy, record, max(count - 1, 0))

    with patch.object(going, "rests", later):
        yield


@planted("turns_keep_to_their_slots", within=300)
def one_slot_too_many() -> Iterator[None]:
    """One turn more is in flight than `concurrent_turns` says.

    CONTRACTS 6.15.
    """
    honest = Limits.__init__

    def init(self: Limits, limits: Any, activations: Activations, realm: Any) -> None:
        honest(self, limits, activations, realm)
        if limits.concurrent_turns is not None:
            self._slots = trio.CapacityLimiter(limits.concurrent_turns + 1)

    with patch.object(Limits, "__init__", init):
        yield


@planted("limits_are_kept", within=300)
def what_waits_is_not_counted() -> Iterator[None]:
    """Limits of turns count those that were had, and not those that wait.

    CONTRACTS 6.15.
    """
    with patch.object(Limits, "_ahead", lambda self, live: 0):
        yield


@planted(
    "limits_are_kept",
    within=1500,
    mended=(
        "Count the prompt that is on its way with the end of a turn: whoever wrote to the member"
        " in that moment got it a turn more than its limit"
    ),
)
def a_prompt_on_its_way_is_not_counted() -> Iterator[None]:
    """Limits of turns do not count the prompt that is committed with the end of a turn until it is
    on disk.

    CONTRACTS 6.15.
    """

    def ahead(self: Limits, live: LiveMember) -> int:
        there = self._realm.state.heads[live.row.session_id].inputs or ()
        own = [each for each in live.jobs if each.pending.sender == SELF]
        return len(live.jobs) - sum(each.pending.input_id not in there for each in own[-1:])

    with patch.object(Limits, "_ahead", ahead):
        yield
