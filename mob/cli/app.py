"""The verbs, and the one place where a command ends.

Owns: the table of verbs, parsing (cyclopts), turning whatever ends a command into an exit code.
Must not: import a verb's module before it is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from cyclopts import App

from mob.cli import exits, output

#: Each verb with the line that `mob --help` shows; the function is imported when it is called.
VERBS: Final = {
    "init": "Write a small mob file that runs at once.",
    "validate": "Check a mob file and say everything that is wrong with it.",
    "schema": "Print the JSON Schema of a mob file, for editors.",
    "run": "Put a prompt to a mob's lead, watch it work, print the answer.",
    "send": "Send a message to a member; done once it is on disk.",
    "ask": "Ask a member of a running mob, print the answer.",
    "interrupt": "Cancel the turn of a member that is in flight.",
    "stop": "Stop a mob durably; what is cut off goes on when it is resumed.",
    "resume": "Let a stopped mob run again.",
    "wait": "Wait until a mob or a member is in a state.",
    "spawn": "Add a member to a mob.",
    "retire": "Let a member leave; its history is kept.",
    "respawn": "Give a member a new session.",
    "wire": "Let two members send to each other.",
    "unwire": "Let two members send to each other no more.",
    "events": "Print the records of a mob as JSON lines, also those to come.",
    "attach": "Sit down at a member of a running mob: read, type, decide.",
    "watch": "Watch a mob that another process runs, or look at one that none does.",
    "flow": "Run a flow of a mob file, or show its plan; list and show runs.",
    "approvals": "List the tool calls that wait for approval.",
    "approve": "Let a tool call run that waits for approval.",
    "deny": "Let a tool call not run that waits for approval.",
    "demo": "Watch a mob survive the killing of one of its members; needs no key.",
    "ls": "List the mobs of a store.",
    "show": "Show a mob, or one member with its transcript, as it is or was.",
    "tree": "Show a mob's members and child sessions with what they spent.",
    "report": "Write one HTML file to look back on a mob with, offline.",
    "export": "Write a mob's turns, events, messages and members for other programs.",
    "sim": "Simulate a mob under faults: run seeds, replay one, shrink a failing one.",
    "bench": "Run benchmark scenarios, list them, compare two sets of results.",
    "models": "List the model providers, what each needs, and whether it is usable here.",
    "snapshot": "Make a point of a mob to go back to and to fork from; list its points.",
    "fork": "Make another mob that is what one is, or was.",
    "rewind": "Bring a mob back to what it was; what it leaves is kept.",
    "restore": "Bring back what a rewind left, of a mob or of a session.",
    "tag": "Label a point of a mob, or a session of it.",
    "rename": "Give a session another name.",
    "delete": "Delete a mob with all it has said, or one session of it.",
    "diff": "Show how a mob differs from what it was, or from another.",
    "backup": "Copy a store, also while a process runs its mobs.",
    "restore-backup": "Put a backup back as a store.",
    "gc": "Free what the journals of a store no longer need.",
    "completion": "Print the script that lets a shell complete verbs, options and mobs.",
    "doctor": "Check this installation and every record of a store.",
}

_HELP = "Supervised, durable swarms of LLM agents."
_EPILOGUE = """Begin with:
    mob demo
    mob init team && mob run team/mob.toml --prompt "What is a swarm?"

Exit codes: 0 done, 1 run failed, 2 usage, 3 definition invalid, 4 not found, 5 budget spent,
6 waiting for approval, 7 conflict, 8 provider failure, 9 assertion failed or regression,
10 counterexample found, 75 store in use, 130 interrupted."""


def build(verb: str | None = None) -> App:
    """The parser; of the verbs only `verb` is imported, the others are known by their summaries."""
    app = App(
        name="mob",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=_version,
        version_format="plaintext",
        backend="trio",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, summary in VERBS.items():
        if name != verb:
            app.command(f"mob.cli.{_python(name)}:{_python(name)}", name=name, help=summary)
            continue
        module = importlib.import_module(f"mob.cli.{_python(name)}")
        function = getattr(module, _python(name))
        if isinstance(function, App):  # it has verbs of its own
            app.command(function, name=name)
            continue
        app.command(function, name=name, help_epilogue=f"Examples:\n{module.EXAMPLES}")
    return app


def _python(verb: str) -> str:
    """The name of the verb's module and function."""
    return verb.replace("-", "_")


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Whatever goes wrong becomes one paragraph."""
    output.prepare_streams()
    try:
        app = build(arguments[0] if arguments else None)
        code = app(list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        output.forget_stdout()
        return exits.FAILED
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 the end
        return _report(error)


def _report(error: BaseException) -> int:
    """Say what ended the command; return the exit code."""
    if os.environ.get("MOB_DEBUG"):
        traceback.print_exception(error)
    error = exits.unwrap(error)
    if not isinstance(error, exits.OutputClosed):
        output.narrate(f"mob: error: {exits.paragraph(error)}")
    return exits.exit_code(error)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"mob {version('trio-mob')}"
    except PackageNotFoundError:
        return "mob (not installed)"
