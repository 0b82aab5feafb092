"""The command line: `mob VERB`.

Owns: the entry point. Must not: be imported by anything but its own `__main__`s; load a verb's
libraries before the verb is known (`mob --help` has to feel instant).

Results go to stdout, narration and errors to stderr, exit codes come from `mob.cli.exits`.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the process's arguments and end the process."""
    from mob.cli.app import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))
