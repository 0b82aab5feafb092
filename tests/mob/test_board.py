"""The task board: its decisions against a plain model, its verbs, its tools, its rows."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mob import open_mob
from mob.app import stored_mob
from mob.board import MAX_TITLE, TRANSITIONS, Board, BoardState, BoardTask
from mob.errors import (
    BoardCycle,
    BoardKeyUsed,
    BoardMisuse,
    BoardTaskNotFound,
    DefinitionInvalid,
    MemberNotFound,
    TaskBlocked,
)
from mob.records import BoardTaskMoved, MemberRetired
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.state import RealmState
from stores import MemoryDisk, MemoryStore, open_lmdb, open_memory
from tests.mob.mobs import asked, define, models, opened, records, table

OWNERS = ("a", "b", "c")


@attrs.define
class Plain:
    """A task of the model."""

    state: str = "open"
    owner: str | None = None
    blocked_by: tuple[str, ...] = ()


class Decisions(RuleBasedStateMachine):
    """CONTRACTS 6.11: the board decides as a plain dictionary of tasks does."""

    @initialize()
    def begin(self) -> None:
        self.state = RealmState()
        self.board = Board(self.state)
        self.written: list[Any] = []
        self.plain: dict[str, Plain] = {}

    def write(self, record: Any) -> None:
        self.written.append(record)
        self.state.apply(len(self.written), record)

    def some(self, number: int) -> str:
        return f"t{number % (len(self.plain) + 1) + 1}"

    @rule(blockers=st.lists(st.integers(0, 9), max_size=3))
    def add(self, blockers: list[int]) -> None:
        wanted = tuple(dict.fromkeys(self.some(each) for each in blockers))
        if not set(wanted) <= self.plain.keys():
            with pytest.raises(BoardTaskNotFound):
                self.board.add("x", "", wanted, None, 1)
            return
        self.write(self.board.add("x", "", wanted, None, 1))
        self.plain[f"t{len(self.plain) + 1}"] = Plain(blocked_by=wanted)

    @rule(number=st.integers(0, 9), owner=st.sampled_from(OWNERS))
    def claim(self, number: int, owner: str) -> None:
        name = self.some(number)
        known = self.plain.get(name)
        if known is None:
            with pytest.raises(BoardTaskNotFound):
                self.board.move("claim", name, owner, "", None, 1)
        elif known.state != "open":
            with pytest.raises(BoardMisuse, match=known.state):
                self.board.move("claim", name, owner, "", None, 1)
        elif undone := [e for e in known.blocked_by if self.plain[e].state != "done"]:
            with pytest.raises(TaskBlocked) as refused:
                self.board.move("claim", name, owner, "", None, 1)
            assert [each for each, _ in refused.value.blockers] == undone
        else:
            self.write(self.board.move("claim", name, owner, "", None, 1))
            known.state, known.owner = "claimed", owner

    @rule(
        number=st.integers(0, 9),
        verb=st.sampled_from(["release", "finish", "cancel"]),
        owner=st.sampled_from([None, *OWNERS]),
    )
    def move(self, number: int, verb: str, owner: str | None) -> None:
        name = self.some(number)
        known = self.plain.get(name)
        if known is None:
            return
        allowed = ("open", "claimed") if verb == "cancel" else ("claimed",)
        if known.state not in allowed or (owner is not None and known.owner != owner):
            with pytest.raises(BoardMisuse):
                self.board.move(verb, name, owner, "r", None, 1)
            return
        self.write(self.board.move(verb, name, owner, "r", None, 1))
        known.state = {"release": "open", "finish": "done", "cancel": "cancelled"}[verb]
        known.owner = known.owner if verb == "finish" else None

    @rule(number=st.integers(0, 9), blockers=st.lists(st.integers(0, 9), max_size=3))
    def block(self, number: int, blockers: list[int]) -> None:
        name = self.some(number)
        wanted = tuple(dict.fromkeys(self.some(each) for each in blockers))
        if name not in self.plain or not set(wanted) <= self.plain.keys():
            return
        if self.plain[name].state != "open":
            with pytest.raises(BoardMisuse):
                self.board.block(name, wanted, None, 1)
        elif any(name in self.below(each) for each in wanted):
            with pytest.raises(BoardCycle) as refused:
                self.board.block(name, wanted, None, 1)
            way = refused.value.way
            assert way[0] == way[-1] == name
            for one, other in pairwise(way[1:]):
                assert other in self.plain[one].blocked_by
        else:
            self.write(self.board.block(name, wanted, None, 1))
            self.plain[name].blocked_by = wanted

    def below(self, name: str) -> set[str]:
        found, ahead = {name}, [name]
        while ahead:
            more = set(self.plain[ahead.pop()].blocked_by) - found
            found |= more
            ahead += more
        return found

    @rule(owner=st.sampled_from(OWNERS))
    def retire(self, owner: str) -> None:
        self.write(MemberRetired(owner, "enough", 1))
        for known in self.plain.values():
            if (known.state, known.owner) == ("claimed", owner):
                known.state, known.owner = "open", None

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "board"):
            return
        told = {
            name: Plain(task.state.value, task.owner, task.blocked_by)
            for name, task in self.board.tasks.items()
        }
        assert told == self.plain
        for name in self.plain:
            assert not any(name in self.below(each) for each in self.plain[name].blocked_by)

    @rule()
    def written_and_loaded(self) -> None:
        """CONTRACTS 6.9: rows make the same board."""
        again = Board(RealmState())
        state = RealmState()
        whole = Board(state)
        for seq, record in enumerate(self.written, 1):
            state.apply(seq, record)
        for name, row in whole.changed():
            assert row is not None
            again.load(name, row)
        again.loaded()
        assert list(again.tasks.items()) == list(self.board.tasks.items())
        assert again._claimed == self.board._claimed


TestDecisions = Decisions.TestCase


def test_every_state_and_verb_is_in_the_table_or_refused() -> None:
    """CONTRACTS 6.11: done and cancelled are final."""
    verbs = {verb for _, verb in TRANSITIONS}
    for verb in verbs:
        assert (BoardState.DONE, verb) not in TRANSITIONS
        assert (BoardState.CANCELLED, verb) not in TRANSITIONS


async def test_the_verbs() -> None:
    """CONTRACTS 6.11: an owner is set only when the blockers are done; errors name what blocks."""
    async with opened(define("a", "b")) as mob:
        board = mob.board
        dig = await board.add("dig")
        plant = await board.add("plant", "roses", [dig.task_id])
        with pytest.raises(TaskBlocked, match=r"t2 is blocked by t1 \(open\)"):
            await board.claim(plant.task_id, "a")
        with pytest.raises(MemberNotFound):
            await board.claim(dig.task_id, "nobody")
        assert (await board.claim(dig.task_id, "a")).owner == "a"
        with pytest.raises(BoardMisuse, match="claimed by 'a'"):
            await board.claim(dig.task_id, "b")
        with pytest.raises(BoardMisuse, match="belongs to 'a'"):
            await board.finish(dig.task_id, "no", owner="b")
        done = await board.finish(dig.task_id, "a hole")
        assert (done.state, done.owner, done.result) == (BoardState.DONE, "a", "a hole")
        assert (await board.claim(plant.task_id, "b")).state is BoardState.CLAIMED
        assert (await board.release(plant.task_id)).owner is None
        assert [each.task_id for each in board.list("open")] == ["t2"]
        assert [each.task_id for each in board.list(owner="a")] == ["t1"]
        with pytest.raises(ValueError, match="lost"):
            board.list("lost")
        with pytest.raises(BoardTaskNotFound, match="there are: t1, t2"):
            board.get("t3")
        with pytest.raises(BoardMisuse, match="characters"):
            await board.add("x" * (MAX_TITLE + 1))
        with pytest.raises(BoardMisuse, match="characters"):
            await board.add("  ")
        await board.cancel(plant.task_id, "winter")
        water = await board.add("water", blocked_by=["t2"])
        with pytest.raises(TaskBlocked, match=r"t2 \(cancelled\)"):
            await board.claim(water.task_id, "a")
        await board.block(water.task_id, ())
        assert (await board.claim(water.task_id, "a")).owner == "a"
        assert len(records(mob.realm.store, BoardTaskMoved)) == 6


async def test_of_two_claims_at_once_one_wins() -> None:
    """CONTRACTS 6.11: a task has one owner."""
    async with opened(define("a", "b", "c")) as mob:
        await mob.board.add("dig")
        won: list[str] = []
        lost: list[str] = []

        async def claim(owner: str) -> None:
            try:
                won.append(str((await mob.board.claim("t1", owner)).owner))
            except BoardMisuse:
                lost.append(owner)

        async with trio.open_nursery() as nursery:
            for owner in OWNERS:
                nursery.start_soon(claim, owner)
        assert len(won) == 1
        assert sorted(won + lost) == list(OWNERS)
        assert mob.board.get("t1").owner == won[0]


async def test_a_verb_that_was_cancelled_is_landed_before_the_next_one_decides(
    tmp_path: Path,
) -> None:
    """CONTRACTS 6.11: no two claims are decided on the same state, also if nobody waits for the
    first."""
    async with open_lmdb(tmp_path / "s") as store, opened(define("a", "b"), store=store) as mob:
        await mob.board.add("dig")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.board.claim, "t1", "a")
            while mob.board._ticket is None:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with pytest.raises(BoardMisuse, match="claimed by 'a'"):
            await mob.board.claim("t1", "b")
        assert len(records(store, BoardTaskMoved)) == 1


async def test_keys_join_across_restarts() -> None:
    """CONTRACTS 6.11: every verb is idempotent with a key, in the next process too."""
    disk = MemoryDisk()
    for _ in range(2):
        async with open_memory(disk) as store, opened(define("a", "b"), store=store) as mob:
            added = await mob.board.add("dig", key="k1")
            assert added.task_id == "t1"
            claimed = await mob.board.claim("t1", "a", key="k2")
            assert claimed.owner == "a"
            with pytest.raises(BoardKeyUsed):
                await mob.board.claim("t1", "a", key="k1")
            await mob.board.add("plant", key="k3")
            with pytest.raises(BoardKeyUsed):
                await mob.board.claim("t2", "a", key="k2")
            assert len(mob.board.list()) == 2


async def test_who_leaves_loses_what_it_had_claimed_in_the_same_commit() -> None:
    """CONTRACTS 6.11: the tasks of a member that retires are open again."""
    async with open_memory() as store, opened(define("a", "b"), store=store) as mob:
        for title in ("one", "two", "three"):
            await mob.board.add(title)
        await mob.board.claim("t1", "b")
        await mob.board.claim("t2", "a")
        await mob.board.claim("t3", "b")
        await mob.board.finish("t3")
        await mob.retire("b")
        states = [(each.state.value, each.owner) for each in mob.board.list()]
        assert states == [("open", None), ("claimed", "a"), ("done", "b")]
        with pytest.raises(MemberNotFound):
            await mob.board.claim("t1", "b")
        assert len(records(store, BoardTaskMoved)) == 4  # nothing but the leaving said so
        # Not from the rows that were written at the end, but from the journal too:
        seen = stored_mob(store, "t").folds.board
        assert [(each.state.value, each.owner) for each in seen.tasks.values()] == states


@pytest.mark.parametrize("verb", ["release", "finish"])
async def test_a_verb_waits_for_the_owner_that_leaves(verb: str, tmp_path: Path) -> None:
    """CONTRACTS 6.11: what is decided is what is on disk, also while the leaving is on its way."""
    async with open_lmdb(tmp_path / "s") as store, opened(define("a", "b"), store=store) as mob:
        await mob.board.add("dig")
        await mob.board.claim("t1", "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.retire, "b")
            while "b" not in mob._leaving:
                await trio.lowlevel.checkpoint()
            with pytest.raises(BoardMisuse, match="task t1 is open"):
                await getattr(mob.board, verb)("t1")
        assert [each.verb for each in records(store, BoardTaskMoved)] == ["claim"]


async def test_the_board_of_a_stopped_mob_may_be_changed() -> None:
    """CONTRACTS 6.11, 6.1: the table says when."""
    async with opened(define("a")) as mob:
        await mob.stop()
        await mob.board.add("dig")
    with pytest.raises(Exception, match="closed"):
        await mob.board.add("dig")


def on_the_board(**profile: Any) -> Any:
    return define("a", "b", profile={"board": True, **profile})


async def test_members_work_over_the_board() -> None:
    """CONTRACTS 6.11: the tools add, list, claim and finish, each for its own member."""
    told: list[Any] = []

    def answer(request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            told.append((last.outcome.value, last.text))
            return last.text
        name, _, arguments = asked(request).partition(" ")
        return calling((name, json.loads(arguments)))

    async with opened(on_the_board(), answer) as mob:

        async def call(member: str, tool: str, **arguments: Any) -> Any:
            await mob.ask(member, f"{tool} {json.dumps(arguments)}")
            return told[-1]

        await call("a", "board_add", title="dig", detail="deep")
        await call("a", "board_add", title="plant", blocked_by=["t1"])
        assert "blocked by t1" in (await call("b", "board_claim", task="t2"))[1]
        assert '"owner": "b"' in (await call("b", "board_claim", task="t1"))[1]
        assert "belongs to 'b'" in (await call("a", "board_finish", task="t1", result="x"))[1]
        assert '"state": "done"' in (await call("b", "board_finish", task="t1", result="hole"))[1]
        assert json.loads((await call("a", "board_list", state="open"))[1]) == [
            {"task": "t2", "title": "plant", "state": "open", "blocked_by": ["t1"]}
        ]
        assert json.loads((await call("a", "board_list", mine=True))[1]) == []
        assert "no task 't9'" in (await call("a", "board_claim", task="t9"))[1]


async def test_a_call_that_is_repeated_after_a_crash_does_it_once() -> None:
    """CONTRACTS 6.11: the tools are idempotent on the call: what it did is on disk, and what it was
    told is not."""
    disk = MemoryDisk()

    def answer(request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            return last.text
        return calling(("board_add", {"title": "dig"}))

    async with trio.open_nursery() as nursery:
        first = MemoryStore(disk)
        mob = await nursery.start(_kept, on_the_board(), answer, first)
        nursery.start_soon(_asks, mob)
        while disk.entries[b"realm/t"][-1].kind != 72:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()  # nothing after this reaches the disk
        second = MemoryStore(disk)
    with trio.fail_after(10):
        async with open_mob(on_the_board(), store=second, models=models(answer)) as mob:
            await mob.wait_idle()
            assert [each.task_id for each in mob.board.list()] == ["t1"]
            last = mob.realm.snapshot(mob.session_of("a")).messages[-1]
            assert '"task": "t1"' in last.text


async def _kept(
    definition: Any,
    answer: Any,
    store: Any,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    try:
        async with open_mob(definition, store=store, models=models(answer), grace_s=0) as mob:
            task_status.started(mob)
            await trio.sleep_forever()
    except Exception:  # noqa: BLE001 the store was taken over
        pass


async def _asks(mob: Any) -> None:
    try:
        await mob.ask("a", "go")
    except Exception:  # noqa: BLE001
        pass


def test_only_profiles_that_say_so_have_the_tools() -> None:
    """CONTRACTS 6.11: `board` in a profile switches the tools on, and takes their names."""
    plain = define("a")
    assert not plain.profiles["p"].board
    assert json.loads(plain.blueprint())["profiles"]["p"].get("board") is None
    with pytest.raises(DefinitionInvalid, match="taken by a built-in tool"):
        on_the_board_with_a_tool_of_that_name()
    assert on_the_board(tool_choice=["board_list"]).profiles["p"].tool_choice == ("board_list",)
    with pytest.raises(DefinitionInvalid, match="no tool 'board_list'"):
        define("a", profile={"tool_choice": ["board_list"]})


def on_the_board_with_a_tool_of_that_name() -> None:
    from mob.definition import MobDefinition

    tools = {"board_add": {"function": "x.py:y"}}
    MobDefinition.from_table(table(("a",), profile={"board": True}, tools=tools))


def test_the_rows_never_change() -> None:
    """CONTRACTS 6.9: what is stored of a task."""
    row = bytes.fromhex("9b01a27431a3646967a46465657090a7636c61696d6564a161a001029192a16ba3616464")
    board = Board(RealmState())
    board.load(b"t1", row)
    assert board.tasks["t1"] == BoardTask(
        "t1", "dig", "deep", (), BoardState.CLAIMED, "a", "", 1, 2, (("k", "add"),)
    )
    board.stale(b"t1")
    assert list(board.changed()) == [(b"t1", row)]


async def test_turns_that_are_drained_work_over_the_board_still() -> None:
    """CONTRACTS 6.11, 5.11: a stop lets turns in flight finish, and what they do with them."""
    entered, go = trio.Event(), trio.Event()

    async def answer(request: ModelRequest) -> ModelReply | str:
        if isinstance(request.messages[-1], ToolResult):
            return request.messages[-1].text
        entered.set()
        await go.wait()
        return calling(("board_add", {"title": "dig"}))

    async with opened(on_the_board(), answer) as mob, trio.open_nursery() as nursery:
        nursery.start_soon(mob.ask, "a", "go")
        await entered.wait()
        nursery.start_soon(mob.stop)
        await trio.testing.wait_all_tasks_blocked()
        go.set()
        await mob.wait_idle()
        assert [each.title for each in mob.board.list()] == ["dig"]
