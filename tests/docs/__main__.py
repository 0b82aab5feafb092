"""The references of the manual, made from the code.

python -m tests.docs            # which of them are stale
python -m tests.docs --write    # make them anew
"""

from __future__ import annotations

import sys

from tests.docs.blocks import ROOT
from tests.docs.references import REFERENCES


def main(arguments: list[str]) -> int:
    """Say which pages are stale, or write them; 1 if any was stale and is still."""
    stale = 0
    for name, make in REFERENCES.items():
        path, made = ROOT / "docs" / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == made:
            continue
        stale += 1
        if "--write" in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made, encoding="utf-8")
            stale -= 1
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
