"""The identifiers of the runtime, each its own type.

Owns: the id types and what an id may look like. Must not: make ids (that is a port, see
`runtime.ports`) or look anything up.

An id is text that sorts by the time it was made (two made by one process in one millisecond sort
by order of making) and never repeats across processes. A person never has to type a whole one:
any unique prefix will do on the command line.
"""

from __future__ import annotations

from typing import NewType

SessionId = NewType("SessionId", str)
#: One admitted piece of work; a turn belongs to exactly one run.
RunId = NewType("RunId", str)
#: One durable input (a prompt or a peer's message) on its way to a turn.
InputId = NewType("InputId", str)
#: Given by the model (or by us for models that give none); unique within its session.
ToolCallId = NewType("ToolCallId", str)
#: The base configuration a session runs on; in a mob, the name of a profile.
HarnessId = NewType("HarnessId", str)
#: Who a session is under a harness; in a mob, the name of a member.
AgentId = NewType("AgentId", str)
#: The namespace of one journal; a mob has its own.
RealmId = NewType("RealmId", str)
