"""What can go wrong on purpose: the kinds of faults, plans of them, and the decision at each site.

Owns: `FaultPlan` in its written forms, `Faults`. Must not: name the kinds (`kinds` does), do what a
fault says (the port at whose site it fires does), draw from a generator in order, or touch a file.

A decision depends on the seed, the kind and the name of its *site* only, so a fault can be taken
out of a run without moving any other: that is what makes a failing run shrink. Rates are drawn
anew for every seed, some kinds being left out altogether, because a run in which everything fails
a little finds other bugs than one in which one thing fails often (FoundationDB's buggify and
swarm testing, Groce et al. 2012).
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from mob.simulation.kinds import CRASH_POINTS, FaultKind

if TYPE_CHECKING:
    from mob.simulation.streams import Streams


@attrs.frozen
class Fault:
    """A fault that fired: its kind, and the site at which it did."""

    kind: FaultKind
    site: str = attrs.field()

    @site.validator
    def _check_site(self, _: object, value: str) -> None:
        if "," in value or "\n" in value:
            raise PlanInvalid(f"a site is written in one item of a plan: no comma in {value!r}")

    def __str__(self) -> str:
        return f"{self.kind.value}@{self.site}"


@attrs.frozen
class CrashPoint:
    """Crash the process when it comes by the point `name` for the `nth` time, from 1.

    ``commit.after/TurnEnded`` counts only the commits that a record of that type is part of.
    """

    name: str = attrs.field()
    nth: int = 1

    @name.validator
    def _check_name(self, _: object, value: str) -> None:
        if value.partition("/")[0] not in CRASH_POINTS:
            raise PlanInvalid(f"no crash point {value!r}; they are: {', '.join(CRASH_POINTS)}")

    def __str__(self) -> str:
        return f"{self.name}:{self.nth}"


class PlanInvalid(ValueError):
    """A fault plan that cannot be read: the message says what was found and what is expected."""


#: Chance at each site, of a run in which each kind is to show up now and then. Sites of commits
#: and model calls are many, steps of a workload few.
_LIGHT: Final[Mapping[str, float]] = {
    "store": 0.004,
    "process": 0.02,
    "model": 0.015,
    "tool": 0.03,
    "hook": 0.02,
    "control": 0.03,
    "message": 0.05,
    "clock": 0.05,
}
#: Kinds whose sites are commits although their family's are steps, and such as end too much.
_RARE: Final[Mapping[FaultKind, float]] = {
    FaultKind.STORE_SLOW: 0.02,
    FaultKind.STORE_READ_ERROR: 0.002,
    FaultKind.CRASH_BEFORE_COMMIT: 0.003,
    FaultKind.CRASH_IN_COMMIT: 0.003,
    FaultKind.CRASH_AFTER_COMMIT: 0.003,
    FaultKind.MODEL_HANG: 0.006,
    FaultKind.MODEL_EXACT: 0.05,
}
#: How much more of everything a heavy run has.
_HEAVY: Final = 5.0
#: What a plan for one family multiplies that family's rates by.
_FOCUSED: Final = 8.0
_FAMILIES: Final = tuple(dict.fromkeys(kind.family for kind in FaultKind))


def _rates(factor: float, families: Iterable[str] = _FAMILIES) -> dict[FaultKind, float]:
    chosen = frozenset(families)
    return {
        kind: min(_RARE.get(kind, _LIGHT[kind.family]) * factor, 0.5)
        for kind in FaultKind
        if kind.family in chosen
    }


@attrs.frozen
class FaultPlan:
    """Which faults a run may have.

    `rates` is the chance of each kind at each of its sites; kinds not in it never fire. `crashes`
    are directed, whatever the rates. With `only`, exactly the faults listed fire and the rates mean
    nothing: that is how a run is shrunk and reproduced.
    """

    rates: Mapping[FaultKind, float] = attrs.field(factory=dict)
    crashes: tuple[CrashPoint, ...] = ()
    only: frozenset[Fault] | None = None

    @staticmethod
    def names() -> tuple[str, ...]:
        """The plans that have a name: ``none``, ``light``, ``heavy`` and one for each family."""
        return ("none", "light", "heavy", *_FAMILIES)

    @classmethod
    def named(cls, name: str) -> FaultPlan:
        """The plan called `name`. Raises `PlanInvalid`."""
        if name not in cls.names():
            raise PlanInvalid(f"no fault plan {name!r}; there are: {', '.join(cls.names())}")
        if name == "none":
            return cls()
        if name in ("light", "heavy"):
            return cls(_rates(1.0 if name == "light" else _HEAVY))
        return cls(_rates(_FOCUSED, (name,)))

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """A plan as people write it: a name, items, or the text of a TOML file.

        Items are separated by commas and add up from the left: a plan's name, ``KIND=RATE`` (a
        family for KIND sets all of it), ``crash=POINT:NTH`` or ``only=KIND@SITE``. A TOML file has
        ``base``, a table ``[rates]`` and the lists ``crashes`` and ``only`` of the same texts.

        Raises:
            PlanInvalid: it is none of these; says which part.
        """
        if "\n" in text or text.lstrip().startswith(("base", "[", "crashes", "only =")):
            return cls._from_toml(text)
        plan = cls()
        for item in (part.strip() for part in text.split(",") if part.strip()):
            key, given, value = item.partition("=")
            if not given:
                base = cls.named(key)
                plan = attrs.evolve(plan, rates={**plan.rates, **base.rates})
            elif key == "crash":
                plan = attrs.evolve(plan, crashes=(*plan.crashes, _crash_point(value)))
            elif key == "only":
                plan = attrs.evolve(plan, only=(plan.only or frozenset()) | {_fault(value)})
            else:
                plan = attrs.evolve(plan, rates={**plan.rates, **_rate(key, value)})
        return plan

    @classmethod
    def _from_toml(cls, text: str) -> FaultPlan:
        try:
            table: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PlanInvalid(f"the fault plan is not valid TOML: {error}") from None
        unknown = sorted(table.keys() - {"base", "rates", "crashes", "only"})
        if unknown:
            raise PlanInvalid(f"a fault plan has no {unknown[0]!r}: base, rates, crashes, only")
        rates = dict(cls.named(str(table.get("base", "none"))).rates)
        for key, value in _flat(table.get("rates", {})):
            rates.update(_rate(key, value))
        only = table.get("only")
        return cls(
            rates,
            tuple(_crash_point(str(each)) for each in table.get("crashes", ())),
            None if only is None else frozenset(_fault(str(each)) for each in only),
        )

    def drawn(self, streams: Streams) -> FaultPlan:
        """This plan for one seed: some kinds left out, the others rarer or more frequent.

        Each kind is left out with a chance of a third; the rest get a quarter of their rate up to
        twice of it. Directed crashes and `only` stay as they are.
        """
        rates: dict[FaultKind, float] = {}
        for kind, rate in self.rates.items():
            if streams.unit("plan", "kept", kind.value) >= 1 / 3:
                much = 0.25 + 1.75 * streams.unit("plan", "rate", kind.value)
                rates[kind] = round(min(rate * much, 1.0), 5)
        return attrs.evolve(self, rates=rates)

    def __str__(self) -> str:
        """In the form that `parse` reads; ``none`` if nothing can fire."""
        items = [f"{kind.value}={rate:g}" for kind, rate in self.rates.items() if rate]
        items += [f"crash={point}" for point in self.crashes]
        if self.only is not None:
            items += sorted(f"only={fault}" for fault in self.only)
        return ",".join(items) or "none"


@final
class Faults:
    """The decisions of one run. `note(kind, text)` is told of each fault that fires."""

    def __init__(
        self,
        plan: FaultPlan,
        streams: Streams,
        note: Callable[[str, str], None] = lambda _kind, _text: None,
    ) -> None:
        self.plan = plan
        self._streams = streams
        self._note = note
        #: Whether anything may fire; the world clears it when it heals.
        self.active = True
        self.fired: Counter[FaultKind] = Counter()
        self.log: list[Fault] = []
        #: How often each crash point was passed, also while nothing may fire.
        self.passed: Counter[str] = Counter()

    def fires(self, kind: FaultKind, *site: str | int) -> bool:
        """Whether `kind` happens at `site`, which must be a name that no other site of it has.

        A site is named by what happens there (a session's turn and step, the number of a commit),
        never by when.
        """
        if not self.active:
            return False
        name = "/".join(map(str, site))
        if self.plan.only is not None:
            fires = Fault(kind, name) in self.plan.only
        else:
            rate = self.plan.rates.get(kind, 0.0)
            fires = rate > 0.0 and self._streams.unit("fault", kind.value, name) < rate
        if fires:
            self.fired[kind] += 1
            fault = Fault(kind, name)
            self.log.append(fault)
            self._note("fault", str(fault))
        return fires

    def amount(self, kind: FaultKind, *site: str | int) -> float:
        """How bad it is: a number in [0, 1) that belongs to this fault at this site."""
        return self._streams.unit("amount", kind.value, "/".join(map(str, site)))

    def crashes_at(self, point: str, parts: Iterable[str] = ()) -> bool:
        """Whether the plan directs a crash here and now; `parts` are the records in a commit.

        Raises:
            KeyError: there is no such point.
        """
        if point not in CRASH_POINTS:
            raise KeyError(f"{point!r} is not in CRASH_POINTS")
        crashes = False
        for name in (point, *(f"{point}/{part}" for part in parts)):
            self.passed[name] += 1
            if self.directed:
                here = CrashPoint(name, self.passed[name])
                if here in self.plan.crashes:
                    self._note("crash point", str(here))
                    crashes = True
        return crashes

    @property
    def directed(self) -> bool:
        """Whether the plan directs crashes, and they may strike now."""
        return self.active and bool(self.plan.crashes)


def _kind(text: str) -> FaultKind:
    try:
        return FaultKind(text)
    except ValueError:
        known = ", ".join(kind.value for kind in FaultKind)
        raise PlanInvalid(f"no kind of fault {text!r}; there are: {known}") from None


def _rate(key: str, value: object) -> dict[FaultKind, float]:
    kinds = [kind for kind in FaultKind if kind.family == key] or [_kind(key)]
    try:
        rate = float(str(value))
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise PlanInvalid(f"{key}={value}: a rate is a number from 0 to 1")
    return dict.fromkeys(kinds, rate)


def _crash_point(text: str) -> CrashPoint:
    name, _, nth = text.partition(":")
    if nth and not (nth.isdecimal() and int(nth) >= 1):
        raise PlanInvalid(f"crash={text}: write POINT:NTH, NTH from 1")
    return CrashPoint(name, int(nth or 1))


def _fault(text: str) -> Fault:
    kind, at, site = text.partition("@")
    if not at or not site:
        raise PlanInvalid(f"only={text}: write KIND@SITE")
    return Fault(_kind(kind), site)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """``{"store": {"error": 0.1}}`` and ``{"store.error": 0.1}`` are the same."""
    items: list[tuple[str, object]] = []
    for key, value in table.items():
        inner = f"{prefix}{key}"
        items += _flat(value, f"{inner}.") if isinstance(value, dict) else [(inner, value)]
    return items
