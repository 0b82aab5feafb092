"""`mob export`: a mob's turns, events, messages and members for other programs.

Owns: the verb. Must not: write to the store, or let a secret through (`mob.secrecy`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mob.app import stored_mob
from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, SecretEnv, State, Which
from mob.cli.output import narrate, plural, result, result_json
from mob.cli.stored import looking_into
from mob.cli.target import whole_mob
from mob.export.columns import TABLES
from mob.export.files import json_lines, otlp_lines, write_lines, write_parquet

EXAMPLES = """    mob export research --format jsonl > research.jsonl
    mob export research --format jsonl --table turns | jq .input_tokens
    mob export research --format parquet -o research/     # turns.parquet, events.parquet, ...
    mob export research --format otlp -o research.otlp.jsonl
"""


def export(
    mob: Which = None,
    /,
    *,
    format: Annotated[  # noqa: A002 the option's name
        Literal["jsonl", "parquet", "otlp"],
        Parameter(help="Lines of JSON, Parquet files, or traces as OTLP/JSON lines."),
    ] = "jsonl",
    output: Annotated[
        Path | None,
        Parameter(
            name=("-o", "--output"),
            show_default=False,
            help="A file; for several Parquet tables a folder. Default: stdout (not for Parquet).",
        ),
    ] = None,
    table: Annotated[
        list[Literal["turns", "events", "messages", "members"]] | None,
        Parameter(negative=(), show_default=False, help="Only this one of them. May be repeated."),
    ] = None,
    content: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="OTLP: with what was said, not only that it was."
        ),
    ] = False,
    secret_env: SecretEnv = None,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Export a mob for other programs, without secrets.

    Works while another process runs the mob: it reads what is committed. Parquet needs the extra
    `frame`, OTLP the extra `otel`. With --json it says what was written where.
    """
    tables: list[str] = [*table] if table else list(TABLES)
    if format == "otlp" and table:
        raise UsageWrong("--table: OTLP has spans and no tables; leave it out, or take jsonl")
    if content and format != "otlp":
        raise UsageWrong("--content: only OTLP leaves out what was said; jsonl and parquet have it")
    if output is None and (format == "parquet" or json):
        raise UsageWrong("where to? Name a file or a folder with -o")
    mob = whole_mob(state, mob, label)
    with looking_into(state) as store:
        source = stored_mob(store, mob).source(secret_env or ())
        if format == "otlp":
            counts = _lines(otlp_lines(source, content=content), output)
        elif format == "jsonl":
            counts = _lines(json_lines(source, tables), output)
        else:
            assert output is not None
            counts = write_parquet(source, tables, output)
    if output is None:
        return 0
    if json:
        result_json({"mob": mob, "format": format, "output": str(output), "counts": counts})
    else:
        told = ", ".join(plural(number, name.removesuffix("s")) for name, number in counts.items())
        narrate(f"mob: {told} written to {output}")
        result(str(output))
    return 0


def _lines(lines: Iterator[str], output: Path | None) -> dict[str, int]:
    """Write the lines to the file, or to stdout as they come."""
    if output is not None:
        return {"lines": write_lines(lines, output)}
    for line in lines:
        result(line)
    return {}
