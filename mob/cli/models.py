"""`mob models`: what can serve an alias, what it needs, whether it is usable now.

Owns: the verb. Must not: reach a network or load a model.
"""

from __future__ import annotations

from mob.cli.options import Json
from mob.cli.output import result, result_json
from runtime.models.registry import ProviderStatus, list_providers

EXAMPLES = """    mob models
    mob models --json | jq '.[] | select(.usable).example'
"""


def models(*, json: Json = False) -> int:
    """List the model providers, what each needs, and whether it is usable here.

    A model is written provider:id in a mob file's [models.X] tables and in --model. No network is
    reached: a provider counts as usable when its package and key are there.
    """
    providers = list_providers()
    if json:
        result_json([_row(each) for each in providers])
        return 0
    for each in providers:
        state = "usable" if each.usable else "not usable yet"
        result(f"{each.name:8} {each.example:22} {state}")
        result(f"         {each.what}")
        if each.missing is not None:
            result(f"         do: {each.missing}")
    return 0


def _row(status: ProviderStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "example": status.example,
        "what": status.what,
        "needs": status.needs,
        "missing": status.missing,
        "usable": status.usable,
    }
