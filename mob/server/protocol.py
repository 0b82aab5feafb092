"""What is said over the socket of a mob: requests and replies as data, and their JSON.

Owns: one class for each verb and what it returns, and the strict reading of JSON. Must not: do
anything: `mob.server.verbs` carries requests out, on a running mob or over a store.

A request is ``POST /v1/VERB`` with the fields of its class as a JSON object; an unknown field, a
missing one or one of another type is refused. Durations are in seconds.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final, Generic, TypeVar

import attrs

from mob.errors import RequestInvalid
from mob.receipts import Receipt, StopReport
from mob.view import MobView
from runtime import peering
from runtime.codec import converter
from runtime.results import TurnResult

R = TypeVar("R")
T = TypeVar("T")

#: Where the version stands in every path; another one is for changes that old clients cannot read.
VERSION: Final = "v1"


class Request(Generic[R]):
    """A request, and the class of its reply. `verb` is its name in the path.

    With `patient` it waits for others, however long that takes; whoever goes away ends the wait.
    """

    verb: ClassVar[str]
    reply: ClassVar[type]
    patient: ClassVar[bool] = False


@attrs.frozen
class Done:
    """Whether anything had to be changed, or was there to be done."""

    changed: bool = True


@attrs.frozen
class Info:
    """Who serves: the mob and its recorded state, the process, the end of the journal."""

    mob_id: str
    state: str
    lead: str
    members: int
    last: int
    pid: int
    version: str
    location: str


@attrs.frozen
class Look:
    """A running mob at one moment; `now_s` is the clock of the ages in it (see `mob.view`)."""

    view: MobView
    now_s: float


@attrs.frozen
class Send(Request[Receipt]):
    """See `Mob.send`."""

    verb: ClassVar[str] = "send"
    reply: ClassVar[type] = Receipt
    to: str
    text: str
    mode: str = "queue"
    sender: str | None = None
    intent: str = peering.MESSAGE
    when_full: str | None = None
    idempotency_key: str | None = None
    skills: tuple[str, ...] = ()


@attrs.frozen
class Ask(Request[TurnResult]):
    """See `Mob.ask`."""

    verb: ClassVar[str] = "ask"
    reply: ClassVar[type] = TurnResult
    patient: ClassVar[bool] = True
    member: str
    text: str
    idempotency_key: str | None = None
    skills: tuple[str, ...] = ()


@attrs.frozen
class Interrupt(Request[Done]):
    """See `Mob.interrupt`; `changed` is whether there was a turn in flight."""

    verb: ClassVar[str] = "interrupt"
    reply: ClassVar[type] = Done
    member: str


@attrs.frozen
class Stop(Request[StopReport]):
    """See `Mob.stop`. A `mob run` ends with it."""

    verb: ClassVar[str] = "stop"
    reply: ClassVar[type] = StopReport
    deadline_s: float = 10.0
    reason: str = "asked to stop"


REQUESTS: Final[dict[str, type[Request[Any]]]] = {
    each.verb: each for each in (Send, Ask, Interrupt, Stop)
}


def to_json(value: Any) -> Any:
    """An attrs value as JSON can hold it; `read` has it back."""
    return converter().unstructure(value)


def read(cls: type[T], value: Any) -> T:
    """The instance of `cls` that JSON stands for.

    Raises:
        RequestInvalid: it does not fit the class exactly.
    """
    from cattrs.errors import ForbiddenExtraKeysError

    try:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, found {value!r:.80}")
        return converter().structure(value, cls)
    except ForbiddenExtraKeysError as error:
        names = ", ".join(sorted(error.extra_fields))
        raise RequestInvalid(f"{_named(cls)} has no field {names}") from None
    except KeyError as error:
        raise RequestInvalid(f"{_named(cls)} needs {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RequestInvalid(f"not a {_named(cls)}: {error}") from None


def parse(cls: type[T], body: bytes) -> T:
    """The instance of `cls` in a body of JSON; an empty one is an empty object.

    Raises:
        RequestInvalid: it is no JSON, or does not fit the class exactly.
    """
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"the body is not JSON: {error}") from None
    return read(cls, value)


def _named(cls: type) -> str:
    return str(getattr(cls, "verb", cls.__name__))
