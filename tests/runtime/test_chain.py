"""Skip links: every turn is found, in a logarithmic number of steps, and links can be read back."""

from __future__ import annotations

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from runtime.chain import Links, extend, next_skip


@attrs.frozen
class Node:
    prev: int
    turn: int
    skip: int
    skip_turn: int


def grow(turns: int, step: int = 1) -> tuple[dict[int, Node], Links, int]:
    """A chain of `turns` nodes numbered `step` apart, its links and its last number."""
    nodes: dict[int, Node] = {}
    links: Links = ()
    head = 0
    for turn in range(1, turns + 1):
        skip, skip_turn = next_skip(links, turn)
        seq = turn * step
        nodes[seq] = Node(head, turn, skip, skip_turn)
        links = extend(links, seq, turn, skip_turn)
        head = seq
    return nodes, links, head


def find(nodes: dict[int, Node], head: int, turn: int) -> tuple[int, int]:
    steps, seq = 0, head
    while nodes[seq].turn != turn:
        node = nodes[seq]
        seq = node.skip if node.skip_turn >= turn else node.prev
        steps += 1
    return seq, steps


@given(st.integers(1, 3000), st.integers(1, 5), st.data())
def test_any_turn_is_found_in_logarithmic_steps(turns: int, step: int, data: st.DataObject) -> None:
    """CONTRACTS 6.14."""
    nodes, links, head = grow(turns, step)
    wanted = data.draw(st.integers(1, turns))
    seq, steps = find(nodes, head, wanted)
    assert seq == wanted * step
    assert steps <= 3 * math.log2(turns + 1) + 3
    assert sum(links[1::2]) == turns
    assert len(links) <= 2 * (math.log2(turns + 1) + 2)


@given(st.integers(1, 500), st.integers(1, 500))
def test_links_read_back_from_a_chain_are_the_links_it_grew_with(turns: int, cut: int) -> None:
    """What a rewind computes for an earlier turn is what the chain had when it ended there."""
    cut = min(cut, turns)
    nodes, _, _ = grow(turns)
    read: list[int] = []
    seq = cut
    while seq:
        node = nodes[seq]
        read = [seq, node.turn - node.skip_turn, *read]
        seq = node.skip
    assert tuple(read) == grow(cut)[1]
