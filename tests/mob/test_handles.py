"""One handle for each mob: the second one in a process is refused, by name."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mob import MobDefinition, open_mob, open_session_service
from mob.errors import DefinitionChanged, MobInUse
from stores import MemoryStore, open_lmdb
from tests.mob.mobs import define, opened, state_of, table

Clock = trio.testing.MockClock


async def test_the_same_mob_is_not_opened_twice_in_one_process(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9: two handles would each fold only what they wrote."""
    definition = define("a")
    store = MemoryStore()
    async with opened(definition, store=store) as mob:
        owner = trio.lowlevel.current_task().name
        with pytest.raises(MobInUse, match="share that handle") as caught:
            async with opened(definition, store=store):
                pass
        assert caught.value.owner == owner
        assert owner in str(caught.value)
        other = MobDefinition.from_table({**table(("a",)), "mob": {"id": "u", "lead": "a"}})
        async with open_mob(other, store=store) as beside:
            assert (await beside.ask("a", "hello")).text == "hello"
        assert (await mob.ask("a", "still here")).text
        before = state_of(mob)
    async with opened(definition, store=store) as mob:
        assert state_of(mob) == before


async def test_a_mob_that_could_not_be_opened_is_not_held(autojump_clock: Clock) -> None:
    store = MemoryStore()
    async with opened(define("a"), store=store):
        pass
    for _ in range(2):
        with pytest.raises(DefinitionChanged):
            async with opened(define("a", "b"), store=store):
                pass


async def test_one_session_service_for_a_store(tmp_path: pytest.TempPathFactory) -> None:
    async with open_lmdb(str(tmp_path)) as store:
        async with open_session_service(store):
            with pytest.raises(MobInUse, match="the session service"):
                async with open_session_service(store):
                    pass
        async with open_session_service(store) as service:
            assert list(await service.list()) == []
