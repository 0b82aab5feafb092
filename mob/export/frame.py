"""A mob as tables of Arrow: for pandas, Polars, DuckDB and whoever else reads it.

Owns: Arrow's types of the columns, building a table. Must not: be imported without the extra
`frame`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mob.export.columns import Column, Kind, columns_of
from mob.export.errors import ExtraMissing
from mob.export.rows import rows_of

if TYPE_CHECKING:
    import pyarrow

    from mob.export.source import Source

#: Rows converted at a time: the Python values of so many are in memory at once.
BATCH: Final = 8192


def frame(source: Source, table: str) -> pyarrow.Table:
    """A table of the mob. Its schema's fields have ``description`` and ``unit`` as metadata.

    Raises:
        NoSuchTable: there is no such table.
        ExtraMissing: pyarrow is not installed.
    """
    columns = columns_of(table)
    pa = arrow("mob.frame()")
    return pa.Table.from_batches(batches(source, table), schema(columns))


def batches(source: Source, table: str) -> Iterator[pyarrow.RecordBatch]:
    """The table in pieces of at most `BATCH` rows, made one by one as they are taken."""
    columns = columns_of(table)
    pa = arrow("mob.frame()")
    types = schema(columns)
    rows = iter(rows_of(source, table))
    while piece := list(islice(rows, BATCH)):
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(_values(column.kind, values), field.type)
                for column, values, field in zip(
                    columns, zip(*piece, strict=True), types, strict=True
                )
            ],
            schema=types,
        )


def _values(kind: Kind, values: Iterable[Any]) -> list[Any]:
    if kind is Kind.TEXT:  # models may say half of a pair of surrogates; Arrow's text is UTF-8
        return [
            value if value is None or value.isascii() else value.encode("utf-8", "replace").decode()
            for value in values
        ]
    if kind is Kind.TIME:  # Python's datetime knows microseconds and no less
        return [None if value is None else value // 1000 for value in values]
    return list(values)


def schema(columns: Iterable[Column]) -> pyarrow.Schema:
    """Arrow's schema of these columns. Raises `ExtraMissing`."""
    pa = arrow("mob.frame()")
    types = {
        Kind.TEXT: pa.string(),
        Kind.INT: pa.int64(),
        Kind.REAL: pa.float64(),
        Kind.FLAG: pa.bool_(),
        Kind.TIME: pa.timestamp("us", "UTC"),
    }
    fields = []
    for column in columns:
        about = {"description": column.about, **({"unit": column.unit} if column.unit else {})}
        fields.append(pa.field(column.name, types[column.kind], column.null, about))
    return pa.schema(fields)


def arrow(what: str) -> Any:
    """The package pyarrow. Raises `ExtraMissing`: `what` needs it and it is not there."""
    try:
        import pyarrow
    except ImportError:
        raise ExtraMissing(what, "pyarrow", "frame") from None
    return pyarrow
