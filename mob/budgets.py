"""Budgets as people write them: in a mob file, on the command line; and a budget on one run.

Owns: reading budgets and what is wrong with them, and where a run's spending begins. Must not: add
up or check (`runtime.budget` and `runtime.spending` do).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.errors import DefinitionInvalid, Mistake
from mob.runs import past
from mob.tables import TableReader, nearest
from runtime.budget import NANO, Budget, Spent
from runtime.messages import NO_USAGE
from runtime.prices import CURRENCY, amount
from runtime.records import InputAccepted, SessionArchived, TurnEnded
from runtime.spending import Budgets, Grant

if TYPE_CHECKING:
    from mob.definition import MobDefinition
    from mob.mob import Mob
    from runtime.ids import SessionId

#: The keys of a budget, in a file and on the command line.
KEYS: Final = ("tokens", "tool_calls", "seconds", "usd")


def read_budget(table: TableReader) -> Budget | None:
    """The budget that a table says; None if it says nothing. Mistakes are noted in the table."""
    given = {key: table.raw(key) for key in KEYS}
    table.done()
    return _budget(given, table.wrong)


def parse_budget(texts: Iterable[str]) -> Budget | None:
    """The budget that ``tokens=5000`` and the like say; a text may hold several, with commas.

    Raises:
        ValueError: a text is not of that form, or the key or the number cannot be.
    """
    given: dict[str, Any] = {}
    for text in (part for each in texts for part in each.split(",")):
        key, equals, number = (part.strip() for part in text.partition("="))
        if not equals or key not in KEYS:
            raise ValueError(f"{text}: write KEY=NUMBER, such as tokens=5000; {nearest(key, KEYS)}")
        try:
            given[key] = Decimal(number) if key == "usd" else float(number)
        except (ValueError, ArithmeticError):
            raise ValueError(f"{text}: {number!r} is not a number") from None
        if key in ("tokens", "tool_calls") and given[key].is_integer():
            given[key] = int(given[key])
    mistakes: list[str] = []
    budget = _budget(given, lambda key, message: mistakes.append(f"{key}: {message}"))
    if mistakes:
        raise ValueError(mistakes[0])
    return budget


def _budget(given: Mapping[str, Any], wrong: Any) -> Budget | None:
    limits: dict[str, Any] = {}
    for key, value in given.items():
        if value is None:
            continue
        if key == "usd":
            try:
                limits["nano_usd"] = int(amount(value) * NANO)
            except ValueError as error:
                wrong(key, str(error))
            continue
        whole = key != "seconds"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            wrong(key, f"expected {'a whole number' if whole else 'a number'}, found {value!r}")
        elif not value >= 0:
            wrong(key, f"must be at least 0, found {value}")
        else:
            limits[key] = value if whole else float(value)
    return Budget(**limits) if limits else None


def budget_mistakes(definition: MobDefinition) -> Iterable[Mistake]:
    """A budget of money means nothing for a model whose calls have no price."""
    paths = [] if definition.budget is None else [("budget", definition.budget)]
    for name, profile in definition.profiles.items():
        if profile.budget is not None:
            paths.append((f"profiles.{name}.budget", profile.budget))
    for path, budget in paths:
        if budget.nano_usd is not None:
            for alias in _unpriced(definition):
                yield Mistake(
                    f"models.{alias}.price",
                    f"is missing, and {path}.usd is a budget of money",
                    f"add price = {{ input = .., output = .. }} in {CURRENCY} for a million tokens",
                )
            return


def _unpriced(definition: MobDefinition) -> list[str]:
    """The aliases that some profile may use and that have no price."""
    used: dict[str, None] = {}
    for profile in definition.profiles.values():
        model = definition.models.get(profile.model)
        used[profile.model] = None
        used.update(dict.fromkeys(() if model is None else model.fallback))
    return [
        alias
        for alias in used
        if alias in definition.models and definition.models[alias].price is None
    ]


def check_run_budget(definition: MobDefinition, budget: Budget) -> None:
    """Raise `DefinitionInvalid` if `budget` cannot bound a run of `definition`."""
    bounded = attrs.evolve(definition, budget=budget)
    mistakes = tuple(budget_mistakes(bounded))
    if mistakes:
        raise DefinitionInvalid(definition.source, mistakes)


def open_budgets(mob: Mob) -> Budgets:
    """The budgets of a mob's realm, made if there are none."""
    realm = mob.realm
    if realm.budgets is None:
        realm.budgets = Budgets(realm, mob.budget_of)
        if mob.definition.budget is not None:
            grant = Grant(f"mob {mob.id!r}", mob.definition.budget)
            realm.budgets.grants.append(grant)
    return realm.budgets


def limit_run(mob: Mob, key: str, budget: Budget) -> None:
    """Bound everything the mob does by `budget` from the run with this idempotency key on.

    A run that is joined has what it spent before counted: all turns that ended since it was asked,
    and those in flight.
    """
    budgets = open_budgets(mob)
    lead = mob.session_of(mob.definition.lead)
    known = mob.realm.state.find_key(key) is not None
    usage, active_ns, since = NO_USAGE, 0, False
    archived: set[SessionId] = set()
    for event in past(mob.realm.journal) if known else ():
        record = event.record
        if type(record) is InputAccepted and record.idempotency_key == key:
            since = True
        elif type(record) is TurnEnded and since:
            usage = usage + record.usage
            if record.session_id == lead:
                active_ns += max(record.ended_at_ns - record.started_at_ns, 0)
        elif type(record) is SessionArchived and since:
            archived.add(record.session_id)
    ledger = budgets.ledger
    heads = mob.realm.state.heads
    before = {each for each, head in heads.items() if head.archived and each not in archived}
    of_run = usage + ledger.open_usage(before) if since else NO_USAGE
    base = Spent(ledger.whole, budgets.seconds(lead)) - Spent(of_run, active_ns / NANO)
    budgets.grants.append(Grant("this run", budget, base, lead))
