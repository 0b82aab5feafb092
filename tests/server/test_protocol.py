"""What is said over the socket: read strictly, and the same on both sides."""

from __future__ import annotations

import json

import attrs
import pytest

from mob.errors import MailboxFull, MemberNotFound, RequestInvalid, ServerFailed
from mob.lifecycle import MobState, VerbRefused
from mob.server import protocol
from mob.server.faults import error_of, fault_of
from mob.server.protocol import REQUESTS, Ask, Send, parse, read, to_json
from mob.server.streams import Piece
from mob.server.verbs import _PERFORMED
from runtime.errors import BudgetExceeded, MobError, SessionBusy, TurnFailed
from runtime.ids import SessionId
from stores import StoreError, StoreInUse

HERE = SessionId("s")

REFUSED = [
    (b'{"to": "a"}', "send needs 'text'"),
    (b'{"to": "a", "text": "x", "txt": "y"}', "send has no field txt"),
    (b'{"to": "a", "text": 7}', "expected str, found 7"),
    (b'{"to": "a", "text": "x", "skills": "s"}', "expected a list"),
    (b"[]", "expected an object"),
    (b"{", "the body is not JSON"),
    (b"\xff", "the body is not JSON"),
    (b"[" * 100_000, "the body is not JSON"),
    (b"", "send needs 'to'"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(body: bytes, words: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        parse(Send, body)
    assert words in str(caught.value)


def test_a_request_is_the_same_on_the_other_side() -> None:
    asked = Send("a", "x", mode="steer", idempotency_key="k", skills=("s", "t"))
    assert parse(Send, json.dumps(to_json(asked)).encode()) == asked
    assert read(Ask, {"member": "a", "text": "x"}) == Ask("a", "x")


def test_every_request_is_carried_out_and_has_a_reply_that_can_be_read() -> None:
    assert set(_PERFORMED) == set(REQUESTS.values())
    for name, cls in REQUESTS.items():
        assert cls.verb == name
        assert attrs.has(cls.reply), name
    assert protocol.VERSION == "v1"


FAULTS: list[tuple[Exception, int, int, str | None]] = [
    (MemberNotFound("x", ("a", "b")), 404, 4, None),
    (VerbRefused(MobState.STOPPED, "ask"), 409, 7, None),
    (MailboxFull("a", 1, 1, 5, 5, 9), 409, 7, None),
    (RequestInvalid("x"), 400, 2, None),
    (SessionBusy(HERE), 409, 7, "SESSION_BUSY"),
    (TurnFailed("ModelError: 500", HERE, retryable=True), 500, 8, "AGENT_ERROR"),
    (
        BudgetExceeded("x", HERE, scope="mob", limit="tokens", allowed=1, spent=2),
        500,
        5,
        "AGENT_ERROR",
    ),
    (StoreInUse("x", path="p", pid=7), 409, 75, None),
    (MobError("x"), 500, 1, None),
]


@pytest.mark.parametrize(("error", "status", "code", "name"), FAULTS)
def test_an_error_is_the_same_on_the_other_side(
    error: Exception, status: int, code: int, name: str | None
) -> None:
    """CONTRACTS 4.12: HTTP and the command line read the same table."""
    found, told = fault_of(error)
    assert (found, told["error"]["exit"], told["error"]["code"]) == (status, code, name)
    back = error_of(json.loads(json.dumps(told)))
    assert (type(back), str(back)) == (type(error), str(error))
    assert vars(back) == vars(error)


def test_what_is_no_error_of_ours_tells_no_more_than_its_words() -> None:
    class Secret(Exception):
        def __init__(self) -> None:
            super().__init__("it broke")
            self.key = "sk-1"

    status, told = fault_of(Secret())
    assert (status, told["error"]["fields"]) == (500, {})
    back = error_of(told)
    assert (type(back), str(back)) == (ServerFailed, "Secret: it broke")


@pytest.mark.parametrize("told", [None, [], {}, {"error": 3}, {"error": {"type": "StoreBroken"}}])
def test_an_answer_of_another_server_is_an_error_too(told: object) -> None:
    assert isinstance(error_of(told), ServerFailed)
    assert not isinstance(error_of(told), StoreError)


def test_a_piece_is_one_event_whatever_it_says() -> None:
    assert Piece("text", {"text": "a\n\ndata: b\ud800"}, 7).encode() == (
        b'id: 7\nevent: text\ndata: {"text": "a\\n\\ndata: b?"}\n\n'
    )
