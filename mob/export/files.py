"""Writing what is exported: lines of JSON, Parquet files, lines of OTLP.

Owns: the formats by name, and that a file is whole or not there. Must not: overwrite a file before
the new one is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from mob.export.columns import Kind, columns_of
from mob.export.errors import ExportRefused
from mob.export.plain import rfc3339
from mob.export.rows import rows_of
from mob.export.source import Source

FORMATS: Final = ("jsonl", "parquet", "otlp")


def json_lines(source: Source, tables: Sequence[str]) -> Iterator[str]:
    """Each row as a line: ``{"table": "turns", "seq": 7, ...}``; what is missing is left out.

    Raises:
        NoSuchTable: there is no table of one of the names.
    """
    for table in tables:
        columns_of(table)
    for table in tables:
        columns = columns_of(table)
        for row in rows_of(source, table):
            told: dict[str, Any] = {"table": table}
            for column, value in zip(columns, row, strict=True):
                if value is not None:
                    told[column.name] = rfc3339(value) if column.kind is Kind.TIME else value
            yield json.dumps(told, ensure_ascii=False)


def write_lines(lines: Iterable[str], path: Path) -> int:
    """Write lines to a file; return how many. Raises `OSError`."""
    count = 0
    with whole_file(path) as file:
        for line in lines:
            file.write(line.encode("utf-8", "replace") + b"\n")
            count += 1
    return count


def write_parquet(source: Source, tables: Sequence[str], path: Path) -> dict[str, int]:
    """Write each table to ``PATH/TABLE.parquet``, a single one to PATH if that ends in .parquet;
    return how many rows each has.

    Raises:
        NoSuchTable: there is no table of one of the names.
        ExportRefused: several tables, and one file.
        ExtraMissing: pyarrow is not installed.
        OSError: the disk refuses.
    """
    from mob.export.frame import arrow, batches, schema

    arrow("parquet")
    parquet = _parquet()
    one = path.suffix == ".parquet"
    if one and len(tables) != 1:
        raise ExportRefused(
            f"{path} is one file, and {len(tables)} tables are to be written: name a folder, or one"
            " table with --table"
        )
    types = {table: schema(columns_of(table)) for table in tables}
    if not one:
        path.mkdir(parents=True, exist_ok=True)
    counts = {}
    for table in tables:
        count = 0
        with whole_file(path if one else path / f"{table}.parquet") as file:
            with parquet.ParquetWriter(file, types[table], compression="zstd") as writer:
                for batch in batches(source, table):
                    writer.write_batch(batch)
                    count += batch.num_rows
        counts[table] = count
    return counts


def _parquet() -> Any:
    import pyarrow.parquet

    return pyarrow.parquet


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when the block ends well, and is gone otherwise."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            file = partial.open("wb")
        except OSError as error:  # nobody knows the partial file
            raise type(error)(error.errno, error.strerror, str(path)) from None
        with file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def otlp_lines(source: Source, *, content: bool = False) -> Iterator[str]:
    """See `mob.export.otlp.lines`. Raises `ExtraMissing`."""
    from mob.export.otlp import lines

    make: Callable[..., Iterator[str]] = lines
    return make(source, content=content)
