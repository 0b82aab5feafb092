"""Copying a store with somebody watching: what `backup` and `restore-backup` share.

Owns: the thread that copies, the words about how far it is, what is left behind by an interrupt.
Must not: know which way the copy goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from mob.cli.exits import WouldOverwrite
from mob.cli.output import bytes_text, narrate, plural, result, result_json
from stores import Report, StoreMisuse

#: Seconds between two lines about a copy. One that takes less says nothing until it is done.
_EVERY_S: Final = 2.0


@attrs.define
class _Watched:
    """The file that is being written, once there is one."""

    file: Path | None = None

    def began(self, file: str) -> None:
        self.file = Path(file)

    def size(self) -> int:
        try:
            return 0 if self.file is None else self.file.stat().st_size
        except OSError:
            return 0


async def copy(work: Callable[[Callable[[str], None]], Report], source: Path) -> Report:
    """Run `work`, which copies a store and is given where to tell which file it writes.

    Cancelling (Ctrl-C) does not wait for the copy: what there is of it is removed.

    Raises:
        WouldOverwrite: there is something at the target.
        stores.StoreError: as `stores.backup_lmdb`.
    """
    watched = _Watched()
    whole = _Watched(source / "data.mdb").size()
    report: Report | None = None

    async def tell() -> None:
        while True:
            await trio.sleep(_EVERY_S)
            done = watched.size()
            narrate(f"mob: {bytes_text(done)} written, of at most {bytes_text(whole)}")

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            report = await trio.to_thread.run_sync(work, watched.began, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
    except* StoreMisuse as group:
        raise WouldOverwrite(str(group.exceptions[0])) from None
    finally:
        if report is None and watched.file is not None:
            # The hidden directory that the copy is made in; it has no name of the user's yet.
            shutil.rmtree(watched.file.parent.parent, ignore_errors=True)
    return report


def tell_copy(report: Report, done: str, *, json: bool, **more: Any) -> None:
    """Write what came of a copy to stdout; `more` are further fields of the JSON."""
    figures = {
        "bytes": report.bytes,
        "streams": report.streams,
        "records": report.records,
        "rows": report.rows,
        "generation": report.generation,
    }
    if json:
        result_json({**more, **figures})
        return
    gaps = plural(len(report.findings), "gap") if report.findings else "every checksum right"
    result(
        f"{done}: {bytes_text(report.bytes)}, {plural(report.records, 'record')} and"
        f" {plural(report.rows, 'row')}, {gaps}"
    )
