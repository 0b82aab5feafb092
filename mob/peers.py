"""Tools over a mob's wiring: how a member's model asks its peers.

Owns: `AskPeers`, one tool per kind of peer, called ``ask_PROFILE``. Must not: deliver anything
itself; it goes through the mob's own `ask`.

A question is sent with an idempotency key made of the session and the tool call, so a call that is
repeated after a crash joins the answer of the first and nobody is asked twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mob.errors import AskCycle, MemberNotFound, NotWired
from runtime.errors import MobError
from runtime.models.base import ToolSpec
from runtime.tools.base import ToolContext, ToolFailed
from stores import CommitUnknown, StoreUnavailable

if TYPE_CHECKING:
    from mob.mob import Mob


def ask_peers(
    mob: Mob, asker: str, profile: str, description: str, names: tuple[str, ...]
) -> AskPeers:
    """The tool by which `asker` asks all of `names`, its peers of one profile, at once."""
    who = names[0] if len(names) == 1 else f"all {len(names)} of them ({', '.join(names)}) at once"
    about = f" {description.rstrip('.')}." if description else ""
    spec = ToolSpec(
        f"ask_{profile}",
        f"Ask your colleague the {profile}: {who}.{about} Waits for the answer.",
        {
            "type": "object",
            "properties": {
                "message": {
                    "type": "string",
                    "minLength": 1,
                    "description": "What to ask; they see nothing else.",
                }
            },
            "required": ["message"],
            "additionalProperties": False,
        },
    )
    return AskPeers(mob, asker, names, spec)


@attrs.frozen(eq=False)
class AskPeers:
    """Ask peers and wait for all of them.

    One peer's answer comes back as its text; several as a JSON list of ``{"member", "reply"}`` in
    the order of the roster, with ``"error"`` in place of ``"reply"`` where one has failed.
    """

    mob: Mob
    asker: str
    names: tuple[str, ...]
    spec: ToolSpec
    idempotent: bool = True
    timeout_s: float | None = None
    waits_for_others: bool = True

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Raises `ToolFailed` if the only peer has failed, if asking would wait in a circle, or if
        one of them has left or may not be asked any more."""
        key = context.key
        try:
            jobs = self.mob.question(self.asker, self.names, arguments["message"], key)
        except (AskCycle, MemberNotFound, NotWired) as error:
            raise ToolFailed(str(error)) from error
        except (StoreUnavailable, CommitUnknown) as error:
            self.mob.realm.failed = error
            raise
        answers: list[dict[str, str]] = []
        with self.mob.waiting(self.asker, self.names):
            for name, job in jobs.items():
                try:
                    answers.append({"member": name, "reply": (await job()).text})
                except MobError as error:
                    answers.append({"member": name, "error": str(error)})
        if len(answers) > 1:
            return json.dumps(answers, ensure_ascii=False)
        if "error" in answers[0]:
            raise ToolFailed(answers[0]["error"])
        return answers[0]["reply"]
