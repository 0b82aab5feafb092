"""`python -m mob`: the same command line.

Owns: nothing. Must not: do more than call `main`.
"""

from mob.cli import main

if __name__ == "__main__":
    main()
