"""`mob ls`: the mobs of a store.

Owns: the verb. Must not: write to the store.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from mob.addresses import parse_label
from mob.app import StoredMob
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import count, narrate, result, result_json
from mob.cli.owner import owner_of
from mob.cli.stored import every_mob, labels_of, looking_into, updated_ns, when
from mob.errors import FolderUnsafe
from mob.server.sockets import remove_dead
from runtime.messages import NO_USAGE
from runtime.prices import cost_text

EXAMPLES = """    mob ls
    mob ls -l team=blue
    mob ls --state /var/lib/mob --json | jq -r '.[].id'
"""


def ls(*, label: Labels = None, state: State = DEFAULT_STATE, json: Json = False) -> int:
    """List the mobs of a store: state, members, turns, tokens, cost, last change.

    Works while another process runs the mobs: it reads what is committed. Sockets that
    killed processes have left are removed.
    """
    with suppress(OSError, FolderUnsafe):  # whoever needs the folder is told what is wrong with it
        remove_dead()
    with looking_into(state) as store:
        wanted = dict(map(parse_label, label or ()))
        rows = [_row(stored) for stored in every_mob(store)]
    rows = [row for row in rows if wanted.items() <= row["labels"].items()]
    owner = owner_of(state)
    if json:
        result_json([{**row, "owner_pid": owner} for row in rows])
        return 0
    if not rows:
        none = "no mob with this label" if label else "no mob yet"
        narrate(f"mob: the store at {state} holds {none}")
        return 0
    wide = max(3, *(len(row["id"]) for row in rows))
    costs = [cost_text(row["usage"]) for row in rows]
    money = max(4, *map(len, costs))
    result(
        f"{'MOB':{wide}}  {'STATE':9} {'MEMBERS':>7} {'TURNS':>6} {'TOKENS':>6} {'COST':>{money}}"
        "  UPDATED"
    )
    for row, cost in zip(rows, costs, strict=True):
        result(
            f"{row['id']:{wide}}  {row['state']:9} {row['members']:>7} {row['turns']:>6}"
            f" {count(row['tokens']):>6} {cost:>{money}}  {when(row['updated_at_ns'])}"
        )
    who = "no process has" if owner is None else f"process {owner} has"
    narrate(f"mob: {who} this store open")
    return 0


def _row(stored: StoredMob) -> dict[str, Any]:
    heads = stored.state.heads.values()
    usage = sum((head.usage for head in heads), NO_USAGE)
    return {
        "id": stored.mob_id,
        "labels": labels_of(stored),
        "state": stored.roster.mob_state.value,
        "members": len(stored.roster.members),
        "sessions": len(heads),
        "unfinished": sum(head.inputs is not None for head in heads),
        "turns": sum(head.turns for head in heads),
        "tokens": usage.total_tokens,
        "usage": usage,
        "records": stored.last,
        "updated_at_ns": updated_ns(stored),
    }
