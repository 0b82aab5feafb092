"""What each key of a mob file means, in a line: the words of the reference and of editors.

Owns: `MEANINGS`, by the path of the key (`mob.keys` finds the paths). Must not: say types or
defaults, which come from the code that reads the file. What keys do together is in docs/.
"""

from __future__ import annotations

from typing import Final

MEANINGS: Final = {
    "mob": "what the mob is called and who leads it",
    "mob.id": "the mob's name in the store",
    "mob.labels": "texts by name; `-l NAME=TEXT` of verbs selects mobs by them",
    "mob.lead": "the member that `mob run` asks",
    "models": "aliases of models, and what serves each",
    "models.NAME.model": (
        "`provider:id`, such as `local:smollm2-135m`, `openai:gpt-5-mini`, `sim:agent`"
    ),
    "models.NAME.base_url": (
        "a server that speaks the provider's protocol; under any unknown provider name, an "
        "OpenAI-compatible one"
    ),
    "models.NAME.api_key_env": (
        "the environment variable that holds the key; the key itself never goes in a file"
    ),
    "models.NAME.max_concurrency": (
        "calls at the same time, at least 1; waiting calls are served in order"
    ),
    "models.NAME.options": (
        "passed to the provider with each call: `temperature`, `max_tokens`, `seed`, ..."
    ),
    "models.NAME.price": (
        "US dollars for a million tokens; without a price, calls are unpriced, which is said "
        "wherever a cost is shown"
    ),
    "models.NAME.price.input": "for a million tokens sent",
    "models.NAME.price.output": "for a million tokens said",
    "models.NAME.price.cached_input": (
        "for a million tokens sent that a cache served; that of `input` if left out"
    ),
    "models.NAME.fallback": (
        "aliases that a call goes to, in their order, when this model cannot answer it"
    ),
    "models.NAME.retry": (
        "when a call that failed in a way that may pass is made again, inside the turn"
    ),
    "models.NAME.retry.attempts": "calls of this model for one reply, the first one included",
    "models.NAME.retry.backoff_s": "seconds before the second attempt, doubling",
    "models.NAME.retry.max_backoff_s": "the longest wait before an attempt, in seconds",
    "models.NAME.retry.within_s": "seconds that all attempts together may take",
    "models.NAME.timeout_s": (
        "seconds without a first piece of an answer after which the call is cancelled; 600 if"
        " left out, and for a simulated model none"
    ),
    "models.NAME.stall_s": (
        "seconds without a further piece after which it is; text counts, the parts of a tool "
        "call do not; 300 if left out, and for a simulated model none"
    ),
    "models.NAME.record": "a file, relative to the mob file, that every call is added to",
    "models.NAME.replay": "a recording that answers instead of the model",
    "profiles": "what members and children of one kind have in common",
    "profiles.NAME.extends": "a profile that this one builds on",
    "profiles.NAME.subagents": "a table: the profile's sessions may call `spawn_agent`",
    "profiles.NAME.subagents.profile": "what children run on; the same profile if left out",
    "profiles.NAME.subagents.max_depth": "generations below the member, 1 to 16",
    "profiles.NAME.subagents.max_children": (
        "children of one member that are active at the same time"
    ),
    "profiles.NAME.subagents.background": (
        "they may also work beside their parent, which then has the task tools too"
    ),
    "profiles.NAME.subagents.notify": (
        "when a member at rest hears that one has ended: at its `next-turn`, or it is begun a turn"
    ),
    "profiles.NAME.tools": (
        "what it may call: patterns over `[tools.X]` and `[mcp.X]`, or a table of two lists"
    ),
    "profiles.NAME.tools.allow": "patterns of what it may call",
    "profiles.NAME.tools.deny": "patterns of what it may not call, whatever offers it",
    "profiles.NAME.model": "an alias",
    "profiles.NAME.instructions": "the system prompt",
    "profiles.NAME.instructions_file": (
        "a file that has the system prompt, instead of `instructions`"
    ),
    "profiles.NAME.peer_description": "what other members are told about it",
    "profiles.NAME.tool_choice": (
        "for the first steps of each turn, one each: a tool's name, `required`, `none` or "
        "`auto`; later steps are `auto`"
    ),
    "profiles.NAME.output_schema": (
        "a JSON Schema, inline or the path of a `.json` file, that every answer must fit"
    ),
    "profiles.NAME.output_retries": (
        "how often an answer that does not fit is sent back with the reason"
    ),
    "profiles.NAME.max_steps": "model calls in one turn before it is given up",
    "profiles.NAME.restart": "when a member that failed is restarted",
    "profiles.NAME.restart.policy": "after which ends it is restarted",
    "profiles.NAME.restart.max": (
        "the restart intensity: at most so many restarts in `within_s` seconds"
    ),
    "profiles.NAME.restart.within_s": "the seconds in which restarts are counted",
    "profiles.NAME.restart.backoff_s": "seconds before the first restart, doubling",
    "profiles.NAME.restart.max_backoff_s": "the longest wait before a restart, in seconds",
    "profiles.NAME.options": "provider options of this profile, over those of its model",
    "profiles.NAME.budget": (
        "a table, as `[budget]`, for each session of the profile with everything below it"
    ),
    "profiles.NAME.budget.tokens": "input and output tokens of all model calls",
    "profiles.NAME.budget.tool_calls": "calls of tools, `spawn_agent` and `ask_...` included",
    "profiles.NAME.budget.seconds": "time of turns",
    "profiles.NAME.budget.usd": "US dollars, by the `price` of each model",
    "profiles.NAME.hooks": (
        "for a hook's name `true`, `false`, or a table as `[hooks.NAME]` that takes its place"
    ),
    "profiles.NAME.shell": "a table: its sessions may run commands; without it they have no shell",
    "profiles.NAME.shell.cwd": "the working folder, relative to the file",
    "profiles.NAME.shell.timeout_s": "seconds that a command may take",
    "profiles.NAME.shell.max_output_bytes": "bytes that a command may print",
    "profiles.NAME.shell.env": (
        "names of environment variables that commands get besides `PATH`, `LANG` and their like"
    ),
    "profiles.NAME.skills": "patterns of the skills it may load, or a table of two lists",
    "profiles.NAME.skills.preload": "skills that are in the prompt whole, from the first turn on",
    "profiles.NAME.skills.allow": (
        "patterns of the skills it may load; those of `preload` if left out"
    ),
    "profiles.NAME.compaction": "when its contexts are summed up",
    "profiles.NAME.compaction.at_tokens": "from how many tokens of context",
    "profiles.NAME.compaction.at_messages": "from how many messages",
    "profiles.NAME.compaction.keep_turns": "how many of the newest turns stay as they are",
    "profiles.NAME.compaction.model": (
        "the alias that writes summaries; the profile's own if left out"
    ),
    "profiles.NAME.memory": "`true`, or a table: its sessions may search past turns",
    "profiles.NAME.memory.scope": (
        "`session`: its own turns; `mob`: those of every session whose profile has this scope too"
    ),
    "profiles.NAME.approve": (
        "patterns of the tools whose calls wait for somebody's approval when it makes them"
    ),
    "profiles.NAME.board": "`true`: its members have the tools of the shared task board",
    "profiles.NAME.comms": "`true`, or a list of some: its members have tools for their peers",
    "profiles.NAME.mob": "`true`: its members have tools that change who there is",
    "profiles.NAME.silent_comms_intents": "intents of messages that are recorded and wake nobody",
    "profiles.NAME.max_inline_peer_notifications": (
        "up to how many peers its members are told who comes and goes: 0 never, -1 always; 50"
        " if left out"
    ),
    "profiles.NAME.mailbox": "a table, as `[mailbox]`, laid over it",
    "profiles.NAME.mailbox.max_messages": "messages in it; that of the mob if left out",
    "profiles.NAME.mailbox.max_bytes": "bytes of text in it; that of the mob if left out",
    "profiles.NAME.mailbox.when_full": (
        "the sender waits in line or gets an error; that of the mob if left out"
    ),
    "profiles.NAME.mode": "`autonomous`: its members go on by themselves",
    "profiles.NAME.continue_with": (
        "the prompt that such a member is given when a turn leaves its queue empty"
    ),
    "profiles.NAME.rest_word": "a word in an answer that brings it to rest",
    "profiles.NAME.max_turns": "such prompts in a row that it is given at most",
    "members": "who is in the mob",
    "members.NAME.profile": "what it is",
    "members.NAME.replicas": "n members called `NAME-0` to `NAME-(n-1)`",
    "members.NAME.instructions": "added to those of the profile",
    "members.NAME.brief": (
        "added to every message it is sent: its part of the work, where a small model cannot "
        "overlook it"
    ),
    "members.NAME.tools": (
        "as in a profile, over its lists: can only take away, from the member and its children"
    ),
    "members.NAME.peer_description": (
        "what other members are told about it, in the place of what its profile says"
    ),
    "members.NAME.depends_on": (
        "members who go on before it and are cut off after it; a base name stands for all replicas"
    ),
    "tools": "Python functions that models may call",
    "tools.NAME.function": (
        "`file.py:name`, a typed Python function; its docstring describes it to the model"
    ),
    "tools.NAME.idempotent": (
        "repeating a call is harmless, so recovery may repeat one whose outcome is unknown"
    ),
    "tools.NAME.timeout_s": (
        "seconds after which the call is cancelled and reported to the model as failed"
    ),
    "tools.NAME.approve": "`ask`: each call waits for somebody's approval",
    "mcp": "MCP servers, connected to when their tools are first needed",
    "mcp.NAME.command": "a program that speaks MCP over its pipes",
    "mcp.NAME.args": "the words after the command",
    "mcp.NAME.env": (
        "variables that the program gets besides `PATH`, `HOME` and their like; `${VARIABLE}`"
        " stands for one of the mob's own"
    ),
    "mcp.NAME.cwd": "its folder, relative to the mob file; that of the file if left out",
    "mcp.NAME.url": "instead of a command: a service over streamable HTTP",
    "mcp.NAME.headers": (
        "what each request to the service says; `${VARIABLE}` stands for a variable of the "
        "mob's environment"
    ),
    "mcp.NAME.timeout_s": "seconds that a call may take",
    "mcp.NAME.start_timeout_s": "seconds until its tools must be known",
    "mcp.NAME.idempotent": (
        "patterns over its own names of tools that may be repeated after a crash"
    ),
    "wiring": "who may send to whom at first",
    "wiring.edges": (
        "pairs of member names that may send to each other; a base name stands for all its replicas"
    ),
    "wiring.directed": (
        'pairs of which the first may send to the second; `"a -> b"` in either list is one of these'
    ),
    "wiring.default": "`deny`, or `allow`: everybody may send to everybody",
    "wiring.rules": (
        'a table about profiles: `"chief -> worker" = "allow"` or `"deny"`; `<->` for both '
        "directions"
    ),
    "checkpoint": "when a session's snapshot is written; it never decides what survives a crash",
    "checkpoint.every_turns": "turns of one session between its snapshots",
    "checkpoint.every_messages": "as well after so many messages",
    "checkpoint.every_bytes": "as well after so many bytes of its turns in the journal",
    "checkpoint.every_s": (
        "as well so many seconds after the first turn that its last snapshot has not"
    ),
    "checkpoint.max_tail": (
        "records that opening the mob may have to replay: beyond it the sessions whose state "
        "was written longest ago are written; 65,536 if left out"
    ),
    "budget": "what the mob may cost, members and children together",
    "budget.tokens": "input and output tokens of all model calls",
    "budget.tool_calls": "calls of tools, `spawn_agent` and `ask_...` included",
    "budget.seconds": "time of turns",
    "budget.usd": "US dollars, by the `price` of each model",
    "hooks": "what is run at fixed points of every turn",
    "hooks.NAME.on": "the points it is run at",
    "hooks.NAME.python": "`file.py:name`, a function that is run",
    "hooks.NAME.command": "the words of a program that is run instead",
    "hooks.NAME.url": "a server that is asked instead",
    "hooks.NAME.mode": "`observe`, or `guardrail`: it may deny and rewrite",
    "hooks.NAME.timeout_s": "how long a turn waits for it",
    "hooks.NAME.on_error": "what a guardrail that fails says: `deny` or `allow`",
    "hooks.NAME.enabled": "whether profiles have it unless they say otherwise",
    "sim": "how `mob sim` rehearses the mob under faults",
    "sim.seed": "the seed that `mob sim` takes when it is given none, and the first of a run",
    "sim.latency_s": (
        "virtual seconds that a simulated model call takes: a number, or the least and the "
        "most; `[0.01, 0.3]` if left out"
    ),
    "sim.faults": (
        "a fault plan: a name (`none`, `light`, `heavy`, a family such as `store`), "
        "`KIND=RATE` and `crash=POINT:NTH` with commas between them, or the path of a `.toml`"
        " file"
    ),
    "sim.invariants": (
        "a Python file: every function in it that is decorated with `@invariant` must hold"
    ),
    "skills": "folders of instructions that models load when they need them",
    "skills.folders": "folders of skills",
    "mailbox": "how much may wait for each member",
    "mailbox.max_messages": "messages in it",
    "mailbox.max_bytes": "bytes of text in it",
    "mailbox.when_full": "the sender waits in line or gets an error",
    "flows": "graphs of steps that members work on",
    "flows.NAME.steps": "its steps; they run as soon as what they need is there",
    "flows.NAME.steps.NAME.quorum": "how many answers are enough (and `collect` is `quorum`)",
    "flows.NAME.steps.NAME.message": "what is asked; a template with paths in double braces",
    "flows.NAME.steps.NAME.member": "who is asked: one member",
    "flows.NAME.steps.NAME.profile": "who is asked: all members of a profile",
    "flows.NAME.steps.NAME.needs": (
        "what must have succeeded before it begins; otherwise it is skipped"
    ),
    "flows.NAME.steps.NAME.after": "what must have ended, however it did",
    "flows.NAME.steps.NAME.condition": "it is skipped if this does not hold",
    "flows.NAME.steps.NAME.for_each": (
        "a path to a list: one question for each item, to the member, or to the members of "
        "the profile by turns"
    ),
    "flows.NAME.steps.NAME.collect": (
        "`all` answers, or `any`: the first one, or `quorum`: the first so many"
    ),
    "flows.NAME.steps.NAME.retries": (
        "further attempts after a failed one; only what has no answer is asked again"
    ),
    "flows.NAME.steps.NAME.backoff_s": (
        "seconds before the second attempt, doubling, at most an hour"
    ),
    "flows.NAME.steps.NAME.timeout_s": "seconds for one attempt",
    "flows.NAME.steps.NAME.branch": (
        "of the steps with the same branch the first in order that succeeds wins; the rest is"
        " skipped"
    ),
    "flows.NAME.steps.NAME.output_schema": (
        "a JSON Schema, or the path of one, that each answer must fit; the model is asked for it"
    ),
    "flows.NAME.params": "what a run is given: a list of names, or a table of each",
    "flows.NAME.params.NAME.default": "what it is if it is not given; without one it must be",
    "flows.NAME.params.NAME.schema": "a JSON Schema that it must fit",
    "flows.NAME.repeat": "loops over steps",
    "flows.NAME.repeat.NAME.steps": "the steps that run again and again",
    "flows.NAME.repeat.NAME.until": "the condition that ends it, looked at when a round has ended",
    "flows.NAME.repeat.NAME.max_rounds": "rounds at most; then the loop has failed",
    "flows.NAME.repeat.NAME.at_limit": "whether it then fails, or the flow goes on",
    "flows.NAME.output": "the step whose output is the run's; the one defined last if left out",
    "groups": "supervisors above the members' own",
    "groups.NAME.restart": "how many failures it puts up with",
    "groups.NAME.members": "who it supervises, in order; a member is in one group at most",
    "groups.NAME.strategy": "when one fails, who else is restarted: nobody, all, or those after it",
    "groups.NAME.parent": (
        "the group above, in which this one counts as one more member, after the others"
    ),
    "groups.NAME.restart.max": "failures in `within_s` seconds at most",
    "groups.NAME.restart.within_s": "the seconds in which failures are counted",
    "groups.NAME.escalate": (
        "where the next failure goes: `parent`, `mob`, or `member:NAME`; without a parent, the mob"
    ),
    "supervision": "what is watched in the whole process",
    "supervision.blocked_s": (
        "seconds that the event loop may stand still before that is reported. No part of the "
        "blueprint"
    ),
    "limits": "how much there may be of what; beyond one `LimitExceeded` names it",
    "limits.members": "members at the same time",
    "limits.concurrent_turns": (
        "turns of members at the same time; slots are given in the order in which members "
        "come for them, one turn each. A question that one asks from inside its turn is "
        "answered without another slot"
    ),
    "limits.turns_per_member": "turns of one member (of one generation), those that wait included",
    "limits.turns": "turns of all members, ever, those that wait included",
    "spawn": "what becomes of a message to a member that is not there",
    "spawn.rules": (
        'a table of patterns over names: `"r-*" = "researcher"`, or `"refuse"`; the first '
        "that fits counts before `on_unknown`"
    ),
    "spawn.on_unknown": "`refuse` (the default), or the profile of the member that joins with it",
}
