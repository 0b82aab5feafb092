"""Tests that are simulations: each plays an async function under many seeds.

Owns: what `@simulate(seeds=...)` makes of a function, and what it says when a seed fails. Must not:
be imported before a test needs it; what pytest loads at its start is `mob.pytest_plugin`.
"""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from mob.simulation.run import Counterexample, Run, attempt

if TYPE_CHECKING:
    import pytest

    from mob.simulation.world import World

#: Lines of the trace that are shown of a seed that failed.
_TAIL: Final = 25

#: Fixtures that stand for something of the run: what they are is known only inside it.
_WORLD: Final = "world"
_CLOCK: Final = "virtual_clock"


@attrs.frozen
class Simulated:
    """How a test is played: under which seeds, until how many have failed, with which `options` of
    `attempt`."""

    seeds: Sequence[int]
    failures: int
    options: Mapping[str, Any]

    def decorate(self, function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        """A test that is not async and plays `function`; it wants the same fixtures."""
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is not async: @simulate plays an async function")
        parameters = inspect.signature(function).parameters
        if _WORLD not in parameters:
            raise TypeError(f"{function!r} has no parameter `world`, the World that it plays in")

        @functools.wraps(function)
        def test(*args: Any, request: pytest.FixtureRequest | None = None, **fixtures: Any) -> None:
            __tracebackhide__ = True
            if "request" in parameters:
                fixtures["request"] = request
            config = None if request is None else request.config
            name = function.__name__ if request is None else request.node.nodeid
            self.play(functools.partial(function, *args), fixtures, config, name)

        kept = [each for name, each in parameters.items() if name not in (_WORLD, "request")]
        # Without a default: then pytest hands it over.
        wanted = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY)
        test.__signature__ = inspect.Signature([*kept, wanted])  # type: ignore[attr-defined]
        return test

    def play(
        self,
        function: Callable[..., Awaitable[None]],
        fixtures: Mapping[str, Any],
        config: pytest.Config | None,
        name: str,
    ) -> None:
        """Play it under every seed.

        Raises:
            Counterexample: the first that failed, with the line that reproduces each.
        """
        __tracebackhide__ = True
        failed: list[Run] = []
        for seed in _seeds(self.seeds, config):
            run = attempt(_scenario(function, fixtures), seed, **self.options)
            _pass_on(run.error)
            if run.failure is not None:
                failed.append(run)
                if len(failed) == self.failures:
                    break
        if failed:
            raise _told(failed, name) from failed[0].error


def _scenario(
    function: Callable[..., Awaitable[None]], fixtures: Mapping[str, Any]
) -> Callable[[World], Awaitable[None]]:
    async def scenario(world: World) -> None:
        inside: dict[str, Any] = {**fixtures, _WORLD: world}
        if _CLOCK in inside:
            inside[_CLOCK] = trio.lowlevel.current_clock()
        await function(**inside)

    return scenario


def _seeds(seeds: Sequence[int], config: pytest.Config | None) -> Sequence[int]:
    """Those of the test, unless the command line says otherwise."""
    one = config and config.getoption("mob_seed", None)
    many = config and config.getoption("mob_seeds", None)
    if isinstance(one, int):
        return (one,)
    return many if isinstance(many, range) else seeds


def _pass_on(error: BaseException | None) -> None:
    """A test that skips itself, or expects to fail, does so in a simulation too."""
    import pytest

    if isinstance(error, pytest.skip.Exception | pytest.xfail.Exception):
        raise error


def _told(failed: Sequence[Run], name: str) -> Counterexample:
    first = failed[0]
    error = Counterexample(first)
    tail = first.trace.lines[-_TAIL:]
    error.add_note(f"the last of {len(first.trace.lines)} lines of seed {first.seed}:")
    for line in tail:
        error.add_note(f"  {str(line)[:200]}")
    error.add_note(f"drawn: {first.plan}")
    for run in failed:
        what = "" if run.failure is None else run.failure.invariant
        error.add_note(f"{what}: reproduce with: pytest {shlex.quote(name)} --mob-seed {run.seed}")
    return error
