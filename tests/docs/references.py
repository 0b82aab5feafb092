"""The pages that are made from the code: the mob file and its schema, commands, errors.

Owns: `REFERENCES`, each page and what makes it. Must not: hold what the code says itself; what is
written here by hand is what to do about an error, and how the pages begin.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from unittest.mock import patch

from cyclopts import App

import mob.cli.exits
import mob.errors
import mob.lifecycle
import runtime.errors
import stores.errors
from mob import surfaces
from mob.cli.app import VERBS, build
from mob.keys import NAME, Key, keys, schema
from mob.meanings import MEANINGS
from runtime.errors import SURFACES, MobError, SessionError
from stores import StoreError
from tests.docs.remedies import REMEDIES

MADE: Final = "<!-- made from the code: python -m tests.docs --write -->"

_TYPES: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "table",
    "array": "list",
}


def commands() -> str:
    """docs/reference/commands.md."""
    apps = {verb: build(verb)[verb] for verb in VERBS}
    lines = [
        MADE,
        "# Commands",
        "",
        "`mob VERB --help` says the same. Results go to stdout, what is told meanwhile to stderr.",
        "What exit codes mean is in [errors.md](errors.md).",
        "",
        "| verb | |",
        "|---|---|",
        *(
            f"| [`mob {verb}`](#{slug(f'mob {verb}')}) | {_cell(_about(apps[verb]))} |"
            for verb in VERBS
        ),
    ]
    for verb, app in apps.items():
        # A verb's own App is the one that `build` has imported.
        with patch.object(sys, "argv", ["mob"]):  # cyclopts says how this program was started
            text = app.generate_docs(output_format="markdown", heading_level=2)
        lines += ["", _verb(text)]
        module = importlib.import_module(f"mob.cli.{verb.replace('-', '_')}")
        examples = getattr(module, "EXAMPLES", "")
        if examples and not isinstance(getattr(module, verb.replace("-", "_")), App):
            shown = [line.removeprefix("    ") for line in examples.strip("\n").splitlines()]
            lines += ["", "Examples:", "", "```text", *shown, "```"]
    return "\n".join(lines) + "\n"


def slug(heading: str) -> str:
    """The anchor that code hosts, and the generator, make of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def _about(verb: App) -> str:
    """The first line of what a verb says of itself."""
    return " ".join(verb.help.split("\n\n")[0].split())


def _verb(text: str) -> str:
    """What cyclopts says of a verb, with whole commands, and without its table of contents."""
    text = re.sub(r"^## Table of Contents\n.*?(?=^\*\*Commands)", "", text, flags=re.M | re.S)
    text = re.sub(r"^(#+) ", r"\1 mob ", text, flags=re.M)
    text = re.sub(r"^```console\n", "```text\nmob ", text, flags=re.M)
    text = re.sub(r"^\* \[`([^`]+)`\]\([^)]*\)", r"* `\1`", text, flags=re.M)
    return text.strip()


def errors() -> str:
    """docs/reference/errors.md."""
    lines = [
        MADE,
        "# Errors and exit codes",
        "",
        "Every error says what was wrong, where, and what to do; it has what it names as fields.",
        "An error is what its row says or what is said of the class it is a kind of.",
        "",
        "## Exit codes",
        "",
        "| code | |",
        "|---|---|",
        *(f"| {code} | {what} |" for code, what in _exits()),
        "",
        "## Codes of sessions",
        "",
        "`SessionError.code` is stable, on every surface.",
        "",
        "| code | HTTP | JSON-RPC | exit |",
        "|---|---|---|---|",
        *(
            f"| `{code}` | {each.http} | {each.jsonrpc} | {each.exit} |"
            for code, each in SURFACES.items()
        ),
    ]
    for title, module in (
        ("Errors of mobs", mob.errors),
        ("Verbs that a state does not allow", mob.lifecycle),
        ("Errors of sessions and models", runtime.errors),
        ("Errors of stores", stores.errors),
        ("Errors of the command line", mob.cli.exits),
    ):
        rows = [_error_row(each) for each in errors_of(module)]
        lines += ["", f"## {title}", "", f"`{module.__name__}`", ""]
        lines += ["| error | exit | | what to do |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def errors_of(module: Any) -> list[type[Exception]]:
    """The errors that a module defines, in its order."""
    return [
        each
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, Exception)
        and each.__module__ == module.__name__
    ]


def remedy(error: type[Exception]) -> str | None:
    """What to do about an error: what is said of it, or of what it is a kind of."""
    for cls in error.__mro__:
        if cls in (MobError, StoreError, SessionError, Exception):
            return REMEDIES.get(cls.__name__) if cls is error else None
        if cls.__name__ in REMEDIES:
            return REMEDIES[cls.__name__]
    return None


def _error_row(error: type[Exception]) -> str:
    about = _cell(" ".join((inspect.getdoc(error) or "").split("\n\n")[0].split()))
    return f"| `{error.__name__}` | {_exit(error)} | {about} | {_cell(remedy(error) or '')} |"


def _exit(error: type[Exception]) -> int:
    """The exit code, by the same tables as `mob.surfaces.exit_code`, which takes an instance."""
    if issubclass(error, runtime.errors.BudgetExceeded):
        return surfaces.BUDGET
    if issubclass(error, SessionError):
        return SURFACES[error.code].exit
    table: Mapping[type[BaseException], int] = mob.cli.exits.EXITS
    return next((table[cls] for cls in error.__mro__ if cls in table), surfaces.FAILED)


def _exits() -> Iterator[tuple[str, str]]:
    """The exit codes as `mob --help` tells them."""
    from mob.cli import app

    _, _, told = app._EPILOGUE.partition("Exit codes: ")
    for each in " ".join(told.split()).rstrip(".").split(", "):
        code, _, what = each.partition(" ")
        yield code, what


def mob_file() -> str:
    """docs/reference/mob-file.md."""
    found = keys()
    lines = [
        MADE,
        "# Keys of the mob file",
        "",
        "Every table and key, with its type and what holds without it. What they do together is in",
        "[the mob file](../mob-file.md). [mob.schema.json](mob.schema.json) says the same to an",
        "editor (`mob schema` prints it): with Taplo or Even Better TOML, put",
        "`#:schema mob.schema.json` in the first line of the file.",
    ]
    tables: dict[str, list[Key]] = {}
    for key in found.values():
        # A table of names has keys below it only.
        if key.table and key.name != NAME and not key.path.endswith(f".{NAME}"):
            tables.setdefault(key.table, []).append(key)
    links = [f"[`[{table}]`](#{slug(table)})" for table in tables]
    lines += ["", "Tables: " + ", ".join(links) + "."]
    for table, inside in tables.items():
        about = MEANINGS.get(table) or MEANINGS.get(table.removesuffix(f".{NAME}"), "")
        lines += ["", f"## [{table}]", ""]
        lines += [about[:1].upper() + about[1:] + ".", ""] if about else []
        lines += ["| key | type | default | |", "|---|---|---|---|"]
        lines += [_key_row(key) for key in inside]
    return "\n".join(lines) + "\n"


def _key_row(key: Key) -> str:
    types = " or ".join(_TYPES[each] for each in key.types) or "anything"
    if key.choices:
        types = " or ".join(f"`{each}`" for each in key.choices)
    default = "needed" if key.required else ""
    if key.default is not None:
        default = f"`{json.dumps(key.default)}`"
    return f"| `{key.name}` | {types} | {default} | {_cell(MEANINGS[key.path])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def mob_schema() -> str:
    """docs/reference/mob.schema.json."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


#: Each page below docs/, and what makes it.
REFERENCES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/commands.md": commands,
    "reference/errors.md": errors,
    "reference/mob-file.md": mob_file,
    "reference/mob.schema.json": mob_schema,
}
