"""A mob's journal as spans with the names of OpenTelemetry's conventions for GenAI. Pure.

Owns: which spans there are, how they nest, what they are called and say. Must not: import
OpenTelemetry (whoever exports does), say what was written (opt-in, and then without secrets).

    invoke_workflow MOB
      invoke_agent MEMBER          a turn
        chat MODEL                 a call of its model; one that failed is one of its own
        execute_tool TOOL
          invoke_agent CHILD       a turn of a child session that the call waited for
      restart MEMBER               from a crash until it was begun again

A turn's spans are made when it has ended, with the times that the journal says. Those of a child
that somebody waits for wait for its parent's, so that they are told below the call they belong to.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/ (1.41; all of it is in development).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from mob.export.pieces import Doing, Piece, Pieces, TurnPieces
from mob.export.plain import call_of
from mob.export.who import Who
from runtime.ids import SessionId
from runtime.messages import (
    NO_USAGE,
    AssistantMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
)
from runtime.models.redaction import Redactor
from runtime.records import TurnOutcome
from runtime.session import SessionHead
from runtime.state import RealmState

Value: TypeAlias = str | int | float | bool | tuple[str, ...]

#: What other programs call the providers that we call otherwise.
PROVIDERS: Final = {"gemini": "gcp.gemini"}

#: Characters of a text that a span holds.
_LONGEST: Final = 8192


@attrs.frozen
class Span:
    """A span to be. `key` names it for ever, `error` is None if it went well, else what kind of
    error (`error.type`) and why. `client` is whether somebody else does it."""

    key: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    client: bool = False
    error: tuple[str, str] | None = None
    children: tuple[Span, ...] = ()


#: The provider (or None) and the model that a session asks, as far as anybody knows.
Bindings: TypeAlias = Callable[[SessionHead], tuple[str | None, str | None]]


def unbound(_: SessionHead) -> tuple[None, None]:
    """The bindings of a stored mob: which model serves an alias is not in the store."""
    return None, None


class Spans:
    """Feed it the records in order, and it gives the spans of turns whose parents wait for no more.

    `content` is whether arguments, results and answers are told, without secrets.
    """

    def __init__(
        self,
        mob_id: str,
        state: RealmState,
        who: Callable[[], Who],
        redactor: Redactor,
        bindings: Bindings = unbound,
        *,
        content: bool = False,
    ) -> None:
        """`who` is asked anew for each turn: members come and go."""
        self._mob_id = mob_id
        self._state = state
        self._who = who
        self._clean = redactor
        self._bindings = bindings
        self._content = content
        self._pieces = Pieces()
        #: Spans of turns of children, by the session that waits for them.
        self._waiting: dict[SessionId, list[tuple[str, Span]]] = {}

    def feed(self, seq: int, record: Any) -> Iterator[Span]:
        """The spans that are whole with this record."""
        turn = self._pieces.feed(seq, record)
        if turn is not None and turn.record is not None:
            yield from self._ended(turn, turn.record.run_id)

    def rest(self) -> Iterator[Span]:
        """Those of turns that have not ended, as far as they came, and of children that wait."""
        for turn in self._pieces.in_flight():
            yield from self._ended(turn, f"{turn.session_id}/in-flight")
        for waiting in self._waiting.values():
            yield from (span for _, span in waiting)
        self._waiting.clear()

    def _ended(self, turn: TurnPieces, key: str) -> Iterator[Span]:
        head = self._state.heads.get(turn.session_id)
        made = self._turn(turn, key, head)
        parent = None if head is None or head.task is not None else head.lineage.parent
        if head is not None and parent is not None and parent in self._state.heads:
            place = (head.spawn_key or "", made)
            self._waiting.setdefault(parent, []).append(place)
            return
        yield made

    def _turn(self, turn: TurnPieces, key: str, head: SessionHead | None) -> Span:
        member, path = self._who()(turn.session_id)
        provider, requested = (None, None) if head is None else self._bindings(head)
        inside = self._waiting.pop(turn.session_id, [])
        children: list[Span] = []
        for number, piece in enumerate(turn.pieces):
            children += self._piece(f"{key}/{number}", piece, inside, provider, requested, path)
        children += [span for _, span in inside]
        record = turn.record
        usage = NO_USAGE if record is None else record.usage
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": path,
            "gen_ai.agent.id": f"{self._mob_id}/{path}",
            "gen_ai.conversation.id": turn.session_id,
            **dict(_models(provider, requested, None)),
            **_tokens(usage),
            **_cost(usage),
        }
        if member is not None:
            attributes["mob.member"] = member
        if turn.queued_ns is not None and turn.queued_ns < turn.start_ns:
            attributes["mob.queued_s"] = (turn.start_ns - turn.queued_ns) / 1e9
        error = None
        if record is not None:
            attributes["mob.run_id"] = record.run_id
            attributes["mob.turn"] = record.turn
            attributes["mob.record"] = turn.seq or 0
            attributes["mob.outcome"] = record.outcome.name.lower()
            if record.outcome is not TurnOutcome.COMPLETED:
                error = (record.outcome.name.lower(), self._short(record.error or ""))
        else:
            attributes["mob.outcome"] = "in_flight"
        return Span(
            *(key, f"invoke_agent {path}", turn.start_ns, turn.end_ns, attributes),
            error=error,
            children=tuple(children),
        )

    def _piece(
        self,
        key: str,
        piece: Piece,
        inside: list[tuple[str, Span]],
        provider: str | None,
        requested: str | None,
        path: str,
    ) -> Iterator[Span]:
        if piece.doing in (Doing.MODEL, Doing.WORK):
            # Of several replies in one piece (one was cut off and continued) the last has its time.
            failed = piece.error is not None or not piece.replies
            replies = piece.replies or (None,)
            for number, reply in enumerate(replies):
                last = number == len(replies) - 1
                yield self._chat(
                    *(f"{key}.{number}", piece, reply, provider, requested),
                    start_ns=piece.start_ns if last else piece.end_ns,
                    failed=failed,
                )
        for call, result in piece.calls:
            yield self._tool(f"{key}/{call.id}", piece, call, result, inside)
        if piece.doing is Doing.RESTART:
            error = ("crash", self._short(piece.error or ""))
            told: dict[str, Value] = {"gen_ai.agent.name": path}
            if piece.detail:
                told["mob.restart"] = piece.detail
            yield Span(key, f"restart {path}", piece.start_ns, piece.end_ns, told, error=error)
        elif piece.doing in (Doing.RETRY, Doing.APPROVAL):
            what = "retry" if piece.doing is Doing.RETRY else "approval"
            detail = self._short(piece.detail)
            told = {"mob.waits_for": detail} if detail else {}
            yield Span(key, f"wait {what}", piece.start_ns, piece.end_ns, told)

    def _chat(
        self,
        key: str,
        piece: Piece,
        reply: AssistantMessage | None,
        provider: str | None,
        requested: str | None,
        *,
        start_ns: int,
        failed: bool,
    ) -> Span:
        if piece.detail:  # a failed attempt says at which model it was
            provider, requested = named(piece.detail)
        answered = None if reply is None else self._clean.text(reply.model or "")
        usage = NO_USAGE if reply is None else reply.usage
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            **dict(_models(provider, requested, answered)),
            **_tokens(usage),
            **_cost(usage),
        }
        if reply is not None and self._content:
            parts: list[dict[str, Any]] = [
                {"type": "text", "content": self._clean.written(reply.text)}
            ]
            parts += [
                {
                    "type": "tool_call",
                    **call_of(call, self._clean),
                }
                for call in reply.tool_calls
            ]
            said = [{"role": "assistant", "parts": parts}]
            attributes["gen_ai.output.messages"] = json.dumps(said, ensure_ascii=False)
        model = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.response.model")
        error = ("model_error", self._short(piece.error or "")) if failed else None
        name = f"chat {model}" if model else "chat"
        return Span(key, name, start_ns, piece.end_ns, attributes, client=True, error=error)

    def _tool(
        self,
        key: str,
        piece: Piece,
        call: ToolCall,
        result: ToolResult | None,
        inside: list[tuple[str, Span]],
    ) -> Span:
        name = self._clean.text(call.name)
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": "function",
        }
        if self._content:
            attributes["gen_ai.tool.call.arguments"] = self._short(call.arguments)
            if result is not None:
                attributes["gen_ai.tool.call.result"] = self._short(result.text)
        error = None
        if result is None:
            error = ("interrupted", self._short(piece.error or "no result was journalled"))
        elif result.outcome is not ToolOutcome.OK:
            error = (result.outcome.name.lower(), self._short(result.text))
        mine = [each for each in inside if each[0].endswith(f":{call.id}")]
        for each in mine:
            inside.remove(each)
        return Span(
            *(key, f"execute_tool {name}", piece.start_ns, piece.end_ns, attributes),
            error=error,
            children=tuple(span for _, span in mine),
        )

    def _short(self, text: str) -> str:
        clean = self._clean.written(text)
        return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


def named(model: str) -> tuple[str | None, str]:
    """The provider, as others call it, and the model of ``provider:id``."""
    provider, colon, name = model.partition(":")
    return (PROVIDERS.get(provider, provider), name) if colon else (None, model)


def _models(
    provider: str | None, requested: str | None, answered: str | None
) -> Iterator[tuple[str, Value]]:
    if answered is not None and ":" in answered and provider in (None, named(answered)[0]):
        provider, answered = named(answered)
    for name, value in (
        ("gen_ai.provider.name", provider),
        ("gen_ai.request.model", requested),
        ("gen_ai.response.model", answered),
    ):
        if value:
            yield name, value


def _tokens(usage: Usage) -> dict[str, Value]:
    if not usage.total_tokens:
        return {}
    told: dict[str, Value] = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    if usage.cached_input_tokens:
        told["gen_ai.usage.cache_read.input_tokens"] = usage.cached_input_tokens
    return told


def _cost(usage: Usage) -> dict[str, Value]:
    return {"mob.cost_usd": usage.cost_nano_usd / 1e9} if usage.priced_calls else {}
