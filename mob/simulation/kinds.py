"""The kinds of faults, and the points at which a process may be crashed.

Owns: `FaultKind`, `CRASH_POINTS`. Must not: say how often or where one strikes (`faults` does), or
do what it says (the port at whose site it fires does). Each of these must occur:
`tests.simulation.proof` counts them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class FaultKind(enum.Enum):
    """One way to fail. The values are what plans and reproductions write."""

    # A commit (`mob.simulation.store`).
    #: The commit fails, nothing of it is on disk; reopening mends it.
    STORE_ERROR = "store.error"
    #: The commit fails and reopening does not mend it: the store only reads until a restart.
    STORE_BROKEN = "store.broken"
    #: The disk is full, also when the commit is tried again.
    STORE_NO_SPACE = "store.no_space"
    #: The map is full: the store grows it and tries once more.
    STORE_MAP_FULL = "store.map_full"
    #: The commit takes seconds.
    STORE_SLOW = "store.slow"
    #: Nobody learns what became of the commit; it is on disk.
    STORE_UNKNOWN_APPLIED = "store.unknown_applied"
    #: Nobody learns what became of the commit; it is not on disk.
    STORE_UNKNOWN_LOST = "store.unknown_lost"
    #: The commit is reported as failed and is on disk; reopening finds it.
    STORE_FALSE_ALARM = "store.false_alarm"
    #: A read fails.
    STORE_READ_ERROR = "store.read_error"

    # The process (`mob.simulation.store` around a commit, the workload otherwise).
    #: It dies when a commit is about to begin.
    CRASH_BEFORE_COMMIT = "process.crash_before_commit"
    #: It dies while a commit is on its way; whether that reaches the disk is drawn.
    CRASH_IN_COMMIT = "process.crash_in_commit"
    #: It dies when a commit is on disk and nobody has been told.
    CRASH_AFTER_COMMIT = "process.crash_after_commit"
    #: It dies between two commits.
    CRASH = "process.crash"
    #: A second process is started on the store of one that lives: it must be refused.
    DOUBLE_START = "process.double_start"
    #: It hangs, is taken for dead and replaced, and then writes on: that must be refused.
    PAUSE = "process.pause"
    #: It dies while tool calls wait for approval, or while decisions are on their way.
    CRASH_WHILE_WAITING = "process.crash_while_waiting"
    #: It dies while senders wait for room in a mailbox, and requests for their replies.
    CRASH_WHILE_SENDING = "process.crash_while_sending"

    # A model call (`mob.simulation.models`).
    #: An error that may pass.
    MODEL_ERROR = "model.error"
    #: An error that cannot pass.
    MODEL_FATAL = "model.fatal"
    #: It never answers.
    MODEL_HANG = "model.hang"
    #: It calls tools that do not exist, with arguments that are no JSON or do not fit.
    MODEL_GARBAGE = "model.garbage"
    #: It answers with hundreds of kilobytes.
    MODEL_HUGE = "model.huge"
    #: Its answer, or its last call's arguments, are cut off at a limit.
    MODEL_TRUNCATED = "model.truncated"
    #: It makes a call twice, under the same id.
    MODEL_DUPLICATE = "model.duplicate"
    #: It takes a hundred times as long as usual.
    MODEL_LATE = "model.late"
    #: Its client swallows a cancellation and goes on for a while.
    MODEL_DEAF = "model.deaf"
    #: Its client raises something that is no error of ours.
    MODEL_RAISES = "model.raises"
    #: It reports to have spent nothing, millions, less than nothing, or what does not fit together.
    MODEL_USAGE = "model.usage"
    #: It spends exactly what is left of a budget.
    MODEL_EXACT = "model.exact"

    # A tool call (`mob.simulation.tools`).
    #: It fails, and says so.
    TOOL_ERROR = "tool.error"
    #: It never returns, except by its time limit or a cancellation.
    TOOL_HANG = "tool.hang"
    #: It returns what is no text and no JSON, or text that is no UTF-8.
    TOOL_GARBAGE = "tool.garbage"
    #: It returns hundreds of kilobytes.
    TOOL_HUGE = "tool.huge"
    #: What it returns is cut off in the middle.
    TOOL_TRUNCATED = "tool.truncated"
    #: It starts its child session twice at the same time, under one key.
    TOOL_DUPLICATE = "tool.duplicate"
    #: It takes a hundred times as long as usual.
    TOOL_LATE = "tool.late"
    #: It swallows a cancellation and goes on for a while.
    TOOL_DEAF = "tool.deaf"
    #: It raises something that is no error of ours, or several at once from tasks of its own.
    TOOL_RAISES = "tool.raises"

    # A hook (`mob.simulation.hooks`).
    #: It raises an error.
    HOOK_RAISES = "hook.raises"
    #: It never answers.
    HOOK_HANG = "hook.hang"
    #: Its answer is no verdict.
    HOOK_GARBAGE = "hook.garbage"
    #: It denies; one that only observes has no say.
    HOOK_DENIES = "hook.denies"
    #: It rewrites; likewise.
    HOOK_REWRITES = "hook.rewrites"
    #: It answers just in time.
    HOOK_SLOW = "hook.slow"

    # What people do at the worst moment (`mob.simulation.workload`).
    #: `stop` while turns are being saved.
    STOP_DURING_SAVE = "control.stop_during_save"
    #: `resume` while a `stop` is under way.
    RESUME_DURING_STOP = "control.resume_during_stop"
    #: Callers of many questions and verbs go away at the same moment.
    CANCEL_STORM = "control.cancel_storm"
    #: One name is spawned by many at once.
    SPAWN_STORM = "control.spawn_storm"
    #: One member is retired by many at once, and spawned again.
    RETIRE_STORM = "control.retire_storm"
    #: Every member is interrupted, again and again.
    INTERRUPT_STORM = "control.interrupt_storm"
    #: Every member's activation is killed, again and again.
    KILL_STORM = "control.kill_storm"
    #: One member is respawned by many at once, some with the same fence.
    RESPAWN_STORM = "control.respawn_storm"
    #: Everybody crashes at once, and the process perhaps between what is decided about it.
    GROUP_CRASH = "control.group_crash"
    #: Several people decide about the same calls at once, each otherwise.
    DECISION_STORM = "control.decision_storm"
    #: Decisions come while the mob is stopped, perhaps to another process than that which asked.
    DECIDE_WHILE_STOPPED = "control.decide_while_stopped"
    #: One session that is no member's is asked, told, interrupted and archived by many at once.
    SESSION_STORM = "control.session_storm"
    #: One run is applied by many at once, who go away, while the mob stops or dies.
    APPLY_STORM = "control.apply_storm"
    #: One pair of members is wired and unwired by many at once while messages go along it.
    WIRING_STORM = "control.wiring_storm"
    #: Points, forks and rewinds of the whole mob at once, while turns run and it stops.
    TRAVEL_STORM = "control.travel_storm"
    #: Runs of flows are started by many at once under one key, and cancelled by others, while the
    #: mob stops.
    FLOW_STORM = "control.flow_storm"
    #: One task of the board is claimed by many at once, who leave the mob or let it go.
    CLAIM_STORM = "control.claim_storm"
    #: Many ask helpers of one member, who go away, while the mob stops or dies.
    HELP_STORM = "control.help_storm"
    #: Many write at once to one who is not there and joins so, while others have it leave.
    NEWCOMER_STORM = "control.newcomer_storm"

    # Messages (the workload, and models for the peer that is asked).
    #: A peer takes minutes to answer a question.
    SLOW_PEER = "message.slow_peer"
    #: A message is sent several times at once under one idempotency key.
    MESSAGE_DUPLICATE = "message.duplicate"
    #: A message of hundreds of kilobytes.
    MESSAGE_HUGE = "message.huge"
    #: Many messages come at once to a mailbox that has room for few.
    FULL_MAILBOX = "message.full_mailbox"
    #: Two texts of system context come at once under one key.
    CONTEXT_CONFLICT = "message.context_conflict"

    # The wall clock (the workload).
    CLOCK_FORWARDS = "clock.forwards"
    CLOCK_BACKWARDS = "clock.backwards"

    @property
    def family(self) -> str:
        """The part before the dot."""
        return self.value.partition(".")[0]


#: The verbs about wiring and requests that have crash points.
COMMS_VERBS: Final = ("wire", "unwire", "broadcast", "request", "reply")

#: Where a directed crash may strike, and what has just happened there.
CRASH_POINTS: Final[Mapping[str, str]] = {
    "commit.before": "a group of batches is about to be committed",
    "commit.in": "a commit is on its way to the disk",
    "commit.after": "a commit is on disk and nobody has been told",
    "model.called": "a model call has begun",
    "model.replied": "a model is about to hand its reply over",
    "tool.called": "a tool has begun and has done nothing yet",
    "tool.done": "a tool has done its work and is about to return",
    "step.begun": "a step of the workload has begun",
    "stop.begun": "`stop` was called",
    "stop.done": "`stop` has returned",
    "resume.begun": "`resume` was called",
    "resume.done": "`resume` has returned",
    "spawn.begun": "`spawn` was called",
    "retire.begun": "`retire` was called",
    "respawn.begun": "`respawn` was called",
    "respawn.done": "`respawn` has returned",
    "ensure.begun": "`ensure` was called",
    "ensure.done": "`ensure` has returned",
    "complete.begun": "`complete` was called",
    "complete.done": "`complete` has returned",
    "decision.begun": "`approve` or `deny` was called",
    "decision.done": "`approve` or `deny` has returned",
    "apply.begun": "`apply_runtime_turn` was called",
    "apply.done": "`apply_runtime_turn` has returned",
    "context.begun": "`append_system_context` was called",
    "context.done": "`append_system_context` has returned",
    **{f"{verb}.begun": f"`{verb}` was called" for verb in COMMS_VERBS},
    **{f"{verb}.done": f"`{verb}` has returned" for verb in COMMS_VERBS},
    "snapshot.begun": "`snapshot` was called",
    "snapshot.done": "`snapshot` has returned",
    "fork.begun": "`Mob.fork` was called",
    "fork.done": "`Mob.fork` has returned",
    "rewind.begun": "`Mob.rewind` was called",
    "rewind.done": "`Mob.rewind` has returned",
    "flow.begun": "`run_flow` was called",
    "flow.step": "that a step of a run has begun or ended is on disk, and nobody has been told",
    "flow.cancel": "a run is about to be cancelled",
    "help.begun": "`spawn_helper` or `fork_helper` was called",
    "help.done": "`spawn_helper` or `fork_helper` has returned",
    "newcomer.begun": "somebody is written to who joins so",
    "opened": "a process has opened the mob and taken its work up",
}
