"""Budgets of mobs, members and runs: in files, on the command line, and what they stop."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from mob.budgets import check_run_budget, limit_run, parse_budget
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.runs import run_key
from runtime.budget import Budget
from runtime.errors import BudgetExceeded
from runtime.messages import Usage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from stores import MemoryStore
from tests.cli.commands import mob as command
from tests.mob.comms.clocks import wall
from tests.mob.mobs import TOOLS, define, member, opened, table, tool_file


def spends(tokens: int) -> Any:
    return lambda request: ModelReply(member(request), usage=Usage(tokens, 0, 1))


async def test_the_budget_of_a_mob_is_for_all_its_members_and_kept() -> None:
    """CONTRACTS 6.15, 6.9."""
    store = MemoryStore()
    definition = define("a", "b", budget={"tokens": 25})
    async with opened(definition, spends(10), store=store) as mob:
        await mob.ask("a", "x")
        await mob.ask("b", "x")
    async with opened(definition, spends(10), store=store) as mob:
        await mob.ask("a", "x")
        for name in ("a", "b"):
            with pytest.raises(BudgetExceeded, match="the budget of mob 't' is used up: 30 of 25"):
                await mob.ask(name, "x")
    # Raised in the file: a budget is no part of the blueprint.
    async with opened(define("a", "b", budget={"tokens": 99}), spends(10), store=store) as mob:
        assert (await mob.ask("a", "x")).text == "a"


async def test_the_budget_of_a_member_is_its_own() -> None:
    definition = define("a", "b", profile={"budget": {"tokens": 15}}, budget={"tokens": 50})
    async with opened(definition, spends(10)) as mob:
        for _ in range(2):
            await mob.ask("a", "x")
        with pytest.raises(BudgetExceeded, match="the budget of member 'a'") as found:
            await mob.ask("a", "x")
        assert found.value.spent == 20
        assert (await mob.ask("b", "x")).text == "b"


async def test_money_is_counted_by_the_price_of_the_model() -> None:
    model = {"model": "sim:echo", "price": {"input": 1, "output": 1}}
    definition = define("a", models={"m": model}, budget={"usd": 0.00002})
    async with opened(definition, spends(10)) as mob:
        for _ in range(2):
            await mob.ask("a", "x")
        with pytest.raises(BudgetExceeded, match=r"\$0.00002 of \$0.00002"):
            await mob.ask("a", "x")


def test_a_model_without_a_price_is_refused_under_a_budget_of_money() -> None:
    """Refused at load, with the path of what is missing."""
    models = {
        "m": {"model": "sim:echo", "price": {"input": 1, "output": 1}, "fallback": ["n"]},
        "n": {"model": "sim:echo"},
        "unused": {"model": "sim:echo"},
    }
    for parts in ({"budget": {"usd": 1}}, {"profile": {"budget": {"usd": 1}}}):
        with pytest.raises(DefinitionInvalid, match="1 mistake") as found:
            define("a", models=models, **parts)
        (mistake,) = found.value.mistakes
        assert mistake.path == "models.n.price"
    unbounded = define("a", models=models)
    with pytest.raises(DefinitionInvalid, match=r"models\.n\.price"):
        check_run_budget(unbounded, Budget(nano_usd=1))
    check_run_budget(unbounded, Budget(tokens=1))


@pytest.mark.parametrize("path", ["budget", "profiles.p.budget"])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens", 1.5, "expected a whole number, found 1.5"),
        ("tokens", -1, "must be at least 0, found -1"),
        ("tool_calls", True, "expected a whole number, found True"),
        ("seconds", "60", "expected a number, found '60'"),
        ("seconds", float("nan"), "must be at least 0, found nan"),
        ("usd", -1, "an amount of USD is 0 or more, not -1"),
        ("token", 5, "unknown key"),
    ],
)
def test_a_budget_that_cannot_be_is_named(path: str, key: str, value: Any, message: str) -> None:
    data = table(("a",))
    inner = data
    for each in path.split("."):
        inner = inner.setdefault(each, {})
    inner[key] = value
    with pytest.raises(DefinitionInvalid) as found:
        MobDefinition.from_table(data)
    (mistake,) = found.value.mistakes
    assert (mistake.path, mistake.message) == (f"{path}.{key}", message)


def test_a_budget_changes_no_blueprint() -> None:
    plain = define("a").blueprint()
    assert define("a", budget={"tokens": 5}, profile={"budget": {"tokens": 1}}).blueprint() == plain
    assert "budget" not in json.loads(plain)


def test_budgets_on_the_command_line() -> None:
    assert parse_budget([]) is None
    assert parse_budget(["tokens=5000", "usd=0.25, seconds=1.5", "tool_calls=3"]) == Budget(
        5000, 3, 1.5, int(Decimal("0.25") * 10**9)
    )
    for wrong in ("tokens", "token=5", "tokens=many", "tokens=1.5", "usd=-1", "seconds=-1"):
        with pytest.raises(ValueError, match=wrong.partition("=")[0]):
            parse_budget([wrong])


async def test_a_run_is_bounded_from_its_question_on_and_a_joined_one_from_where_it_began() -> None:
    """CONTRACTS 6.15: a budget per run, kept over a restart."""
    store = MemoryStore()
    definition = define("a", "b")

    def answer(request: ModelRequest) -> ModelReply | Exception:
        return ModelReply("ok", usage=Usage(10, 0, 1))

    async with opened(definition, answer, store=store) as mob:
        await mob.ask("a", "before")
        key = run_key("go", mob.roster.reported)
        limit_run(mob, key, Budget(tokens=25))
        await mob.ask("b", "part of it")
        await mob.ask("a", "go", idempotency_key=key)
        await mob.ask("b", "more")
        with pytest.raises(BudgetExceeded, match="the budget of this run is used up: 30 of 25"):
            await mob.ask("b", "too much")
    async with opened(definition, answer, store=store) as mob:
        limit_run(mob, key, Budget(tokens=20))
        assert mob.realm.budgets is not None
        # What was spent before the question was not of the run.
        with pytest.raises(BudgetExceeded, match="20 of 20"):
            await mob.ask("b", "again")


@pytest.mark.parametrize("limit", ["tokens", "seconds"])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("ends", [False, True])
async def test_a_turn_that_is_cut_off_with_its_member_is_charged_for(
    autojump_clock: Any, tmp_path: Path, limit: str, checkpointed: bool, ends: bool
) -> None:
    """CONTRACTS 6.15, 6.9: as far as it was journalled, in the next process too; and once, also if
    the turn ends after its member has gone."""
    entered, go = trio.Event(), trio.Event()

    async def use(text: str) -> str:
        return "used"

    TOOLS["use"] = use

    async def answer(request: ModelRequest) -> ModelReply:
        await trio.sleep(10)
        if member(request) == "b":
            return ModelReply("b", usage=Usage(10, 0, 1))
        if len(request.messages) < 5:  # it says twice how far it is, ten seconds apart
            return attrs.evolve(calling(("use", {"text": ""})), usage=Usage(10, 0, 1))
        entered.set()
        with trio.CancelScope(shield=ends):
            await go.wait()
        return ModelReply("late", usage=Usage(10, 0, 1))

    allowed = {"tokens": 30 + 10 * ends, "seconds": 45 if ends else 25}[limit]
    tools = tool_file(tmp_path, use=False)
    profile = {"tools": ["use"]}
    store = MemoryStore()

    def bounded(by: float) -> MobDefinition:
        return define("a", "b", folder=tmp_path, tools=tools, profile=profile, budget={limit: by})

    async with opened(bounded(99), answer, store=store, ports=wall()) as mob:
        await mob.send("a", "x")
        await entered.wait()
        await trio.sleep(2)
        await mob.retire("a")
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        if checkpointed:
            await mob.realm.checkpoint()
        counted = mob.realm.budgets
        assert counted is not None
        whole, seconds = counted.ledger.whole, counted.seconds(None)
    async with opened(bounded(allowed), answer, store=store, ports=wall()) as mob:
        counted = mob.realm.budgets
        assert counted is not None
        assert counted.ledger.whole == whole == Usage(20 + 10 * ends, 0, 2 + ends, 2)
        assert counted.seconds(None) == pytest.approx(seconds) == pytest.approx(32 if ends else 10)
        await mob.ask("b", "y")
        with pytest.raises(BudgetExceeded):
            await mob.ask("b", "z")


async def test_of_turns_that_were_cut_off_those_since_its_question_are_of_a_run(
    autojump_clock: Any, tmp_path: Path
) -> None:
    """CONTRACTS 6.15: also in the process that joins the run."""
    store = MemoryStore()

    async def use(text: str) -> str:
        return "used"

    TOOLS["use"] = use

    async def answer(request: ModelRequest) -> ModelReply:
        if member(request) == "lead":
            return ModelReply("ok", usage=Usage(1, 0, 1))
        if len(request.messages) == 1:
            return attrs.evolve(calling(("use", {"text": ""})), usage=Usage(10, 0, 1))
        await trio.sleep_forever()
        raise AssertionError

    tools = tool_file(tmp_path, use=False)
    definition = define("lead", "a", "b", folder=tmp_path, tools=tools, profile={"tools": ["use"]})
    key = run_key("go", ())
    async with opened(definition, answer, store=store) as mob:
        for name in ("a", "b"):
            await mob.send(name, "x")
            await trio.testing.wait_all_tasks_blocked()
            if name == "b":
                await mob.ask("lead", "go", idempotency_key=key)
            await mob.retire(name)
    async with opened(definition, answer, store=store) as mob:
        limit_run(mob, key, Budget(tokens=99))
        assert mob.realm.budgets is not None
        ledger, (grant,) = mob.realm.budgets.ledger, mob.realm.budgets.grants
        assert (ledger.whole.total_tokens, grant.base.usage.total_tokens) == (21, 10)


FILE = """
[mob]
id = "m"
lead = "a"
[models.m]
model = "sim:echo"
[profiles.p]
model = "m"
[members.a]
profile = "p"
"""


def test_a_run_over_budget_exits_5(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(FILE)
    run = ("run", "mob.toml", "--prompt", "hello there", "--budget")
    done = command(*run, "tokens=0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, "")
    assert "the budget of this run is used up: 0 of 0 tokens; raise it" in done.stderr
    done = command(*run, "tokens=100", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "hello there\n")
    done = command(*run, "token=100", cwd=tmp_path)
    assert (done.returncode, "did you mean 'tokens'?" in done.stderr) == (2, True)
    done = command(*run, "usd=1", cwd=tmp_path)
    assert (done.returncode, "models.m.price" in done.stderr) == (3, True)
