"""Tools over a folder of text notes: list, search, read.

Owns: the folder `corpus` beside this file, cut into passages, and their ranking. Must not: need
anything but the standard library, or answer the same question in two ways: the ranking is
deterministic, ties go by note and place.

Plain functions with types and docstrings are all a tool is: `mob` makes the JSON Schema from the
signature and shows the docstring to the model. They read files and change nothing, so they may be
repeated after a crash.

The ranking is Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009)
over paragraphs, each read together with its note's title.
"""

from __future__ import annotations

import collections
import difflib
import functools
import math
import re
from pathlib import Path
from typing import NamedTuple, TypedDict

#: The notes: plain text, the title in the first line, paragraphs between empty lines.
CORPUS = Path(__file__).parent / "corpus"

#: BM25's customary constants: how fast repetition stops counting, how much length is held against
#: a passage.
_SATURATION, _LENGTH = 1.2, 0.75
#: Most passages one search returns: what a small model can read.
_MOST = 10
#: How many sentences of a passage it returns.
_SENTENCES = 2
#: Too common to tell passages apart, or part of the way questions are asked.
_STOP = frozenset(
    (
        "a", "about", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but",
        "by", "can", "could", "did", "do", "does", "each", "for", "from", "had", "has", "have",
        "how", "i", "if", "in", "into", "is", "it", "its", "me", "much", "of", "on", "one",
        "or", "other", "so", "tell", "than", "that", "the", "their", "them", "then", "there",
        "these", "they", "this", "to", "was", "we", "were", "what", "when", "where", "which",
        "who", "why", "will", "with", "would", "you",
    )
)  # fmt: skip


class Passage(TypedDict):
    """One paragraph, and the name of the note it stands in."""

    source: str
    text: str


def list_notes() -> list[str]:
    """List the names of all notes.

    Returns:
        The names, sorted; `read_note` takes any of them.
    """
    return sorted(path.stem for path in CORPUS.glob("*.txt"))


def search_notes(question: str, limit: int = 1) -> list[Passage]:
    """Find what the notes say about a question: the sentences that say most about it.

    Args:
        question: what to look for, a question or a few words.
        limit: how many passages to return, 1 to 10.

    Returns:
        The best sentences of the best passages, best first; none if no word of the question
        occurs in the notes.
    """
    index = _index()
    scores = [(index.score(question, place), place) for place in range(len(index.passages))]
    ranked = sorted((-score, place) for score, place in scores if score > 0)
    best = [index.passages[place] for _, place in ranked[: max(1, min(limit, _MOST))]]
    return [
        Passage(source=found["source"], text=index.best_sentences(question, found["text"]))
        for found in best
    ]


def read_note(name: str) -> str:
    """Read one note from beginning to end.

    Args:
        name: the note's name, as `list_notes` or `search_notes` gives it.

    Returns:
        The text of the note.

    Raises:
        ValueError: no note has this name.
    """
    known = list_notes()
    wanted = name.strip().removesuffix(".txt")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no note {name!r}; {hint}the notes are {', '.join(known)}")
    return (CORPUS / f"{wanted}.txt").read_text(encoding="utf-8")


class _Index(NamedTuple):
    passages: list[Passage]
    #: Per passage, how often each word occurs.
    counts: list[collections.Counter[str]]
    #: In how many passages each word occurs.
    spread: collections.Counter[str]
    mean_length: float

    def score(self, query: str, place: int) -> float:
        """The BM25 score of a passage; 0 if it shares no word with `query`."""
        counts = self.counts[place]
        weight = 1 - _LENGTH + _LENGTH * counts.total() / self.mean_length
        total = 0.0
        # A set has another order in every process, and sums of floats depend on it.
        for word in sorted(set(_words(query))):
            count, spread = counts[word], self.spread[word]
            rarity = math.log(1 + (len(self.passages) - spread + 0.5) / (spread + 0.5))
            total += rarity * count * (_SATURATION + 1) / (count + _SATURATION * weight)
        return total

    def best_sentences(self, question: str, text: str) -> str:
        """The sentences of `text` that share the rarest words with `question`, in its order."""
        wanted = set(_words(question))
        sentences = re.split(r"(?<=[.!?])\s+", text)

        def weight(place: int) -> float:
            shared = sorted(wanted & set(_words(sentences[place])))
            return sum(math.log(1 + len(self.passages) / self.spread[word]) for word in shared)

        ranked = sorted(range(len(sentences)), key=lambda place: (-weight(place), place))
        return " ".join(sentences[place] for place in sorted(ranked[:_SENTENCES]))


@functools.cache
def _index() -> _Index:
    passages: list[Passage] = []
    counts: list[collections.Counter[str]] = []
    spread: collections.Counter[str] = collections.Counter()
    for name in list_notes():
        title, *paragraphs = read_note(name).strip().split("\n\n")
        for text in paragraphs:
            passages.append(Passage(source=name, text=text))
            counted = collections.Counter(_words(f"{title} {text}"))
            counts.append(counted)
            spread.update(counted.keys())
    mean = sum(each.total() for each in counts) / max(1, len(counts))
    return _Index(passages, counts, spread, mean)


def _words(text: str) -> list[str]:
    """The words that matter, lower-case and without the commonest endings."""
    found = re.findall(r"[a-z0-9]+", text.lower().replace("'s", ""))
    return [_stem(word) for word in found if word not in _STOP]


def _stem(word: str) -> str:
    """Flashes, flashing and flashed are one word; lens and glass keep their s."""
    if len(word) <= 4 or not word.isalpha():
        return word
    for ending in ("ing", "ies", "es", "ed", "s"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and not word.endswith("ss"):
            word = rest
            break
    # "flashes" lost its e with the ending, "pole" must lose it too to meet "poles".
    return word.removesuffix("e") if len(word) > 4 else word
