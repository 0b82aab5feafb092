"""From provider:id to a model, or to an error that says what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from runtime.errors import ModelUnavailable
from runtime.models.guard import ENVIRONMENT
from runtime.models.jsontools import JsonTools
from runtime.models.openai import OpenAIModel
from runtime.models.registry import (
    KNOWN_PROVIDERS,
    ModelRef,
    forbid_real_models,
    list_providers,
    open_model,
    parse_model_ref,
)
from runtime.models.sim import AgentModel, EchoModel
from runtime.models.weights import KNOWN_WEIGHTS


def test_references() -> None:
    assert parse_model_ref("sim:agent") == ModelRef("sim", "agent")
    assert parse_model_ref(" ollama:llama3:8b ") == ModelRef("ollama", "llama3:8b")
    assert str(ModelRef("ollama", "llama3:8b")) == "ollama:llama3:8b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("agent", "such as sim:agent, not 'agent'; did you mean sim:agent?"),
        ("sim-echo", "did you mean sim:echo?"),
        ("", "written provider:id"),
        (":x", "written provider:id"),
        ("sim:", "written provider:id"),
    ],
)
def test_malformed_references(text: str, says: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        parse_model_ref(text)
    assert says in str(caught.value)


def test_simulated_models_open_with_their_settings() -> None:
    assert isinstance(open_model("sim:echo"), EchoModel)
    assert isinstance(open_model(ModelRef("sim", "agent"), seed=3, latency_s=0.5), AgentModel)


def test_any_provider_with_a_base_url_is_a_compatible_server() -> None:
    model = open_model("ollama:llama3:8b", base_url="http://127.0.0.1:11434/v1")
    assert isinstance(model, OpenAIModel)
    assert model.name == "ollama:llama3:8b"


@pytest.mark.parametrize(
    ("ref", "config", "says"),
    [
        ("sin:echo", {}, "unknown model provider 'sin'; did you mean 'sim'?"),
        (
            "acme:m",
            {},
            "known providers: sim, local, openai, anthropic, gemini (an OpenAI-compatible",
        ),
        ("sim:ecko", {}, "no model 'ecko'; did you mean 'echo'?"),
        ("sim:gpt", {}, "no model 'gpt'; known models: echo, agent, solver, flaky"),
        ("sim:agent", {"latency": 1}, "no setting 'latency'; did you mean 'latency_s'?"),
        ("sim:echo", {"seed": 1}, "no setting 'seed'; it has no settings"),
        ("sim:agent", {"latency_s": -1}, "latency_s must not be negative"),
        ("openai:m", {"base_url": "http://x", "provider": "y"}, "no setting 'provider'"),
    ],
)
def test_mistakes_name_what_is_nearest(ref: str, config: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        open_model(ref, **config)
    assert says in str(caught.value)


def test_a_missing_key_is_said_on_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
        open_model("openai:gpt-5-mini")


def test_the_embedded_models_are_those_with_known_weights() -> None:
    assert KNOWN_PROVIDERS["local"].ids == tuple(KNOWN_WEIGHTS)


def test_the_embedded_model_is_opened_behind_json_tools() -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    assert isinstance(open_model("local:smollm2-135m"), JsonTools)
    assert open_model("local:mine", weights="mine.gguf").name == "local:mine"
    with pytest.raises(ModelUnavailable, match="known models: smollm2-135m"):
        open_model("local:mine")


def test_models_without_tools_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EchoModel, "supports_tools", False)
    assert isinstance(open_model("sim:echo"), JsonTools)


def test_forbidding_real_models_stops_them_and_only_them() -> None:
    with forbid_real_models():
        with forbid_real_models():
            pass
        with pytest.raises(ModelUnavailable, match="forbidden here"):
            open_model("openai:m", api_key="k")
        open_model("sim:agent")
    open_model("openai:m", api_key="k")


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_service_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    package = KNOWN_PROVIDERS[provider].package
    assert package is not None
    monkeypatch.setitem(sys.modules, package, None)
    install = f"pip install 'trio-mob[{provider}]'"
    with pytest.raises(ModelUnavailable) as caught:
        open_model(f"{provider}:m", api_key="k")
    assert install in str(caught.value)
    rows = {row.name: row for row in list_providers()}
    assert install in (rows[provider].missing or "")


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_service_without_its_key_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    env = KNOWN_PROVIDERS[provider].key_env
    assert env is not None
    monkeypatch.delenv(env, raising=False)
    with pytest.raises(ModelUnavailable, match=f"{env}, which is not set: export {env}="):
        open_model(f"{provider}:m")
    monkeypatch.setenv(env, "k")
    assert open_model(f"{provider}:m").name == f"{provider}:m"
    with forbid_real_models(), pytest.raises(ModelUnavailable, match="forbidden here"):
        open_model(f"{provider}:m")


def test_the_list_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rows = {row.name: row for row in list_providers()}
    assert list(rows) == list(KNOWN_PROVIDERS) == ["sim", "local", "openai", "anthropic", "gemini"]
    assert rows["sim"].usable
    assert rows["sim"].example == "sim:echo"
    assert rows["openai"].missing == "export OPENAI_API_KEY=..."
    assert not rows["openai"].usable
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert next(row for row in list_providers() if row.name == "openai").usable
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = {row.name: row.missing for row in list_providers()}
    assert missing["local"] == "pip install 'trio-mob[local]'"


def test_no_provider_package_is_imported_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(ENVIRONMENT)
    code = (
        "import sys; from runtime.models.registry import *;"
        "open_model('sim:agent'); open_model('openai:m', api_key='k'); list_providers();"
        "open_model('anthropic:m', api_key='k'); open_model('gemini:m', api_key='k');"
        "heavy = 'openai anthropic google.genai httpx2 jsonschema xllamacpp'.split();"
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"
