"""Reading the tables ``[flows.X]`` of a mob file.

Owns: which keys there are, and a mistake for each that is none or has a wrong type. Must not: judge
how the parts fit together (`mob.flows.checks` does, for flows made in Python too).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from mob.flows.definition import (
    AtLimit,
    Collect,
    FlowDefinition,
    ParamDefinition,
    RepeatDefinition,
    StepDefinition,
)
from mob.tables import TableReader

#: Reads the key ``output_schema`` of a table: a schema, or the path of a file with one.
ReadSchema: TypeAlias = Callable[[TableReader], dict[str, Any] | None]


def read_flows(top: TableReader, read_schema: ReadSchema) -> dict[str, FlowDefinition]:
    """The flows of a mob file."""
    return {name: _read_flow(table, read_schema) for name, table in top.tables("flows").items()}


def _read_flow(table: TableReader, read_schema: ReadSchema) -> FlowDefinition:
    flow = FlowDefinition(
        {name: _read_step(each, read_schema) for name, each in table.tables("steps").items()},
        _read_params(table),
        {name: _read_repeat(each) for name, each in table.tables("repeat").items()},
        table.take("output", str),
    )
    table.done()
    return flow


def _read_params(table: TableReader) -> dict[str, ParamDefinition]:
    """Names of what must be given, or a table of each."""
    given = table.raw("params")
    if given is None:
        return {}
    if isinstance(given, list):
        return {name: ParamDefinition() for name in table.texts("params")}
    found: dict[str, ParamDefinition] = {}
    for name, each in table.tables("params").items():
        default = each.raw("default")
        if default is not None and not _is_json(default):
            each.wrong("default", f"{default!r} cannot be written as JSON")
            default = None
        schema = each.take("schema", dict)
        found[name] = ParamDefinition(default, "default" not in each, schema)
        each.done()
    return found


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _read_step(table: TableReader, read_schema: ReadSchema) -> StepDefinition:
    default = StepDefinition("")
    quorum = table.take("quorum", int)
    ways = [way.value for way in Collect]
    implied = (Collect.ALL if quorum is None else Collect.QUORUM).value
    step = StepDefinition(
        message=table.required("message", str, ""),
        member=table.take("member", str),
        profile=table.take("profile", str),
        needs=table.texts("needs"),
        after=table.texts("after"),
        condition=table.take("condition", str),
        for_each=table.take("for_each", str),
        collect=Collect(table.choice("collect", implied, ways)),
        quorum=quorum,
        retries=table.take("retries", int, default.retries),
        backoff_s=table.take("backoff_s", float, default.backoff_s),
        timeout_s=table.take("timeout_s", float),
        branch=table.take("branch", str),
        output_schema=read_schema(table),
    )
    table.done()
    return step


def _read_repeat(table: TableReader) -> RepeatDefinition:
    limits = [way.value for way in AtLimit]
    repeat = RepeatDefinition(
        steps=table.texts("steps"),
        until=table.required("until", str, "true"),
        max_rounds=table.required("max_rounds", int, 1),
        at_limit=AtLimit(table.choice("at_limit", AtLimit.FAIL.value, limits)),
    )
    table.done()
    return repeat
