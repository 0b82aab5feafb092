"""What a turn has said and found out, retold for models that know neither tools nor JSON.

Owns: tool traffic as plain messages, JSON as words, and what of a result may be quoted or passed
on. Must not: ask a model, or know how calls are offered (`jsontools` does). Pure.

What the forms are was measured on SmolLM2-135M. Results in sentences right below the question,
without the calls that led to them, are answered; calls that are replayed as words are repeated, and
labels beside the sentences end up in the answer. Of a message to be passed on half arrives, so it
is passed on word for word. Asked for a fact it invents one about every other time, so a schema may
ask for a quotation instead: a string of the format ``quote`` is one sentence of what the tools
said (or, if it has an ``enum``, what of that they mention), one of the format ``excerpt`` is up to
three, in their order. Other models take these formats as the descriptions they are.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolOutcome,
    ToolResult,
    UserMessage,
)
from runtime.models.base import Schema
from runtime.structured import Invalid, mistakes_in, parse_json

#: What a property is called that asks for a message to somebody else.
_RELAYED = ("message", "instruction", "task", "question", "prompt")
#: A sentence that begins with one of these says little on its own.
_PRONOUNS = frozenset(("He", "Her", "His", "It", "Its", "She", "Their", "These", "They", "This"))
#: Sentences of a result that may be quoted, and of how many an excerpt may consist.
_MAX_CHOICE = 12
_MAX_EXCERPT = 3
#: A text of so many words is a sentence; fewer are a label.
_SENTENCE_WORDS = 4
#: After a result of so many characters a small model has forgotten the question.
_PAGE = 1_000
#: Longest question that is repeated after the results, in characters.
_MAX_REPEATED = 300


def is_tool_traffic(message: Message) -> bool:
    """Whether `message` calls tools or is what one said."""
    kind = type(message)
    return kind is ToolResult or (kind is AssistantMessage and bool(message.tool_calls))  # type: ignore[union-attr]


def quoting(schema: Any, told: str) -> Any:
    """`schema` with the choice that `told` leaves for every string of the format ``quote`` (a
    sentence or, of a list, what occurs in it) or ``excerpt`` (some sentences in their order)."""
    if isinstance(schema, list):
        return [quoting(part, told) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("format") not in ("quote", "excerpt"):
        return {key: quoting(part, told) for key, part in schema.items()}
    if "enum" in schema:
        choice = [each for each in schema["enum"] if isinstance(each, str) and each in told]
    else:
        sentences = _sentences(told)
        most = 1 if schema["format"] == "quote" else _MAX_EXCERPT
        sets = (itertools.combinations(sentences[:_MAX_CHOICE], n + 1) for n in range(most))
        joined = (" ".join(each) for group in sets for each in group)
        choice = [each for each in joined if mistakes_in(schema, each) is None]
    return {**schema, "enum": choice} if choice else schema


def _sentences(text: str) -> list[str]:
    """The sentences in `text`, each once; those that begin with a pronoun only if all do."""
    parts = (part for line in text.splitlines() for part in re.split(r"(?<=[.!?])\s+", line))
    found = [each for each in dict.fromkeys(parts) if _is_sentence(each) and each[-1] in ".!?"]
    return [each for each in found if each.split()[0] not in _PRONOUNS] or found


def relayed(schema: Schema, text: str) -> Mapping[str, str]:
    """`text` for every message to somebody else that `schema` requires."""
    properties = schema.get("properties", {})
    return {
        name: text
        for name in schema.get("required", ())
        if name.lower().rpartition("_")[2].removesuffix("s") in _RELAYED
        and isinstance(properties.get(name), Mapping)
        and properties[name].get("type") == "string"
        and mistakes_in(properties[name], text) is None
    }


def merged(messages: Sequence[Message], *, labels: bool) -> tuple[Message, ...]:
    """`messages` without calls; results as words below the question they belong to.

    Without `labels` they are one paragraph of sentences, each once, and what is no sentence goes.
    Below a page of them the question is asked again.
    """
    made: list[Message] = []
    found: list[ToolResult] = []

    def flush() -> None:
        if not found:
            return
        text = told(found) if labels else (_prose(found) or told(found))
        asked = made.pop().text if made and isinstance(made[-1], UserMessage) else ""
        again = asked if len(text) > _PAGE and len(asked) <= _MAX_REPEATED else ""
        made.append(UserMessage(f"{asked}\n\n{text}\n\n{again}".strip()))
        found.clear()

    for message in messages:
        if isinstance(message, ToolResult):
            found.append(message)
        elif not isinstance(message, AssistantMessage) or not message.tool_calls:
            flush()
            made.append(message)
    flush()
    return tuple(made)


def told(results: Sequence[ToolResult]) -> str:
    """What tools said, in words."""
    return "\n\n".join(_result_words(each) for each in results)


def _prose(results: Sequence[ToolResult]) -> str:
    """The sentences of what tools said."""
    lines = [line for line in told(results).splitlines() if _is_sentence(line)]
    return " ".join(dict.fromkeys(lines))


def plain(messages: Sequence[Message], *, hint: bool) -> tuple[Message, ...]:
    """`messages` without tool traffic: calls as the assistant's words, results as a user's.

    Results that follow each other become one message, since chat templates expect the roles to
    alternate. With `hint` the last results end with the question again: after a page of results a
    small model has forgotten it.
    """
    made: list[Message] = []
    results: list[str] = []
    question = ""

    def flush(*, last: bool) -> None:
        if not results:
            return
        text = "\n\n".join(results)
        if last and hint:
            text += f"\n\nUse this to answer: {question}" if question else "\n\nNow answer."
        made.append(UserMessage(text))
        results.clear()

    for message in messages:
        if isinstance(message, ToolResult):
            results.append(_result(message))
            continue
        flush(last=False)
        if isinstance(message, AssistantMessage) and message.tool_calls:
            said = [message.text] if message.text else []
            said += [call_words(call) for call in message.tool_calls]
            made.append(AssistantMessage("\n".join(said)))
            continue
        if isinstance(message, UserMessage):
            question = message.text if len(message.text) <= _MAX_REPEATED else ""
        made.append(message)
    flush(last=True)
    return tuple(made)


def call_words(call: ToolCall) -> str:
    """A call as a model without tools writes it."""
    # As it was asked to call: an example of its own is worth more than the instruction.
    return f'{{"tool": {json.dumps(call.name)}, "arguments": {call.arguments}}}'


def _result(result: ToolResult) -> str:
    if result.outcome is ToolOutcome.OK:
        return f"Result of {result.name}: {result.text}"
    return f"{result.name} failed: {result.text}"


def _result_words(result: ToolResult) -> str:
    if result.outcome is not ToolOutcome.OK:
        return f"{result.name} failed: {result.text}"
    return words(_decoded(result.text)) or "Nothing."


def words(value: Any) -> str:
    """A JSON value in plain words: a line each, sentences as they are, others with their names."""
    if isinstance(value, Mapping):
        lines = []
        for name, part in value.items():
            part = _decoded(part)
            alone = isinstance(part, Mapping | list) or _is_sentence(part)
            lines.append(words(part) if alone else f"{name}: {words(part)}")
        return "\n".join(line for line in lines if line)
    if isinstance(value, list):
        parts = [words(_decoded(part)) for part in value]
        return "\n\n".join(part for part in parts if part)
    return value if isinstance(value, str) else json.dumps(value)


def _decoded(value: Any) -> Any:
    """The JSON object or list that a string holds; anything else as it is."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    found = parse_json(value)
    return value if isinstance(found, Invalid) else found.value


def _is_sentence(value: Any) -> bool:
    return isinstance(value, str) and len(value.split()) >= _SENTENCE_WORDS
