"""The tools of the scenarios beside this file: they cost nothing, so that turns are measured."""

from __future__ import annotations


async def search(query: str) -> str:
    """Search the library.

    Args:
        query: What to look for.
    """
    return f"Two pages about {query}."


async def submit(answer: str) -> str:
    """Submit the answer of a task.

    Args:
        answer: The answer.
    """
    return f"submitted {answer}"
