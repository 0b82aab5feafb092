"""Options that several verbs share, and how their values are checked.

Owns: the annotated types of shared options. Must not: open anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from mob.cli.completing import members, mobs
from mob.cli.exits import NothingThere

DEFAULT_STATE: Final = Path(".mob")

State: TypeAlias = Annotated[
    Path,
    Parameter(name="--state", env_var="MOB_STATE", help="Directory of the store."),
]
Json: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--json", negative=(), show_default=False, help="Print JSON for a program to read."
    ),
]
Which: TypeAlias = Annotated[
    str | None,
    Parameter(name="MOB", show_default=False, help="Which mob; may be shortened.", completer=mobs),
]
Only: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="MOB",
        show_default=False,
        help="Only this mob; may be shortened. Default: every mob.",
        completer=mobs,
    ),
]
Whom: TypeAlias = Annotated[
    str,
    Parameter(name="MOB/MEMBER", help="Which member; names may be shortened.", completer=members),
]
DryRun: TypeAlias = Annotated[
    bool, Parameter(negative=(), show_default=False, help="Change nothing; say what would be.")
]
Labels: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name=["--label", "-l"],
        negative=(),
        show_default=False,
        help="Only mobs whose file gives them this label, as KEY=VALUE. May be repeated.",
    ),
]
MobFile: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--file",
        show_default=False,
        help="The mob's file, for the bounds in it that a store does not know; of use only while"
        " no process runs the mob.",
    ),
]
Adopt: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Take over a definition that differs from the stored mob's.",
    ),
]
Budgets: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--budget",
        negative=(),
        show_default=False,
        help="Stop the run once it cost so much: tokens=N, tool_calls=N, seconds=N, usd=N."
        " May be repeated.",
    ),
]
SecretEnv: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--secret-env",
        negative=(),
        show_default=False,
        help="Take the value of this environment variable out, too. Variables with names of secrets"
        " and values that look like keys are taken out anyway. May be repeated.",
    ),
]


def existing_store(state: Path) -> Path:
    """`state` if there is a store to look into.

    Raises:
        NothingThere: there is none.
    """
    if not state.exists() or (state.is_dir() and not (state / "data.mdb").exists()):
        raise NothingThere(
            f"there is no store at {state.absolute()}: `mob run` makes one; point to another with"
            " --state or MOB_STATE"
        )
    return state
