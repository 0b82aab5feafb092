"""A nursery that does not dress the exceptions of the block it serves.

Owns: `open_background`. Must not: hide an exception of a background task.

A library that opens a nursery on behalf of a caller would hand the caller's own exceptions back
wrapped in an `ExceptionGroup`. Here the block's exception comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final, final

import trio


@final
class Background:
    """See `open_background`. A class, so that the nursery never sees the block's exception."""

    def __init__(self) -> None:
        self._manager: Final = trio.open_nursery()

    async def __aenter__(self) -> trio.Nursery:
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self._nursery.cancel_scope
        try:
            if scope.cancel_called:
                # A task crashed, and what the block met is likely the cancellation that follows.
                return await self._manager.__aexit__(kind, error, traceback)
            scope.cancel()
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            leaves = list(_leaves(group))
            failures = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
            if not failures and error is not None:
                return False
            if len({type(leaf) for leaf in failures}) == 1:
                raise failures[0] from (group if len(failures) > 1 else failures[0].__cause__)
            raise
        return False


def open_background() -> Background:
    """A nursery for tasks that serve the block and end with it, by cancellation.

    The block's exception comes out as itself. So does that of a task, and the first one if several
    tasks met failures of one type, as happens when what they share breaks (the group is its cause);
    otherwise several come out as the nursery's group.
    """
    return Background()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
