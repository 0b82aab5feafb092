"""What is a secret, and a text without any. Pure.

Owns: which names and texts look like keys, the words put in their place, and the secrets that this
process is known to hold (they are its own as its environment is, so there is one set of them).
Must not: read the environment (known secrets are handed in).

What looks like a key is taken for one: a redacted word too many costs a reader a glance, one too
few costs somebody a key. What does not look like one (a password in a sentence) is not found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

#: Stands where a secret stood.
SECRET: Final = "[secret]"  # noqa: S105 - the word that replaces them
#: Known secrets shorter than this are words that occur by themselves.
_SHORTEST: Final = 8
_NAMES: Final = re.compile(
    r"(?i)(api|access|private|signing|subscription)[-_]?key|(^|[-_.])(key|auth)$"
    r"|token$|secret|passw(or)?d|credential|authorization|cookie|bearer|headers$|extra_query"
)
_TEXTS: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(sk|pk|rk)[-_][A-Za-z0-9_-]{12,}"  # OpenAI, Anthropic, Stripe and those who follow them
    r"|\bAIza[A-Za-z0-9_-]{30,}"  # Google
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b"  # Amazon
    r"|\bhf_[A-Za-z0-9]{20,}|\bgsk_[A-Za-z0-9]{20,}|\bxai-[A-Za-z0-9]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"  # a JSON Web Token
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}",
    re.DOTALL,
)

#: One of these, in small letters, is in whatever `_TEXTS` finds: to ask for them first takes a
#: tenth of the time where there is none.
_HINTS: Final = (
    *("private key-----", "sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "aiza", "ghp_", "gho_", "ghu_"),
    *("ghs_", "ghr_", "github_pat_", "xox", "akia", "asia", "hf_", "gsk_", "xai-", "eyj", "bearer"),
)

#: A value that nobody would choose as a word: long, of one piece, with letters and digits.
_RANDOM: Final = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_+=.~-]{20,}")
_KNOWN: Final[set[str]] = set()
#: Invariant: empty, or one redactor, of as many of these secrets as the number says.
_MADE: Final[list[tuple[set[str], int, Redactor]]] = []


def remember(secrets: Iterable[str]) -> None:
    """Take these out of everything that this process exports or shows from here on."""
    _KNOWN.update(each for each in secrets if len(each) >= _SHORTEST)


def remembered() -> Redactor:
    """A redactor of all that this process is known to hold by now."""
    for known, number, made in _MADE:
        if known is _KNOWN and number == len(known):
            return made
    _MADE[:] = [(_KNOWN, len(_KNOWN), Redactor(_KNOWN))]
    return _MADE[0][2]


def is_secret_name(name: str) -> bool:
    """Whether what is called `name` is a secret, or holds some (headers)."""
    return _NAMES.search(name) is not None


class Redactor:
    """Takes secrets out; `known` are some that need not look like any."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        found = {way for each in known if len(each) >= _SHORTEST for way in _spellings(each)}
        # The longest first: one may be part of another.
        self._known = sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` without what looks like a key and without the known secrets."""
        for each in self._known:
            if each in text:
                text = text.replace(each, SECRET)
        small = text.lower()
        return _TEXTS.sub(SECRET, text) if any(hint in small for hint in _HINTS) else text

    def value(self, value: Any) -> Any:
        """A JSON value without secrets in its texts; its names are left alone."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value if isinstance(value, int | float | None) else self.text(str(value))

    def written(self, text: str) -> str:
        """As `text`; and if it is JSON, as `options` says too (arguments of tools, answers)."""
        if text[:1] in ("{", "["):
            try:
                value = json.loads(text)
                told = self.options(value)
            except (ValueError, RecursionError):
                return self.text(text)
            # The model's own spelling is kept wherever there is nothing to take out.
            return text if told == value else json.dumps(told, ensure_ascii=False)
        return self.text(text)

    def options(self, value: Any) -> Any:
        """As `value`, and whatever a name says is secret is not looked at: it is left out."""
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): SECRET if is_secret_name(str(key)) else self.options(each)
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.options(each) for each in value]
        return self.value(value)


def _spellings(secret: str) -> Iterator[str]:
    """A secret as it is, and as it stands in JSON, in JSON within JSON, in what Python shows of a
    value, and in an address: those who quote it spell what is special in it otherwise."""
    yield secret
    once = json.dumps(secret, ensure_ascii=False)[1:-1]
    yield from (once, json.dumps(once, ensure_ascii=False)[1:-1], json.dumps(secret)[1:-1])
    yield repr(secret)[1:-1]
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))


def secrets_among(environment: Mapping[str, str], named: Iterable[str] = ()) -> list[str]:
    """The values of the variables whose names say that they are secret, or that are `named`."""
    names = set(named)
    return [
        value.strip()
        for name, value in environment.items()
        if name in names or is_secret_name(name)
    ]


def random_among(environment: Mapping[str, str]) -> list[str]:
    """The values that look random whatever their variables are called: whoever exports may not know
    which of them hold keys."""
    return [value for value in map(str.strip, environment.values()) if _RANDOM.fullmatch(value)]
