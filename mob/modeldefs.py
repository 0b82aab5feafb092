"""What a mob file says about models: which serves an alias, what it costs, when it is tried again.

Owns: the definition type of ``[models.X]`` and reading it. Must not: open a model.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs

from mob.tables import TableReader
from runtime.prices import CURRENCY, Price, amount
from runtime.retry import DEFAULT_RETRY, RetryPolicy


@attrs.frozen
class ModelDefinition:
    """What serves an alias: ``provider:id`` and how to reach it.

    `max_concurrency` bounds calls at the same time (None: no bound). `options` go with each call.
    `price` says what its tokens cost; without one its calls are unpriced, which is not free.
    A call that fails is made again as `retry` says, then at the aliases of `fallback` in their
    order. `timeout_s` bounds the silence before an answer, `stall_s` that within one (None: the
    defaults of `runtime.models.watched`). `record` is a file that its calls are added to, `replay`
    one that answers in its place. `seed` is no key of a file: it is what a command line says all
    calls are to sample from, whatever `options` say.
    """

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    max_concurrency: int | None = None
    options: dict[str, Any] = attrs.field(factory=dict)
    price: Price | None = None
    fallback: tuple[str, ...] = ()
    retry: RetryPolicy = DEFAULT_RETRY
    timeout_s: float | None = None
    stall_s: float | None = None
    record: str | None = None
    replay: str | None = None
    seed: int | None = None


def read_model(table: TableReader) -> ModelDefinition:
    """A table [models.X]."""
    model = ModelDefinition(
        model=table.required("model", str, "sim:echo"),
        base_url=table.take("base_url", str),
        api_key_env=table.take("api_key_env", str),
        max_concurrency=table.take("max_concurrency", int),
        options=table.take("options", dict, {}),
        price=_read_price(table),
        fallback=table.texts("fallback"),
        retry=_read_retry(table.table("retry")),
        timeout_s=table.take("timeout_s", float),
        stall_s=table.take("stall_s", float),
        record=table.take("record", str),
        replay=table.take("replay", str),
    )
    if model.record is not None and model.replay is not None:
        table.wrong("replay", "give record or replay, not both")
    table.done()
    return model


def _read_price(model: TableReader) -> Price | None:
    """The price of a model, if it has one. Mistakes: an amount is missing or is none."""
    if model.take("price", dict) is None:
        return None
    table = model.table("price")
    amounts: dict[str, Decimal] = {}
    for key in ("input", "output", "cached_input"):
        given = table.raw(key)
        if given is None:
            if key != "cached_input":
                table.wrong(key, f"is missing; {CURRENCY} for a million tokens is needed here")
            continue
        try:
            amounts[key] = amount(given)
        except ValueError as error:
            table.wrong(key, f"{error}; it is {CURRENCY} for a million tokens")
    table.done()
    if "input" not in amounts or "output" not in amounts:
        return None
    return Price(**amounts)


def _read_retry(table: TableReader) -> RetryPolicy:
    default = DEFAULT_RETRY
    attempts = table.take("attempts", int, default.attempts)
    if attempts < 1:
        table.wrong("attempts", f"must be at least 1, found {attempts}")
        attempts = default.attempts
    retry = RetryPolicy(
        attempts,
        table.take("backoff_s", float, default.backoff_s),
        table.take("max_backoff_s", float, default.max_backoff_s),
        table.take("within_s", float, default.within_s),
    )
    table.done()
    return retry
