"""`mob backup`: a copy of a store, taken while its mobs work.

Owns: the verb. Must not: write to the store, overwrite anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.cli.copying import copy, tell_copy
from mob.cli.options import DEFAULT_STATE, Json, State, existing_store
from stores import backup_lmdb

EXAMPLES = """    mob backup /backups/monday
    mob backup "$(date +%F)" --state /var/lib/mob --json | jq .records
    mob restore-backup /backups/monday --state elsewhere
"""


async def backup(
    target: Annotated[
        Path, Parameter(name="TARGET", help="The directory to make; nothing may be there.")
    ],
    /,
    *,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Copy a store, also while a process runs its mobs.

    The copy is the store as of one commit, compacted, synced and verified; TARGET
    appears whole or not at all, and is a store of its own. The process that owns
    the store goes on working meanwhile.
    """
    source = existing_store(state)
    report = await copy(lambda began: backup_lmdb(source, target, began=began), source)
    tell_copy(report, f"backed up to {target}", json=json, backup=str(target), state=str(state))
    return 0
