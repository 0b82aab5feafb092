"""``sim:solver``: a simulated model that is right as often as it is told, so that whole mobs have
closed forms to be held against.

Owns: `SolverModel` and the lines of a message that it reads. Must not: draw on anything but the
seed and the request.

A message says in lines of their own what is right (``answer: B``), what else could be said
(``choices: A B C``), what others have said (``said: A B A``) and how long the call takes in seconds
(``takes: 0.25``). The idea is that of a Condorcet juror: right with a known probability,
independently of the others, so that a vote, a debate or a mixture is a sum of binomial terms.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

import attrs
import trio

from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import ToolCall, Usage
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason
from runtime.models.instances import Subject
from runtime.models.sim import CHARS_PER_TOKEN, Draws, fitting, last_user_text, results_of

_LINE: Final = re.compile(r"^(answer|choices|said|takes): *(.*)$", re.MULTILINE)
#: Probabilities are drawn in this many steps.
_STEPS: Final = 1_000_000_000
#: The property of a tool's arguments that is given the answer.
ANSWER: Final = "answer"


@attrs.frozen
class Task:
    """What a message says of itself."""

    answer: str | None = None
    choices: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    takes_s: float | None = None

    @classmethod
    def of(cls, text: str) -> Task:
        """The lines that `text` has; of one that is there twice, the last."""
        found = dict(_LINE.findall(text))
        takes = found.get("takes")
        return cls(
            found.get("answer", "").strip() or None,
            tuple(found.get("choices", "").split()),
            tuple(found.get("said", "").split()),
            None if takes is None else float(takes),
        )

    def wrong(self, target: str) -> tuple[str, ...]:
        """What may be said in the place of `target`."""
        return tuple(each for each in self.choices if each != target) or (f"not-{target}",)


def majority(said: tuple[str, ...]) -> str:
    """What was said most often; of several, what was said first."""
    return Counter(said).most_common(1)[0][0]


class SolverModel:
    """Says what is right with a probability, else another one of the choices.

    Options: ``accuracy`` (how often it says the ``answer``, default 1), ``follows`` (how often it
    says what most of the others ``said``, where the message has that; default 1), ``calls`` (how
    many calls of tools it makes in a turn before it answers: a number, or the least and the most;
    default 0), ``at_once`` (all of them in one step, and not one in each), ``latency_s`` (of a call
    whose message has no ``takes``; default 0) and ``seed``. A turn's choice is drawn once: the
    tools that take an ``answer`` are given what it will say.
    """

    name = "sim:solver"
    supports_tools = True

    def __init__(self, *, seed: int | str = 0) -> None:
        self._seed = seed

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Take the time, then answer.

        Raises:
            ModelError: an option is not what it can be, or no arguments fit a tool's schema.
        """
        reply, takes_s = self.plan(request)
        await trio.sleep(takes_s)
        if emit is not None and reply.text:
            emit(reply.text)
        return reply

    def plan(self, request: ModelRequest) -> tuple[ModelReply, float]:
        """The reply and how many seconds it takes: a pure function of seed and request."""
        text = last_user_text(request.messages)
        task = Task.of(text)
        seed = request.options.get("seed", self._seed)
        # The turn's own draws, the same in each of its steps (a key ends with ``.STEP``).
        draws = Draws(seed, request.key.rpartition(".")[0])
        chosen = self._chosen(task, text, request, draws)
        calls = self._calls(request, chosen, draws)
        takes_s = task.takes_s
        if takes_s is None:
            takes_s = float(request.options.get("latency_s", 0.0))
        said = sum(len(each.arguments) for each in calls) if calls else len(chosen)
        usage = Usage(len(text) // CHARS_PER_TOKEN, said // CHARS_PER_TOKEN, model_calls=1)
        stop = StopReason.TOOL_CALLS if calls else StopReason.END
        return ModelReply("" if calls else chosen, calls, stop, usage, self.name), takes_s

    @staticmethod
    def _chosen(task: Task, text: str, request: ModelRequest, draws: Draws) -> str:
        if task.said:
            target, rate = majority(task.said), _share(request, "follows")
        elif task.answer is not None:
            target, rate = task.answer, _share(request, "accuracy")
        else:
            return text
        if draws.below(_STEPS) < rate * _STEPS:
            return target
        others = task.wrong(target)
        return others[draws.below(len(others))]

    @staticmethod
    def _calls(request: ModelRequest, chosen: str, draws: Draws) -> tuple[ToolCall, ...]:
        if not request.tools or request.tool_choice == "none":
            return ()
        least, most = _bounds(request)
        made = len(results_of(request.messages))
        left = least + draws.below(most - least + 1) - made
        if left <= 0:
            return ()
        step = Draws(request.options.get("seed", 0), request.key)
        subject = Subject(chosen, step.below)
        calls = []
        for index in range(left if request.options.get("at_once") else 1):
            tool = request.tools[(made + index) % len(request.tools)]
            arguments: Any = fitting(tool.parameters, subject, step, optional=False)
            if ANSWER in tool.parameters.get("properties", {}):
                arguments[ANSWER] = chosen
            call_id = ToolCallId(f"{request.key}#{index}")
            calls.append(ToolCall(call_id, tool.name, json.dumps(arguments)))
        return tuple(calls)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _share(request: ModelRequest, option: str) -> float:
    value = request.options.get(option, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _error(f"the option {option} is a probability from 0 to 1, not {value!r}")
    return float(value)


def _bounds(request: ModelRequest) -> tuple[int, int]:
    value = request.options.get("calls", 0)
    pair = [value, value] if isinstance(value, int) else list(value)
    if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
        raise _error(f"the option calls is a number, or the least and the most, not {value!r}")
    return pair[0], pair[1]


def _error(message: str) -> ModelError:
    return ModelError(f"sim:solver: {message}", provider="sim", retryable=False)
