"""What a run cost, wherever it is shown; what has no price is never shown as free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import ECHO, mob

PRICE = "price = { input = 1.5, output = 2, cached_input = 0.15 }"
RUN = ("run", "mob.toml", "--prompt", "How deep is it?")


def folder_with(tmp_path: Path, price: str) -> Path:
    file = ECHO.replace('model = "sim:echo"', f'model = "sim:echo"\n{price}')
    (tmp_path / "mob.toml").write_text(file)
    return tmp_path


@pytest.mark.parametrize(
    ("price", "told", "exact"),
    [
        (PRICE, "$0.0000105", "0.0000105"),
        ("price = { input = 0, output = 0 }", "$0.00", "0"),
        ("", "unpriced", None),
    ],
)
def test_a_cost_is_told_by_run_and_by_every_verb_that_looks(
    tmp_path: Path, price: str, told: str, exact: str | None
) -> None:
    """Prices by alias, unpriced said as such and never zero."""
    folder = folder_with(tmp_path, price)
    done = mob(*RUN, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"spent 6 tokens, {told} in 1 model call\n" in done.stderr
    assert told in mob("ls", cwd=folder).stdout
    assert told in mob("show", "echo", cwd=folder).stdout
    assert told in mob("show", "echo/lead", cwd=folder).stdout
    assert told in mob("tree", "echo", cwd=folder).stdout
    report = json.loads(mob(*RUN, "--json", cwd=folder).stdout)
    assert report["usage"]["cost_usd"] == exact
    assert report["members"][0]["usage"]["unpriced_calls"] == (0 if price else 1)
    shown = json.loads(mob("show", "echo/lead", "--json", cwd=folder).stdout)
    assert (shown["usage"]["cost_usd"] is None) is (exact is None)


def test_another_model_has_not_the_price_of_the_one_it_stands_for(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, PRICE)
    done = mob(*RUN, "--model", "main=sim:agent", cwd=folder)
    assert "unpriced" in done.stderr


def test_a_price_changed_later_does_not_change_what_was_spent(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, PRICE)
    mob(*RUN, cwd=folder)
    folder_with(tmp_path, "")
    again = mob(*RUN, cwd=folder)
    assert again.returncode == 0, "a price is no part of the blueprint"
    assert "$0.0000105 + 1 call unpriced" in mob("show", "echo/lead", cwd=folder).stdout
