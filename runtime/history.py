"""A history as a value: the messages of a session up to one moment. Pure.

Owns: `History`, an immutable sequence over what only grows. Must not: copy what nobody asks for.

A snapshot of a long session is taken every few turns, and only its end is new. So what a `Session`
holds is a view: of the first messages of the live copy's list, or of the journal, read when it is
looked at and from its end if only the end is looked at. Both only ever grow behind the messages of
the view, so the view never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

from runtime.messages import Message


class History(Sequence[Message]):
    """The first `count` of `held`; or, if that is None, `count` messages of which ``newest(n)``
    gives the last n, and raises what reading raises. Equal to a tuple of the same messages."""

    __slots__ = ("_count", "_held", "_newest")

    def __init__(
        self,
        count: int,
        held: Sequence[Message] | None,
        newest: Callable[[int], Sequence[Message]] | None = None,
    ) -> None:
        self._count = count
        self._held = held
        self._newest = newest

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        places = range(self._count)[index]
        if isinstance(places, int):
            return self._range(places, places + 1)[0]
        if not places:
            return ()
        if places.step != 1:
            return tuple(self._whole()[place] for place in places)
        return tuple(self._range(places.start, places.stop))

    def __iter__(self) -> Iterator[Message]:
        return islice(iter(self._whole()), self._count)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History | tuple):
            return NotImplemented
        return len(other) == self._count and all(map(_same, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<history of {self._count} messages>"

    def __add__(self, other: Sequence[Message]) -> tuple[Message, ...]:
        return (*self, *other)

    def __deepcopy__(self, _: Any) -> tuple[Message, ...]:
        return tuple(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)

    def _range(self, start: int, stop: int) -> Sequence[Message]:
        if self._held is None and self._newest is not None and start >= self._count // 2:
            return self._newest(self._count - start)[: stop - start]
        return self._whole()[start:stop]

    def _whole(self) -> Sequence[Message]:
        if self._held is None:
            assert self._newest is not None
            self._held = self._newest(self._count)
        return self._held


def _same(one: Message, other: Message) -> bool:
    return one is other or one == other
