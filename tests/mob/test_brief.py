"""A member's brief: what every message to it ends with."""

from __future__ import annotations

from mob import open_mob
from mob.definition import MobDefinition
from stores import open_memory


async def test_a_brief_is_added_to_every_message_of_the_member_and_of_no_other() -> None:
    members = {"a": {"profile": "p", "replicas": 2, "brief": "Be brief."}, "b": {"profile": "p"}}
    definition = MobDefinition.from_table(
        {
            "mob": {"id": "t", "lead": "b"},
            "models": {"m": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "m"}},
            "members": members,
        }
    )
    async with open_memory() as store, open_mob(definition, store=store) as mob:
        for name in ("a-0", "a-1"):
            assert (await mob.ask(name, "Why?")).text == "Why?\n\nBe brief."
        assert (await mob.ask("b", "Why?")).text == "Why?"
