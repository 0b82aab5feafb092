"""`mob completion`: the script that lets a shell complete verbs, options and mobs.

Owns: the verb. Must not: install anything: where a shell looks for scripts is its user's business.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from mob.cli.output import result_raw

EXAMPLES = """    source <(mob completion bash)                # for this shell
    mob completion zsh > ~/.zfunc/_mob           # with ~/.zfunc in fpath
    mob completion fish > ~/.config/fish/completions/mob.fish
"""

#: Bash puts a blank behind what is completed, and behind MOB/ a member is still to come.
_BASH: Final = """
_mob_open() {
  _mob "$@"
  if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == */ ]]; then compopt -o nospace; fi
}
complete -F _mob_open mob
"""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="Which.")],
    /,
) -> int:
    """Print the script with which a shell completes verbs, options, their choices, mobs, members.

    That for bash is tried by the tests. Those for zsh and fish are what the library cyclopts makes
    for them; nobody has tried them with this command yet.
    """
    from mob.cli.app import build

    result_raw(build().generate_completion(shell=shell))
    if shell == "bash":
        result_raw(_BASH)
    return 0
