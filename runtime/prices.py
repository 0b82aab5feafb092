"""What model calls cost: prices by the million tokens, money in whole numbers. Pure.

Owns: `Price`, the cost of a usage, and how a cost is said. Must not: know a provider's price list
(prices change, so they stand in the mob file), or add floats.

Money is counted in billionths of a US dollar: a token of the cheapest models costs some ten of
them. A call without a price is *unpriced*. That is said wherever a cost is shown, because a sum
that takes it for nothing would be wrong in the one direction that hurts.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import attrs

from runtime.messages import Usage

CURRENCY: Final = "USD"
UNPRICED: Final = "unpriced"
#: Decimals of a price that count: a millionth of a dollar for a million tokens.
DECIMALS: Final = 6
_NANO: Final = 10**9


def amount(given: Any) -> Decimal:
    """A price as it stands in a file: a number, or text such as ``"0.15"``, exactly as written.

    Raises:
        ValueError: it is no amount of money of at most `DECIMALS` decimals.
    """
    if isinstance(given, bool) or not isinstance(given, int | float | str | Decimal):
        raise ValueError(f"{given!r} is no amount of {CURRENCY}")
    try:
        # By way of the text, which is the shortest that means this float: what the file says.
        value = Decimal(str(given))
    except InvalidOperation:
        raise ValueError(f"{given!r} is no amount of {CURRENCY}") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"an amount of {CURRENCY} is 0 or more, not {given}")
    if value != round(value, DECIMALS):
        raise ValueError(f"{given} has more than {DECIMALS} decimals")
    return value


@attrs.frozen
class Price:
    """US dollars for a million tokens.

    `cached_input` is what tokens that the provider's cache served cost; None: as much as others.
    """

    input: Decimal = attrs.field(converter=amount)
    output: Decimal = attrs.field(converter=amount)
    cached_input: Decimal | None = attrs.field(
        default=None, converter=attrs.converters.optional(amount)
    )


def cost_nano_usd(usage: Usage, price: Price) -> int:
    """What the tokens of `usage` cost, rounded up to a billionth (budgets count on that)."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    rate = price.input if price.cached_input is None else price.cached_input
    millions = (
        (usage.input_tokens - cached) * price.input
        + cached * rate
        + usage.output_tokens * price.output
    )
    # In millionths of millionths, which is a whole number by `DECIMALS`.
    return -(-int(millions * 10**DECIMALS) // (10**DECIMALS * 10**6 // _NANO))


def priced(usage: Usage, price: Price) -> Usage:
    """`usage`, which says nothing of money, with what its model calls cost at `price`."""
    return attrs.evolve(
        usage, cost_nano_usd=cost_nano_usd(usage, price), priced_calls=usage.model_calls
    )


def cost_usd(usage: Usage) -> str | None:
    """What is known to have been spent, in dollars, exactly; None if no call had a price."""
    if usage.model_calls and not usage.priced_calls:
        return None
    whole, rest = divmod(usage.cost_nano_usd, _NANO)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".")


def cost_text(usage: Usage) -> str:
    """The cost for people: ``$0.0123``, ``unpriced``, ``$0.0123 + 2 calls unpriced``.

    Two decimals from a dollar on, else the two first digits that count, rounded half up.
    """
    if usage.model_calls and not usage.priced_calls:
        return UNPRICED
    nano = usage.cost_nano_usd
    places = 2
    while places < 9 and 0 < nano < 10 ** (11 - places):
        places += 1
    unit = 10 ** (9 - places)
    whole, rest = divmod((nano + unit // 2) // unit, 10**places)
    text = f"${whole}.{rest:0{places}}"
    missing = usage.unpriced_calls
    if missing:
        text += f" + {missing} {'call' if missing == 1 else 'calls'} {UNPRICED}"
    return text
