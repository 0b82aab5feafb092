"""`mob validate`: every mistake in a mob file, or what the file describes.

Owns: the verb. Must not: open a model or a store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from mob.cli import exits
from mob.cli.options import Json
from mob.cli.output import narrate, plural, result, result_json
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.sim_table import DEFAULT_SIM
from runtime.models.registry import list_providers

EXAMPLES = """    mob validate mob.toml
    mob validate mob.toml --json
"""


def validate(
    file: Annotated[Path, Parameter(name="FILE", help="The mob file.")], /, *, json: Json = False
) -> int:
    """Check a mob file and say everything that is wrong with it.

    The functions of [tools.X] are loaded too, so their modules run. Exits with 3 if there is a
    mistake. No model is opened: whether one is usable here is narrated, not judged.
    """
    try:
        definition = load(file)
    except DefinitionInvalid as error:
        if not json:
            raise
        mistakes = [attrs.asdict(mistake) for mistake in error.mistakes]
        result_json({"file": error.source, "valid": False, "mistakes": mistakes})
        return exits.INVALID
    if json:
        result_json({"file": str(file), "valid": True, "mistakes": [], **summary(definition)})
    else:
        _describe(file, definition)
    _warn(definition)
    return exits.DONE


def load(file: Path) -> MobDefinition:
    """The definition in `file`, its tools and skills loaded once to see that they can be.

    Raises:
        NothingThere: no such file.
        DefinitionInvalid: it has mistakes; all that were found are listed.
    """
    from mob.context import LoadedSkills
    from mob.harness import load_tools

    definition = read(file)
    load_tools(definition, {})
    LoadedSkills(definition)
    if definition.sim != DEFAULT_SIM:
        from mob.cli.sim_setting import check_settings

        check_settings(definition)
    return definition


def read(file: Path) -> MobDefinition:
    """The definition in `file`. Raises as `load` does."""
    try:
        return MobDefinition.load(file)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        what = "is a directory" if file.is_dir() else "does not exist"
        hint = "mob.toml"
        if file.is_dir() and (file / hint).exists():
            raise exits.NothingThere(
                f"{file} {what}: give the mob file itself, {file / hint}"
            ) from None
        raise exits.NothingThere(
            f"the mob file {file} {what}; `mob init DIR` writes one to begin with"
        ) from None


def summary(definition: MobDefinition) -> dict[str, Any]:
    """What a definition describes, as JSON."""
    return {
        "id": definition.id,
        "lead": definition.lead,
        "members": definition.member_names(),
        "profiles": {
            name: {
                "model": profile.model,
                "tools": list(profile.tools),
                "deny": list(profile.tools_deny),
                "shell": profile.shell is not None,
                "subagents": profile.subagents is not None,
                "structured": profile.output_schema is not None,
            }
            for name, profile in definition.profiles.items()
        },
        "models": {name: model.model for name, model in definition.models.items()},
        "mcp": {name: each.url or each.command for name, each in definition.mcp.items()},
        "flows": {name: list(flow.steps) for name, flow in definition.flows.items()},
        "wiring": {name: list(peers) for name, peers in definition.peers().items()},
    }


def _describe(file: Path, definition: MobDefinition) -> None:
    members = definition.member_names()
    result(f"{file}: a valid definition of mob {definition.id!r}")
    result(f"members   {len(members)}, led by {definition.lead}: {_some(list(members))}")
    for name, profile in definition.profiles.items():
        what = [f"on {profile.model}"]
        if profile.tools:
            within = [f", of {', '.join(layer)}" for layer in profile.tools_within]
            what.append(f"tools {', '.join(profile.tools)}{''.join(within)}")
        if profile.tools_deny:
            what.append(f"never {', '.join(profile.tools_deny)}")
        if profile.shell is not None:
            what.append(f"a shell in {profile.shell.cwd}")
        if profile.subagents is not None:
            what.append(f"children down to depth {profile.subagents.max_depth}")
        if profile.output_schema is not None:
            what.append("answers JSON")
        result(f"profile   {name}: {'; '.join(what)}")
    for name, model in definition.models.items():
        result(f"model     {name} = {model.model}")
    for name, server in definition.mcp.items():
        result(f"server    {name} = {server.url or server.command}")
    peers = definition.peers()
    both = sum(name in peers[other] for name, others in peers.items() for other in others)
    one_way = sum(map(len, peers.values())) - both
    for name, flow in definition.flows.items():
        given = f", given {', '.join(flow.params)}" if flow.params else ""
        result(f"flow      {name}: {plural(len(flow.steps), 'step')}{given}")
    result(f"wiring    {plural(both // 2, 'pair')} of members may ask each other")
    if one_way:
        result(f"          {plural(one_way, 'pair')} only in one direction")


def _warn(definition: MobDefinition) -> None:
    """Say which models could not be opened here."""
    status = {each.name: each for each in list_providers()}
    for alias, model in definition.models.items():
        provider = status.get(model.model.partition(":")[0])
        if (
            provider is not None
            and provider.missing is not None
            and not (model.api_key_env or model.replay)
        ):
            narrate(f"mob: note: models.{alias} ({model.model}) needs: {provider.missing}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
