"""LocalSessionRunner in one process: CONTRACTS 1.1 to 1.10, without harnesses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import (
    LimitExceeded,
    ModelError,
    ModelUnavailable,
    OutputInvalid,
    SessionError,
    SessionNotFound,
    TurnFailed,
    TurnInterrupted,
)
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.messages import AssistantMessage, UserMessage
from runtime.ports import Ports, SystemIds
from runtime.realm import Realm
from runtime.retry import DEFAULT_RETRY
from runtime.session import SessionSpec, SessionStatus
from runtime.spawning import SpawnLimits
from runtime.turn import TurnRules
from stores import MemoryStore, open_lmdb
from tests.runtime.fakes import (
    HARNESS,
    REALM,
    CountingIds,
    counting_ports,
    make_realm,
    new_session,
    open_lagging,
)

FOREVER = trio.sleep_forever
NOBODY = SessionId("nobody")


async def test_a_created_session_is_on_disk_as_asked_for_and_has_run_nothing(
    tmp_path: Path,
) -> None:
    """CONTRACTS 1.1."""
    async with open_lmdb(tmp_path) as store:
        realm = make_realm(store, [])
        parent = await realm.runner.create_session(HARNESS)
        made = await realm.runner.create_session(
            HarnessId("h"), AgentId("a"), "title", "de", parent.session_id
        )
    async with open_lmdb(tmp_path) as store:
        found = await make_realm(store, []).runner.get_session(made.session_id)
    assert found == made
    assert (made.harness_id, made.agent_id, made.title, made.locale) == ("h", "a", "title", "de")
    assert (made.status, made.turns, made.message_count) == (SessionStatus.STARTED, 0, 0)
    lineage = made.lineage
    assert (lineage.parent, lineage.budget_root, lineage.depth, lineage.forked_from) == (
        parent.session_id,
        parent.session_id,
        1,
        None,
    )


async def test_a_message_returns_when_its_turn_has_ended_and_can_be_read() -> None:
    """CONTRACTS 1.2."""
    statuses: list[Any] = []

    async def say(_: Any) -> str:
        statuses.append(await realm.runner.get_session_status(session))
        return "hello"

    realm = make_realm(MemoryStore(), say)
    session = await new_session(realm)
    result = await realm.runner.send_message(session, "hi")
    assert (result.text, result.session_id, result.usage.model_calls) == ("hello", session, 1)
    assert statuses == [SessionStatus.ACTIVE]
    assert await realm.runner.get_session_status(session) is SessionStatus.IDLE
    assert [m.text for m in await realm.runner.get_messages(session)] == ["hello", "hi"]


@pytest.mark.parametrize(
    "broken",
    [
        ModelError("overloaded", provider="x", retryable=True),
        RuntimeError("a bug"),
        ExceptionGroup("several", [ValueError("one")]),
    ],
)
async def test_a_turn_that_fails_raises_a_typed_error_and_the_session_goes_on(
    broken: Exception, autojump_clock: Any
) -> None:
    """CONTRACTS 1.2 and 4.1: the error carries the session's id."""
    times = DEFAULT_RETRY.attempts if isinstance(broken, ModelError) else 1
    realm = make_realm(MemoryStore(), [broken] * times + ["better"])
    session = await new_session(realm)
    with pytest.raises(TurnFailed, match=type(broken).__name__) as found:
        await realm.runner.send_message(session, "hi")
    assert found.value.session_id == session
    assert found.value.__cause__ is broken
    assert found.value.retryable is isinstance(broken, ModelError)
    assert await realm.runner.get_session_status(session) is SessionStatus.FAILED
    assert (await realm.runner.send_message(session, "again")).text == "better"
    assert await realm.runner.get_session_status(session) is SessionStatus.IDLE
    texts = [m.text for m in await realm.runner.get_messages(session, order="oldest")]
    assert texts == ["hi", "again", "better"]


async def test_a_session_that_cannot_be_configured_fails_its_turn_and_keeps_no_input() -> None:
    """CONTRACTS 1.2."""
    broken = [ModelUnavailable("no key", provider="x")]
    working = make_realm(MemoryStore(), ["hello"])
    configure = working.configure
    assert configure is not None

    def configured(head: Any) -> Any:
        if broken:
            raise broken.pop()
        return configure(head)

    working.configure = configured
    session = await new_session(working)
    with pytest.raises(TurnFailed, match="no key"):
        await working.runner.send_message(session, "hi")
    assert working.state.head(session).inputs is None
    assert (await working.runner.send_message(session, "again")).text == "hello"


async def test_an_answer_that_never_fits_its_schema_is_told_with_what_was_said() -> None:
    """CONTRACTS 4.9: a typed error beside the raw text."""
    rules = TurnRules({"type": "object"}, output_retries=1)
    realm = make_realm(MemoryStore(), ["one", "two"], rules=rules)
    session = await new_session(realm)
    with pytest.raises(OutputInvalid) as found:
        await realm.runner.send_message(session, "hi")
    assert (found.value.text, found.value.session_id) == ("two", session)


async def test_unknown_ids_are_none_to_lookups_and_not_found_to_verbs() -> None:
    """CONTRACTS 1.3."""
    realm = make_realm(MemoryStore())
    assert await realm.runner.get_session(NOBODY) is None
    assert await realm.runner.get_session_status(NOBODY) is None
    for verb in (
        realm.runner.send_message(NOBODY, "hi"),
        realm.runner.get_messages(NOBODY),
        realm.runner.archive_session(NOBODY, "x"),
        realm.runner.create_session(HARNESS, parent_session_id=NOBODY),
        realm.runner.create_session(HARNESS, parent_session_id=NOBODY, spawn_key="k"),
    ):
        with pytest.raises(SessionNotFound) as found:
            await verb
        assert found.value.session_id == NOBODY
    assert await realm.runner.list_sessions() == []
    assert realm.journal.last == 0


async def test_messages_are_the_newest_ones_in_the_order_asked_for() -> None:
    """CONTRACTS 1.4."""
    realm = make_realm(MemoryStore(), ["1b", "2b", "3b"])
    session = await new_session(realm)
    for text in ("1a", "2a", "3a"):
        await realm.runner.send_message(session, text)
    newest = ["3b", "3a", "2b", "2a", "1b", "1a"]
    for limit in (None, 0, 1, 2, 3, 5, 6, 7):
        found = [m.text for m in await realm.runner.get_messages(session, limit)]
        assert found == newest[:limit]
        turned = await realm.runner.get_messages(session, limit, order="oldest")
        assert [m.text for m in turned] == newest[:limit][::-1]


async def test_sessions_are_listed_newest_first_ties_by_id_filtered_before_the_limit() -> None:
    """CONTRACTS 1.5."""

    class Stuck:
        def __init__(self) -> None:
            self.now = 5

        def now_ns(self) -> int:
            return self.now

    clock = Stuck()
    realm = make_realm(MemoryStore(), ports=Ports(clock, CountingIds()))
    for tick, agent in ((5, "a"), (5, "b"), (9, "a"), (3, "b"), (9, "b")):
        clock.now = tick
        await realm.runner.create_session(HARNESS, AgentId(agent))

    async def listed(*args: Any) -> list[str]:
        return [found.session_id[-1] for found in await realm.runner.list_sessions(*args)]

    assert await listed() == ["3", "5", "1", "2", "4"]
    assert await listed(2) == ["3", "5"]
    assert await listed(None, AgentId("b")) == ["5", "2", "4"]
    assert await listed(2, AgentId("b")) == ["5", "2"]
    assert await listed(0) == []
    # A clock that was set back, or sessions that were saved here: made in another order than by id.
    realm.state.heads = dict(reversed(realm.state.heads.items()))
    assert await listed() == ["3", "5", "1", "2", "4"]


def test_statuses_are_a_closed_enumeration() -> None:
    """CONTRACTS 1.6."""
    words = ["started", "active", "idle", "waiting", "paused", "failed", "archived"]
    assert [status.value for status in SessionStatus] == words
    with pytest.raises(ValueError, match="asleep"):
        SessionStatus("asleep")


async def test_lineage_links_are_kept_apart_and_charge_the_root() -> None:
    """CONTRACTS 1.7: a link leads to a session that exists, so none can close a circle."""
    realm = make_realm(MemoryStore())
    root = await new_session(realm)
    child = await realm.create(HARNESS, parent=root)
    grandchild = await realm.create(HARNESS, parent=child.session_id)
    assert grandchild.lineage.parent == child.session_id
    assert grandchild.lineage.budget_root == root == child.lineage.budget_root
    assert (child.lineage.depth, grandchild.lineage.depth) == (1, 2)
    assert (child.lineage.forked_from, child.lineage.fork_seq) == (None, 0)
    assert realm.state.head(root).lineage.budget_root is None
    for head in realm.state.heads.values():
        if head.lineage.parent is not None:
            above = realm.state.head(head.lineage.parent)
            assert above.lineage.depth == head.lineage.depth - 1


@pytest.mark.parametrize(
    ("limits", "name", "allowed"),
    [
        (SpawnLimits(max_depth=3, max_active=3), "max_active", 3),
        (SpawnLimits(max_depth=3, max_total=4), "max_total", 4),
    ],
)
@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_limits_hold_however_many_spawn_at_once_and_are_cancelled(
    limits: SpawnLimits, name: str, allowed: int, lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 1.8: never exceeded, and no slot is lost."""
    async with open_lagging(delay_s=lag) as store:
        realm = make_realm(store, limits=limits)
        root = await new_session(realm)
        refused: list[LimitExceeded] = []

        async def spawn(patience: float) -> None:
            with trio.move_on_after(patience):
                try:
                    await realm.create(HARNESS, parent=root)
                except LimitExceeded as error:
                    refused.append(error)

        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for patience in (0.1, 9, 0.1, 9, 9, 0.1):
                    nursery.start_soon(spawn, patience)
        await store.barrier()
        children = realm.state.head(root).children or []
        assert len(children) == allowed
        assert realm.state.descendants[root] == (allowed, allowed)
        assert {(error.limit, error.allowed) for error in refused} == {(name, allowed)}
        if name == "max_active":
            await realm.archive(children[0], "done")
            await realm.create(HARNESS, parent=children[1])
            with pytest.raises(LimitExceeded, match="max_active"):
                await realm.create(HARNESS, parent=children[1])
        reopened = make_realm(store.inner, limits=limits)
        assert reopened.state.descendants == realm.state.descendants


async def test_a_child_deeper_than_allowed_is_refused() -> None:
    """CONTRACTS 1.8: default depth 2, at most 16."""
    realm = make_realm(MemoryStore())
    session = await new_session(realm)
    for _ in range(2):
        session = await new_session(realm, parent=session)
    before = realm.journal.last
    with pytest.raises(LimitExceeded) as found:
        await realm.create(HARNESS, parent=session)
    assert (found.value.limit, found.value.allowed) == ("max_depth", 2)
    assert realm.journal.last == before
    defaults = SpawnLimits()
    assert (defaults.max_depth, defaults.max_active, defaults.max_total) == (2, 16, 200)
    with pytest.raises(ValueError, match="0 to 16"):
        SpawnLimits(max_depth=17)


async def test_a_creation_that_cannot_be_queued_gives_its_slot_back() -> None:
    """CONTRACTS 1.8."""
    realm = make_realm(MemoryStore(), limits=SpawnLimits(max_active=1))
    root = await new_session(realm)
    with pytest.raises(TypeError):
        await realm.create(HARNESS, parent=root, spec=SessionSpec(options={"x": object()}))
    await realm.create(HARNESS, parent=root)


@pytest.mark.parametrize("patience", [0.5, 9])
async def test_a_spawn_key_makes_one_child_whoever_waits_and_across_a_restart(
    patience: float, autojump_clock: Any
) -> None:
    """CONTRACTS 1.9."""
    async with open_lagging() as store:
        realm = make_realm(store, limits=SpawnLimits(max_total=1))
        root = await new_session(realm)
        made: set[SessionId] = set()

        async def spawn() -> None:
            made.add(await new_session(realm, parent=root, spawn_key="k"))

        with trio.move_on_after(patience):
            await spawn()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spawn)
            nursery.start_soon(spawn)
        await spawn()
        reopened = make_realm(store.inner)
        made.add(await new_session(reopened, parent=root, spawn_key="k"))
        assert len(made) == 1
        assert realm.state.head(root).children == list(made)


async def test_archiving_takes_the_children_along_deepest_first() -> None:
    """CONTRACTS 1.10, 4.5: histories stay readable, nothing new is taken."""
    realm = make_realm(MemoryStore(), ["hello"], limits=SpawnLimits(max_depth=3))
    root = await new_session(realm)
    child = await new_session(realm, parent=root)
    grandchild = await new_session(realm, parent=child)
    other = await new_session(realm)
    await realm.runner.send_message(grandchild, "hi")
    before = realm.journal.last
    await realm.runner.archive_session(root, "over")
    ended = [event.record.session_id for event in realm.journal.read(before)]
    assert ended == [grandchild, child, root]
    await realm.runner.archive_session(root, "over")
    assert realm.journal.last == before + 3
    assert len(await realm.runner.get_messages(grandchild)) == 2
    assert await realm.runner.get_session_status(other) is SessionStatus.STARTED
    for verb in (
        realm.runner.send_message(child, "hi"),
        realm.runner.create_session(HARNESS, parent_session_id=child),
    ):
        with pytest.raises(SessionError, match="archived"):
            await verb


async def test_what_is_queued_when_a_session_is_archived_ends_with_it(autojump_clock: Any) -> None:
    """CONTRACTS 1.10 over a slow disk: no child and no input is left behind."""
    async with open_lagging() as store:
        realm = make_realm(store, lambda _: FOREVER())
        root = await new_session(realm)
        child = await new_session(realm, parent=root)

        async def create() -> None:
            try:
                await realm.create(HARNESS, parent=child)
            except SessionError:
                pass

        async def send() -> None:
            with pytest.raises(SessionError):
                await realm.runner.send_message(root, "hi", idempotency_key="k")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            nursery.start_soon(send)
            await trio.sleep(0.5)
            nursery.start_soon(realm.archive, root, "over")
            await trio.sleep(0.1)
            realm.inputs.accept(child, "late", idempotency_key="late")
            nursery.start_soon(create)
        await store.barrier()
        statuses = {head.status for head in realm.state.heads.values()}
        assert statuses == {SessionStatus.ARCHIVED}
        assert realm.state.descendants[root][0] == 0
        assert all(not head.inputs for head in realm.state.heads.values())
        with pytest.raises(SessionError):
            await realm.runner.send_message(root, "hi", idempotency_key="k")
        late = realm.inputs.settled(child, "late")
        assert late is not None
        assert late.abandoned is not None


@pytest.mark.parametrize("how", ["interrupted", "failed"])
async def test_a_parent_that_ends_badly_takes_its_children_along_before_it_is_told(
    how: str,
) -> None:
    """CONTRACTS 1.10."""

    async def say(_: Any) -> str:
        child = await realm.create(HARNESS, parent=session)
        await realm.create(HARNESS, parent=child.session_id)
        if how == "failed":
            raise ValueError("broke")
        await trio.sleep_forever()
        return ""

    realm = make_realm(MemoryStore(), say)
    session = await new_session(realm)

    async def send() -> None:
        with pytest.raises((TurnFailed, TurnInterrupted)):
            await realm.runner.send_message(session, "hi")
        assert realm.state.descendants[session] == (0, 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        realm.interrupt(session)
    names = [type(event.record).__name__ for event in realm.journal.read()][-3:]
    assert names == ["SessionArchived", "SessionArchived", "TurnEnded"]


async def test_realms_of_one_store_do_not_see_each_other() -> None:
    store = MemoryStore()
    one = make_realm(store, ports=counting_ports())
    other = Realm(store, type(REALM)("other"), one.configure)
    session = await new_session(one)
    assert other.recover() == 0
    assert await other.runner.get_session(session) is None


def test_ids_rise_and_never_repeat_also_when_the_clock_steps_back() -> None:
    """CONTRACTS 2.9."""

    class Jumpy:
        def __init__(self) -> None:
            self.times = [5, 9, 2, 9, 1] * 200

        def now_ns(self) -> int:
            return self.times.pop() * 1_000_000

    ids = SystemIds(Jumpy())
    made = [ids.new() for _ in range(1_000)]
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {32}
    assert SystemIds().new() != SystemIds().new()


def test_ids_count_over_the_end_of_their_last_digits_and_go_on_above_others() -> None:
    """The digits that are kept from one id to the next are made anew where they change."""
    ids = SystemIds()
    ids._tail = (ids._tail | 0xFFFF_FFFF) - 2
    made = [ids.new() for _ in range(4)]
    tails = [int(each[12:], 16) for each in made]
    assert tails == list(range(tails[0], tails[0] + 4))
    assert made == sorted(made)
    ahead = f"{int(made[-1][:12], 16) + 10_000:012x}{'0' * 20}"
    ids.rise_above([ahead])
    assert ids.new()[:12] > ahead[:12]


def test_ids_rise_above_those_of_the_process_before() -> None:
    """Also if the clock was set back; what is no id of ours, or of no year of ours, counts not."""
    now = SystemIds().new()
    ahead = f"{int(now[:12], 16) + 10_000:012x}{now[12:]}"
    ids = SystemIds()
    ids.rise_above([now, ahead, "z" * 32, "f" * 32, "mine"])
    first, second = ids.new(), ids.new()
    assert ahead[:12] < first[:12]
    assert first < second < "z"


async def test_the_messages_a_model_is_given_are_the_committed_ones_and_the_turn_s() -> None:
    seen: list[list[str]] = []

    def say(request: Any) -> str:
        seen.append([message.text for message in request.messages])
        return "ok"

    store = MemoryStore()
    realm = make_realm(store, say)
    session = await new_session(realm)
    await realm.runner.send_message(session, "a")
    await make_realm(store, say).runner.send_message(session, "b")
    assert seen == [["a"], ["a", "ok", "b"]]
    assert realm.history(realm.state.head(session)) == [
        UserMessage("a"),
        *realm.live(session).history[1:],
    ]
    assert isinstance(realm.live(session).history[1], AssistantMessage)
