"""The models of a run, as its command line wants them: ``--model`` and ``--seed``.

Owns: the two options, what they make of the models of a mob file. Must not: open a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from mob.cli.exits import UsageWrong
from mob.modeldefs import ModelDefinition
from mob.models import override, seeded
from mob.tables import nearest

Models: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--model",
        negative=(),
        show_default=False,
        help="ALIAS=PROVIDER:ID binds a model alias for this run; the alias 'all' means each."
        " May be repeated.",
    ),
]

Seed: TypeAlias = Annotated[
    int | None,
    Parameter(
        name="--seed",
        show_default=False,
        help="What every model call samples from, over what the file says. With sim models the same"
        " prompt to a fresh --state then has the same answers; of the others, local, OpenAI and"
        " Gemini do what they can, and Anthropic takes none.",
    ),
]

#: One more than the highest seed: Gemini's have 31 bits.
_SEEDS: Final = 2**31


def bound_models(
    models: Mapping[str, ModelDefinition], given: list[str] | None, seed: int | None
) -> tuple[dict[str, ModelDefinition], str]:
    """The models of a file as the command line wants them, and what is to be said about that.

    Raises:
        UsageWrong: an option is not of its form.
        ModelUnavailable: as `mob.models.override`.
    """
    bound = override(models, bindings(given, list(models)))
    if seed is None:
        return bound, ""
    if not 0 <= seed < _SEEDS:
        raise UsageWrong(f"--seed {seed}: give a number from 0 to {_SEEDS - 1}")
    bound = seeded(bound, seed)
    without = [f"{alias} ({each.model})" for alias, each in bound.items() if each.seed is None]
    told = f"--seed has no effect on {', '.join(without)}: the provider takes none"
    return bound, told if without else ""


def bindings(given: list[str] | None, aliases: list[str]) -> dict[str, str]:
    """What ``--model ALIAS=PROVIDER:ID`` says, by alias.

    Raises:
        UsageWrong: it is not of that form, or there is no such alias.
    """
    result: dict[str, str] = {}
    for text in given or ():
        alias, equals, reference = text.partition("=")
        if not (alias and equals and reference):
            raise UsageWrong(
                f"--model {text}: write ALIAS=PROVIDER:ID, such as all=sim:agent"
                f" (the aliases are: {', '.join(aliases) or 'none'}, all)"
            )
        if alias != "all" and alias not in aliases:
            raise UsageWrong(
                f"--model {text}: there is no model alias {alias!r} in the mob file;"
                f" {nearest(alias, [*aliases, 'all'])}"
            )
        result[alias] = reference
    return result
