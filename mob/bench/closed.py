"""Closed forms: what mobs of simulated models must come out at.

Owns: the formulas, each with its source. Must not: run or draw anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from mob.bench.plan import Expected


def majority_right(voters: int, accuracy: float) -> float:
    """How often most of an odd number of independent voters are right (Condorcet, 1785): the upper
    half of a binomial distribution. Of an even number ties count half."""
    total = 0.0
    for right in range(voters + 1):
        weight = math.comb(voters, right) * accuracy**right * (1 - accuracy) ** (voters - right)
        if 2 * right > voters:
            total += weight
        elif 2 * right == voters:
            total += weight / 2
    return total


def share(probability: float, trials: int) -> Expected:
    """A share of so many independent trials, each of which succeeds with the probability."""
    return Expected(probability, math.sqrt(probability * (1 - probability) / trials))


def mean_of_uniform(least: int, most: int, draws: int) -> Expected:
    """The mean of so many draws of a whole number, all from the least to the most as likely."""
    variance = ((most - least + 1) ** 2 - 1) / 12
    return Expected((least + most) / 2, math.sqrt(variance / draws))


def layers_right(first: float, widths: Sequence[int], follows: float) -> float:
    """How often most of the last of some layers say what is right, between two choices.

    Most of the first layer are right with the probability `first`. Each of a later one, which is
    `widths` wide, says what most of the layer before said with the probability `follows`, else the
    other; independently, so that most of it repeat what was said as often as a vote is right."""
    right = first
    for width in widths:
        repeated = majority_right(width, follows)
        right = right * repeated + (1 - right) * (1 - repeated)
    return right


def commons_left(players: int, sustainable: float, rounds: int, games: int) -> Expected:
    """The mean share of a commons that is left, over games of so many rounds.

    It doubles each round, up to what it can hold. Who is moderate takes half of an equal share of
    what is there, who is not a whole one; with d of n greedy it shrinks by 1 - d/n. The rounds are
    independent and d is binomial, so that the mean is the mean shrinkage to the power of rounds,
    and its square likewise."""
    square = sustainable**2 + sustainable * (1 - sustainable) / players
    mean = sustainable**rounds
    variance = max(0.0, square**rounds - mean**2)
    return Expected(mean, math.sqrt(variance / games))


def power_law(crowd: int, exponent: float) -> list[float]:
    """How likely each of a crowd is the next one to act: Zipf's law, the first the likeliest."""
    weights = [(rank + 1) ** -exponent for rank in range(crowd)]
    whole = sum(weights)
    return [weight / whole for weight in weights]


def distinct(chances: Iterable[float], draws: int) -> Expected:
    """How many different ones there are among so many draws with these chances. The error is that
    of independent ones, which is a little more than the true one."""
    seen = [1 - (1 - chance) ** draws for chance in chances]
    return Expected(sum(seen), math.sqrt(sum(each * (1 - each) for each in seen)))


def hops(edges: Mapping[str, Sequence[str]], source: str) -> dict[str, int]:
    """How many edges lie between the source and each that it reaches, going the shortest way."""
    found = {source: 0}
    front = [source]
    while front:
        after: list[str] = []
        for each in front:
            for neighbour in edges[each]:
                if neighbour not in found:
                    found[neighbour] = found[each] + 1
                    after.append(neighbour)
        front = after
    return found


def flood_messages(nodes: int, edges: int) -> int:
    """Messages of a flood in a connected graph: who hears it first passes it on to all but whom it
    came from, so each edge carries two but for those of the tree by which it came, which carry one.
    """
    return 2 * edges - (nodes - 1)


def pairs_makespans(takes: Sequence[Sequence[tuple[int, int, float]]]) -> tuple[float, float]:
    """How long pairs that talk take, tick by tick and out of order.

    Each tick is a list of pairs with how long they talk. By ticks all wait for the longest talk of
    the tick. Out of order a pair begins as soon as both have ended their last one: what is left is
    the longest path through the talks (the critical path of AI Metropolis)."""
    ticks, free = 0.0, dict[int, float]()
    for talks in takes:
        ticks += max((length for _, _, length in talks), default=0.0)
        for one, other, length in talks:
            end = max(free.get(one, 0.0), free.get(other, 0.0)) + length
            free[one] = free[other] = end
    return ticks, max(free.values(), default=0.0)
