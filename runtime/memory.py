"""Memory: searching what was said in past turns.

Owns: `Memory`, the index of one realm's turns and the search in it; `Embedder`, the port for models
of meaning; the tool `search_memory`. Must not: be an authority, or cost a turn anything.

The index is derived. It is fed from the journal, with a cursor, when somebody searches: a realm in
which nobody does pays nothing, and an index that is lost, damaged or of another journal is made
anew. What it finds is checked against the histories that the asker may read: turns that were
rewound, or are of a session that is gone, are in no answer.

Ranking is BM25 over the words (SQLite's FTS5, Robertson and Zaragoza 2009). With an embedder the
order by meaning is laid over that by reciprocal rank fusion (Cormack et al. 2009), which needs no
weights; when it fails the words alone decide.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import attrs
import trio

from runtime.errors import RecordUnreadable
from runtime.ids import SessionId
from runtime.journal import PAGE, Event
from runtime.messages import AssistantMessage, UserMessage
from runtime.models.base import ToolSpec
from runtime.points import RealmRewound
from runtime.records import SessionDeleted, TurnEnded
from runtime.tools.base import ToolContext
from stores import Damaged

if TYPE_CHECKING:
    from runtime.realm import Realm

T = TypeVar("T")

SEARCH_MEMORY: Final = "search_memory"

#: Characters of a turn that are indexed, and that are shown of one that is found.
_INDEXED: Final = 20_000
_SHOWN: Final = 1_200

#: Turns that are looked at for one answer, best first.
_CANDIDATES: Final = 400

#: The newest turns, of those the asker may read, whose meaning is compared.
_COMPARED: Final = 1_000

#: The usual constant of reciprocal rank fusion.
_FUSED: Final = 60

_LAYOUT: Final = """
create virtual table if not exists turns using fts5(text, session unindexed, turn unindexed);
create table if not exists meanings(seq integer primary key, model text, vector blob);
create table if not exists known(name text primary key, value text);
"""


class Embedder(Protocol):
    """Turns texts into vectors of their meaning; near ones mean something alike."""

    @property
    def name(self) -> str:
        """Names the model: vectors of different ones are never compared."""
        ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text, in order. Raises whatever it likes: words decide then."""
        ...


@attrs.frozen
class Recollection:
    """A turn that was found: the `turn`-th (from 1) of a session, and what was said in it."""

    session_id: SessionId
    turn: int
    text: str


#: What a search returns.
Found: TypeAlias = list[Recollection]


class Memory:
    """The memory of one realm. `path` is the index's file; without one it is in this process only
    (and without threads, for simulations)."""

    def __init__(
        self, realm: Realm, path: Path | None = None, embedder: Embedder | None = None
    ) -> None:
        self._realm = realm
        self._path = path
        self._embedder = embedder
        self._index: sqlite3.Connection | None = None
        self._cursor = 0
        #: The last record when reading began: what was there by then knows of rewinds up to it.
        self._began = 0
        #: One search at a time: they share a connection.
        self._lock = trio.Lock()

    async def search(
        self, query: str, readable: Iterable[SessionId], limit: int = 5
    ) -> list[Recollection]:
        """The turns of the histories of `readable` sessions that fit `query`, best first.

        Histories that are damaged or gone are passed over.
        """
        async with self._lock:
            try:
                return await self._search(query, tuple(readable), limit)
            except sqlite3.DatabaseError:  # it is damaged: the journal has everything
                await self._run(self._begin_anew)
                return await self._search(query, tuple(readable), limit)

    async def aclose(self) -> None:
        """Close the index."""
        async with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    async def _run(self, work: Callable[..., T], *given: Any) -> T:
        if self._path is None:
            return work(*given)
        return await trio.to_thread.run_sync(work, *given)

    # -- feeding ---------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        journal = self._realm.journal
        if self._index is None:
            await self._run(self._open)
            if not self._fits(await self._run(self._anchor)):
                await self._run(self._begin_anew)
            self._began = self._cursor or journal.last
        while self._cursor < journal.last:
            events = self._read(self._cursor)
            if any(e.seq > self._began and isinstance(e.record, RealmRewound) for e in events):
                # Who was deleted may be back, and who took its turns over gone: read it all again.
                self._cursor, self._began = 0, journal.last
                continue
            fresh: list[tuple[int, str, str, int]] = []
            gone: list[SessionId] = []
            for event in events:
                record = event.record
                if isinstance(record, TurnEnded):
                    fresh.append((event.seq, _text_of(record), record.session_id, record.turn))
                elif isinstance(record, SessionDeleted):
                    gone.append(record.session_id)
            self._cursor = min(self._cursor + PAGE, journal.last)
            await self._run(self._add, fresh, self._cursor)
            for session_id in gone:
                if session_id not in self._realm.state.heads:  # or a rewind has brought it back
                    await self._forget(session_id)
            await trio.lowlevel.checkpoint()

    def _read(self, after: int) -> list[Event]:
        """The next page, without what cannot be read of it."""
        journal = self._realm.journal
        with contextlib.suppress(Damaged, RecordUnreadable):
            return journal.read(after)
        found: list[Event] = []
        for seq in range(after, min(after + PAGE, journal.last)):
            with contextlib.suppress(Damaged, RecordUnreadable):
                found += journal.read(seq, 1)
        return found

    async def _forget(self, session_id: SessionId) -> None:
        """A session is deleted: a turn that a fork has goes on as the fork's, the rest goes."""
        heirs = [
            head.session_id
            for head in self._realm.state.heads.values()
            if head.lineage.forked_from == session_id
        ]
        moved: list[tuple[str | None, int]] = []
        for seq, turn in await self._run(self._turns_of, session_id):
            heir = next((each for each in heirs if self._has(each, seq, turn)), None)
            moved.append((heir, seq))
        await self._run(self._move, moved)

    def _fits(self, anchor: tuple[int, int, str] | None) -> bool:
        """Whether the index is of this journal: so is its last turn."""
        if anchor is None:
            return self._cursor == 0
        cursor, seq, text = anchor
        if cursor > self._realm.journal.last:
            return False
        try:
            record = self._realm.journal.get(seq)
        except (Damaged, RecordUnreadable):
            return False
        return isinstance(record, TurnEnded) and _text_of(record) == text

    # -- searching -------------------------------------------------------------------------

    async def _search(
        self, query: str, readable: tuple[SessionId, ...], limit: int
    ) -> list[Recollection]:
        await self._catch_up()
        among = self._lines(readable)
        words = await self._run(self._by_words, query, among)
        ranked = words
        if self._embedder is not None:
            ranked = _fused(words, await self._by_meaning(self._embedder, query, among))
        found: list[Recollection] = []
        for seq, text, session, turn in ranked:
            reader = self._reader(readable, SessionId(session), seq, turn)
            if reader is not None:
                found.append(Recollection(reader, turn, _excerpt(text, query)))
                if len(found) >= limit:
                    break
        return found

    def _lines(self, readable: Iterable[SessionId]) -> list[str]:
        """The sessions and those that they are forks of: who has said what they share."""
        heads = self._realm.state.heads
        among: dict[str, None] = {}
        for session_id in readable:
            here: SessionId | None = session_id
            while here is not None and here not in among:
                among[here] = None
                here = heads[here].lineage.forked_from if here in heads else None
        return list(among)

    def _reader(
        self, readable: tuple[SessionId, ...], session_id: SessionId, seq: int, turn: int
    ) -> SessionId | None:
        """Whose history, of those the asker may read, the turn is in."""
        if session_id in readable and self._has(session_id, seq, turn):
            return session_id
        forks = (each for each in readable if each != session_id)
        heads = self._realm.state.heads
        return next(
            (
                each
                for each in forks
                if each in heads
                and heads[each].lineage.forked_from is not None
                and self._has(each, seq, turn)
            ),
            None,
        )

    def _has(self, session_id: SessionId, seq: int, turn: int) -> bool:
        head = self._realm.state.heads.get(session_id)
        if head is None or head.quarantined is not None or not 1 <= turn <= head.turns:
            return False
        try:
            return self._realm.journal.find_turn(head.head, turn) == seq
        except (Damaged, RecordUnreadable):
            return False

    async def _by_meaning(
        self, embedder: Embedder, query: str, among: list[str]
    ) -> list[tuple[int, str, str, int]]:
        """The newest turns by how near their meaning is; nothing if the embedder fails."""
        turns = await self._run(self._newest, among)
        try:
            known = await self._run(self._meanings, embedder.name, [each[0] for each in turns])
            missing = [each for each in turns if each[0] not in known]
            made = await embedder.embed([query, *(text for _, text, _, _ in missing)])
            asked, *vectors = [array("f", vector) for vector in made]
        except Exception:  # noqa: BLE001 whatever it raises, the words are there
            return []
        fresh = {each[0]: vector for each, vector in zip(missing, vectors, strict=True)}
        await self._run(self._keep, embedder.name, fresh)
        near = {seq: _nearness(asked, vector) for seq, vector in {**known, **fresh}.items()}
        return sorted(turns, key=lambda each: -near.get(each[0], -1.0))

    # -- the index, perhaps in a thread ----------------------------------------------------

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._index is not None, "it is open while it is searched"
        return self._index

    def _open(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._index = sqlite3.connect(self._path or ":memory:", check_same_thread=False)
        self._db.executescript(_LAYOUT)
        if self._path is not None:
            self._db.execute("pragma synchronous=off")  # what is lost is made anew

    def _begin_anew(self) -> None:
        if self._index is not None:
            self._index.close()
        if self._path is not None:
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._cursor = 0
        self._open()

    def _anchor(self) -> tuple[int, int, str] | None:
        row = self._db.execute("select value from known where name = 'cursor'").fetchone()
        last = self._db.execute(
            "select rowid, text from turns order by rowid desc limit 1"
        ).fetchone()
        if row is None or last is None:
            return None
        self._cursor = int(row[0])
        return (self._cursor, *last)

    def _add(self, turns: Sequence[tuple[int, str, str, int]], cursor: int) -> None:
        with self._db as db:
            db.executemany(
                "insert or replace into turns(rowid, text, session, turn) values (?, ?, ?, ?)",
                turns,
            )
            db.execute("insert or replace into known values ('cursor', ?)", (str(cursor),))

    def _turns_of(self, session_id: str) -> list[tuple[int, int]]:
        return self._db.execute(
            "select rowid, turn from turns where session = ?", (session_id,)
        ).fetchall()

    def _move(self, moved: Sequence[tuple[str | None, int]]) -> None:
        with self._db as db:
            for heir, seq in moved:
                if heir is not None:
                    db.execute("update turns set session = ? where rowid = ?", (heir, seq))
                else:
                    db.execute("delete from turns where rowid = ?", (seq,))
                    db.execute("delete from meanings where seq = ?", (seq,))

    def _by_words(self, query: str, among: list[str]) -> list[tuple[int, str, str, int]]:
        words = dict.fromkeys(re.findall(r"\w+", query.lower()))
        if not words:
            return []
        wanted = " OR ".join(f'"{word}"' for word in words)
        return self._db.execute(
            "select rowid, text, session, turn from turns where turns match ? and session in"
            " (select value from json_each(?)) order by bm25(turns), rowid desc limit ?",
            (wanted, json.dumps(among), _CANDIDATES),
        ).fetchall()

    def _newest(self, among: list[str]) -> list[tuple[int, str, str, int]]:
        return self._db.execute(
            "select rowid, text, session, turn from turns where session in"
            " (select value from json_each(?)) order by rowid desc limit ?",
            (json.dumps(among), _COMPARED),
        ).fetchall()

    def _meanings(self, model: str, turns: list[int]) -> dict[int, array[float]]:
        rows = self._db.execute(
            "select seq, vector from meanings where model = ? and seq in"
            " (select value from json_each(?))",
            (model, json.dumps(turns)),
        )
        return {seq: array("f", vector) for seq, vector in rows}

    def _keep(self, model: str, vectors: Mapping[int, array[float]]) -> None:
        with self._db as db:
            db.executemany(
                "insert or replace into meanings values (?, ?, ?)",
                [(seq, model, vector.tobytes()) for seq, vector in vectors.items()],
            )


@attrs.frozen
class SearchMemory:
    """The tool. `readable` says whose histories the session that asks may search."""

    memory: Memory
    readable: Callable[[SessionId], Iterable[SessionId]]
    spec: ToolSpec = ToolSpec(
        SEARCH_MEMORY,
        "Search what was said in earlier turns, also those you do not see any more.",
        {
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "description": "What to look for."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 20},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    )
    idempotent: bool = True
    timeout_s: float | None = 60.0

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """What was found, best first."""
        found = await self.memory.search(
            arguments["query"], self.readable(context.session_id), arguments.get("limit", 5)
        )
        if not found:
            return "nothing was found"
        return [attrs.asdict(each) for each in found]


def _text_of(record: TurnEnded) -> str:
    """What was said in a turn, without what its tools answered."""
    said = [
        message.text
        for message in record.messages
        if isinstance(message, UserMessage | AssistantMessage) and message.text
    ]
    return "\n\n".join(said)[:_INDEXED]


def _excerpt(text: str, query: str) -> str:
    """The part of a turn around the first word that was looked for."""
    if len(text) <= _SHOWN:
        return text
    lower = text.lower()
    places = [lower.find(word) for word in re.findall(r"\w+", query.lower())]
    first = min((place for place in places if place >= 0), default=0)
    begin = max(0, min(first - _SHOWN // 4, len(text) - _SHOWN))
    return f"{'[...] ' if begin else ''}{text[begin : begin + _SHOWN]} [...]"


def _nearness(one: array[float], other: array[float]) -> float:
    """The cosine of the angle between two vectors; 0 for those that cannot be compared."""
    if len(one) != len(other):
        return 0.0
    length = math.hypot(*one) * math.hypot(*other)
    return sum(map(float.__mul__, one, other)) / length if length else 0.0


def _fused(*rankings: Sequence[tuple[int, str, str, int]]) -> list[tuple[int, str, str, int]]:
    """Rankings laid over each other: each gives a turn what its place in it is worth."""
    worth: dict[tuple[int, str, str, int], float] = {}
    for ranking in rankings:
        for place, each in enumerate(ranking):
            worth[each] = worth.get(each, 0.0) + 1 / (_FUSED + place)
    return sorted(worth, key=lambda each: -worth[each])
