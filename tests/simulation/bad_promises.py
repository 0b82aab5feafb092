"""Promises, snapshots and erasures that are wrong, each in the last step only."""

from __future__ import annotations

from typing import Any

import attrs
import msgpack

from mob.receipts import Receipt
from mob.records import MobStateChanged
from mob.simulation import promises
from mob.simulation.facts import ToolRan
from mob.simulation.recovered import fold
from runtime.codec import converter
from runtime.errors import TurnInterrupted
from runtime.ids import InputId, RunId, SessionId
from runtime.journal import Event
from runtime.messages import (
    Usage,
    pack_message,
)
from runtime.results import TurnResult
from runtime.session import Session
from stores import Erase, Put
from tests.simulation.cases import a_turn, called, case, result
from tests.simulation.tape import (
    ONE,
    Tape,
    accepted,
    progressed,
    said,
)

# -- tools -----------------------------------------------------------------------------------


def tool(idempotent: bool = False, call: str = "c") -> ToolRan:
    return ToolRan("s", "r", call, "look", idempotent)


@case("tools_run_once")
def runs_before_its_call_is_on_disk(tape: Tape) -> None:
    tape.commit(accepted())
    tape.oracle.promised(tool())


@case("tools_run_once")
def runs_twice(tape: Tape) -> None:
    tape.commit(accepted(), progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.oracle.promised(tool())
    tape.oracle.promised(tool())


@case("tools_run_once")
def runs_after_its_result(tape: Tape) -> None:
    tape.commit(accepted(), progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.oracle.promised(tool(True))
    tape.oracle.promised(tool(True))
    tape.commit(progressed(result("c"), usage=Usage(1, 1, 1, 1)))
    tape.oracle.promised(tool(True))


@case("results_are_those_of_the_latest_run")
def a_stale_result(tape: Tape) -> None:
    tape.commit(accepted(), progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.oracle.promised(tool(True))
    tape.oracle.promised(promises.ToolReturned("s", "r", "c", "old"))
    tape.oracle.promised(tool(True))
    tape.oracle.promised(promises.ToolReturned("s", "r", "c", "new"))
    tape.commit(progressed(result("c", "old"), usage=Usage(1, 1, 1, 1)))


# -- promises --------------------------------------------------------------------------------


def told(tape: Tape, promise: promises.Promise) -> None:
    tape.oracle.promised(promise)


def receipt(input_id: str = "i") -> Receipt:
    return Receipt(InputId(input_id), SessionId("s"), "a")


def answer(text: str = "yes", run: str = "r1", usage: Usage = ONE) -> promises.Answered:
    return promises.Answered("a", "hi", TurnResult(SessionId("s"), RunId(run), text, None, usage))


@case("acknowledged_means_durable")
def sent_and_not_there(tape: Tape) -> None:
    told(tape, promises.Sent(receipt(), "hi"))


@case("acknowledged_means_durable")
def sent_with_another_text(tape: Tape) -> None:
    tape.commit(accepted())
    told(tape, promises.Sent(receipt(), "hi"))
    told(tape, promises.Sent(receipt(), "ho"))


@case("acknowledged_means_durable")
def sent_with_another_key(tape: Tape) -> None:
    tape.commit(accepted(key="k"))
    told(tape, promises.Sent(receipt(), "hi", "l"))


@case("acknowledged_means_durable")
def answered_and_not_there(tape: Tape) -> None:
    a_turn(tape)
    told(tape, answer())
    told(tape, answer(run="r2"))


@case("acknowledged_means_durable")
def answered_otherwise(tape: Tape) -> None:
    a_turn(tape)
    told(tape, answer("no"))


@case("acknowledged_means_durable")
def charged_otherwise(tape: Tape) -> None:
    a_turn(tape)
    told(tape, answer(usage=Usage()))


@case("acknowledged_means_durable")
def interrupted_and_was_not(tape: Tape) -> None:
    a_turn(tape)
    error = TurnInterrupted("the turn was interrupted: why", SessionId("s"))
    told(tape, promises.Failed("a", "hi", error))


@case("acknowledged_means_durable")
def joined_and_did_not(tape: Tape) -> None:
    told(tape, promises.Spawned("a", "p", "s"))
    told(tape, promises.Spawned("b", "p", "s2"))


@case("acknowledged_means_durable")
def left_and_did_not(tape: Tape) -> None:
    told(tape, promises.Retired("a"))


@case("acknowledged_means_durable")
def stopped_and_was_not(tape: Tape) -> None:
    told(tape, promises.Stopped())


@case("acknowledged_means_durable")
def resumed_before(tape: Tape) -> None:
    tape.commit(MobStateChanged("stopped", "", 1))
    told(tape, promises.Resumed(since=5))


@case("acknowledged_means_durable")
def reported_and_was_not(tape: Tape) -> None:
    told(tape, promises.Reported("run"))


@case("acknowledged_means_durable")
def forked_and_was_not(tape: Tape) -> None:
    told(tape, promises.Forked("s", "f", 0))


@case("acknowledged_means_durable")
def rewound_and_was_not(tape: Tape) -> None:
    a_turn(tape)
    told(tape, promises.Rewound("s", 2))


@case("acknowledged_means_durable")
def labelled_and_was_not(tape: Tape) -> None:
    told(tape, promises.Labelled("s", "a", ("x",)))


@case("acknowledged_means_durable")
def deleted_and_was_not(tape: Tape) -> None:
    told(tape, promises.Deleted("s"))


@case("acknowledged_means_durable")
def saved_and_was_not(tape: Tape) -> None:
    a_turn(tape)
    told(tape, promises.SavedSession("s", said()))
    told(tape, promises.SavedSession("s", said("ho")))


@case("subscribers_see_everything")
def an_event_is_missing(tape: Tape) -> None:
    records = list(tape.oracle.ledger.records)
    told(tape, promises.Subscribed("me", 1))
    told(tape, promises.Saw("me", Event(2, records[1])))
    told(tape, promises.Saw("me", Event(4, records[3])))


@case("subscribers_see_everything")
def an_event_says_something_else(tape: Tape) -> None:
    records = list(tape.oracle.ledger.records)
    told(tape, promises.Saw("me", Event(1, records[1])))


# -- snapshots and what is erased ------------------------------------------------------------


def snapshot(tape: Tape, **given: Any) -> Session:
    """The session as it stands, saved with all of its messages."""
    ledger = tape.oracle.ledger
    head = fold(ledger, ledger.last)[0].heads[SessionId("s")]
    fields = [each.name for each in attrs.fields(Session) if each.name not in ("messages",)]
    fields.remove("revision")
    session = Session(
        **{name: getattr(head, name) for name in fields},
        messages=ledger.history(head.head),
        revision=head.applied,
    )
    return attrs.evolve(session, **given)


def save(tape: Tape, session: Session) -> None:
    row = {
        "session": converter().unstructure(attrs.evolve(session, messages=())),
        "segments": 1,
        "count": len(session.messages),
        "tail": 0,
    }
    part = msgpack.packb([pack_message(message) for message in session.messages])
    tape.operations(
        Put(b"snapshot/t/s", msgpack.packb(row)),
        Put(b"snapshot-part/t/s/" + bytes(4), part),
    )


@case("snapshots_equal_the_fold")
def with_other_messages(tape: Tape) -> None:
    a_turn(tape)
    save(tape, snapshot(tape))
    tape.oracle.ended()
    save(tape, snapshot(tape, messages=said("ho")))
    tape.oracle.ended()


@case("snapshots_equal_the_fold")
def of_a_stale_head(tape: Tape) -> None:
    a_turn(tape)
    save(tape, snapshot(tape, turns=0, head=0))
    tape.oracle.ended()


@case("snapshots_never_go_back")
def an_older_one(tape: Tape) -> None:
    a_turn(tape)
    older = snapshot(tape)
    a_turn(tape, 2)
    save(tape, snapshot(tape))
    save(tape, older)


@case("a_mob_that_stops_is_saved")
def one_turn_is_not(tape: Tape) -> None:
    a_turn(tape)
    save(tape, snapshot(tape))
    a_turn(tape, 2)
    tape.commit(MobStateChanged("stopped", "", 1))


@case("nothing_needed_is_erased")
def a_turn_of_a_history(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)
    tape.operations(Erase(b"realm/t", 5))
    tape.operations(Erase(b"realm/t", 6))
    tape.oracle.ended()
