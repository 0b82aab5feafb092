"""Models that write their calls to a file, and a model that answers out of such a file.

Owns: `RecordingModel`, `ReplayModel`, and the file. Must not: write a secret (`redaction` says what
is one), or answer what was not recorded.

The file is lines of JSON, added to and never rewritten, so several models and several runs may
share one; a line that a crash cut off is dropped when the next one is written. Writing is a few
microseconds into the page cache and is done on the spot: a recording is for tests, and is not
synced.
"""

from __future__ import annotations

import os
from pathlib import Path

import trio

from runtime.errors import ModelError, ModelUnavailable, NotRecorded
from runtime.models.base import Emit, Model, ModelReply, ModelRequest
from runtime.models.recorded import (
    NotALine,
    RecordedCall,
    Recording,
    content_of,
    digest_of,
    error_of,
    line_of,
    read_line,
)
from runtime.models.redaction import Redactor, secrets_among

_PROVIDER = "replay"


class Recorder:
    """Adds calls to the file at `path`, which only its owner may read.

    Raises:
        ModelUnavailable: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._redactor = Redactor(secrets_among(os.environ))
        try:
            self._drop_cut_line()
        except OSError as error:
            raise ModelUnavailable(
                f"cannot record to {self.path}: {error.strerror or error}", provider=_PROVIDER
            ) from error

    def add(
        self,
        request: ModelRequest,
        model: str,
        outcome: ModelReply | ModelError,
        pieces: list[str],
    ) -> None:
        """Write one call. Raises `OSError` if the disk does."""
        line = line_of(request, model, outcome, pieces, self._redactor)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode("utf-8", "surrogatepass"))
        finally:
            os.close(file)

    def _drop_cut_line(self) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(file, "r+b") as opened:
            whole = opened.read()
            opened.truncate(whole.rfind(b"\n") + 1)


class RecordingModel:
    """`inner`, whose calls are written to `path` with what came of them.

    Several may share one `Recorder`. A call that is cancelled is not written.
    """

    def __init__(self, inner: Model, path: str | Path | Recorder) -> None:
        self._inner = inner
        self._recorder = path if isinstance(path, Recorder) else Recorder(path)

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def supports_tools(self) -> bool:
        return self._inner.supports_tools

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """See `Model.generate`."""
        pieces: list[str] = []

        def hear(piece: str) -> None:
            pieces.append(piece)
            if emit is not None:
                emit(piece)

        try:
            reply = await self._inner.generate(request, hear)
        except ModelError as error:
            self._recorder.add(request, self.name, error, [])
            raise
        self._recorder.add(request, self.name, reply, pieces)
        return reply

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._inner.aclose()


def load_recording(path: str | Path) -> Recording:
    """The calls in the file at `path`; a last line that a crash cut off is left out.

    Raises:
        ModelUnavailable: there is no such file, or a line of it cannot be understood.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", "surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ModelUnavailable(
            f"cannot replay {path}: {why}; make it with --record, or with RecordingModel",
            provider=_PROVIDER,
        ) from error
    calls: list[RecordedCall] = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            calls.append(read_line(line))
        except NotALine as error:
            raise ModelUnavailable(
                f"cannot replay {path}: line {number} is no recorded call ({error})",
                provider=_PROVIDER,
            ) from error
    return Recording(calls)


class ReplayModel:
    """Answers as the model did that was recorded at `path`; reaches nothing else.

    Errors are replayed too. A request is found by its content; where the same was asked more than
    once, by who asks (`ModelRequest.key`) and by the order of the recording.

    Raises:
        ModelUnavailable: the recording cannot be read.
    """

    supports_tools = True

    def __init__(self, path: str | Path | Recording, *, name: str | None = None) -> None:
        self.name = name or f"replay:{'recording' if isinstance(path, Recording) else path}"
        self._recording = path if isinstance(path, Recording) else load_recording(path)
        self._redactor = Redactor(secrets_among(os.environ))

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Answer as recorded.

        Raises:
            NotRecorded: no call with this content is in the recording.
            ModelError: the recorded call failed so.
        """
        await trio.lowlevel.checkpoint()
        content = content_of(request, self._redactor)
        call = self._recording.take(digest_of(content), request.key)
        if call is None:
            raise NotRecorded(self._missing(content, request.key), provider=_PROVIDER)
        if call.reply is None:
            raise error_of(call.error or {})
        if emit is not None:
            for piece in _pieces(call.reply.text, call.cuts):
                emit(piece)
        return call.reply

    def _missing(self, content: dict[str, object], key: str) -> str:
        nearest = self._recording.nearest(content, key)
        if nearest is None:
            return f"{self.name} has no calls recorded at all; record some first"
        number, difference = nearest
        return (
            f"{self.name} has no such request among its {len(self._recording.calls)} calls (asked"
            f" by {key or 'nobody'}); nearest is call {number}: {difference}; record again if the"
            " change is meant"
        )

    async def aclose(self) -> None:
        """Nothing is held."""
        await trio.lowlevel.checkpoint()


def _pieces(text: str, cuts: tuple[int, ...]) -> list[str]:
    """The text as it came. A secret that was taken out has moved the cuts: then it is one piece."""
    if sum(cuts) != len(text):
        return [text] if text else []
    made, at = [], 0
    for length in cuts:
        made.append(text[at : at + length])
        at += length
    return made
