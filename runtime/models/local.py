"""The embedded local model: llama.cpp in this process, behind the model port.

Owns: the engine (one loaded model per Trio run, shared by every `LocalModel` of the same settings),
the threads its calls block in, and how a call ends early. Must not: know how weights get here
(`weights` does), or imitate tool calls (`jsontools` stands in front).

`xllamacpp` binds llama.cpp's server, which batches the requests of several threads together, so a
swarm shares one copy of the weights. A call is one blocking function in a thread. Every piece of
text, and every batch of the prompt, comes by way of a callback, and a callback that returns True
ends the generation: so the thread asks Trio there whether it was cancelled, and is never abandoned.
Measured with SmolLM2-135M on one core of two: 0.3 s to load, 115 tokens/s alone or shared by four
calls, 250 prompt tokens/s, 0.5 GB.

llama.cpp's server also listens on HTTP, which cannot be turned off. It does so on the loopback
only, on a port of the system's choice, and answers nobody: its key is random and never told.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
import trio

from runtime.errors import ModelError, ModelUnavailable
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason
from runtime.models.chatwire import RESERVED_OPTIONS, Answer, request_body
from runtime.models.weights import KNOWN_WEIGHTS, FetchProgress, ProgressFn, fetch_weights
from runtime.models.wire import NotAChunk, estimated_usage

#: Calls that generate at the same time; more wait. Four share the speed of one or a fifth more;
#: what they gain is that a short answer does not wait for a long one.
DEFAULT_SLOTS = 4
#: Tokens of prompt and answer together, per call: 90 MB of memory a slot, half the model's limit.
DEFAULT_CONTEXT_TOKENS = 4096
#: Longest answer if the request sets no `max_tokens`: a small model left alone never stops.
DEFAULT_MAX_TOKENS = 512
#: Tokens of a prompt read at a time. A call can be cancelled between two such batches, 0.5 s apart
#: on one core; 512 would be 3% faster and four times as deaf.
_BATCH_TOKENS = 128

#: Most CPU threads taken by default: more than a model this small can feed.
_MAX_THREADS = 4

#: What may be set per request. llama.cpp passes over what it does not know, and a mistyped name
#: must not do so silently. https://github.com/ggml-org/llama.cpp/tree/master/tools/server
_OPTIONS: Final = frozenset(
    (
        "frequency_penalty", "logit_bias", "max_tokens", "min_p", "presence_penalty",
        "repeat_last_n", "repeat_penalty", "seed", "stop", "temperature", "top_k", "top_p",
        "typical_p",
    )
)  # fmt: skip


class LocalModel:
    """``local:ID``: one of `KNOWN_WEIGHTS`, run on this machine's CPU.

    Opening it costs nothing; the first call fetches the weights if they are not here, hearing of
    it by `progress` on the Trio thread, and loads them. `slots` calls run at once, each with
    `context_tokens` of prompt and answer; `threads` is the number of CPU threads (None: half
    of the CPUs). `weights` is a GGUF file to use instead of the known one. Instances with the same
    settings share one engine; it is unloaded when the last of them is closed.

    Without options the answer is the likeliest one (temperature 0) of at most 512 tokens, and
    the seed is drawn from the request's key: a call asked again answers the same, up to the
    rounding of sums in batches shared with other calls.

    Raises:
        ModelUnavailable: no such model, or the `xllamacpp` package is missing.
    """

    supports_tools = False

    def __init__(
        self,
        model: str,
        *,
        slots: int = DEFAULT_SLOTS,
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
        threads: int | None = None,
        weights: str | os.PathLike[str] | None = None,
        progress: ProgressFn | None = None,
    ) -> None:
        if model not in KNOWN_WEIGHTS and weights is None:
            raise ModelUnavailable(
                f"there is no local model {model!r}; known: {', '.join(KNOWN_WEIGHTS)}",
                provider="local",
            )
        if slots < 1 or context_tokens < 64 or (threads is not None and threads < 1):
            raise ModelUnavailable(
                "a local model needs slots >= 1, context_tokens >= 64 and threads >= 1, not"
                f" slots={slots}, context_tokens={context_tokens}, threads={threads}",
                provider="local",
            )
        if importlib.util.find_spec("xllamacpp") is None:
            raise ModelUnavailable(
                f"local:{model} needs the package xllamacpp: pip install 'trio-mob[local]'",
                provider="local",
            )
        self.name = f"local:{model}"
        path = None if weights is None else Path(weights).absolute()
        self._settings = _Settings(model, path, slots, context_tokens, threads or _half_the_cpus())
        self._progress = progress
        self._engine: _Engine | None = None
        self._closed = False

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Run one call to its end; the first one loads the model.

        Waits while all slots are taken. Cancellation stops the generation itself, within a token
        of the answer or a batch of the prompt (0.5 s on a slow machine); loading runs to its end.

        Raises:
            ModelError: the prompt does not fit the context, an option is unknown, or the schema
                cannot be enforced; never retryable, since the same call would fail the same way.
            ModelUnavailable: closed, or the weights cannot be had or loaded.
        """
        body = _body(self.name, request)
        engine = await self._started()
        call = _Call(engine, body, emit)
        answer = await call.run()
        if emit is not None and call.emit_failed is not None:
            raise call.emit_failed
        usage = answer.usage or estimated_usage(request, answer.text, ())
        stop = StopReason.LENGTH if answer.finish == "length" else StopReason.END
        return ModelReply(answer.text, (), stop, usage, self.name)

    async def warm_up(self) -> None:
        """Fetch and load now what the first call would.

        Raises:
            ModelUnavailable: the weights cannot be had or loaded.
        """
        await self._started()

    async def aclose(self) -> None:
        """Unload the model if nobody else uses it. Calls in flight finish first."""
        self._closed = True
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.release()
        await trio.lowlevel.checkpoint()

    async def _started(self) -> _Engine:
        if self._closed:
            raise _closed(self.name)
        if self._engine is None:
            # No checkpoint between finding the engine and holding it.
            self._engine = _shared_engine(self._settings)
            self._engine.users += 1
        engine = self._engine
        await engine.start(self._progress)
        return engine


# The engine ---------------------------------------------------------------------------------------


@attrs.frozen
class _Settings:
    """What makes two models the same engine."""

    model: str
    weights: Path | None
    slots: int
    context_tokens: int
    threads: int


class _Server(Protocol):
    """What is used of `xllamacpp.Server`."""

    def handle_chat_completions(
        self, body: Mapping[str, Any], callback: Callable[[Any], bool], /
    ) -> object: ...


class _Engine:
    """One loaded model and the threads in which its calls block."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        #: Models that hold this engine; the last to release it unloads it.
        self.users = 0
        # Not Trio's default limiter: calls here last seconds, and the store needs a thread then.
        # Never more calls than slots: llama.cpp would queue one, and a queued one hears no cancel.
        self.limiter = trio.CapacityLimiter(settings.slots)
        self._changing = trio.Lock()
        self._server: _Server | None = None
        self._closed = False

    @property
    def server(self) -> _Server:
        """The server, loaded.

        Raises:
            ModelUnavailable: every model that used it was closed.
        """
        if self._server is None:
            raise _closed(f"local:{self._settings.model}")
        return self._server

    async def start(self, progress: ProgressFn | None) -> None:
        """Fetch and load, once; who comes second waits."""
        if self._server is not None:
            return
        async with self._changing:
            if self._closed:
                raise _closed(f"local:{self._settings.model}")
            if self._server is None:
                self._server = await trio.to_thread.run_sync(self._load, progress)

    def _load(self, progress: ProgressFn | None) -> _Server:
        settings = self._settings
        path = settings.weights

        def tell(reached: FetchProgress) -> None:
            trio.from_thread.check_cancelled()
            if progress is not None:
                trio.from_thread.run_sync(progress, reached)

        if path is None:
            path = fetch_weights(settings.model, progress=tell)
        elif not path.is_file():
            raise ModelUnavailable(f"there is no file {path}", provider="local")
        try:
            return _load_server(path, settings)
        except (ImportError, RuntimeError, ValueError) as error:
            # Loading says no more than that it failed: llama.cpp's log is turned off.
            raise ModelUnavailable(
                f"llama.cpp could not load {path}: {error}; is it a GGUF file, and is there"
                f" memory for {settings.slots} slots of {settings.context_tokens} tokens?",
                provider="local",
            ) from error

    async def release(self) -> None:
        self.users -= 1
        if self.users:
            return
        _engines().pop(self._settings, None)
        # Shielded: half a gigabyte must not stay because a scope was cancelled. The wait is for
        # the calls in flight, each at most its `max_tokens` long, and a token if cancelled too.
        with trio.CancelScope(shield=True):
            async with self._changing:
                waiters = [object() for _ in range(self._settings.slots)]
                for waiter in waiters:
                    await self.limiter.acquire_on_behalf_of(waiter)
                self._closed = True
                await trio.to_thread.run_sync(self._unload)
                for waiter in waiters:
                    # A call that came too late gets its thread, and is told there.
                    self.limiter.release_on_behalf_of(waiter)

    def _unload(self) -> None:
        # The last reference: the destructor ends llama.cpp's threads and waits for them.
        self._server = None


def _closed(model: str) -> ModelUnavailable:
    return ModelUnavailable(f"{model} was closed", provider="local")


_ENGINES: trio.lowlevel.RunVar[dict[_Settings, _Engine]] = trio.lowlevel.RunVar("local_engines")


def _engines() -> dict[_Settings, _Engine]:
    """The engines of this Trio run; locks and limiters belong to a run, so engines do."""
    try:
        return _ENGINES.get()
    except LookupError:
        _ENGINES.set({})
        return _ENGINES.get()


def _shared_engine(settings: _Settings) -> _Engine:
    return _engines().setdefault(settings, _Engine(settings))


def _load_server(path: Path, settings: _Settings) -> _Server:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = os.fspath(path)
    params.n_parallel = settings.slots
    params.n_ctx = settings.slots * settings.context_tokens
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.verbosity = -1  # its log goes to the terminal otherwise, errors included
    params.cache_ram_mib = 0  # up to 8 GB of old prompts otherwise; the slots keep their last one
    params.warmup = False
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [secrets.token_hex(32)]
    params.cors_origins = ""
    params.endpoint_slots = False
    params.ui = False
    server: _Server = xllamacpp.Server(params)
    return server


def _half_the_cpus() -> int:
    """Threads that run undisturbed on a machine that does something else too.

    llama.cpp's threads wait for each other at every layer, spinning. As soon as one of them shares
    its CPU the others burn theirs: two threads on two cores made 180 tokens/s alone and 8 to 17
    beside a busy process, one thread 115 and 98.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(_MAX_THREADS, cpus // 2))


# One call -----------------------------------------------------------------------------------------


class _Call:
    """One request on its way through a thread; `run` once."""

    def __init__(self, engine: _Engine, body: Mapping[str, Any], emit: Emit | None) -> None:
        self._engine = engine
        self._body = body
        self._emit = emit
        self._answer = Answer()
        self._token = trio.lowlevel.current_trio_token()
        #: What `emit` raised against its contract; ends the call.
        self.emit_failed: Exception | None = None
        # Why the callback ended the generation. An exception may not cross llama.cpp: it is kept
        # here and raised on the other side.
        self._ended_by: BaseException | None = None
        self._error: Mapping[str, Any] | None = None

    async def run(self) -> Answer:
        """The answer, whole.

        Pieces reach `emit` through the same queue that ends the thread's work, so all of them
        are out when this returns.
        """
        return await trio.to_thread.run_sync(self._block, limiter=self._engine.limiter)

    def _block(self) -> Answer:
        try:
            self._engine.server.handle_chat_completions(self._body, self._hear)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"the local model refused the request: {error}", provider="local", retryable=False
            ) from error
        if self._ended_by is not None:
            raise self._ended_by
        if self._error is not None:
            raise _provider_error(self._error)
        if not self._answer.begun and self.emit_failed is None:
            raise ModelError("the local model said nothing", provider="local", retryable=True)
        return self._answer

    def _hear(self, chunk: Any) -> bool:
        """Take one chunk; True ends the generation. Runs in the thread and must not raise."""
        try:
            trio.from_thread.check_cancelled()
            if isinstance(chunk, dict) and "error" in chunk:
                self._error = chunk["error"]
                return True
            piece = self._answer.add(chunk)
        except (trio.Cancelled, NotAChunk) as ended:
            self._ended_by = ended
            return True
        if piece and self._emit is not None:
            # Not from_thread.run_sync: waiting for the Trio thread at every token would make
            # each cost as much as its scheduling there.
            self._token.run_sync_soon(self._pass_on, piece)
        return self.emit_failed is not None

    def _pass_on(self, piece: str) -> None:
        """Runs in the Trio thread, where an exception would take the whole run down."""
        if self._emit is None or self._ended_by is not None or self.emit_failed is not None:
            return
        try:
            self._emit(piece)
        except Exception as error:  # noqa: BLE001 - it is raised by `generate`, where it belongs
            self.emit_failed = error


def _body(model: str, request: ModelRequest) -> dict[str, Any]:
    """The JSON that llama.cpp is asked with.

    Raises:
        ModelError: tools without `JsonTools` in front, or an option that is unknown or ours.
    """
    if request.tools:
        raise ModelError(
            "local models have no tool calls of their own; put runtime.models.jsontools.JsonTools"
            " in front (open_model does)",
            provider="local",
            retryable=False,
        )
    unknown = sorted(set(request.options) - _OPTIONS)
    if unknown:
        whose = "is set by the runtime" if unknown[0] in RESERVED_OPTIONS else "is unknown"
        raise ModelError(
            f"option {unknown[0]!r} of a local model {whose}; known: {', '.join(sorted(_OPTIONS))}",
            provider="local",
            retryable=False,
        )
    return {
        # The seed of a call must not change with the process: `hash` does.
        "seed": zlib.crc32(request.key.encode()),
        "temperature": 0.0,
        "max_tokens": DEFAULT_MAX_TOKENS,
        **request_body(model, request),
        **request.options,
        # A chunk for every batch of the prompt, so that a long prompt can be cancelled too.
        "return_progress": True,
    }


def _provider_error(error: Mapping[str, Any]) -> ModelError:
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        message = (
            f"the prompt has {error.get('n_prompt_tokens')} tokens and the context of a local"
            f" model {error.get('n_ctx')}; shorten it, compact the session, or set context_tokens"
        )
    code = error.get("code")
    status = code if isinstance(code, int) else None
    retryable = status is not None and status >= 500
    return ModelError(message, provider="local", retryable=retryable, status=status)
