"""Simulated hooks that fail in every way a hook does.

Owns: `SimHook` and what each ``hook.*`` fault does. Must not: know the mob; what is asked and said
goes to whoever listens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, final

import trio

from mob.hooks import HookDefinition
from mob.simulation.faults import Faults
from mob.simulation.kinds import FaultKind
from mob.simulation.models import raising
from mob.simulation.rounds import HookAnswered, HookAsked
from mob.simulation.streams import Streams
from runtime.hooks import Deny, HookEvent, Rewrite
from runtime.messages import Usage

#: A hook takes up to so many virtual seconds.
_LATENCY_S: Final = 0.05
#: What a rewrite adds: white space, where the value is JSON.
_MARK: Final = " (seen)"
_KINDS: Final = tuple(kind for kind in FaultKind if kind.family == "hook")


@final
class SimHook:
    """The body of a hook (`answer`), which allows unless a fault makes it do something else."""

    def __init__(
        self,
        name: str,
        hook: HookDefinition,
        faults: Faults,
        streams: Streams,
        tell: Callable[[HookAsked | HookAnswered], None],
    ) -> None:
        self._name = name
        self._hook = hook
        self._faults = faults
        self._streams = streams
        self._tell = tell
        self._made: Counter[str] = Counter()

    async def answer(self, event: HookEvent) -> Any:
        """The verdict, or whatever a fault does instead."""
        details = event.details
        call = details.get("call")
        place = str(details.get("step", "")) if call is None else call["id"]
        usage = Usage(**details["usage"]) if event.point.value == "after_model" else None
        asked = HookAsked(
            self._name, event.point.value, event.session_id, event.run_id, place, event.value, usage
        )
        self._tell(asked)
        site = self._site(event, place)
        began_s, said, value = trio.current_time(), "cut", ""
        try:
            answer = await self._answer(event, site)
            said, value = _said(answer)
            return answer
        except Exception:
            said = "failed"
            raise
        finally:
            late_s = trio.current_time() - began_s - self._hook.timeout_s
            self._tell(HookAnswered(asked, said, value, round(late_s, 6)))

    def _site(self, event: HookEvent, place: str) -> str:
        about = place if "call" in event.details else f"{event.value[:40]}/{place}"
        name = "".join(each if each.isalnum() or each in "/#." else "_" for each in about)
        site = f"{self._name}/{event.point.value}/{name}"
        self._made[site] += 1
        return f"{site}#{self._made[site]}"

    async def _answer(self, event: HookEvent, site: str) -> Any:
        fault = next((kind for kind in _KINDS if self._faults.fires(kind, site)), None)
        latency_s = _LATENCY_S * self._streams.unit("hook", "latency", site)
        much = 0.0 if fault is None else self._faults.amount(fault, site)
        if fault is FaultKind.HOOK_SLOW:
            latency_s = self._hook.timeout_s * (0.5 + 0.49 * much)
        if fault is FaultKind.HOOK_HANG:
            await trio.sleep_forever()
        if fault is FaultKind.HOOK_RAISES:
            await raising(latency_s, much / 2)
        await trio.sleep(latency_s)
        if fault is FaultKind.HOOK_GARBAGE:
            return _GARBAGE[int(much * len(_GARBAGE))]
        if fault is FaultKind.HOOK_DENIES:
            return Deny("not today" if much < 0.7 else "half a pair \ud83d")
        if fault is FaultKind.HOOK_REWRITES:
            json = event.point.value == "before_tool"
            return Rewrite(event.value + (" " if json else _MARK))
        return None


_GARBAGE: Final[tuple[Any, ...]] = ({"decision": "maybe"}, 7, "deny", {"decision": "rewrite"}, [])


def _said(answer: Any) -> tuple[str, str]:
    if answer is None:
        return "allow", ""
    if isinstance(answer, Deny):
        return "deny", answer.reason
    if isinstance(answer, Rewrite):
        return "rewrite", answer.value
    return "failed", ""
