"""`mob report`: one file of HTML to look back on a mob with.

Owns: the verb. Must not: write to the store, open a browser.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.app import stored_mob
from mob.cli.options import DEFAULT_STATE, Json, Labels, SecretEnv, State, Which
from mob.cli.output import bytes_text, narrate, plural, result, result_json
from mob.cli.stored import looking_into
from mob.cli.target import whole_mob
from mob.export.files import whole_file
from mob.report.document import document
from mob.report.page import page

EXAMPLES = """    mob report research                        # writes research.html
    mob report research -o after.html
    mob report research --json | jq .summary.failed
"""


def report(
    mob: Which = None,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=("-o", "--output"), show_default=False, help="The file. Default: MOB.html here."
        ),
    ] = None,
    secret_env: SecretEnv = None,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Write one HTML file about a mob, to be opened offline.

    Errors first, members as a tree, a timeline with a lane for each, transcripts with
    search, tokens and cost, flows. Keys are taken out. Works while another process runs
    the mob: it shows what is committed. With --json also prints the summary.
    """
    mob = whole_mob(state, mob, label)
    with looking_into(state) as store:
        told = document(stored_mob(store, mob).source(secret_env or ()))
    file = output or Path(f"{mob.replace('/', '_')}.html")
    text = page(told).encode()
    with whole_file(file) as opened:
        opened.write(text)
    if json:
        summary, left_out = told["summary"], told["left_out"]
        result_json(
            {
                "mob": mob,
                "output": str(file),
                "bytes": len(text),
                "summary": summary,
                "left_out": left_out,
            }
        )
    else:
        errors = plural(told["summary"]["errors"], "error")
        turns = plural(told["summary"]["turns"], "turn")
        narrate(f"mob: {turns}, {errors}, {bytes_text(len(text))}")
        result(str(file))
    return 0
