"""A nursery that does not dress the exceptions of the block it serves.

Owns: `open_background`. Must not: hide an exception of a background task.

A library that opens a nursery on behalf of a caller would hand the caller's own exceptions back
wrapped in an `ExceptionGroup`. Here, if the block's exception is the only one, it comes out as it
went in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the block and end with it, by cancellation.

    An exception that is alone comes out as itself, from the block or from a task; several come out
    as the nursery's group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        (alone,) = group.exceptions
        raise alone from alone.__cause__
