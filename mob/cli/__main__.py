"""`python -m mob.cli`: the command line where the `mob` script is not on the path.

Owns: nothing. Must not: do more than call `main`.
"""

from mob.cli import main

if __name__ == "__main__":
    main()
