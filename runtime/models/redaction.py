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
from collections.abc import Iterable, Mapping
from typing import Any, Final

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

#: A value that nobody would choose as a word: long, of one piece, with letters and digits.
_RANDOM: Final = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_+=.~-]{20,}")
_KNOWN: Final[set[str]] = set()


def remember(secrets: Iterable[str]) -> None:
    """Take these out of everything that this process exports or shows from here on."""
    _KNOWN.update(each for each in secrets if len(each) >= _SHORTEST)


def remembered() -> Redactor:
    """A redactor of all that this process is known to hold by now."""
    return Redactor(_KNOWN)


def is_secret_name(name: str) -> bool:
    """Whether what is called `name` is a secret, or holds some (headers)."""
    return _NAMES.search(name) is not None


class Redactor:
    """Takes secrets out; `known` are some that need not look like any."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        words = sorted({each for each in known if len(each) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, words))) if words else None

    def text(self, text: str) -> str:
        """`text` without what looks like a key and without the known secrets."""
        if self._known is not None:
            text = self._known.sub(SECRET, text)
        return _TEXTS.sub(SECRET, text)

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
