"""Recording model calls to a file without secrets, and answering out of it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import attrs
import pytest

from runtime.errors import ModelError, ModelRefused, ModelUnavailable, NotRecorded
from runtime.ids import ToolCallId
from runtime.messages import AssistantMessage, SystemMessage, ToolCall, ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.models.recording import Recorder, RecordingModel, ReplayModel, load_recording
from runtime.models.redaction import SECRET, Redactor, is_secret_name
from runtime.models.scripted import ScriptedModel, calling
from runtime.models.sim import AgentModel

TOOL = ToolSpec("search", "Searches.", {"type": "object", "properties": {}})


def asking(text: str, key: str = "s/1/1", **options: Any) -> ModelRequest:
    return ModelRequest((UserMessage(text),), "Be brief.", (TOOL,), options=options, key=key)


async def recorded(path: Path, *script: Any, requests: list[ModelRequest]) -> list[Any]:
    model = RecordingModel(ScriptedModel(script), path)
    outcomes: list[Any] = []
    for request in requests:
        try:
            outcomes.append(await model.generate(request))
        except ModelError as error:
            outcomes.append(error)
    return outcomes


async def test_what_was_recorded_is_answered_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    first, second = asking("one"), asking("two", temperature=0.5)
    said = await recorded(
        path, "An answer.", calling(("search", {"q": 1})), requests=[first, second]
    )
    replay = ReplayModel(path)
    assert [await replay.generate(second), await replay.generate(first)] == said[::-1]
    assert replay.supports_tools


async def test_the_text_comes_in_the_pieces_it_came_in(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    heard: list[str] = []
    again: list[str] = []
    model = RecordingModel(AgentModel(latency_s=0), path)
    request = ModelRequest((UserMessage("What do we know about tides?"),), key="s/1/1")
    await model.generate(request, heard.append)
    await ReplayModel(path).generate(request, again.append)
    assert again == heard
    assert len(heard) > 1


async def test_errors_are_replayed_with_what_a_policy_needs(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    request = asking("one")
    busy = ModelError("busy", provider="p", retryable=True, status=429, retry_after_s=7)
    refused = ModelRefused("no", provider="p")
    await recorded(path, busy, refused, "At last.", requests=[request] * 3)
    replay = ReplayModel(path)
    with pytest.raises(ModelError, match="busy") as caught:
        await replay.generate(request)
    error = caught.value
    assert (error.retryable, error.status, error.retry_after_s) == (True, 429, 7)
    with pytest.raises(ModelRefused, match="no"):
        await replay.generate(request)
    for _ in range(2):
        assert (await replay.generate(request)).text == "At last.", (
            "the last stands for what follows"
        )


async def test_the_same_question_of_several_is_answered_to_each_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    keys = ["mob/a/0.1", "mob/b/0.1", "mob/c/0.1"]
    asked = [asking("one", key) for key in keys]
    await recorded(path, *keys, requests=asked)
    replay = ReplayModel(path)
    for request in reversed(asked):
        assert (await replay.generate(request)).text == request.key
    others = ReplayModel(path)
    told = [(await others.generate(asking("one", f"x/{n}"))).text for n in range(3)]
    assert told == keys, "of callers that were not recorded, in the order of the recording"


CHANGES: list[tuple[Callable[[ModelRequest], ModelRequest], str]] = [
    (
        lambda r: attrs.evolve(r, messages=(UserMessage("ones"),)),
        'messages[0].text is now "ones" and in the recording "one"',
    ),
    (lambda r: attrs.evolve(r, instructions=""), "instructions is now "),
    (lambda r: attrs.evolve(r, options={"seed": 1}), "options.seed is now 1 and in the record"),
    (lambda r: attrs.evolve(r, tools=()), "tools has 0 entries now and 1 in the recording"),
    (lambda r: attrs.evolve(r, output_schema={"type": "null"}), "output_schema is now "),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), CHANGES)
async def test_a_request_that_was_not_recorded_is_told_the_nearest(
    tmp_path: Path, change: Callable[[ModelRequest], ModelRequest], says: str
) -> None:
    path = tmp_path / "calls.jsonl"
    await recorded(path, "1", "2", requests=[asking("something else"), asking("one", "s/1/2")])
    with pytest.raises(NotRecorded) as caught:
        await ReplayModel(path).generate(change(asking("one", "s/1/9")))
    assert "among its 2 calls (asked by s/1/9); nearest is call 2: " in str(caught.value)
    assert says in str(caught.value)
    assert not caught.value.retryable


async def test_what_reaches_no_model_is_no_part_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    call = ToolCall(ToolCallId("c"), "search", "{}")
    history = (
        UserMessage("a"),
        AssistantMessage("", (call,), "model-1"),
        ToolResult(call.id, "s", "r"),
    )
    await recorded(path, "ok", requests=[ModelRequest(history)])
    other = (history[0], AssistantMessage("", (call,), "model-2"), history[2])
    assert (await ReplayModel(path).generate(ModelRequest(other))).text == "ok"


PLANTED = {
    "api_key": "hunter2-in-an-option",
    "extra_headers": {"X-Custom": "hunter2-in-a-header", "Authorization": "Bearer hunter2-bearer"},
    "nested": [{"accessToken": "hunter2-nested", "temperature": 0.5}],
    "note": "use sk-proj-abcdefghijklmnop1234 for it",
}


async def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRACTS 6.16: recordings hold no secret."""
    monkeypatch.setenv("SOME_SERVICE_API_KEY", "environment-secret-42")
    path = tmp_path / "calls.jsonl"
    key = "AIzaSyA-1234567890abcdefghijklmnopqrstu"
    pem = "RSA PRIVATE KEY-----"
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
    request = ModelRequest(
        (SystemMessage(f"token {jwt}"), UserMessage("my key is environment-secret-42"),
         AssistantMessage("", (ToolCall(ToolCallId("c"), "f", f'{{"k": "ghp_{"a1" * 12}"}}'),)),
         ToolResult(ToolCallId("c"), "f", f"-----BEGIN {pem}\nMIIabc\n-----END {pem}")),
        f"The key is {key}.", options={**PLANTED, "max_tokens": 50}, key="s/1/1",
    )  # fmt: skip
    failed = ModelError("bad key sk-ant-api03-abcdefghijklmnop", provider="p", retryable=False)
    said = f"I have seen {key}"
    call = ModelReply(
        said, (ToolCall(ToolCallId("d"), "f", json.dumps({"k": key})),), StopReason.TOOL_CALLS
    )
    await recorded(path, call, failed, requests=[request, asking("x")])
    text = path.read_text()
    for secret in (
        "hunter2", "environment-secret", "AIzaSy", "eyJhbG", "ghp_", "MIIabc", "sk-proj", "sk-ant",
    ):  # fmt: skip
        assert secret not in text, secret
    assert '"max_tokens": 50' in text, "what is no secret is kept"
    assert '"temperature": 0.5' in text
    # It is found again without the secrets, and what is said of one stays without it.
    monkeypatch.setenv("SOME_SERVICE_API_KEY", "environment-secret-42")
    again = await ReplayModel(path).generate(
        attrs.evolve(request, options={**PLANTED, "api_key": "another", "max_tokens": 50})
    )
    assert again.text == f"I have seen {SECRET}"


@pytest.mark.parametrize(
    "name", ["api_key", "apiKey", "X-Api-Key", "token", "access_token", "cookie"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "top_k", "monkey", "keyword", "temperature", "author"]
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


ODD: Final = 'q"uo\\te & s\u00e9cret'


@pytest.mark.parametrize(
    "spelled",
    [
        ODD,
        json.dumps(ODD)[1:-1],
        json.dumps(ODD, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(ODD, ensure_ascii=False)[1:-1], ensure_ascii=False)[1:-1],
        repr(ODD)[1:-1],
        quote(ODD),
        quote_plus(ODD),
    ],
)
def test_a_known_secret_is_found_however_it_is_spelled(spelled: str) -> None:
    """CONTRACTS 6.16: an error quotes what it was given in its own way."""
    assert Redactor([ODD]).text(f"not {spelled}!") == f"not {SECRET}!"


def test_of_two_secrets_the_longer_one_is_taken_out_whole() -> None:
    clean = Redactor(["swordfish", "swordfish and tuna"])
    assert clean.text("swordfish and tuna, swordfish") == f"{SECRET}, {SECRET}"


@pytest.mark.parametrize(
    "key",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
        *(f"{kind}{mark}{'a1' * 8}" for kind in ("sk", "pk", "rk") for mark in "-_"),
        f"AIza{'a1' * 16}",
        *(f"gh{kind}_{'a1' * 12}" for kind in "pousr"),
        f"github_pat_{'a1' * 12}",
        f"xoxb-{'a1' * 8}",
        *(f"{kind}{'A1' * 8}" for kind in ("AKIA", "ASIA")),
        *(f"{kind}{'a1' * 12}" for kind in ("hf_", "gsk_", "xai-")),
        f"eyJ{'a1' * 5}.{'a1' * 5}.{'a1' * 5}",
        "BeaRER abcdefgh1234",
    ],
)
def test_what_looks_like_a_key_is_found(key: str) -> None:
    assert Redactor().text(f"it is {key}") == f"it is {SECRET}"


def test_known_secrets_that_are_words_are_left() -> None:
    assert Redactor(["a", "short"]).text("a short text") == "a short text"


async def test_a_file_is_added_to_and_a_cut_line_dropped(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    await recorded(path, "1", requests=[asking("one")])
    path.write_bytes(path.read_bytes() + b'{"format": 1, "dig')
    assert len(load_recording(path).calls) == 1, "a reader leaves it out"
    await recorded(path, "2", requests=[asking("two")])
    assert len(load_recording(path).calls) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "conversations are their owner's"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"\xff\n", "not UTF-8"),
        (b"{}\n", "line 1 is no recorded call"),
        (b"nonsense\n", "line 1 is no recorded call"),
        (b'{"format": 2}\n', "format 2; this version reads 1"),
    ],
)
def test_what_cannot_be_replayed(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "calls.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=says):
        ReplayModel(path)


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot record to"):
        Recorder(tmp_path / "no" / "such" / "folder.jsonl")


async def test_an_empty_recording_says_so(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.touch()
    with pytest.raises(NotRecorded, match="no calls recorded at all"):
        await ReplayModel(path).generate(asking("one"))
