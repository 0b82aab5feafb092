"""Memory: what a search finds, who may read it, and that the index is never the authority."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.ids import RunId, SessionId
from runtime.manager import RealmSessions
from runtime.memory import Memory, SearchMemory
from runtime.models.scripted import ScriptedModel
from runtime.realm import Realm
from runtime.retention import Retention
from runtime.tools.base import Toolbox, ToolContext
from stores import MemoryStore
from tests.runtime.fakes import call, counting_ports, make_realm, new_session


class ByLetters:
    """An embedder to whom texts mean how often each letter is in them."""

    name = "letters"

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.broken = False

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if self.broken:
            raise ValueError("no")
        self.asked.append(len(texts))
        return [[text.count(chr(97 + n)) + 0.01 for n in range(26)] for text in texts]


def realm_of(store: MemoryStore | None = None, start: int = 1) -> Realm:
    model = ScriptedModel(lambda request: "noted")
    return make_realm(store or MemoryStore(), model, ports=counting_ports(start))


async def told(realm: Realm, *texts: str) -> SessionId:
    session_id = await new_session(realm)
    for text in texts:
        await realm.runner.send_message(session_id, text)
    return session_id


async def turns(memory: Memory, query: str, *sessions: SessionId) -> list[tuple[SessionId, int]]:
    return [(each.session_id, each.turn) for each in await memory.search(query, sessions)]


FACTS = ("the door code is 4711", "the cat is called Tom", "the code of Tom is a secret code")


async def test_a_search_ranks_by_words_and_finds_what_comes_meanwhile() -> None:
    """Memory: plain full-text ranking, fed from the journal with a cursor."""
    realm = realm_of()
    session_id = await told(realm, *FACTS)
    memory = Memory(realm)
    assert await turns(memory, "code", session_id) == [(session_id, 3), (session_id, 1)]
    assert await turns(memory, 'Tom" OR *', session_id) == [(session_id, 2), (session_id, 3)]
    assert await turns(memory, "nowhere", session_id) == []
    assert await turns(memory, "?!", session_id) == []
    await realm.runner.send_message(session_id, "zebra")
    assert await turns(memory, "ZEBRA", session_id) == [(session_id, 4)]
    (found,) = await memory.search("zebra", [session_id])
    assert found.text == "zebra\n\nnoted"


async def test_nobody_reads_what_is_not_theirs() -> None:
    """Memory: scoped; a session that is not readable is in no answer, nor in its place."""
    realm = realm_of()
    mine = await told(realm, "my code is 1")
    for _ in range(3):
        other = await told(realm, "code code code code")
    memory = Memory(realm)
    assert await turns(memory, "code", mine) == [(mine, 1)]
    assert (other, 1) in await turns(memory, "code", mine, other)


async def test_what_was_rewound_is_not_found_and_a_restore_brings_it_back() -> None:
    """Memory: what is found is in the history as it is now."""
    realm = realm_of()
    session_id = await told(realm, *FACTS)
    memory, manager = Memory(realm), RealmSessions(realm)
    await manager.rewind(session_id, 0)
    assert await turns(memory, "code", session_id) == [(session_id, 1)]
    await realm.runner.send_message(session_id, "a dog")
    assert await turns(memory, "cat", session_id) == []
    assert await turns(memory, "dog", session_id) == [(session_id, 2)]
    await manager.restore(session_id, 0)
    assert await turns(memory, "code", session_id) == [(session_id, 3), (session_id, 1)]


async def test_a_fork_remembers_what_it_shares_also_without_its_source() -> None:
    """Memory: forks; what only a deleted session said is gone from the index too."""
    realm = realm_of()
    session_id = await told(realm, *FACTS)
    memory, manager = Memory(realm), RealmSessions(realm)
    fork = (await manager.fork(session_id)).session_id
    await realm.runner.send_message(session_id, "code of later")
    assert await turns(memory, "code", fork) == [(fork, 3), (fork, 1)]
    await manager.delete(session_id)
    await Retention(realm, 0).run()
    assert await turns(memory, "code", fork) == [(fork, 3), (fork, 1)]
    assert await turns(memory, "code", session_id) == []
    assert memory._db.execute("select count(*) from turns").fetchone() == (3,)


async def test_an_index_is_continued_and_made_anew_when_it_is_no_good(tmp_path: Path) -> None:
    """Memory: derived and rebuildable: continued, lost, damaged, and of another journal."""
    store, path = MemoryStore(), tmp_path / "deep" / "memory.sqlite"
    realm = realm_of(store)
    session_id = await told(realm, *FACTS)
    expected = [(session_id, 3), (session_id, 1)]

    async def found(given: Realm) -> tuple[list[tuple[SessionId, int]], list[int]]:
        reads: list[int] = []
        read = given.journal.read
        given.journal.read = lambda after=0, limit=256: reads.append(after) or read(after, limit)  # type: ignore[method-assign,func-returns-value]
        memory = Memory(given, path)
        answer = await turns(memory, "code", session_id)
        await memory.aclose()
        return answer, reads

    assert await found(realm_of(store)) == (expected, [0])
    assert await found(realm_of(store)) == (expected, [])
    path.write_bytes(b"no database at all" * 500)
    assert await found(realm_of(store)) == (expected, [0])
    path.unlink()
    assert await found(realm_of(store)) == (expected, [0])
    shorter, same = realm_of(), realm_of()
    assert await told(shorter, "one") == await told(same, *("a code", "b", "c")) == session_id
    assert (await found(shorter))[0] == []
    assert await found(realm_of(store)) == (expected, [0])
    assert await found(same) == ([(session_id, 1)], [0])


async def test_an_embedder_adds_meaning_and_may_fail() -> None:
    """Memory: an embedding model behind a small port; without it the words decide."""
    realm = realm_of()
    session_id = await told(realm, "aaaa bbbb", "zzzz", "zz code")
    letters = ByLetters()
    memory = Memory(realm, embedder=letters)
    assert (await turns(memory, "zzz", session_id))[0] == (session_id, 2)
    await turns(memory, "zzz", session_id)
    assert letters.asked == [4, 1]
    letters.broken = True
    assert await turns(memory, "zzz", session_id) == []
    assert await turns(memory, "code", session_id) == [(session_id, 3)]


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_tool_answers_with_what_was_said(limit: int) -> None:
    """Memory: search_memory(query, limit)."""
    realm = realm_of()
    session_id = await told(realm, *FACTS, f"code {'x' * 5000}")
    tool = SearchMemory(Memory(realm), lambda asker: [asker])
    box = Toolbox([tool])

    async def ask(arguments: str) -> str:
        asked = call("c", "search_memory", arguments)
        return (await box.run(ToolContext(session_id, RunId("r"), asked, realm.runner))).text

    text = await ask(f'{{"query": "code", "limit": {limit}}}')
    assert text.count('"turn"') == limit
    assert len(text) < 3000
    assert len(await ask('{"query": "code"}')) < 2500
    assert await ask('{"query": "nowhere"}') == "nothing was found"
    assert "error" in await ask('{"query": "code", "limit": 21}')


async def test_a_realm_without_a_memory_has_no_index() -> None:
    """Memory: off, it costs nothing."""
    realm = realm_of()
    memory = Memory(realm)
    await told(realm, *FACTS)
    assert memory._index is None
