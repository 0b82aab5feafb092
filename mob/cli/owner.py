"""Who has a store open for writing.

Owns: reading the owner's lock without touching it. Must not: lock anything: taking the lock even
for a moment could turn an owner away that is just opening.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: The kernel's table of locks.
_LOCKS: Final = Path("/proc/locks")


def owner_of(state: Path) -> int | None:
    """The process id of the store's owner; None if no process owns it.

    The kernel's table of locks tells exactly; where there is none (not Linux), the number that the
    last owner wrote is taken if a process has it.
    """
    file = state / "owner.lock"
    try:
        inode = file.stat().st_ino
        written = file.read_text(encoding="ascii", errors="replace").partition(" ")[0].strip()
    except OSError:
        return None
    try:
        table = _LOCKS.read_text(encoding="ascii")
    except OSError:
        return int(written) if written.isdigit() and _alive(int(written)) else None
    for line in table.splitlines():
        # 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            # Inside a container the table may name an outer process, or 0.
            return int(written) if written.isdigit() else int(fields[4])
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
