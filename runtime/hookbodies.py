"""How a hook is carried out: a Python function, a command, a request to a server.

Owns: the three bodies and the one JSON form of verdicts. Must not: decide what a failure means
(`runtime.hooks` does); load an HTTP client unless a hook needs one.

A verdict as JSON is ``{"decision": "allow"}``, ``{"decision": "deny", "reason": "..."}`` or
``{"decision": "rewrite", "value": "..."}``; no output at all allows.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from runtime.hooks import ALLOW, Allow, Body, Deny, HookEvent, Rewrite, Verdict
from runtime.tools.processes import Group, open_group

#: Bytes of what a failed command wrote that are quoted.
_QUOTED: Final = 300


class HookFailed(Exception):
    """A hook's command or server did not do its part; the message says what it did instead."""


def verdict_of(value: Any) -> Verdict:
    """The verdict that a hook's answer stands for: a verdict, its JSON form, or None to allow.

    Raises:
        HookFailed: it is none of these.
    """
    if value is None:
        return ALLOW
    if isinstance(value, Allow | Deny | Rewrite):
        return value
    match value:
        case {"decision": "allow"}:
            return ALLOW
        case {"decision": "deny", "reason": str(reason)}:
            return Deny(reason)
        case {"decision": "deny"}:
            return Deny("no reason was given")
        case {"decision": "rewrite", "value": str(text)}:
            return Rewrite(text)
        case _:
            pass
    raise HookFailed(f"its answer is no verdict: {str(value)[:_QUOTED]!r}")


def python_body(function: Callable[[HookEvent], Any]) -> Body:
    """A function of the event; a sync one runs in a worker thread."""

    async def body(event: HookEvent) -> Verdict:
        if inspect.iscoroutinefunction(function):
            return verdict_of(await function(event))
        made = await trio.to_thread.run_sync(partial(function, event), abandon_on_cancel=True)
        return verdict_of(made)

    return body


def command_body(command: Sequence[str], folder: Path) -> Body:
    """A program that reads the event as JSON and writes its verdict. It runs in `folder`, in a
    process group of its own that is killed with it: nothing it started is left behind."""

    async def body(event: HookEvent) -> Verdict:
        async with open_group(
            command,
            cwd=folder,
            env=os.environ,
            stdin=True,
            separate_stderr=True,
            grace_s=0.0,
        ) as group:
            said = await _converse(group, json.dumps(event.as_json()).encode())
        return verdict_of(_parsed(said))

    return body


async def _converse(group: Group, told: bytes) -> bytes:
    assert group.stdin is not None
    assert group.stderr is not None
    said = {"out": b"", "err": b""}

    async def read(stream: Any, into: str) -> None:
        async for received in stream:
            said[into] += received

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, group.stdout, "out")
        nursery.start_soon(read, group.stderr, "err")
        with contextlib.suppress(trio.BrokenResourceError):  # it need not read
            await group.stdin.send_all(told)
        await group.stdin.aclose()
        await group.wait()
        code = await group.end(0.0)  # also what it started, which may hold on to its output
    if code != 0:
        complaint = said["err"].decode(errors="replace").strip()
        raise HookFailed(f"it ended with exit code {code}: {complaint[:_QUOTED]}")
    return said["out"]


def http_body(url: str) -> Body:
    """A server that gets the event as a POST of JSON and answers with its verdict."""

    async def body(event: HookEvent) -> Verdict:
        import httpx2

        async with httpx2.AsyncClient(timeout=None) as client:  # the hook has a deadline of its own
            response = await client.post(url, json=event.as_json())
        if response.status_code >= 300:
            text = response.text.strip()[:_QUOTED]
            raise HookFailed(f"{url} answered {response.status_code}: {text}")
        return verdict_of(_parsed(response.content))

    return body


def _parsed(said: bytes) -> Any:
    if not said.strip():
        return None
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        raise HookFailed(f"its answer is not JSON: {said[:_QUOTED]!r}") from None
