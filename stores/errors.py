"""What can go wrong below the domain: the error families of the store port.

    StoreError                      everything raised by this package
    +-- StoreMisuse                 our caller broke the port's rules (a bug in the caller)
    |   +-- StoreClosed             used after it was closed
    +-- StoreUnavailable            the environment cannot serve now
    |   +-- StoreInUse              another process owns it
    |   +-- StoreLost               another process took it over; this handle writes nothing more
    |   +-- StoreUnreadable         path missing, no permission, not a store, wrong format
    |   |   +-- StoreDamaged        the file's structure is broken; nothing was opened
    |   +-- StoreFull               the disk has no room (the map itself grows on its own)
    |   +-- StoreFailed             a commit failed for another reason; closed for writing
    +-- Conflict                    an `Expect` did not hold; nothing of the batch was applied
    +-- CommitUnknown               the outcome of a commit could not be learnt
    +-- Damaged                     bytes on disk fail their checksum or their chain

Errors carry the path, stream, key or sequence they speak of as fields, so that the floors above
can report without parsing text. A message says what was wrong, what was expected, what to do.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error raised by `stores`."""


class StoreMisuse(StoreError):
    """The caller broke a rule of the port; retrying cannot help."""


class StoreClosed(StoreMisuse):
    """The store was closed before this call."""


class StoreUnavailable(StoreError):
    """The environment at `path` cannot serve the call."""

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class StoreInUse(StoreUnavailable):
    """Another process owns the store; `pid` is its process id where it is known."""

    def __init__(self, message: str, *, path: str, pid: int | None = None) -> None:
        super().__init__(message, path=path)
        self.pid = pid


class StoreUnreadable(StoreUnavailable):
    """There is no usable store at `path`: missing, forbidden, or not a store of ours."""


class StoreDamaged(StoreUnreadable):
    """The structure of the file is broken, so that using it could end the process or lose more.

    `findings` says what is wrong, one line each, at most a few. `mob doctor` lists all of it and
    `mob doctor --repair` saves what can be saved into another directory.
    """

    def __init__(self, message: str, *, path: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__(message, path=path)
        self.findings = findings


class StoreLost(StoreUnavailable):
    """Another process took the store over, at `generation` if that is known.

    Nothing of the batch that gets this error was written to the store that the other one has.
    """

    def __init__(self, message: str, *, path: str, generation: int | None = None) -> None:
        super().__init__(message, path=path)
        self.generation = generation


class StoreFull(StoreUnavailable):
    """The disk under `path` has no room; nothing of the failed batches was kept."""


class StoreFailed(StoreUnavailable):
    """A commit failed, and so did the attempt to recover; this handle still reads."""


class Conflict(StoreError):
    """`Expect(key, value)` did not hold when the batch came to be applied.

    `found` is the value that stood there, None if the key was absent.
    """

    def __init__(self, key: bytes, expected: bytes | None, found: bytes | None) -> None:
        super().__init__(
            f"precondition on {key!r} failed: expected {_show(expected)}, found {_show(found)};"
            " nothing of this batch was applied: re-read and decide again"
        )
        self.key = key
        self.expected = expected
        self.found = found


class CommitUnknown(StoreError):
    """The process could not learn whether a commit reached the disk: read it back to know."""


class Damaged(StoreError):
    """A stored record fails its checksum, its chain or its format.

    `where` names the record (a stream and sequence, or a key). Corruption is never reported as
    absence: a reader gets this error, not None. `key` and `raw` are where it lies and what stands
    there, as far as the engine knows; nothing in `raw` is to be trusted.
    """

    def __init__(self, where: str, reason: str, *, key: bytes = b"", raw: bytes = b"") -> None:
        super().__init__(
            f"{where} is damaged: {reason}; run `mob doctor` on this store, do not delete it"
        )
        self.where = where
        self.reason = reason
        self.key = key
        self.raw = raw


def _show(value: bytes | None) -> str:
    if value is None:
        return "absent"
    return repr(value if len(value) <= 32 else value[:29] + b"...")
