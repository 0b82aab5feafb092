"""`mob restore-backup`: a backup put back as a store.

Owns: the verb. Must not: overwrite a store.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.cli.copying import copy, tell_copy
from mob.cli.exits import NothingThere
from mob.cli.options import DEFAULT_STATE, Json, State
from mob.cli.output import narrate
from stores import restore_lmdb

EXAMPLES = """    mob restore-backup /backups/monday
    mob restore-backup /backups/monday --state /var/lib/mob --json
"""


async def restore_backup(
    backup: Annotated[Path, Parameter(name="BACKUP", help="What `mob backup` made.")],
    /,
    *,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Put a backup back as a store.

    The backup is verified, copied to the directory of the store and verified there;
    it stays as it is. An existing store is never replaced: move it away first, or
    restore to another --state.
    """
    if not (backup / "data.mdb").is_file():
        raise NothingThere(f"there is no backup at {backup.absolute()}: `mob backup` makes one")
    report = await copy(lambda began: restore_lmdb(backup, state, began=began), backup)
    tell_copy(report, f"restored to {state}", json=json, backup=str(backup), state=str(state))
    if not json:
        where = "" if state == DEFAULT_STATE else f" --state {shlex.quote(str(state))}"
        narrate(f"mob: next: mob ls{where}")
    return 0
