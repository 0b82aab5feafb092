"""The tool of the hooks example."""


def read_file(name: str) -> str:
    """Read a file.

    Args:
        name: What to read.
    """
    return f"what stands in {name}"
