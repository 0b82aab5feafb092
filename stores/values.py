"""Values of the hot path: immutable by the type checker's word.

Owns: `value`, the decorator. Must not: be used where code of others holds what it makes for longer
than a call, such as the messages of a history: those are `attrs.frozen`.

A frozen attrs class sets each field through `object.__setattr__`: 0.6 us for fifteen fields, where
plain assignment takes 0.15. A turn makes some twenty such values, which is a fifteenth of its
processor time (`benchmarks/turns.py`). So these are frozen where it costs nothing: mypy sees
`attrs.frozen` and refuses every assignment; at run time they are plain, equal and hashed by value.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    value = functools.partial(attrs.define, unsafe_hash=True)

__all__ = ["value"]
