"""Sessions that others see by name, and sessions that stay alive. CONTRACTS 4.9 and 4.10."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import NameTaken, SessionError, SessionNotFound, Unsupported
from runtime.ids import SessionId
from runtime.manager import RealmSessions
from runtime.messages import SystemMessage, ToolResult, UserMessage
from runtime.models.scripted import ScriptedModel, calling
from runtime.service import PeerMessage, PeerMeta, RealmSessionService
from runtime.session import Session
from stores import MemoryStore
from tests.runtime.serving import busy, forever, made, model_of, say, scripted, served


async def told(service: RealmSessionService, session: SessionId) -> list[str]:
    """What the session is told by the service itself, applied or not."""
    head = service.realm.state.head(session)
    waiting = [each.text for each in (head.inputs or {}).values() if each.sender != "bob"]
    history = await service.read_history(session)
    return [each.text for each in history if isinstance(each, SystemMessage)] + waiting


# -- names ---------------------------------------------------------------------------------------


async def test_a_name_and_what_is_said_of_it_are_what_others_see() -> None:
    """CONTRACTS 4.9: comms_name, peer_meta, override_mob."""
    service = RealmSessionService(MemoryStore())
    meta = PeerMeta("counts things", {"team": "red"})
    await made(service, "x", comms_name="ann", peer_meta=meta)
    request = scripted(calling(("list_peers", {})), "seen", comms_name="bob")
    bob = (await service.create_session(request)).session_id
    assert await say(service, bob, "who is there?") == "seen"
    first, second = model_of(request).requests
    assert {tool.name for tool in first.tools} == {"list_peers", "send_to_peer"}
    result = second.messages[-1]
    assert isinstance(result, ToolResult)
    assert (
        result.text
        == '[{"name": "ann", "description": "counts things", "labels": {"team": "red"}}]'
    )
    view = await service.read(bob)
    assert view.state.peer is not None
    assert view.state.peer.name == "bob"
    silent = scripted("x", comms_name="eve", override_mob=False)
    eve = (await service.create_session(silent)).session_id
    await say(service, eve, "hi")
    assert model_of(silent).requests[0].tools == ()


async def test_a_name_is_taken_once_also_while_it_is_being_made_and_free_again_at_the_end() -> None:
    """CONTRACTS 4.9: comms_name."""
    service = RealmSessionService(MemoryStore())
    ann = await made(service, "x", comms_name="ann")
    with pytest.raises(NameTaken) as found:
        await made(service, "x", comms_name="ann")
    assert (found.value.code, found.value.name) == ("SESSION_NAME_TAKEN", "ann")
    await made(service, "x", comms_name="ann", realm_id="elsewhere")
    await service.archive(ann)
    again = await made(service, "x", comms_name="ann")
    restarted = RealmSessionService(service.realm.store)
    assert await restarted.send_peer_message(PeerMessage("ann", "hi", "bob")) == again
    for name in ("", "no spaces", "a/b", "x" * 64):
        with pytest.raises(SessionError, match="is not a name"):
            await made(service, "x", comms_name=name)
    with pytest.raises(SessionError, match="comms_name"):
        await made(service, "x", peer_meta=PeerMeta("nobody"))


async def test_sessions_of_another_realm_are_no_peers() -> None:
    """CONTRACTS 4.9: realm_id isolates."""
    service = RealmSessionService(MemoryStore())
    ann = await made(service, "x", comms_name="ann", realm_id="prod")
    await made(service, "x", comms_name="bob")
    assert await told(service, ann) == []
    with pytest.raises(SessionNotFound):
        await service.send_peer_message(PeerMessage("ann", "hi", "bob"))
    assert await service.send_peer_message(PeerMessage("ann", "hi", "bob"), realm_id="prod") == ann


# -- who comes and goes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "heard"), [(None, 3), (0, 0), (-1, 3), (1, 1), (2, 2), (3, 3), (50, 3)]
)
async def test_a_session_is_told_who_joins_while_its_peers_are_few_enough(
    most: int | None, heard: int
) -> None:
    """CONTRACTS 4.9: max_inline_peer_notifications."""
    service = RealmSessionService(MemoryStore())
    ann = await made(service, "x", comms_name="ann", max_inline_peer_notifications=most)
    for name in ("b", "c", "d"):
        await made(service, "x", comms_name=name, peer_meta=PeerMeta("helps"))
    assert await told(service, ann) == [
        f"Peer {name} (helps) has joined." for name in ("b", "c", "d")[:heard]
    ]


async def test_none_stands_for_fifty_and_less_than_always_is_a_mistake() -> None:
    """CONTRACTS 4.9: max_inline_peer_notifications."""
    service = RealmSessionService(MemoryStore())
    quiet = {"max_inline_peer_notifications": 0}
    ann = await made(service, "x", comms_name="ann")
    for number in range(51):
        await made(service, "x", comms_name=f"p{number}", **quiet)
    assert len(await told(service, ann)) == 50
    with pytest.raises(SessionError, match="-2; nothing was created"):
        await made(service, "x", comms_name="late", max_inline_peer_notifications=-2)
    assert len(await told(service, ann)) == 50


async def test_who_joins_is_told_who_is_there_and_who_leaves_is_told_of() -> None:
    """CONTRACTS 4.9: peers' notifications come once, and wake nobody."""
    async with served() as service:
        ann = await made(service, "x", comms_name="ann", host_mode=True)
        bob = await made(service, "x", comms_name="bob", host_mode=True)
        assert await told(service, bob) == ["Your peers are: ann."]
        await service.archive(ann)
        await service.archive(ann)
        await wait_all_tasks_blocked()
        assert await told(service, bob) == ["Your peers are: ann.", "Peer ann has left."]
        assert await service.read_history(bob) == []


# -- messages ------------------------------------------------------------------------------------


async def test_a_silent_intent_is_recorded_and_wakes_nobody(autojump_clock: object) -> None:
    """CONTRACTS 4.9: silent_comms_intents."""
    async with served() as service:
        model = ScriptedModel(lambda request: f"re: {request.messages[-1].text}")
        ann = await made(
            service, model, comms_name="ann", host_mode=True, silent_comms_intents=("fyi",)
        )
        await service.send_peer_message(PeerMessage("ann", "it rains", "bob", "fyi"))
        await trio.sleep(1)
        assert model.requests == []
        await service.send_peer_message(PeerMessage("ann", "well?", "bob", "ask"))
        await trio.sleep(1)
        (request,) = model.requests
        assert list(request.messages) == [
            UserMessage("[ask] well?", "bob"),
            SystemMessage("bob (fyi): it rains", "bob"),
        ]
        assert len(await service.read_history(ann)) == 3


async def test_a_hosted_session_works_on_what_its_peers_send_between_turns(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.10: one at a time, in order, through failures, and beside a caller's turns."""
    async with served() as service:
        ann = await made(
            service,
            *["one", ValueError("broke"), "three", "mine", "four"],
            comms_name="ann",
            host_mode=True,
        )
        bob = await made(
            service, calling(("send_to_peer", {"to": "ann", "text": "a"})), "sent", comms_name="bob"
        )
        assert await say(service, bob, "go") == "sent"
        for text in ("b", "c"):
            await service.send_peer_message(PeerMessage("ann", text, "bob", key=text))
            await service.send_peer_message(PeerMessage("ann", text, "bob", key=text))
        await trio.sleep(1)
        assert await say(service, ann, "mine?") == "mine"
        await service.send_peer_message(PeerMessage("ann", "d", "bob"))
        await trio.sleep(1)
        told = [each for each in await service.read_history(ann) if type(each) is UserMessage]
        assert [(each.text, each.sender) for each in told] == [
            ("a", "bob"),
            ("b", "bob"),
            ("c", "bob"),
            ("mine?", None),
            ("d", "bob"),
        ]
        assert service.realm.state.head(ann).inputs is None


async def test_a_message_that_fails_blocks_none_behind_it(autojump_clock: object) -> None:
    """CONTRACTS 4.10, 5.8."""
    async with served() as service:
        go = trio.Event()

        async def breaks(_: Any) -> Any:
            await go.wait()
            return ValueError("broke")

        ann = await made(service, [breaks, "two"], comms_name="ann", host_mode=True)
        for text in ("a", "b"):
            await service.send_peer_message(PeerMessage("ann", text, "bob"))
        go.set()
        await trio.sleep(1)
        assert [each.text for each in await service.read_history(ann)][-2:] == ["b", "two"]


async def test_a_fork_does_not_take_the_name_of_the_one_it_came_from() -> None:
    """CONTRACTS 4.9: comms_name."""
    service = RealmSessionService(MemoryStore())
    ann = await made(service, "x", comms_name="ann")
    fork = await RealmSessions(service.realm).fork(ann)
    assert (await service.read(fork.session_id)).state.peer is None
    again = RealmSessionService(service.realm.store)
    assert await again.send_peer_message(PeerMessage("ann", "hi", "bob")) == ann


async def test_a_message_that_comes_in_a_callers_turn_is_worked_on_after_it(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.10."""
    async with served() as service:
        go = trio.Event()

        async def slow(_: Any) -> str:
            await go.wait()
            return "mine"

        ann = await made(service, slow, "theirs", comms_name="ann", host_mode=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, service, ann, "mine?")
            await busy(service, ann)
            await service.send_peer_message(PeerMessage("ann", "b", "bob"))
            go.set()
        await trio.sleep(1)
        assert [each.text for each in await service.read_history(ann)][-1] == "theirs"


async def test_what_a_hosted_session_had_not_worked_on_it_takes_up_in_the_next_process(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.10: also the turn that was cut off."""
    store = MemoryStore()
    async with served(store) as service:
        ann = await made(
            service,
            forever,
            model="sim:echo",
            comms_name="ann",
            host_mode=True,
        )
        for text in ("a", "b"):
            await service.send_peer_message(PeerMessage("ann", text, "bob"))
        await busy(service, ann)
    async with served(store) as service:
        await trio.sleep(100)
        assert [each.text for each in await service.read_history(ann)] == ["a", "a", "b", "b"]


async def test_a_session_is_not_hosted_where_there_is_no_place_for_it() -> None:
    """CONTRACTS 4.10, 1.14: it never pretends to."""
    service = RealmSessionService(MemoryStore())
    with pytest.raises(Unsupported, match="host_mode"):
        await made(service, "x", host_mode=True)
    assert list(await service.list()) == []


# -- checkpoints ---------------------------------------------------------------------------------


class Saves:
    """A checkpointer that remembers, and waits if it is told to."""

    def __init__(self) -> None:
        self.saved: list[Session] = []
        self.go = trio.Event()
        self.go.set()

    async def checkpoint(self, session: Session) -> None:
        await self.go.wait()
        self.saved.append(session)


async def test_a_hosted_session_is_checkpointed_after_each_interaction(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.9 and 4.10: by its own checkpointer, which slows no turn; else in the store."""
    saves = Saves()
    async with served() as service:
        ann = await made(
            service, lambda _: "ok", comms_name="ann", host_mode=True, checkpointer=saves
        )
        plain = await made(service, lambda _: "ok", checkpointer=saves)
        other = await made(service, lambda _: "ok", comms_name="other", host_mode=True)
        await service.send_peer_message(PeerMessage("ann", "a", "bob"))
        await trio.sleep(1)
        await say(service, ann, "b")
        await say(service, plain, "c")
        await say(service, other, "d")
        await trio.sleep(1)
        assert [(each.session_id, each.turns) for each in saves.saved] == [(ann, 1), (ann, 2)]
        assert await service.hosts.snapshots.load(ann) is None
        stored = await service.hosts.snapshots.load(other)
        assert stored is not None
        assert stored.turns == 1
        saves.go = trio.Event()
        await say(service, ann, "e")
        assert await say(service, ann, "f") == "ok"
        saves.go.set()


async def test_no_late_checkpoint_brings_an_archived_session_back(autojump_clock: object) -> None:
    """CONTRACTS 4.5: the last snapshot says that it ended, and nothing is saved behind it."""
    saves = Saves()
    async with served() as service:
        ann = await made(
            service, lambda _: "ok", comms_name="ann", host_mode=True, checkpointer=saves
        )
        saves.go = trio.Event()
        await say(service, ann, "a")
        await trio.sleep(1)
        await service.archive(ann)
        saves.go.set()
        await trio.sleep(1)
        assert [each.status.value for each in saves.saved] == ["idle", "archived"]
        service.hosts.gate.checkpoint_all()
        await trio.sleep(1)
        assert len(saves.saved) == 2
        assert (await service.read(ann)).state.is_archived
        assert list(await service.list()) == []


async def test_a_checkpointer_that_fails_ends_nothing_and_is_remembered(
    autojump_clock: object,
) -> None:
    """CONTRACTS 4.9: checkpointer."""

    class Fails:
        async def checkpoint(self, session: Session) -> None:
            raise OSError("full")

    async with served() as service:
        ann = await made(
            service, lambda _: "ok", comms_name="ann", host_mode=True, checkpointer=Fails()
        )
        assert await say(service, ann, "a") == "ok"
        await trio.sleep(1)
        assert str(service.hosts.failures[ann]) == "full"
        assert await say(service, ann, "b") == "ok"
