"""Tools for models that have none: the call is an answer that fits a schema.

Owns: the schema a call is written under, the words that explain it, the history in plain messages,
and the way back from a reply to calls or an answer. Must not: run tools, or judge arguments beyond
their form (the dispatcher does, in words the model sees).

A model that can answer under a JSON Schema can call tools: constrained decoding makes the form
certain and leaves the model only the choice. The models this is for are tiny (135M parameters, a
context of 2,000 to 8,000 tokens), so everything said here is short and a forced tool asks for
nothing but its arguments. What else helps was measured on SmolLM2-135M: a worked example turns
queries that repeat the tool's description into queries about the question, and an endless series
of calls into an answer; two turn a JSON answer of digits into one of sentences. Strings need a
bound, or digits run to the end of the context. What helps with the history is in `retelling`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import trio

from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolResult,
    UserMessage,
)
from runtime.models.base import Emit, Model, ModelReply, ModelRequest, Schema, StopReason, ToolSpec
from runtime.models.instances import Subject, make_instance
from runtime.models.retelling import (
    call_words,
    is_tool_traffic,
    merged,
    plain,
    quoting,
    relayed,
    told,
    words,
)
from runtime.models.schemas import bounded, closed, moved, without, without_title
from runtime.structured import Invalid, Parsed, mistakes_in, parse_json

#: Longest string asked for where a schema sets no bound, in characters: 50 tokens of English, and
#: 200 of the digits that a small model gets stuck in.
DEFAULT_MAX_STRING = 200
#: How much of a failed reply the model is shown when it is asked to repair it, in characters.
_MAX_FAILED = 400
#: After so many calls in a turn a model that may answer has to: small ones go on calling.
_MAX_ROUNDS = 4
#: Worked examples: a question and what is known. Calls and answers are made to fit the schemas.
#: Answers under a schema get both: the model copies a single one word for word.
_EXAMPLES = (
    ("What colour is the bridge of Genoa?", "The bridge of Genoa is grey."),
    ("How old is the oak of Ely?", "The oak of Ely has stood for nine hundred years."),
)


class JsonTools:
    """`model` with tools: offers them in the prompt and reads calls out of JSON replies.

    One call a reply; its id is the request's key and ``#0``. A reply that is no usable JSON is sent
    back once with the reason; usage adds up. A model that may answer but repeats a call of this
    turn, loses itself in one, or has made four, is asked once more without tools. `max_string`
    bounds, in characters, strings whose schema sets no bound (None: no bound); `example` puts a
    worked example before the history; `relay` fills in the messages that a forced call asks for
    with the one the model was given and what this turn has found out since. If that is all it
    requires, the model is not asked at all. Closing this closes `model`.
    """

    supports_tools = True

    def __init__(
        self,
        model: Model,
        *,
        max_string: int | None = DEFAULT_MAX_STRING,
        example: bool = True,
        relay: bool = True,
    ) -> None:
        self._model = model
        self._max_string = max_string
        self._example = example
        self._relay = relay

    @property
    def name(self) -> str:
        return self._model.name

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Run one call, and a second one if the first reply cannot be read.

        Without tools, to offer or in the history, and without a schema the request goes through
        untouched. With tools, `emit` sees an answer in one piece: before its end nobody knows
        whether a reply is one.

        Raises:
            ModelError: retryable, if a tool was forced and both replies were unreadable; not
                retryable, if `tool_choice` asks for a tool that is not offered.
        """
        form = _form(request, self._model.name, relay=self._relay)
        if form is not None and form.is_filled:
            await trio.lowlevel.checkpoint()
            call = form.tools[0].name
            return _reply(_Call(call, form.filled), ModelReply("", model=self.name), request)
        if form is None or (not form.forced and _rounds(request.messages) >= _MAX_ROUNDS):
            return await self._answer(request, emit)
        reply = await self._ask(form, request)
        if emit is not None and reply.text:
            emit(reply.text)
        return reply

    async def aclose(self) -> None:
        await self._model.aclose()

    async def _answer(self, request: ModelRequest, emit: Emit | None) -> ModelReply:
        """Ask without tools; under a schema, bounded and with an example of that."""
        schema, messages = request.output_schema, request.messages
        traffic = any(is_tool_traffic(each) for each in messages)
        if schema is None and not traffic and not request.tools:
            return await self._model.generate(request, emit)
        if schema is not None:
            examples = _answer_examples(schema) if self._example else ()
            results = [each for each in _this_turn(messages) if isinstance(each, ToolResult)]
            schema = quoting(schema, told(results[::-1]))
            schema = bounded(schema, self._max_string) if self._max_string else schema
            messages = (*examples, *merged(messages, labels=True))
        else:
            messages = merged(messages, labels=False)
        bare = attrs.evolve(
            request, messages=messages, tools=(), tool_choice="auto", output_schema=schema
        )
        return await self._model.generate(bare, emit)

    async def _ask(self, form: _Form, request: ModelRequest) -> ModelReply:
        asked = self._request(form, request)
        first = await self._model.generate(asked)
        read = form.read(first.text, first.stop)
        again_key = f"{request.key}~"
        if not form.forced and _is_lost(read, first, request.messages):
            plain = attrs.evolve(request, key=again_key)
            return _paid(await self._answer(plain, None), first)
        if not isinstance(read, _Unread):
            return _reply(read, first, request)
        corrected = (*asked.messages, *_correction(first, read.reason))
        again = attrs.evolve(asked, messages=corrected, key=again_key)
        second = _paid(await self._model.generate(again), first)
        read = form.read(second.text, second.stop)
        if not isinstance(read, _Unread):
            return _reply(read, second, request)
        if read.call is not None:
            return _reply(read.call, second, request)
        if form.forced:
            raise ModelError(
                f"{self.name} did not write a usable tool call in two attempts: {read.reason}",
                provider=self.name.partition(":")[0],
                retryable=True,
            )
        return second

    def _request(self, form: _Form, request: ModelRequest) -> ModelRequest:
        """What the model behind is asked."""
        if form.envelopes:
            history = plain(request.messages, hint=not form.forced)
        else:
            history = merged(request.messages, labels=True)
        schema = form.schema
        if self._max_string is not None:
            schema = bounded(schema, self._max_string)
        return attrs.evolve(
            request,
            messages=(*_example(form), *history) if self._example else history,
            instructions=f"{request.instructions}\n\n{form.words}".strip(),
            tools=(),
            tool_choice="auto",
            output_schema=schema,
        )


@attrs.frozen
class _Call:
    name: str
    arguments: Mapping[str, Any]


@attrs.frozen
class _Unread:
    """The reply does not fit. `call` is what it comes to if there is no better one."""

    reason: str
    call: _Call | None = None


_Read: TypeAlias = "_Call | str | _Unread"


@attrs.frozen
class _Form:
    """What a reply must look like, and how to read it."""

    tools: tuple[ToolSpec, ...]
    #: An answer instead of a call will not do.
    forced: bool
    #: Replies name their tool; otherwise they are the arguments of the only one.
    envelopes: bool
    output_schema: Schema | None
    schema: Schema
    words: str
    #: Arguments that the model is not asked for.
    filled: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def is_filled(self) -> bool:
        """Whether nothing is left to ask for."""
        return bool(self.filled) and not self.schema.get("required")

    def read(self, text: str, stop: StopReason) -> _Read:
        """The call or the answer that `text` is."""
        found = parse_json(text)
        if isinstance(found, Invalid):
            if not self.forced and self.output_schema is None and "{" not in text and text.strip():
                return text  # Plain prose where an answer is allowed: an answer.
            cut = stop is StopReason.LENGTH
            return _Unread("The answer was cut off: it was too long." if cut else found.reason)
        if not self.envelopes:
            return self._arguments(self.tools[0], found.value)
        value = found.value
        if isinstance(value, dict) and "tool" in value:
            named = [tool for tool in self.tools if tool.name == value["tool"]]
            if named:
                return self._arguments(named[0], value.get("arguments", {}))
            names = ", ".join(tool.name for tool in self.tools)
            return _Unread(f"There is no tool {value['tool']!r}. The tools are: {names}.")
        if not self.forced:
            return self._answer(value)
        return _Unread('The JSON must be {"tool": ..., "arguments": {...}}.')

    def _arguments(self, tool: ToolSpec, value: Any) -> _Call | _Unread:
        if not isinstance(value, dict):
            return _Unread(f"The arguments of {tool.name} must be a JSON object.")
        value = {**value, **self.filled}
        # Anything may be in a tool's schema that came over MCP; the dispatcher refuses it in time.
        call = _Call(tool.name, value)
        reason = mistakes_in(tool.parameters, value)
        return call if reason is None else _Unread(reason, call)

    def _answer(self, value: Any) -> str | _Unread:
        answer = value["answer"] if isinstance(value, dict) and "answer" in value else value
        if self.output_schema is None:
            if answer is value:
                return _Unread('The JSON must be {"answer": ...} or name a tool.')
            return answer if isinstance(answer, str) else _json(answer)
        # A schema may have a property called "answer" itself.
        reason = mistakes_in(self.output_schema, answer)
        if reason is not None and answer is not value:
            answer, reason = value, mistakes_in(self.output_schema, value) and reason
        return _json(answer) if reason is None else _Unread(reason)


def _example(form: _Form) -> tuple[Message, ...]:
    """A question, a call and, where an answer may be given, a result and the answer to it."""
    question, known = _EXAMPLES[0]
    tool = form.tools[0]
    arguments = _sample(tool.parameters if form.envelopes else form.schema, question)
    if arguments is None:
        return ()
    call = ToolCall(ToolCallId(""), tool.name, arguments)
    said = call_words(call) if form.envelopes else arguments
    made = (UserMessage(question), AssistantMessage(said))
    answer: str | None = json.dumps(known)
    if form.output_schema is not None:
        answer = _sample(form.output_schema, known, whole=True)
    if form.forced or answer is None:
        return made
    result = f"Result of {tool.name}: {known}\n\nUse this to answer: {question}"
    return (*made, UserMessage(result), AssistantMessage(f'{{"answer": {answer}}}'))


def _answer_examples(schema: Schema) -> tuple[Message, ...]:
    """Questions with what is known, and the answers under `schema`."""
    made: list[Message] = []
    for turn, (question, known) in enumerate(_EXAMPLES):
        answer = _sample(schema, known, whole=True, turn=turn)
        if answer is None:
            return ()
        told = words(json.loads(answer))
        made += [UserMessage(f"{question}\n\n{told}"), AssistantMessage(answer)]
    return tuple(made)


def _sample(schema: Schema, text: str, *, whole: bool = False, turn: int = 0) -> str | None:
    """JSON about `text` that fits `schema`; None if none is found.

    Its strings are keywords; with `whole` the first is all of `text`, since an example that shows
    keywords only is answered in keywords. Another `turn` makes other choices from lists.
    """
    sentences = [text] if whole else []

    def draw(bound: int) -> int:
        return turn % bound

    subject = Subject(text, draw)

    def text_for(name: str, index: int) -> str:
        return sentences.pop() if sentences else subject.text_for(name, index)

    try:
        value = make_instance(schema, draw, text_for, optional=False)
        return _json(value) if mistakes_in(schema, value) is None else None
    except ValueError:
        return None  # No value, or no schema; the model may still do without an example.


def _rounds(messages: Sequence[Message]) -> int:
    """How many replies of this turn called tools."""
    return sum(1 for message in _this_turn(messages) if isinstance(message, AssistantMessage))


def _this_turn(messages: Sequence[Message]) -> Iterator[Message]:
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            return
        yield message


def _is_lost(read: _Read, reply: ModelReply, messages: Sequence[Message]) -> bool:
    """Whether a model that may answer ran on, or wants what it already asked for in this turn."""
    if isinstance(read, _Unread):
        return reply.stop is StopReason.LENGTH
    if isinstance(read, str):
        return False
    made = [
        call
        for message in _this_turn(messages)
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
        if call.name == read.name
    ]
    return any(parse_json(call.arguments) == Parsed(read.arguments) for call in made)


def _paid(reply: ModelReply, before: ModelReply) -> ModelReply:
    """`reply` with what led to it on its bill."""
    return attrs.evolve(reply, usage=before.usage + reply.usage)


def _form(request: ModelRequest, name: str, *, relay: bool) -> _Form | None:
    """The form of the reply to `request`; None if no tool may be called."""
    tools, choice = request.tools, request.tool_choice
    if choice == "none" or (choice == "auto" and not tools):
        return None
    if choice not in ("auto", "required"):
        tools = tuple(tool for tool in tools if tool.name == choice)
    if not tools:
        raise ModelError(
            f"{name}: tool_choice asks for {choice!r}, and no such tool is offered",
            provider=name.partition(":")[0],
            retryable=False,
        )
    forced = choice != "auto"
    if forced and len(tools) == 1:
        [tool] = tools
        schema = without_title(tool.parameters)
        filled: Mapping[str, str] = {}
        if relay and request.messages:
            told = merged(request.messages, labels=True)[-1].text
            filled = relayed(schema, told)
            schema = without(schema, filled)
        words = f"Call the tool {tool.name}: {tool.description}\nReply with its arguments as JSON:"
        words += _meaning(schema)
        return _Form(tools, True, False, None, schema, words, filled)
    schema = _union(tools, None if forced else request.output_schema, forced=forced)
    words = _choice_words(tools, None if forced else request.output_schema, forced=forced)
    output_schema = None if forced else request.output_schema
    return _Form(tools, forced, True, output_schema, schema, words)


def _union(tools: Sequence[ToolSpec], output_schema: Schema | None, *, forced: bool) -> Schema:
    """One schema for a call of any of `tools` or, unless forced, an answer."""
    ways: list[Schema] = []
    for tool in tools:
        at = f"#/anyOf/{len(ways)}/properties/arguments"
        arguments = moved(without_title(tool.parameters), at)
        ways.append(closed({"tool": {"const": tool.name}, "arguments": arguments}))
    if not forced:
        answer: Any = {"type": "string"}
        if output_schema is not None:
            answer = moved(output_schema, f"#/anyOf/{len(ways)}/properties/answer")
        ways.append(closed({"answer": answer}))
    return {"anyOf": ways}


def _choice_words(tools: Sequence[ToolSpec], output_schema: Schema | None, *, forced: bool) -> str:
    lines = ["Tools:"]
    lines += [f"{tool.name}: {tool.description}{_meaning(tool.parameters)}" for tool in tools]
    call = '{"tool": NAME, "arguments": {...}}'
    if forced:
        lines.append(f"Reply with JSON that calls one tool: {call}")
        return "\n".join(lines)
    lines.append(f'Reply with JSON. To call a tool: {call} To answer: {{"answer": ...}}')
    if output_schema is not None:
        lines.append(f"The answer:{_meaning(output_schema)}")
    return "\n".join(lines)


def _meaning(schema: Schema) -> str:
    """The properties of an object in a line each; the schema itself binds, this explains."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return ""
    required = schema.get("required", ())
    lines = []
    for name, part in properties.items():
        part = part if isinstance(part, Mapping) else {}
        line = f"\n- {name}" if name in required else f"\n- {name} (optional)"
        if "enum" in part:
            line += f", one of {', '.join(map(str, part['enum']))}"
        elif isinstance(part.get("type"), str) and part["type"] != "string":
            line += f" ({part['type']})"
        if part.get("description"):
            line += f": {part['description']}"
        lines.append(line)
    return "".join(lines)


def _correction(reply: ModelReply, reason: str) -> tuple[Message, Message]:
    said = reply.text[:_MAX_FAILED] or "(nothing)"
    return (
        AssistantMessage(said),
        UserMessage(f"{reason} Reply again, shorter, with the JSON only."),
    )


def _reply(read: _Call | str, reply: ModelReply, request: ModelRequest) -> ModelReply:
    if isinstance(read, str):
        return attrs.evolve(reply, text=read, tool_calls=())
    call = ToolCall(ToolCallId(f"{request.key}#0"), read.name, _json(read.arguments))
    return attrs.evolve(reply, text="", tool_calls=(call,), stop=StopReason.TOOL_CALLS)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
