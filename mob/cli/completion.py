"""`mob completion`: the script that lets a shell complete verbs, options and mobs.

Owns: the verb. Must not: install anything: where a shell looks for scripts is its user's business.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from mob.cli.output import result_raw

EXAMPLES = """    source <(mob completion bash)                # for this shell
    mob completion zsh > ~/.zfunc/_mob           # with ~/.zfunc in fpath
    mob completion fish > ~/.config/fish/completions/mob.fish
"""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="Which.")],
    /,
) -> int:
    """Print the script with which a shell completes verbs, options and their choices."""
    from mob.cli.app import build

    result_raw(build().generate_completion(shell=shell))
    return 0
