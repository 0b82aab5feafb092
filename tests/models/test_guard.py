"""The switch that refuses real models: which rule holds, and that it is on in these tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime.errors import ModelUnavailable
from runtime.models import guard
from runtime.models.guard import (
    ENVIRONMENT,
    allow_real_models,
    check_real_models_allowed,
    forbid_real_models,
)


def is_forbidden() -> bool:
    try:
        check_real_models_allowed("openai:m", "openai")
    except ModelUnavailable:
        return True
    return False


def test_the_innermost_rule_holds() -> None:
    with forbid_real_models():
        assert is_forbidden()
        with allow_real_models():
            assert not is_forbidden()
            with forbid_real_models():
                assert is_forbidden()
            assert not is_forbidden()
        assert is_forbidden()


def test_rules_may_end_in_any_order() -> None:
    first, second = forbid_real_models(), allow_real_models()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not is_forbidden()
    second.__exit__(None, None, None)


def test_it_is_on_in_all_tests() -> None:
    """A switch, on in our tests, that refuses any real model."""
    rules = guard._rules
    assert rules[1].forbids, "the session's"
    assert not rules[2].forbids, "that of this folder"
    assert os.environ[ENVIRONMENT]


def test_a_process_inherits_it() -> None:
    code = "from runtime.models.registry import open_model; open_model('openai:m', api_key='k')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "forbidden here" in done.stderr
    env = {key: value for key, value in os.environ.items() if key != ENVIRONMENT}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)


def test_it_is_told_what_to_use_instead() -> None:
    with forbid_real_models(), pytest.raises(ModelUnavailable, match="use sim:echo"):
        check_real_models_allowed("openai:m", "openai")
