"""Skip links: any turn of a chain in a logarithmic number of steps. Pure.

Owns: which earlier turn a new one links to, and how the links of a chain's end are kept. Must not:
read a record.

A history is a chain of records, each naming the one before it, and must stay one: a fork shares it
and a rewind cuts it, both in constant work. To find turn k from the end without walking, each turn
also links to one turn further back, chosen so that the turns form the trees of a skew binary number
(E. W. Myers, "An applicative random-access stack", 1983): appending looks at two trees only, and
from any turn any earlier one is at most about 2 log2(n) links away.

`links` lists the roots of those trees for the end of a chain, largest and oldest first, flat:
``(seq, size, seq, size, ...)``. Sizes add up to the number of turns.
"""

from __future__ import annotations

from typing import TypeAlias

Links: TypeAlias = tuple[int, ...]


def next_skip(links: Links, turn: int) -> tuple[int, int]:
    """The skip link of the turn that comes next, at place `turn`: its number and its place."""
    if len(links) >= 4 and links[-1] == links[-3]:
        size = 1 + 2 * links[-1]
        seq = links[-6] if len(links) >= 6 else 0
    else:
        size = 1
        seq = links[-2] if links else 0
    return seq, turn - size


def extend(links: Links, seq: int, turn: int, skip_turn: int) -> Links:
    """The links after the turn `seq`, whose place is `turn` and whose skip is at `skip_turn`."""
    size = turn - skip_turn
    covered = size - 1
    while covered > 0:
        covered -= links[-1]
        links = links[:-2]
    return (*links, seq, size)
