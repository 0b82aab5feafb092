"""`mob init`: a mob file to begin with.

Owns: the verb and the files it writes. Must not: replace anything that is there.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from mob.cli.exits import WouldOverwrite
from mob.cli.options import Json
from mob.cli.output import narrate, result, result_json

EXAMPLES = """    mob init
    mob init team && mob run team/mob.toml --prompt "What do our notes say about ants?"
"""

_MOB: Final = '''\
# A mob: a lead and two researchers. Runs as it is, with a simulated model:
#   mob run mob.toml --prompt "What do our notes say about ants?"
# Check it after editing with `mob validate mob.toml`.

[mob]
id = "team"       # the name it has in the store; one store can hold many mobs
lead = "lead"     # the member that gets the prompt of `mob run`

# A model alias. Replace the model for one run: mob run ... --model main=local:smollm2-135m
# `mob models` lists what there is, for example openai:gpt-5-mini (needs OPENAI_API_KEY).
[models.main]
model = "sim:agent"
max_concurrency = 4             # calls at the same time
options = { latency_s = 0.4 }   # of the simulated model only: remove with another one

# Profiles: what members of one kind have in common.
[profiles.lead]
model = "main"
instructions = """
You lead a small team. Ask your researchers, then answer in two or three sentences.
"""

[profiles.researcher]
model = "main"
peer_description = "Looks things up in the notes."
instructions = """
Look things up with search_notes. Answer only from what you found, and say where it was.
"""
tools = ["search_notes"]
subagents = { max_depth = 1 }                     # may start helpers, one level deep
restart = { policy = "on-failure", max = 3, within_s = 60 }

[members.lead]
profile = "lead"

[members.researcher]            # replicas = 2: researcher-0 and researcher-1
profile = "researcher"
replicas = 2

# Who may ask whom; everything else is denied.
[wiring]
edges = [["lead", "researcher"]]

# A tool is a Python function, in a file beside this one. Declare it idempotent if it may be
# repeated after a crash.
[tools.search_notes]
function = "tools.py:search_notes"
idempotent = true
timeout_s = 10
'''

_TOOLS: Final = '''\
"""The tools of mob.toml. A function's type hints and docstring are what the model is told."""

from pathlib import Path

NOTES = Path(__file__).parent / "notes"


def search_notes(query: str) -> str:
    """Find the lines of the notes that share a word with `query`."""
    words = {word.lower().strip(".,?!") for word in query.split()}
    found = []
    for note in sorted(NOTES.glob("*.txt")):
        for number, line in enumerate(note.read_text(encoding="utf-8").splitlines(), 1):
            if words & {word.lower().strip(".,?!") for word in line.split()}:
                found.append(f"{note.name}:{number}: {line}")
    return "\\n".join(found[:20]) or "nothing found"
'''

_NOTES: Final = """\
Ants that find food lay a trail of pheromone on the way home.
Other ants follow the trail and make it stronger, so the shortest way wins.
Honey bees tell each other where food is with a waggle dance.
A swarm of bees chooses a new home when enough scouts agree on one.
"""

_IGNORED: Final = "# The store: conversations, usage, everything needed to continue.\n.mob/\n"


def init(
    folder: Annotated[Path, Parameter(name="DIR", help="Where to write; made if missing.")] = Path(
        "."
    ),
    /,
    *,
    json: Json = False,
) -> int:
    """Write a small mob file that runs at once.

    Writes mob.toml with comments, a tool in tools.py and notes for it to search.
    Refuses to replace a file that is there, and then writes nothing.
    """
    files = {
        "mob.toml": _MOB,
        "tools.py": _TOOLS,
        "notes/swarms.txt": _NOTES,
        ".gitignore": _IGNORED,
    }
    there = [name for name in files if (folder / name).exists()]
    if (folder / ".gitignore").exists():
        there.remove(".gitignore")  # a repository's own stays as it is
        del files[".gitignore"]
    if there:
        raise WouldOverwrite(
            f"{' and '.join(str(folder / name) for name in there)} exist already and are not"
            " replaced: give another directory, such as `mob init team`"
        )
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        if not json:
            result(str(path))
    if json:
        result_json({"written": [str(folder / name) for name in files]})
    where = "" if folder == Path(".") else f"cd {shlex.quote(str(folder))} && "
    narrate(f"mob: next: {where}mob run mob.toml --prompt 'What do our notes say about ants?'")
    return 0
