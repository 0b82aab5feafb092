"""`mob run`: put a prompt to a mob's lead, watch it work, print the answer.

Owns: the verb; what a signal does. Must not: know how a turn runs or how it is drawn.

A run is durable. Its idempotency key is counted from the runs already *reported*, and a run is
reported after its outcome has been written and flushed; so after `kill -9` the same command joins
and finishes the same work, and after a finished run it asks again.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import attrs
import trio
from cyclopts import Parameter

from mob.app import open_mob
from mob.budgets import check_run_budget, limit_run, parse_budget
from mob.cli import exits
from mob.cli.approvals import answered, say_what_waits
from mob.cli.binding import Models, Seed, bound_models
from mob.cli.detach import detached
from mob.cli.display import Display, Kind, open_display
from mob.cli.options import DEFAULT_STATE, Adopt, Budgets, Json, State
from mob.cli.output import answer_text, plural, result, result_json, spent_text
from mob.cli.staying import served, stopped_by_others, tell_launch
from mob.cli.validate import read
from mob.cli.weights import have_weights
from mob.collector import tuned_gc
from mob.console.narrator import path_of
from mob.definition import MobDefinition
from mob.life import DRAIN_S
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.models import taped
from mob.runs import RunReport, past, read_run, run_key
from mob.server.serving import Server
from mob.shapes import jsonable
from runtime.budget import Budget
from runtime.errors import SessionError
from runtime.keyed import KeyedInput
from runtime.records import TurnOutcome
from stores import open_lmdb

EXAMPLES = """    mob run mob.toml --prompt "What do the notes say about ants?"
    mob run mob.toml --detach         # stays up; then mob ask, send, events, stop
    mob run mob.toml --prompt "..." --model all=sim:agent     # no key, no network
    git diff | mob run review.toml --prompt - --json | jq .text
    mob run mob.toml --prompt "..." --display json            # events, then the result
"""

#: Seconds that turns still in flight beside the lead's get once the answer is there.
_AFTERWARDS_S: Final = 2.0


Prompt: TypeAlias = Annotated[
    str | None,
    Parameter(
        allow_leading_hyphen=True,
        show_default=False,
        help="What to ask the lead; '-' reads it from stdin. Needed unless the mob stays up.",
    ),
]
Shown: TypeAlias = Annotated[
    Kind | None,
    Parameter(
        show_default=False,
        help="How progress is shown on stderr: live (a tree; default on a terminal), plain"
        " (lines; default elsewhere) or none; json writes events to stdout as JSON lines, the"
        " result as the last.",
    ),
]
Recorded: TypeAlias = Annotated[
    Path | None,
    Parameter(show_default=False, help="Add every model call and its reply to this file."),
]
Replayed: TypeAlias = Annotated[
    Path | None,
    Parameter(show_default=False, help="Answer every model call out of such a file."),
]
Stay: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Keep the mob up, also behind the answer, until `mob stop` or Ctrl-C.",
    ),
]
Detach: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Stay up in a process of its own: print a launch record once the mob is up.",
    ),
]


async def run(
    file: Annotated[Path, Parameter(name="FILE", help="The mob file.")],
    /,
    *,
    prompt: Prompt = None,
    model: Models = None,
    seed: Seed = None,
    budget: Budgets = None,
    state: State = DEFAULT_STATE,
    display: Shown = None,
    json: Json = False,
    record: Recorded = None,
    replay: Replayed = None,
    adopt: Adopt = False,
    stay: Stay = False,
    detach: Detach = False,
) -> int:
    """Put a prompt to a mob's lead, watch it work, print the answer.

    The answer goes to stdout, progress to stderr. Every finished step is on disk:
    after a crash or Ctrl-C the same command takes the unfinished work up again.
    Ctrl-C once lets turns in flight finish and saves; a second one cancels them. A tool
    call that waits for approval is asked about on a terminal; elsewhere the command
    ends with exit code 6 and says how to decide, unless the mob stays up. While it runs
    other terminals reach it: mob ask, send, events, watch, approve, stop.
    """
    text = _prompt(prompt, needed=not (stay or detach))
    if record is not None and replay is not None:
        raise exits.UsageWrong("give --record or --replay, not both")
    definition = read(file)
    if detach:
        again = _staying(sys.argv[1:], text)
        return await detached(definition.id, again, text, state, as_json=json)
    bound, told = bound_models(definition.models, model, seed)
    definition = attrs.evolve(definition, models=taped(bound, record=record, replay=replay))
    shown = open_display(display)
    if told:
        shown.say(told)
    asked = _Asked(json, display == "json", _budget(budget, definition), state=state, stay=stay)
    code = exits.INTERRUPTED
    async with stoppable(shown) as stopper:
        await have_weights(definition.models, shown)
        async with AsyncExitStack() as stack:
            stack.enter_context(tuned_gc())
            store = await stack.enter_async_context(open_lmdb(state))
            asked.after = store.last(b"realm/" + definition.id.encode())
            mob = await stack.enter_async_context(
                open_mob(definition, store=store, adopt=adopt, grace_s=0.0)
            )
            server = await stack.enter_async_context(served(mob, shown))
            code = await _run(mob, text, shown, stopper, asked, server)
    if stopper.everything.cancelled_caught:
        shown.say(f"cancelled; what was finished is on disk; continue with: {command_line()}")
    return code


@attrs.define
class _Asked:
    """How this run is to be shown: `after` is the journal's end when it was opened."""

    json: bool
    lines: bool
    budget: Budget | None = None
    after: int = 0
    state: Path = DEFAULT_STATE
    stay: bool = False


class Stopper:
    """What signals cancel: the first one `work`, the second everything."""

    def __init__(self, everything: trio.CancelScope) -> None:
        self.everything = everything
        #: The wait for the answer; None until there is one, then a signal cancels everything.
        self.work: trio.CancelScope | None = None

    async def listen(self, signals: AsyncIterator[int]) -> None:
        """Act on every signal that comes."""
        async for _ in signals:
            if self.work is None or self.work.cancel_called:
                self.everything.cancel()
            else:
                self.work.cancel()


@asynccontextmanager
async def stoppable(display: Display) -> AsyncIterator[Stopper]:
    """A block that SIGINT and SIGTERM end as `Stopper` says; a second signal leaves it quietly."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        with trio.CancelScope() as everything:
            async with trio.open_nursery() as nursery:
                stopper = Stopper(everything)
                nursery.start_soon(stopper.listen, signals)
                yield stopper
                nursery.cancel_scope.cancel()


async def _run(
    mob: Mob,
    prompt: str | None,
    display: Display,
    stopper: Stopper,
    asked: _Asked,
    server: Server | None,
) -> int:
    key = None if prompt is None else run_key(prompt, mob.roster.reported)
    joined = None if key is None else mob.realm.state.find_key(key)
    if asked.budget is not None and key is not None:
        limit_run(mob, key, asked.budget)
    begin = asked.after if joined is None else 0
    failure: SessionError | None = None
    waiting = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(display.run, mob, asked.after)
        await resume(mob, display, joined=joined)
        work = stopper.work = trio.CancelScope()
        nursery.start_soon(_ends_with, mob, work)
        tell_launch(mob, server, asked.state, asked.after)
        with work:
            if prompt is not None and key is not None:
                ask = partial(mob.ask, mob.definition.lead, prompt, idempotency_key=key)
                try:
                    waiting = not await answered(mob, ask, display, patient=asked.stay)
                except SessionError as error:
                    failure = error
            if asked.stay:
                if key is not None:
                    await _report(mob, key, display, asked, begin, failure)
                display.say(f"mob {mob.id!r} is up, until Ctrl-C or: mob stop {mob.id}")
                await trio.sleep_forever()
        if waiting:
            nursery.cancel_scope.cancel()
        elif work.cancelled_caught:
            await save(mob, display)
        else:
            with trio.move_on_after(_AFTERWARDS_S):
                await mob.wait_idle()
        nursery.cancel_scope.cancel()
    display.finish(mob)
    if waiting:
        say_what_waits(mob, display, asked.state)
        display.say(f"then continue with: {command_line()}")
        return exits.WAITING
    if work.cancelled_caught:
        display.say(f"continue with: {command_line()}")
        return exits.DONE if asked.stay else exits.INTERRUPTED
    assert key is not None, "without a prompt it stays up"
    await _report(mob, key, display, asked, begin, None)
    if failure is not None:
        raise failure
    return exits.DONE


async def _ends_with(mob: Mob, work: trio.CancelScope) -> None:
    """Cancel `work` once the mob is stopped, also by another terminal or by itself."""
    await stopped_by_others(mob)
    work.cancel()


async def _report(
    mob: Mob,
    key: str,
    display: Display,
    asked: _Asked,
    begin: int,
    failure: SessionError | None,
) -> None:
    """Print what came of the prompt, and record that it was shown."""
    report = read_run(mob.id, key, past(mob.realm.journal, begin), mob.realm.state.heads)
    if report is not None:
        calls = plural(report.usage.model_calls, "model call")
        display.say(f"spent {spent_text(report.usage)} in {calls}")
        _print(report, asked)
    if failure is not None:
        display.say(f"error: {exits.paragraph(failure)}")
    await mob.report_run(key)


async def resume(mob: Mob, display: Display, *, joined: KeyedInput | None) -> None:
    """Bring a mob that was stopped back to work, and say what it has left to do."""
    unfinished = sum(bool(head.inputs) for head in mob.realm.state.heads.values())
    if mob.state is MobState.STOPPED:
        display.say(f"mob {mob.id!r} was stopped: resuming it")
        await mob.resume()
    if joined is not None and joined.turn:
        display.say("this prompt was answered before and the answer not shown: here it is")
    elif joined is not None:
        display.say("this prompt was asked before and not answered: joining that run")
    if unfinished:
        display.say(f"continuing {plural(unfinished, 'unfinished session')} from what is on disk")


async def save(mob: Mob, display: Display, deadline_s: float = DRAIN_S) -> None:
    """Stop the mob durably, and say so while it happens."""
    if mob.state is not MobState.RUNNING:
        display.say(f"mob {mob.id!r} is {mob.state.value}: not by this command")
        return
    busy = len(mob.at_work)
    if busy:
        display.say(
            f"saving: letting {plural(busy, 'member')} finish for at most {deadline_s:g} s"
            " (Ctrl-C again to cut them off)"
        )
    stopped = await mob.stop(deadline_s)
    late = [*stopped.cancelled, *(path_of(mob.realm.state, each) for each in stopped.children)]
    cut = f"; cut off and to be continued: {', '.join(late)}"
    display.say(f"saved: mob {mob.id!r} is stopped{cut if late else ''}")


def _print(report: RunReport, asked: _Asked) -> None:
    """Write the outcome to stdout."""
    if asked.json or asked.lines:
        shape = jsonable(report)
        if asked.lines:
            shape = {"type": "result", **shape}
        result_json(shape, line=asked.lines)
    elif report.outcome is TurnOutcome.COMPLETED:
        answer = report.text
        if report.output is not None:
            answer = answer_text(report.output)
        result(answer)


def _staying(arguments: Sequence[str], prompt: str | None) -> list[str]:
    """The command line of the process that is detached: the same, but that it stays up here, and
    reads the prompt from stdin."""
    again: list[str] = []
    given = iter(arguments)
    for each in given:
        if each in ("--prompt", "--display"):
            next(given, None)
        elif not each.startswith(("--prompt=", "--display=", "--detach", "--stay")):
            again.append(each)
    return [*again, "--stay", "--display", "plain", *(() if prompt is None else ("--prompt", "-"))]


def _prompt(given: str | None, *, needed: bool) -> str | None:
    if given is None:
        if needed:
            raise exits.UsageWrong(
                "there is nothing to ask: give --prompt TEXT, or --stay or --detach to keep the mob"
                " up for others to ask"
            )
        return None
    text = sys.stdin.read() if given == "-" else given
    if not text.strip():
        raise exits.UsageWrong("the prompt is empty: give --prompt TEXT, or --prompt - and stdin")
    return text


def _budget(given: list[str] | None, definition: MobDefinition) -> Budget | None:
    try:
        budget = parse_budget(given or ())
    except ValueError as error:
        raise exits.UsageWrong(f"--budget {error}") from None
    if budget is not None:
        check_run_budget(definition, budget)
    return budget


def command_line() -> str:
    """The command line that the user gave, as they can give it again."""
    return shlex.join(["mob", *sys.argv[1:]])
