"""The models of a mob: aliases bound to clients, opened together and closed together.

Owns: resolving every alias of a definition, overrides, the price, the seed and the concurrency
bound of an alias. Must not: know a provider (the registry of `runtime.models` does).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import trio

from mob.modeldefs import ModelDefinition
from mob.tables import nearest
from runtime.errors import ModelUnavailable
from runtime.models.base import Emit, Model, ModelReply, ModelRequest
from runtime.models.recorded import Recording
from runtime.models.recording import Recorder, RecordingModel, ReplayModel, load_recording
from runtime.models.registry import open_model, takes_seed
from runtime.models.watched import watched
from runtime.prices import Price, priced


class Priced:
    """A model whose replies say what they cost."""

    def __init__(self, model: Model, price: Price) -> None:
        self._model = model
        self._price = price

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def supports_tools(self) -> bool:
        return self._model.supports_tools

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        reply = await self._model.generate(request, emit)
        return attrs.evolve(reply, usage=priced(reply.usage, self._price))

    async def aclose(self) -> None:
        await self._model.aclose()


class Seeded:
    """A model whose calls all sample from one seed, whatever their options say."""

    def __init__(self, model: Model, seed: int) -> None:
        self._model = model
        self._seed = seed

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def supports_tools(self) -> bool:
        return self._model.supports_tools

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        options = {**request.options, "seed": self._seed}
        return await self._model.generate(attrs.evolve(request, options=options), emit)

    async def aclose(self) -> None:
        await self._model.aclose()


class Limited:
    """A model with at most `most` calls at the same time; waiting calls are served in order."""

    def __init__(self, model: Model, most: int) -> None:
        self._model = model
        self._slots = trio.CapacityLimiter(most)

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def supports_tools(self) -> bool:
        return self._model.supports_tools

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        async with self._slots:
            return await self._model.generate(request, emit)

    async def aclose(self) -> None:
        await self._model.aclose()


def override(
    models: Mapping[str, ModelDefinition], replaced: Mapping[str, str]
) -> dict[str, ModelDefinition]:
    """The definitions with ``alias -> provider:id`` replaced; the alias ``all`` stands for each.

    A price is that of a model, so another model in its place has none; nor has it fallbacks:
    whoever names a model wants that one.

    Raises:
        ModelUnavailable: there is no such alias.
    """
    result = dict(models)
    for alias, reference in replaced.items():
        if alias != "all" and alias not in models:
            raise ModelUnavailable(
                f"there is no model alias {alias!r} in the definition;"
                f" {nearest(alias, [*models, 'all'])}",
                provider=reference.partition(":")[0],
            )
        for name in models if alias == "all" else (alias,):
            result[name] = ModelDefinition(reference)
    return result


def taped(
    models: Mapping[str, ModelDefinition], *, record: Path | None, replay: Path | None
) -> dict[str, ModelDefinition]:
    """The definitions with every call added to `record`, or answered out of `replay`."""
    if replay is not None:
        file = str(replay.absolute())
        return {name: attrs.evolve(each, record=None, replay=file) for name, each in models.items()}
    if record is not None:
        file = str(record.absolute())
        return {name: attrs.evolve(each, record=file, replay=None) for name, each in models.items()}
    return dict(models)


def seeded(models: Mapping[str, ModelDefinition], seed: int) -> dict[str, ModelDefinition]:
    """The definitions with every call sampling from `seed`, but of models that take none."""
    return {
        alias: attrs.evolve(each, seed=seed) if takes_seed(each.model) else each
        for alias, each in models.items()
    }


class _Tapes:
    """The recordings of a mob: aliases that name the same file share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recorders: dict[Path, Recorder] = {}
        self._recordings: dict[Path, Recording] = {}

    def player(self, file: str, name: str) -> Model:
        path = self._folder / file
        if path not in self._recordings:
            self._recordings[path] = load_recording(path)
        return ReplayModel(self._recordings[path], name=f"replay:{name}")

    def recorder(self, file: str, model: Model) -> Model:
        path = self._folder / file
        if path not in self._recorders:
            self._recorders[path] = Recorder(path)
        return RecordingModel(model, self._recorders[path])


@asynccontextmanager
async def open_models(
    definitions: Mapping[str, ModelDefinition],
    given: Mapping[str, Model],
    folder: Path | None = None,
) -> AsyncIterator[dict[str, Model]]:
    """A client for every alias: the given one, or one opened here and closed at the end.

    Given clients belong to the caller and stay open. Recordings are files in `folder`.

    Raises:
        ModelUnavailable: an alias cannot be served; nothing stays open.
    """
    async with AsyncExitStack() as stack:
        models: dict[str, Model] = {}
        tapes = _Tapes(folder or Path())
        for alias, definition in definitions.items():
            model = given.get(alias)
            if model is None and definition.replay is not None:
                model = tapes.player(definition.replay, definition.model)
            elif model is None:
                settings = {"base_url": definition.base_url, "api_key_env": definition.api_key_env}
                given_settings = {
                    key: value for key, value in settings.items() if value is not None
                }
                model = open_model(definition.model, **given_settings)
                stack.push_async_callback(model.aclose)
            if definition.record is not None:
                model = tapes.recorder(definition.record, model)
            if definition.seed is not None:  # around the recorder: it is a part of what is asked
                model = Seeded(model, definition.seed)
            if definition.price is not None:
                model = Priced(model, definition.price)
            # Within the bound: waiting for one's own turn is no silence of the model's.
            model = watched(model, definition.timeout_s, definition.stall_s)
            if definition.max_concurrency is not None:
                model = Limited(model, definition.max_concurrency)
            models[alias] = model
        yield models
