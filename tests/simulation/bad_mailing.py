"""Journals with messages between members that no correct mob makes, each wrong in its last step."""

from __future__ import annotations

from typing import Any

from mob.comms.records import (
    MembersUnwired,
    MembersWired,
    RequestSent,
    RequestSettled,
    Settled,
)
from mob.definition import MobDefinition
from mob.receipts import Receipt
from mob.records import BlueprintAdopted, MemberSpawned
from mob.simulation import mailing
from runtime.ids import InputId, SessionId
from runtime.messages import CONTEXT, AssistantMessage, SystemMessage
from runtime.records import InputAccepted
from tests.simulation.cases import case
from tests.simulation.tape import ONE, Tape, accepted, created, ended, said

BOTH = (("a", "b"), ("b", "a"))


def peers(tape: Tape, *, wiring: Any = None, **mailbox: int) -> None:
    """Another member joins; the mailboxes are so big. Records 5 to 7."""
    table: dict[str, Any] = {
        "mob": {"id": "t", "lead": "a"},
        "models": {"m": {"model": "sim:echo"}},
        "profiles": {"p": {"model": "m", "silent_comms_intents": ["fyi"], "mailbox": mailbox}},
        "members": {"a": {"profile": "p"}, "b": {"profile": "p"}},
        "wiring": wiring or {"default": "deny"},
    }
    definition = MobDefinition.from_table(table)
    tape.oracle.opened(2, 2, tape.at_s, definition)
    tape.process = tape.generation = 2
    tape.commit(BlueprintAdopted(definition.blueprint(), 2))
    tape.commit(created("t", "b"), MemberSpawned("b", "p", SessionId("t"), 1, 1))


def wired(tape: Tape, *pairs: tuple[str, str]) -> None:
    tape.commit(MembersWired(pairs or BOTH, 3))


def asks(request: str = "r-1", sender: str | None = "b", text: str = "why") -> tuple[Any, ...]:
    message = accepted(f"i-{request}", f"[request {request}] {text}", sender=sender)
    return message, RequestSent(InputId(request), sender, "a", 1000, 3)


def settles(how: Settled = Settled.REPLIED, text: str = "because", at: int = 9) -> RequestSettled:
    return RequestSettled(InputId("r-1"), how, text, at)


def receipt(input_id: str = "i", session: str = "s", member: str = "a") -> Receipt:
    return Receipt(InputId(input_id), SessionId(session), member)


def steers(input_id: str = "late") -> InputAccepted:
    return InputAccepted(SessionId("s"), InputId(input_id), "go left", None, None, 2, (), True)


# -- edges -----------------------------------------------------------------------------------


@case("messages_go_along_edges")
def along_no_edge(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted(sender="b"))


@case("messages_go_along_edges")
def against_the_direction(tape: Tape) -> None:
    peers(tape)
    wired(tape, ("b", "a"))
    tape.commit(accepted("i", sender="b"))
    tape.commit(accepted("j", session="t", sender="a"))


@case("messages_go_along_edges")
def along_an_edge_that_was_removed(tape: Tape) -> None:
    peers(tape, wiring={"default": "allow"})
    tape.commit(accepted("i", sender="b"))
    tape.commit(MembersUnwired(BOTH, 3))
    tape.commit(accepted("j", sender="b"))


@case("messages_go_along_edges")
def against_a_rule(tape: Tape) -> None:
    peers(tape, wiring={"default": "allow", "rules": {"p -> p": "deny"}})
    tape.commit(accepted(sender="b"))


@case("mailboxes_are_bounded")
def one_message_too_many(tape: Tape) -> None:
    peers(tape, max_messages=2)
    for name in "ijk":
        tape.commit(accepted(name))


@case("mailboxes_are_bounded")
def one_byte_too_many(tape: Tape) -> None:
    peers(tape, max_bytes=5)
    tape.commit(accepted("i", "four"))
    tape.commit(accepted("j", "é"))


# -- requests --------------------------------------------------------------------------------


@case("requests_come_with_their_messages")
def a_request_without_its_message(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    message, sent = asks()
    tape.commit(message)
    tape.commit(sent)


@case("requests_come_with_their_messages")
def a_request_of_somebody_else(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    message, _ = asks()
    tape.commit(message, RequestSent(InputId("r-1"), None, "a", 1000, 3))


@case("requests_come_with_their_messages")
def a_request_sent_twice(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    tape.commit(*asks())
    tape.commit(accepted("again", "[request r-1] why", sender="b"), asks()[1])


@case("requests_are_settled_once")
def replied_twice(tape: Tape) -> None:
    peers(tape)
    tape.commit(*asks(sender=None))
    tape.commit(settles())
    tape.commit(settles(text="or so"))


@case("requests_are_settled_once")
def replied_to_nothing(tape: Tape) -> None:
    peers(tape)
    tape.commit(settles())


@case("requests_are_settled_once")
def replied_by_a_later_process(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    tape.commit(*asks())
    tape.commit(MembersUnwired((("b", "a"),), 3))
    tape.open(3, 3)
    tape.commit(settles())


@case("deadlines_are_not_early")
def too_early(tape: Tape) -> None:
    peers(tape)
    tape.commit(*asks(sender=None))
    tape.commit(settles(Settled.PASSED, "late", 999))


# -- steering and silence --------------------------------------------------------------------


@case("what_steers_goes_with_the_next_turn")
def steering_that_is_left_lying(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    tape.commit(accepted("i"), steers())
    tape.commit(ended("i", run="run 1"))  # record 11
    tape.commit(accepted("k", sender="b"))
    place = (2, 4, 11, 1)
    tape.commit(ended("k", run="run 2", prev=11, place=place, messages=said(sender="b")))


@case("silence_wakes_nobody")
def woken_by_what_is_silent(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    tape.commit(accepted("i", "b (fyi): so", sender=f"{CONTEXT}: b"))
    messages = (SystemMessage("b (fyi): so", "b"), AssistantMessage("yes", usage=ONE))
    tape.commit(ended("i", messages=messages))


# -- promises --------------------------------------------------------------------------------


def told(tape: Tape, promise: mailing.Mailed) -> None:
    tape.oracle.promised(promise)


@case("what_senders_were_told_is_on_disk")
def told_that_they_are_wired(tape: Tape) -> None:
    peers(tape)
    told(tape, mailing.Wired(BOTH, True, tape.oracle.ledger.last))


@case("what_senders_were_told_is_on_disk")
def told_that_they_are_unwired(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    told(tape, mailing.Wired(BOTH, False, tape.oracle.ledger.last))


@case("what_senders_were_told_is_on_disk")
def told_that_it_was_sent(tape: Tape) -> None:
    peers(tape)
    told(tape, mailing.Posted(receipt(), "hi", None, False))


@case("what_senders_were_told_is_on_disk")
def sent_in_another_name(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted())
    told(tape, mailing.Posted(receipt(), "hi", "b", False))


@case("what_senders_were_told_is_on_disk")
def sent_twice(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted("i"), accepted("j"))
    told(tape, mailing.Posted(receipt(), "hi", None, False))


@case("what_senders_were_told_is_on_disk")
def sent_as_something_that_wakes(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted("i", "[fyi] hi"))
    told(tape, mailing.Posted(receipt(), "hi", None, True))


@case("what_senders_were_told_is_on_disk")
def overtaken_in_the_line(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted("i", "two"), accepted("j", "one"))
    told(tape, mailing.StoodInLine("a", ("one", "two", "three")))


@case("what_senders_were_told_is_on_disk")
def told_that_it_was_not_sent(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted())
    told(tape, mailing.Told("hi", None, (("a", None), ("b", None))))


@case("what_senders_were_told_is_on_disk")
def a_broadcast_in_two_commits(tape: Tape) -> None:
    peers(tape)
    tape.commit(accepted("i"))
    tape.commit(accepted("j", session="t"))
    found = (("a", receipt()), ("b", receipt("j", "t", "b")))
    told(tape, mailing.Told("hi", None, found))
    told(tape, mailing.Told("hi", None, found, ("a", "b")))


@case("what_senders_were_told_is_on_disk")
def told_another_reply(tape: Tape) -> None:
    peers(tape)
    tape.commit(*asks(sender=None))
    tape.commit(settles())
    told(tape, mailing.Replied("why", "because"))
    told(tape, mailing.Kept("r-1", "because"))
    told(tape, mailing.Replied("why", "or so"))


@case("what_senders_were_told_is_on_disk")
def told_that_a_late_reply_counts(tape: Tape) -> None:
    peers(tape)
    tape.commit(*asks(sender=None))
    tape.commit(settles(Settled.PASSED, "late", 1000))
    told(tape, mailing.Unanswered("why", "passed"))
    told(tape, mailing.Kept("r-1", "because"))


@case("what_senders_were_told_is_on_disk")
def told_that_nobody_replied(tape: Tape) -> None:
    peers(tape)
    wired(tape)
    tape.commit(*asks())
    tape.commit(MembersUnwired(BOTH, 3))
    told(tape, mailing.Unanswered("why", "failed"))
    told(tape, mailing.Unanswered("why", "passed"))


@case("what_senders_were_told_is_on_disk")
def an_edge_that_is_not_there(tape: Tape) -> None:
    peers(tape)
    last = tape.oracle.ledger.last
    told(tape, mailing.LookedAround(last, ((("a", "b"), False),), ()))
    told(tape, mailing.LookedAround(last, ((("a", "b"), True),), ()))


@case("what_senders_were_told_is_on_disk")
def a_request_that_is_forgotten(tape: Tape) -> None:
    peers(tape)
    tape.commit(*asks(sender=None))
    last = tape.oracle.ledger.last
    told(tape, mailing.LookedAround(last, (), ("r-1",)))
    told(tape, mailing.LookedAround(last, (), ()))
