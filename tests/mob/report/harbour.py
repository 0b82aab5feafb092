"""A mob of any size in which much goes wrong, and whose models say what breaks pages.

Owns: the mob and its work. Must not: look at the report of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import trio
import trio.testing

from mob import open_mob
from mob.definition import MobDefinition
from mob.mob import Mob
from runtime.errors import ModelError
from runtime.messages import ToolResult, Usage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from runtime.tools.function import tool

T = TypeVar("T")

#: What a model that means harm says; in a page of our making it is text.
HOSTILE: Final = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<!-- {{data}} ]]> \u2028 </style></textarea> & done"
)


async def look(what: str) -> str:
    """Look something up."""
    await trio.sleep(0.2)
    if "fog" in what:
        raise ValueError(f"nothing is seen of {what}")
    return f"Seen: {what} {HOSTILE}"


def definition(size: int) -> MobDefinition:
    """So many keepers, and a flow that three of them run."""
    steps = {
        "plan": {"member": "k-0", "message": "plan it"},
        "left": {"member": "k-1", "message": "go left", "needs": ["plan"]},
        "right": {"member": "k-2", "message": "fail", "needs": ["plan"]},
    }
    return MobDefinition.from_table(
        {
            "mob": {"id": "harbour", "lead": "k-0"},
            "models": {
                "m": {"model": "sim:echo", "price": {"input": "0.5", "output": "1.5"}},
            },
            "profiles": {"keeper": {"model": "m", "tools": ["look"], "restart": {"backoff_s": 1}}},
            "members": {"k": {"profile": "keeper", "replicas": size}},
            "tools": {"look": {"function": "unused.py:look"}},
            "wiring": {"default": "allow"},
            "flows": {"watch": {"steps": steps}},
        }
    )


class _Answers:
    """What the keepers' model says. Each third keeper looks something up first."""

    def __init__(self) -> None:
        self._crashed: set[str] = set()

    async def __call__(self, request: ModelRequest) -> ModelReply | Exception:
        await trio.sleep(0.5)
        who = request.key.split("/")[1]
        number = int(who.partition("-")[2])
        last = request.messages[-1]
        if getattr(last, "text", "").startswith("fail"):
            return ModelError(f"400: no {HOSTILE}", provider="sim", retryable=False)
        if number % 50 == 3 and who not in self._crashed:
            self._crashed.add(who)
            return RuntimeError(f"the client broke {HOSTILE}")
        if number % 3 == 0 and not isinstance(last, ToolResult):
            return calling(("look", {"what": "fog" if number == 3 else f"light {number}"}))
        text = f"Keeper {number} says that lighthouses differ. {HOSTILE}"
        return ModelReply(text, usage=Usage(100 + number, 20, 1), model="sim:keeper")


async def _work(size: int, then: Callable[[Mob], T]) -> T:
    clients: dict[str, Any] = {"m": ScriptedModel(_Answers())}
    async with open_mob(definition(size), models=clients, tools={"look": tool(look)}) as mob:
        run = await mob.run_flow("watch")
        for name in list(mob.members):
            sender = "k-0" if name != "k-0" else None
            await mob.send(name, f"what do you see? {HOSTILE}", sender=sender)
        await mob.wait_idle()
        await run.result()
        return then(mob)


def worked(size: int, then: Callable[[Mob], T]) -> T:
    """What `then` makes of the mob when it has done its work; on a clock that jumps."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_work, size, then, clock=clock)
