"""What model calls cost, and what is said where nobody knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.codec import cold_codec, converter
from runtime.messages import Usage, pack_usage, unpack_usage
from runtime.prices import Price, amount, cost_nano_usd, cost_text, cost_usd, priced

SMALL = Price("0.15", "0.60", "0.0375")
counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts, counts)
amounts = st.integers(0, 10**9).map(lambda millionths: Decimal(millionths).scaleb(-6))


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (Usage(0, 0, 1), 0),
        (Usage(1, 0, 1), 150),
        (Usage(0, 1, 1), 600),
        (Usage(1, 0, 1, cached_input_tokens=1), 38),  # 37.5, rounded up
        (Usage(1_000_000, 1_000_000, 1, 0, 500_000), 693_750_000),
        (Usage(1, 0, 1, cached_input_tokens=5), 38),  # more cached than read: a server's mistake
    ],
)
def test_costs(usage: Usage, nano: int) -> None:
    assert cost_nano_usd(usage, SMALL) == nano


def test_cached_tokens_without_a_price_of_their_own_cost_what_others_do() -> None:
    usage = Usage(1000, 0, 1, cached_input_tokens=900)
    assert cost_nano_usd(usage, Price(1, 1)) == cost_nano_usd(Usage(1000, 0, 1), Price(1, 1))


@given(usages, amounts, amounts)
def test_a_cost_is_at_most_a_billionth_above_the_exact_one(
    usage: Usage, read: Decimal, written: Decimal
) -> None:
    exact = (usage.input_tokens * read + usage.output_tokens * written) * 1000
    assert 0 <= cost_nano_usd(usage, Price(read, written)) - exact < 1


@pytest.mark.parametrize("given", [True, "x", -1, float("nan"), float("inf"), 0.0000001, None, []])
def test_what_is_no_amount(given: Any) -> None:
    with pytest.raises(ValueError, match=r"USD|decimals"):
        amount(given)


def test_an_amount_is_what_the_file_says() -> None:
    assert [amount(each) for each in (0.1, "0.10", 3, 1e-6)] == [
        Decimal("0.1"), Decimal("0.1"), Decimal(3), Decimal("0.000001"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "text", "exact"),
    [
        (Usage(), "$0.00", "0"),
        (Usage(9, 9, 1), "unpriced", None),
        (priced(Usage(9, 9, 1), Price(0, 0)), "$0.00", "0"),
        (Usage(9, 9, 1, 0, 0, 12_345_678, 1), "$0.0123", "0.012345678"),
        (Usage(9, 9, 1, 0, 0, 15, 1), "$0.000000015", "0.000000015"),
        (Usage(9, 9, 1, 0, 0, 1_234_567_890, 1), "$1.23", "1.23456789"),
        (Usage(9, 9, 3, 0, 0, 2 * 10**9, 1), "$2.00 + 2 calls unpriced", "2"),
        (Usage(9, 9, 2, 0, 0, 2 * 10**9, 1), "$2.00 + 1 call unpriced", "2"),
    ],
)
def test_a_cost_is_said_and_a_missing_price_is_never_zero(
    usage: Usage, text: str, exact: str | None
) -> None:
    assert (cost_text(usage), cost_usd(usage)) == (text, exact)


@given(usages, usages)
def test_money_adds_up_with_what_was_not_priced(one: Usage, other: Usage) -> None:
    both = one + other
    assert both.cost_nano_usd == one.cost_nano_usd + other.cost_nano_usd
    assert both.unpriced_calls == one.unpriced_calls + other.unpriced_calls
    assert both.cached_input_tokens == one.cached_input_tokens + other.cached_input_tokens


@given(usages)
def test_a_usage_is_stored_whole(usage: Usage) -> None:
    assert unpack_usage(pack_usage(usage)) == usage


@given(usages)
def test_a_snapshot_holds_a_usage_whole(usage: Usage) -> None:
    pack, unpack = cold_codec(Usage)
    assert unpack(pack(usage)) == usage


def test_a_usage_without_money_is_stored_as_it_always_was() -> None:
    assert pack_usage(Usage(1, 2, 3, 4)) == (1, 2, 3, 4)
    assert unpack_usage((1, 2, 3, 4)) == Usage(1, 2, 3, 4)
    assert converter().unstructure(Usage(1, 0, 3, 4)) == {
        "input_tokens": 1, "output_tokens": 0, "model_calls": 3, "tool_calls": 4,
    }  # fmt: skip


@pytest.mark.parametrize("packed", [(1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, True), (1,) * 8])
def test_what_is_no_usage(packed: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not a usage"):
        unpack_usage(packed)
