"""`mob flow`: run a flow, show its plan, look at runs.

Owns: the verbs, parameters on the command line, what is shown of a plan and of a run. Must not:
know how a run goes on or how progress is drawn.

A run is durable: the same command joins its own unfinished run after a crash or Ctrl-C, and starts
another one once the outcome has been shown, as `mob run` does.
"""

from __future__ import annotations

import json as json_module
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import attrs
import trio
from cyclopts import App, Parameter

from mob.app import open_mob, stored_mob
from mob.cli import exits
from mob.cli.approvals import answered, say_what_waits
from mob.cli.binding import Models, Seed, bound_models
from mob.cli.display import Display, Kind, open_display
from mob.cli.options import DEFAULT_STATE, Adopt, DryRun, Json, Labels, Only, State
from mob.cli.output import answer_text, narrate, one_line, plural, result, result_json, say_would
from mob.cli.run import Stopper, command_line, resume, save, stoppable
from mob.cli.staying import served
from mob.cli.stored import looking_into, when
from mob.cli.target import chosen_mobs, reaching, say_where
from mob.cli.validate import read
from mob.cli.weights import have_weights
from mob.cli.would import would
from mob.errors import AddressAmbiguous, FlowNotFound, FlowRunNotFound
from mob.flows.book import FlowBook
from mob.flows.definition import FlowDefinition
from mob.flows.diagram import boxes, mermaid, plan, plan_text
from mob.flows.records import FlowRunId, RunState
from mob.flows.results import FlowResult, result_of
from mob.flows.verbs import FlowRun, filled
from mob.mob import Mob
from mob.runs import run_key
from mob.server.protocol import CancelFlow
from runtime.errors import encodable
from stores import Store, open_lmdb

EXAMPLES = """    mob flow run mob.toml report --param topic=bees
    mob flow run mob.toml report --dry-run            # the plan; --diagram for Mermaid
    mob flow ls
    mob flow show RUN --json
    mob flow cancel RUN
"""

#: Runs read from a store in one go.
_PAGE = 256

flow = App(
    name="flow",
    help="Run a flow of a mob file, or show its plan; list and show runs.",
    help_epilogue=f"Examples:\n{EXAMPLES}",
    help_format="plaintext",
)


RunId: TypeAlias = Annotated[
    str, Parameter(name="RUN", help="Which run, as `mob flow ls` lists it; may be shortened.")
]


@flow.command
async def run(
    file: Annotated[Path, Parameter(name="FILE", help="The mob file.")],
    name: Annotated[str, Parameter(name="NAME", help="The flow.")],
    /,
    *,
    param: Annotated[
        list[str] | None,
        Parameter(
            negative=(),
            show_default=False,
            help="NAME=VALUE gives a parameter: JSON, or else text. May be repeated.",
        ),
    ] = None,
    model: Models = None,
    seed: Seed = None,
    state: State = DEFAULT_STATE,
    display: Annotated[
        Kind | None,
        Parameter(show_default=False, help="How progress is shown, as for `mob run`."),
    ] = None,
    json: Json = False,
    adopt: Adopt = False,
    dry_run: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Ask nobody; print the plan."),
    ] = False,
    diagram: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Ask nobody; print a Mermaid diagram."),
    ] = False,
) -> int:
    """Run a flow of a mob file and print its output.

    The output goes to stdout, progress to stderr. Every finished step is on disk: after
    a crash or Ctrl-C the same command goes on with what has not ended. Exits with 1 if
    the run failed, with 6 if tool calls wait for approval.
    """
    definition = read(file)
    chosen = definition.flows.get(name)
    if chosen is None:
        raise FlowNotFound(name, tuple(definition.flows))
    if dry_run or diagram:
        _show_plan(name, chosen, json=json, diagram=diagram)
        return exits.DONE
    params = parse_params(chosen, param or ())
    filled(name, chosen, params)
    bound, told = bound_models(definition.models, model, seed)
    definition = attrs.evolve(definition, models=bound)
    shown = open_display(display)
    if told:
        shown.say(told)
    code = exits.INTERRUPTED
    async with stoppable(shown) as stopper:
        await have_weights(definition.models, shown)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_lmdb(state))
            after = store.last(b"realm/" + definition.id.encode())
            mob = await stack.enter_async_context(
                open_mob(definition, store=store, adopt=adopt, grace_s=0.0)
            )
            await stack.enter_async_context(served(mob, shown))
            asked = _Asked(name, params, json, display == "json", state, after)
            code = await _run(mob, shown, stopper, asked)
    if stopper.everything.cancelled_caught:
        shown.say(f"cancelled; what was finished is on disk; continue with: {command_line()}")
    return code


@attrs.frozen
class _Asked:
    """What is to be run and how it is shown: `after` is the journal's end when it was opened."""

    flow: str
    params: dict[str, Any]
    json: bool
    lines: bool
    state: Path
    after: int

    @property
    def words(self) -> str:
        """What the idempotency key of the run is made of."""
        return f"flow {self.flow} {json_module.dumps(self.params, sort_keys=True)}"


async def _run(mob: Mob, display: Display, stopper: Stopper, asked: _Asked) -> int:
    key = run_key(asked.words, mob.roster.reported)
    waiting = False
    begun: list[FlowRun] = []

    async def ask() -> None:
        begun.append(await mob.run_flow(asked.flow, asked.params, idempotency_key=key))
        await begun[0].result()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(display.run, mob, asked.after)
        if mob.folds.flows.by_key(key) is not None:
            display.say("this flow was started before: joining that run")
        await resume(mob, display, joined=None)
        stopper.work = trio.CancelScope()
        with stopper.work:
            waiting = not await answered(mob, ask, display)
        if not waiting and stopper.work.cancelled_caught:
            await save(mob, display)
        nursery.cancel_scope.cancel()
    display.finish(mob)
    if waiting:
        say_what_waits(mob, display, asked.state)
        display.say(f"then continue with: {command_line()}")
        return exits.WAITING
    if stopper.work.cancelled_caught:
        display.say(f"continue with: {command_line()}")
        return exits.INTERRUPTED
    outcome = begun[0].now()
    if asked.json or asked.lines:
        shape = shape_of(mob.id, outcome)
        result_json({"type": "result", **shape} if asked.lines else shape, line=asked.lines)
    elif outcome.state is RunState.SUCCEEDED:
        text = outcome.output
        result(text if isinstance(text, str) else answer_text(text))
    await mob.report_run(key)
    if outcome.state is RunState.SUCCEEDED:
        return exits.DONE
    narrate(f"mob: error: run {outcome.run_id} of flow {asked.flow!r} {_how(outcome)}")
    return exits.FAILED


@flow.command
async def ls(
    mob: Only = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """List the runs of flows in a store, in the order of starting.

    Only looks; the store may belong to a running process.
    """
    found: list[tuple[str, FlowResult]] = []
    with looking_into(state) as store:
        for mob_id in chosen_mobs(store, mob, label):
            book = stored_mob(store, mob_id).folds.flows
            found += [(mob_id, each) for each in _every(book)]
    if json:
        shapes = [
            {key: value for key, value in shape_of(mob_id, each).items() if key != "steps"}
            for mob_id, each in found
        ]
        result_json({"state": str(state), "runs": shapes})
        return exits.DONE
    for mob_id, each in found:
        done = sum(step.state.value != "pending" for step in each.steps.values())
        steps = f"{done} of {plural(len(each.steps), 'step')}"
        begun = when(each.started_at_ns)
        result(f"{each.run_id}  {mob_id}/{each.flow}  {each.state.value}  {steps}  {begun}")
    if not found:
        narrate("mob: no flow was run")
    return exits.DONE


@flow.command
async def show(
    run_id: RunId,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Show a run of a flow with its steps.

    Only looks; the store may belong to a running process.
    """
    with looking_into(state) as store:
        found = _found(store, run_id, label)
    if json:
        result_json(shape_of(*found))
    else:
        _show_run(*found)
    return exits.DONE


@flow.command
async def cancel(
    run_id: RunId,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; the run says so.")] = "cancelled",
    label: Labels = None,
    dry_run: DryRun = False,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """End a run that has not ended.

    On disk when this returns. What members were asked for it is withdrawn; if no process
    runs the mob, when it is run next.
    """
    with looking_into(state) as store:
        mob_id, outcome = _found(store, run_id, label)
    run_id = outcome.run_id
    if outcome.state is not RunState.RUNNING:
        if json:
            result_json({"mob": mob_id, "run": run_id, "cancelled": False})
        narrate(f"mob: error: run {run_id} has {outcome.state.value} already")
        return exits.CONFLICT
    if dry_run:
        would(state, mob_id, "cancel-flow")
        say_would(mob_id, f"cancel run {run_id} of flow {mob_id}/{outcome.flow}", json=json)
        return exits.DONE
    async with reaching(state, mob_id) as target:
        done = await target.call(CancelFlow(run_id, encodable(reason)))
        say_where(target)
    if json:
        result_json({"mob": mob_id, "run": run_id, "cancelled": done.changed})
    if not done.changed:
        narrate(f"mob: error: run {run_id} has ended meanwhile")
        return exits.CONFLICT
    narrate(f"mob: cancelled: run {run_id} of flow {mob_id}/{outcome.flow}")
    return exits.DONE


def _found(store: Store, run_id: str, labels: list[str] | None = None) -> tuple[str, FlowResult]:
    """The run that is called so, or begins so, and whose it is.

    Raises:
        FlowRunNotFound: there is none.
        AddressAmbiguous: several begin so.
    """
    books = {each: stored_mob(store, each).folds.flows for each in chosen_mobs(store, None, labels)}
    for mob_id, book in books.items():
        found = book.find(FlowRunId(run_id))
        if found is not None:
            return mob_id, result_of(found)
    fit = {
        each.run_id: (mob_id, each)
        for mob_id, book in books.items()
        for each in _every(book)
        if run_id and each.run_id.startswith(run_id)
    }
    if len(fit) > 1:
        raise AddressAmbiguous(run_id, "run", tuple(fit))
    if not fit:
        raise FlowRunNotFound(run_id)
    return next(iter(fit.values()))


def parse_params(flow: FlowDefinition, given: list[str] | tuple[()]) -> dict[str, Any]:
    """What ``--param NAME=VALUE`` says: JSON where it is some, unless text is wanted.

    Raises:
        UsageWrong: it is not of that form.
    """
    params: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise exits.UsageWrong(f"--param {text}: write NAME=VALUE")
        known = flow.params.get(key)
        schema = None if known is None else known.schema
        params[key] = value
        if schema is None or schema.get("type") != "string":
            try:
                params[key] = json_module.loads(value)
            except ValueError:
                pass  # it is text then
    return params


def shape_of(mob_id: str, outcome: FlowResult) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "run": outcome.run_id,
        "mob": mob_id,
        "flow": outcome.flow,
        "state": outcome.state.value,
        "params": outcome.params,
        "output": outcome.output,
        "error": outcome.error,
        "started_at_ns": outcome.started_at_ns,
        "ended_at_ns": outcome.ended_at_ns,
        "steps": {
            name: {**attrs.asdict(step), "state": step.state.value}
            for name, step in outcome.steps.items()
        },
    }


def _show_plan(name: str, chosen: FlowDefinition, *, json: bool, diagram: bool) -> None:
    if json:
        steps = [attrs.asdict(each) for each in plan(chosen)]
        result_json({"flow": name, "steps": steps, "mermaid": mermaid(chosen)})
    elif diagram:
        result(mermaid(chosen))
    else:
        params = ", ".join(
            key if each.required else f"{key} (or {json_module.dumps(each.default)})"
            for key, each in chosen.params.items()
        )
        result(f"flow {name}{f', given {params}' if params else ''}")
        result(plan_text(chosen))
        result("")
        result(boxes(chosen))


def _show_run(mob_id: str, outcome: FlowResult) -> None:
    result(f"run     {outcome.run_id}")
    result(f"flow    {mob_id}/{outcome.flow}")
    result(f"state   {_how(outcome)}")
    result(f"params  {one_line(json_module.dumps(outcome.params, ensure_ascii=False))}")
    width = max(map(len, outcome.steps))
    for name, step in outcome.steps.items():
        words = step.error or ""
        if step.output is not None:
            words = json_module.dumps(step.output, ensure_ascii=False)
        tries = f" (attempt {step.attempts})" if step.attempts > 1 else ""
        tries += f" (round {step.round})" if step.round > 1 else ""
        result(f"  {name:<{width}}  {step.state.value}{tries}  {one_line(words)}".rstrip())


def _how(outcome: FlowResult) -> str:
    if outcome.state is RunState.RUNNING:
        return "is running, or will go on when its mob is run"
    return f"{outcome.state.value}{f': {outcome.error}' if outcome.error else ''}"


def _every(book: FlowBook) -> list[FlowResult]:
    found: list[FlowResult] = []
    while page := book.page(found[-1].run_id if found else None, _PAGE):
        found += map(result_of, page)
    return found
