"""One independent source of chance for each port, all from one seed.

Owns: `Streams`. Must not: be shared between ports under one name, or be drawn from in an order
that depends on what another port does.

Two forms, for two needs. A *stream* is drawn from in order, by one port. A *unit* depends on
nothing but the seed and the site it is asked for, so that leaving one decision out (what a
shrinker does) moves no other one. Both are derived by hashing names, never by Python's `hash`,
which differs from process to process.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import Final, final

#: A float has 53 bits of mantissa; more would round up to 1.0 now and then.
_BITS: Final = 53


@final
class Streams:
    """The chance of one run, by name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._key = blake2b(str(seed).encode(), digest_size=32).digest()
        self._streams: dict[str, Random] = {}

    def stream(self, name: str) -> Random:
        """The generator of the port `name`: always the same one, begun from seed and name."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = Random(self._number(("stream", name)))
        return found

    def unit(self, *site: str | int) -> float:
        """A number in [0, 1) that depends on the seed and on `site` only."""
        return (self._number(site) >> (64 - _BITS)) / (1 << _BITS)

    def _number(self, site: tuple[str | int, ...]) -> int:
        # repr: ("a", "b") and ("a/b",), or 1 and "1", are different sites.
        digest = blake2b(repr(site).encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big")
