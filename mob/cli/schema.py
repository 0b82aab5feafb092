"""`mob schema`: the JSON Schema of a mob file, for an editor.

Owns: the verb. Must not: say anything that `mob.keys` does not.
"""

from __future__ import annotations

from mob.cli.output import result_json

EXAMPLES = """    mob schema > mob.schema.json
"""


def schema() -> int:
    """Print the JSON Schema of a mob file, for editors.

    In the first line of a mob file, "#:schema mob.schema.json" tells an editor that reads TOML
    schemas (Taplo, Even Better TOML) where it is.
    """
    from mob import keys

    result_json(keys.schema())
    return 0
