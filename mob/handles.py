"""One handle for each mob: who has it open in this process.

Owns: the list of what is open. Must not: know about other processes; between those `stores.fence`
decides.

Two handles over one store would each fold only what they wrote themselves, and go apart without a
word. So the second one is refused, as a second process would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from mob.errors import MobInUse
from stores import Store

#: The name of the task that opened it, by store and realm. A store that is in here is alive, so
#: that no other has its `id`.
_OPEN: Final[dict[tuple[int, str], str]] = {}


@contextmanager
def sole_handle(store: Store, realm: str, what: str) -> Iterator[None]:
    """Be the only one who works on `realm` in `store`; `what` is its name in messages.

    Raises:
        MobInUse: somebody in this process is.
    """
    key = (id(store), realm)
    if key in _OPEN:
        raise MobInUse(what, store.location, _OPEN[key])
    _OPEN[key] = trio.lowlevel.current_task().name
    try:
        yield
    finally:
        del _OPEN[key]
