"""Chance by name: one stream never moves another."""

from __future__ import annotations

from mob.simulation import Streams


def test_a_stream_depends_on_seed_and_name_only() -> None:
    streams = Streams(7)
    first = streams.stream("ids").random()
    streams.stream("clock").random()
    assert streams.stream("ids") is streams.stream("ids")
    assert Streams(7).stream("ids").random() == first
    assert Streams(8).stream("ids").random() != first
    assert Streams(7).stream("clock").random() != first


def test_a_unit_depends_on_seed_and_site_only() -> None:
    streams = Streams(7)
    sites: list[tuple[str | int, ...]] = [("a", 1), ("a", "1"), ("a/1",), ("a", 1, 2), ()]
    drawn = [streams.unit(*site) for site in sites]
    assert len(set(drawn)) == len(sites)
    assert [Streams(7).unit(*site) for site in reversed(sites)] == drawn[::-1]
    assert all(0 <= each < 1 for each in drawn)


def test_units_are_spread_evenly() -> None:
    streams = Streams(3)
    drawn = [streams.unit("spread", number) for number in range(2000)]
    assert 0.47 < sum(drawn) / len(drawn) < 0.53


def test_chance_is_the_same_in_every_process() -> None:
    """The numbers themselves, so that a seed that failed somewhere fails here."""
    assert Streams(1).unit("commit", 3).hex() == "0x1.9a0a4a8ddb96ap-1"
    assert Streams(1).stream("ids").getrandbits(32) == 1833259960
