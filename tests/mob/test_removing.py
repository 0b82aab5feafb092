"""Deleting a stored mob."""

from __future__ import annotations

from mob.app import stored_mob
from mob.elsewhere import fork_mob
from mob.lifecycle import MobState
from mob.removing import delete_mob
from stores import MemoryStore, open_memory
from tests.mob.mobs import define, journal, opened


def said(store: MemoryStore, mob_id: str = "t") -> str:
    """All that the records of the mob still say."""
    return repr([event.record for event in journal(store, mob_id)])


async def test_nothing_of_a_deleted_mob_is_left_but_that_it_was(autojump_clock: object) -> None:
    async with open_memory() as store:
        async with opened(define("a", "b"), store=store) as mob:
            await mob.ask("a", "the secret plan")
            await mob.retire("b")
            await mob.sessions.fork(mob.session_of("a"))
        assert "the secret plan" in said(store)
        done = await delete_mob(store, "t")
        assert (done.sessions, done.points) == (3, ())
        assert "the secret plan" not in said(store)
        stored = stored_mob(store, "t")
        assert stored.roster.mob_state is MobState.DESTROYED
        assert (dict(stored.roster.members), stored.state.heads) == ({}, {})
        assert (await delete_mob(store, "t")).sessions == 0


async def test_what_a_fork_or_a_point_needs_stays(autojump_clock: object) -> None:
    async with open_memory() as store:
        async with opened(define("a"), store=store) as mob:
            await mob.ask("a", "for both")
            await fork_mob(store, "t", "u")
            await mob.snapshot("here")
            await mob.ask("a", "for one")
        done = await delete_mob(store, "t")
        assert done.points == ("here",)
        assert "for both" in said(store)
        assert "for one" not in said(store)
        stored = stored_mob(store, "u")
        [head] = stored.state.heads.values()
        assert stored.journal.turn(head.head).messages[0].text == "for both"


async def test_a_deletion_that_was_cut_off_is_gone_on_with(autojump_clock: object) -> None:
    async with open_memory() as store:
        async with opened(define("a", "b", "c"), store=store) as mob:
            await mob.ask("a", "x")
            await mob.stop()
            await mob.retire("b")
            await mob.destroy()
        assert (await delete_mob(store, "t")).sessions == 3
        assert stored_mob(store, "t").state.heads == {}
