"""Every block of code in README and docs/ is run, or says why it is not."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mob.definition import MobDefinition
from tests.docs import settings
from tests.docs.blocks import RUN, SHOWN, all_blocks, by_page
from tests.docs.playing import laid_over, run_commands

#: Blocks that cannot be run by the tests; each says why in the page. Few, and none unnoticed.
NOT_RUN = 9

PYTHON = by_page("python")
COMMANDS = by_page("sh", "console")
FILES = by_page("toml")


def test_every_block_has_a_language_that_is_known() -> None:
    """A block without a language is not run, and nobody would notice."""
    unknown = [block.where for block in all_blocks() if block.language not in RUN | SHOWN]
    assert unknown == []


def test_few_blocks_are_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The manual's promise: all is run but for these, each with its reason."""
    left_out = [block for block in all_blocks() if block.reason is not None]
    with capsys.disabled():
        for block in left_out:
            print(f"\nnot run: {block.where}: {block.reason}", end="")  # noqa: T201 to be seen
    assert len(left_out) == NOT_RUN, [block.where for block in left_out]


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings.play(page, PYTHON[page], tmp_path)


@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    given = settings.COMMANDS.get(page, settings.Given())
    settings.prepare(tmp_path)
    run_commands(COMMANDS[page], tmp_path, given.before, given.after, given.instead)


@pytest.mark.parametrize("page", FILES)
def test_the_mob_files_of_a_page_are_valid(page: str, tmp_path: Path) -> None:
    """Parts of files are laid over a small one that has what they take for granted."""
    settings.prepare(tmp_path)
    for block in FILES[page]:
        shown = tomllib.loads(block.text)
        if "scenario" in shown:  # a benchmark's, which has a mob file inside
            from mob.bench.scenario import Scenario

            Scenario.from_table(shown, folder=tmp_path)
            continue
        table = laid_over(settings.FILE, settings.UNDER.get(page, {}))
        try:
            MobDefinition.from_table(
                settings.completed(laid_over(table, shown)), folder=tmp_path, source=block.where
            )
        except Exception as error:
            error.add_note(block.where)
            raise


def test_the_json_of_the_pages_is_json() -> None:
    for blocks in by_page("json").values():
        for block in blocks:
            json.loads(block.text)
