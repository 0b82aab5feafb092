"""What the clients of real services have in common.

Owns: the name, the key, opening a package's client once and in a thread, closing it, the errors
that say what went wrong and what to do, and a reply out of a finished answer. Must not: know a
protocol or import a provider's package; a subclass does.

No client keeps a conversation or repeats a request by itself: the turn does (`runtime.retry`), and
can be watched and interrupted there. `max_retries` is for programs that call a model on their own.
"""

from __future__ import annotations

import abc
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import trio

from runtime.errors import ModelError, ModelRefused, ModelUnavailable
from runtime.messages import ToolCall, Usage
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.models.guard import check_real_models_allowed
from runtime.models.redaction import remember
from runtime.models.wire import Keepsakes, NotAChunk, estimated_usage

C = TypeVar("C")

#: Longest silence of the server, in seconds. Models that think send nothing for minutes.
DEFAULT_TIMEOUT_S: Final = 300.0
#: Longest time to connect, in seconds: a wrong address should not look like a slow model.
CONNECT_TIMEOUT_S: Final = 15.0
#: Longest quotation of a server in an error message, in characters.
MAX_QUOTED: Final = 300
#: Characters from which on a key is one; what is shorter stands for none, at a local server.
_SECRET: Final = 8


class Answer(Protocol):
    """One answer as it arrives, put together by the module of its protocol."""

    @property
    def model(self) -> str | None: ...

    @property
    def finish(self) -> str | None:
        """Why the server ended the answer; None while it has not."""
        ...

    @property
    def refusal(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def usage(self) -> Usage | None:
        """What the server counted; None if it did not say."""
        ...

    def calls(self, request: ModelRequest) -> tuple[ToolCall, ...]:
        """The calls in it. Raises `NotAChunk` for one without a name."""
        ...


class RemoteModel(abc.ABC, Generic[C]):
    """MODEL at a service, or at the server `base_url` that speaks its protocol.

    The key is `api_key`, else the environment variable `api_key_env`. That defaults to the
    provider's own variable at the provider and to no key at another `base_url`: local servers need
    none, and a key must never be sent to a server it was not meant for. `max_retries` bounds the
    repeats of a request that failed before its answer began; `timeout_s` the silence while one is
    awaited. An instance belongs to one Trio run. The package is imported by the first call, in a
    thread.

    Raises:
        ModelUnavailable: the package or the key is missing, or `base_url` is no URL.
    """

    supports_tools = True

    #: The part before the colon, the variable with the key, the package, the extra that brings it.
    PROVIDER: ClassVar[str]
    KEY_ENV: ClassVar[str]
    PACKAGE: ClassVar[str]
    EXTRA: ClassVar[str]
    #: What the request decides; an option of that name would break the translation.
    RESERVED: ClassVar[frozenset[str]]
    #: Finishes that mean: cut at a length limit, refused, spoiled (asking again may help).
    CUT: ClassVar[frozenset[str]]
    REFUSED: ClassVar[frozenset[str]]
    SPOILED: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        provider: str | None = None,
        max_retries: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._provider = provider or self.PROVIDER
        self.name = f"{self._provider}:{model}"
        self._model = model
        self._base_url = base_url
        if api_key_env is None and base_url is None:
            api_key_env = self.KEY_ENV
        self._api_key_env = api_key_env
        self._max_retries = max_retries
        self._timeout_s = timeout_s
        self._api_key = api_key
        if not installed(self.PACKAGE):
            name = self.PACKAGE.replace(".", "-")
            raise self._unavailable(
                f"needs the {name} package: pip install 'trio-mob[{self.EXTRA}]'"
            )
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise self._unavailable(
                f"needs a base_url that starts with http:// or https://, not {base_url!r}"
            )
        self._api_key = api_key or self._key_from(api_key_env)
        remember(filter(None, (self._api_key,)))
        #: What the provider wants back with the results of tool calls.
        self._kept: Keepsakes[Any] = Keepsakes()
        self._client: C | None = None
        self._opening = trio.Lock()
        self._closed = False

    @abc.abstractmethod
    def _connected(self) -> C:
        """A client of the package. Called once, in a thread."""

    @abc.abstractmethod
    async def _disconnect(self, client: C) -> None:
        """Close its connections."""

    async def _open(self, request: ModelRequest) -> C:
        """The package's client, once the request may be made at all."""
        check_real_models_allowed(self.name, self._provider)
        clash = self.RESERVED.intersection(request.options)
        if clash:
            raise self._error(f"does not take {sorted(clash)} as options", retryable=False)
        # One at a time, or the calls of a starting swarm would each build a client.
        async with self._opening:
            if self._closed:
                raise self._unavailable("is closed")
            if self._client is None:
                # In a thread: imports and certificates take more than 0.5 s of the whole loop.
                self._client = await trio.to_thread.run_sync(self._connected)
            return self._client

    async def aclose(self) -> None:
        """Close the connections. Calls that are running fail. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await self._disconnect(client)
        await trio.lowlevel.checkpoint()

    def _reply(self, answer: Answer, request: ModelRequest) -> ModelReply:
        """The reply that a whole answer is. Raises `ModelRefused` and `ModelError`."""
        finish = answer.finish
        if answer.refusal or finish in self.REFUSED:
            raise self._refused(answer.refusal or f"stopped by its content filter ({finish})")
        if finish is None:
            raise self._error("ended its stream before its answer", retryable=True)
        if finish in self.SPOILED:
            raise self._error(f"gave no usable answer ({finish})", retryable=True)
        try:
            calls = answer.calls(request)
        except NotAChunk as error:
            raise self._error(f"made a malformed tool call: {error}", retryable=True) from error
        text = answer.text
        stop = StopReason.TOOL_CALLS if calls else StopReason.END
        if finish in self.CUT:
            stop = StopReason.LENGTH
        usage = answer.usage or estimated_usage(request, text, calls)
        return ModelReply(text, calls, stop, usage, answer.model or self._model)

    def _key_from(self, env: str | None) -> str | None:
        if env is None:
            return None
        key = os.environ.get(env, "").strip()
        if not key:
            raise self._unavailable(
                f"needs an API key in the environment variable {env}, which is not set:"
                f" export {env}=... first, or name another variable with api_key_env"
            )
        return key

    def _told(self, what: str) -> str:
        """A message about this model. Servers quote the key that they refuse; it ends here."""
        key = self._api_key or ""
        if len(key) >= _SECRET:
            what = what.replace(key, "[key]")
        return f"{self.name} {what}"

    def _refused(self, why: str) -> ModelRefused:
        return ModelRefused(self._told(f"refused: {why}"), provider=self._provider)

    def _unavailable(self, what: str, status: int | None = None) -> ModelUnavailable:
        error = ModelUnavailable(self._told(what), provider=self._provider)
        error.status = status
        return error

    def _error(
        self,
        what: str,
        *,
        retryable: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> ModelError:
        return ModelError(
            self._told(what),
            provider=self._provider,
            retryable=retryable,
            status=status,
            retry_after_s=retry_after_s,
        )

    def _unreachable(self, cause: object) -> ModelError:
        where = self._base_url or "its server"
        return self._error(f"cannot be reached at {where}: {cause}", retryable=True)

    def _silent(self) -> ModelError:
        return self._error(f"sent nothing for {self._timeout_s:g} s", retryable=True)

    def _status_error(
        self, status: int, said: str, *, hopeless: bool, retry_after_s: float | None
    ) -> ModelError:
        """The error that an HTTP status means; `hopeless` if waiting cannot help all the same."""
        said = said[:MAX_QUOTED]
        if status in (401, 403):
            source = f"set {self._api_key_env}" if self._api_key_env else "set api_key_env"
            return self._unavailable(f"refused the key ({status}; {source}): {said}", status)
        if status == 404:
            return self._unavailable(f"does not exist there (404): {said}", status)
        return self._error(
            f"answered {status}: {said}",
            retryable=is_passing(status) and not hopeless,
            status=status,
            retry_after_s=retry_after_s,
        )


def installed(package: str) -> bool:
    """Whether `package` could be imported; its parents are imported to find out."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # a parent is missing
        return False
    except ValueError:  # somebody put None in its place
        return False


def is_passing(status: int) -> bool:
    """Whether an HTTP status is passing trouble: timeouts, conflicts, limits, the server's own."""
    return status in (408, 409, 429) or status >= 500


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait, in seconds; None if it does not say."""
    for header, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[header]) * unit_s
        except (KeyError, ValueError):
            continue  # Absent, or a date, which these servers do not send.
        if 0 <= wait_s < float("inf"):
            return wait_s
    return None
