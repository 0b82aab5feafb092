"""From ``provider:id`` to a model.

Owns: the providers there are, how each is opened, and whether it would work here and now. Must
not: import a provider's package before a model of it is opened, or keep the models it opened.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from runtime.errors import ModelUnavailable
from runtime.models.base import Model
from runtime.models.guard import (
    allow_real_models,
    check_real_models_allowed,
    forbid_real_models,
)
from runtime.models.jsontools import JsonTools
from runtime.models.remote import installed

__all__ = [
    "KNOWN_PROVIDERS",
    "Client",
    "ModelRef",
    "Provider",
    "ProviderStatus",
    "allow_real_models",
    "forbid_real_models",
    "list_providers",
    "open_model",
    "parse_model_ref",
    "takes_seed",
]


@attrs.frozen
class ModelRef:
    """A model's name, in its two parts."""

    provider: str
    id: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.id}"


#: The client of one model, short of its configuration: its free keywords are what may be set.
Client: TypeAlias = "functools.partial[Any]"


def _sim(ref: ModelRef) -> Client:
    from runtime.models.flaky import FlakyModel
    from runtime.models.sim import AgentModel, EchoModel
    from runtime.models.solver import SolverModel

    clients: Mapping[str, Callable[..., Model]] = {
        "echo": EchoModel,
        "agent": AgentModel,
        "solver": SolverModel,
        "flaky": FlakyModel,
    }
    return functools.partial(clients[ref.id])


def _local(ref: ModelRef) -> Client:
    from runtime.models.local import LocalModel

    return functools.partial(LocalModel, ref.id)


def _openai(ref: ModelRef) -> Client:
    from runtime.models.openai import OpenAIModel

    check_real_models_allowed(str(ref), ref.provider)
    return functools.partial(OpenAIModel, ref.id, provider=ref.provider)


def _anthropic(ref: ModelRef) -> Client:
    from runtime.models.anthropic import AnthropicModel

    check_real_models_allowed(str(ref), ref.provider)
    return functools.partial(AnthropicModel, ref.id, provider=ref.provider)


def _gemini(ref: ModelRef) -> Client:
    from runtime.models.gemini import GeminiModel

    check_real_models_allowed(str(ref), ref.provider)
    return functools.partial(GeminiModel, ref.id, provider=ref.provider)


@attrs.frozen
class Provider:
    """One row of what can be had. `ids` is empty where any id may exist."""

    name: str
    ids: tuple[str, ...]
    #: What it is, in a line.
    what: str
    client: Callable[[ModelRef], Client]
    #: The environment variable with the key, the package, and the extra that brings the package.
    key_env: str | None = None
    package: str | None = None
    extra: str | None = None
    #: Whether its models take a ``seed`` among the options of a call.
    seeds: bool = True


@attrs.frozen
class ProviderStatus:
    """A provider as ``mob models`` shows it: `missing` says what to do, None if nothing."""

    name: str
    example: str
    what: str
    needs: str
    missing: str | None

    @property
    def usable(self) -> bool:
        return self.missing is None


KNOWN_PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider
    for provider in (
        Provider(
            "sim",
            ("echo", "agent", "solver", "flaky"),
            "simulated, without key or network: echo repeats, agent acts like an agent, solver is"
            " right as often as told, flaky fails",
            _sim,
        ),
        Provider(
            "local",
            ("smollm2-135m",),
            "embedded, on this machine's CPU; fetches its weights once",
            _local,
            package="xllamacpp",
            extra="local",
        ),
        Provider(
            "openai",
            (),
            "OpenAI; with base_url any server that speaks its protocol, under any provider name",
            _openai,
            key_env="OPENAI_API_KEY",
            package="openai",
            extra="openai",
        ),
        Provider(
            "anthropic",
            (),
            "Anthropic; with base_url a server that speaks its messages protocol",
            _anthropic,
            key_env="ANTHROPIC_API_KEY",
            package="anthropic",
            extra="anthropic",
            seeds=False,
        ),
        Provider(
            "gemini",
            (),
            "Google's Gemini API; with base_url a server that speaks its protocol",
            _gemini,
            key_env="GEMINI_API_KEY",
            package="google.genai",
            extra="gemini",
        ),
    )
}
#: An id to show for a provider that takes any.
_EXAMPLE_IDS = {
    "openai": "gpt-5-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}


def parse_model_ref(text: str) -> ModelRef:
    """The two parts of ``provider:id``; the id may hold colons itself.

    Raises:
        ModelUnavailable: a part is missing.
    """
    provider, colon, model = text.strip().partition(":")
    if provider and colon and model:
        return ModelRef(provider, model)
    known = [str(ModelRef(row.name, each)) for row in KNOWN_PROVIDERS.values() for each in row.ids]
    near = difflib.get_close_matches(text, [*known, *(name.partition(":")[2] for name in known)])
    hint = f"; did you mean {_full(near[0], known)}?" if near else ""
    raise ModelUnavailable(
        f"a model is written provider:id, such as sim:agent, not {text!r}{hint}", provider=provider
    )


def _full(near: str, known: list[str]) -> str:
    return next(name for name in known if name == near or name.endswith(":" + near))


def open_model(ref: ModelRef | str, **config: Any) -> Model:
    """The model called `ref`, behind `JsonTools` if it has no tools of its own.

    `config` goes to the client: ``base_url``, ``api_key``, ``api_key_env``, ``max_retries`` and
    ``timeout_s`` for the services and for compatible servers, ``seed`` and ``latency_s`` for
    sim:agent, `LocalModel`'s keywords for local. With ``base_url``, any provider name stands for an
    OpenAI-compatible server there. Opening is quick: nothing is connected, fetched or loaded before
    the first call. The caller closes the model.

    Raises:
        ModelUnavailable: no such provider, id or configuration, or something it needs is missing.
    """
    if isinstance(ref, str):
        ref = parse_model_ref(ref)
    client = _provider_of(ref, config).client(ref)
    known = [
        each.name
        for each in inspect.signature(client).parameters.values()
        if each.kind is each.KEYWORD_ONLY and each.name not in client.keywords
    ]
    for key in config:
        if key not in known:
            raise ModelUnavailable(
                f"{ref} has no setting {key!r}{_nearest(key, known, 'settings')}",
                provider=ref.provider,
            )
    try:
        model: Model = client(**config)
    except (TypeError, ValueError) as error:
        raise ModelUnavailable(f"{ref}: {error}", provider=ref.provider) from error
    return model if model.supports_tools else JsonTools(model)


def _provider_of(ref: ModelRef, config: Mapping[str, Any]) -> Provider:
    provider = KNOWN_PROVIDERS.get(ref.provider)
    if provider is None and config.get("base_url"):
        return KNOWN_PROVIDERS["openai"]
    if provider is None:
        raise ModelUnavailable(
            f"unknown model provider {ref.provider!r}"
            f"{_nearest(ref.provider, list(KNOWN_PROVIDERS), 'providers')}"
            " (an OpenAI-compatible server needs base_url)",
            provider=ref.provider,
        )
    # An id of the user's own is for a weights file of their own.
    if provider.ids and ref.id not in provider.ids and not config.get("weights"):
        raise ModelUnavailable(
            f"{ref.provider} has no model {ref.id!r}{_nearest(ref.id, provider.ids, 'models')}",
            provider=ref.provider,
        )
    return provider


def takes_seed(reference: str) -> bool:
    """Whether the model ``provider:id`` takes a ``seed`` among the options of a call. A provider
    that is not known here is a server that speaks OpenAI's protocol, which has one."""
    provider = KNOWN_PROVIDERS.get(reference.partition(":")[0])
    return provider is None or provider.seeds


def _nearest(name: str, known: list[str] | tuple[str, ...], what: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known {what}: {', '.join(known)}" if known else f"; it has no {what}"


def list_providers() -> tuple[ProviderStatus, ...]:
    """What each known provider needs, and whether it is there. Reaches no network."""
    return tuple(_status(provider) for provider in KNOWN_PROVIDERS.values())


def _status(provider: Provider) -> ProviderStatus:
    needs, missing = [], []
    if provider.package is not None:
        install = f"pip install 'trio-mob[{provider.extra}]'"
        needs.append(install)
        if not installed(provider.package):
            missing.append(install)
    if provider.key_env is not None:
        needs.append(provider.key_env)
        if not os.environ.get(provider.key_env, "").strip():
            missing.append(f"export {provider.key_env}=...")
    return ProviderStatus(
        provider.name,
        str(ModelRef(provider.name, (*provider.ids, _EXAMPLE_IDS.get(provider.name, ""))[0])),
        provider.what,
        ", ".join(needs) or "nothing",
        "; ".join(missing) or None,
    )
