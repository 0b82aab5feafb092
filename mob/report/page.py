"""The report as one file of HTML that reaches for nothing outside of itself.

Owns: the page around the document: what is put into it, and how that cannot get out again. Must
not: take a word of the mob's as markup.

Whatever a model said is hostile. It is in two places: in a block of JSON, in which no ``<`` is left
(so nothing in it ends the block), and from there as text nodes, for the scripts make no element
out of text. The few words outside are escaped. The page's own policy lets no script run but those
with its hashes, and nothing be fetched from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any, Final

from mob.export.plain import rfc3339

#: In the order in which they are run: each needs those before it.
SCRIPTS: Final = ("model.js", "dom.js", "timeline.js", "transcripts.js", "plots.js", "report.js")

_ESCAPED: Final = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def page(document: Mapping[str, Any]) -> str:
    """The file's text."""
    style, script = _file("report.css"), "\n".join(map(_file, SCRIPTS))
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        " base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": escape(f"mob {document['mob']}"),
        "style": style,
        "summary": _summary(document),
        "data": block(document),
        "script": script,
    }
    text = _file("page.html")
    # Piece by piece, so that nothing that was put in is looked at again.
    made = []
    for piece in text.split("{{"):
        name, found, rest = piece.partition("}}")
        made.append(parts[name] + rest if found else piece)
    return "".join(made)


def block(value: Any) -> str:
    """JSON that may stand in an element ``script``, whatever is in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPED).encode("utf-8", "replace").decode()


def _summary(document: Mapping[str, Any]) -> str:
    """What can be read without the scripts."""
    told = document["summary"]
    began, length = document["t0_us"] * 1000, document["length_us"] / 1e6
    facts = {
        "State": document["state"],
        "Began": f"{rfc3339(began)[:19].replace('T', ' ')} UTC",
        "Lasted": _duration(length),
        "Members": _count(told["members"], ("retired", told["retired"])),
        "Sessions": f"{told['sessions']:,}",
        "Turns": _count(
            told["turns"], ("failed", told["failed"]), ("interrupted", told["interrupted"])
        ),
        "Model calls": _count(told["model_calls"], ("made again", told["retries"])),
        "Tool calls": _count(told["tool_calls"], ("failed", told["tool_errors"])),
        "Crashes": _count(told["crashes"], ("restarted", told["restarts"])),
        "Tokens in": _count(told["input_tokens"], ("cached", told["cached_input_tokens"])),
        "Tokens out": f"{told['output_tokens']:,}",
        "Cost": told["cost"],
    }
    cells = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return f"<dl>{''.join(cells)}</dl>"


def _count(number: int, *more: tuple[str, int]) -> str:
    told = [f"{count:,} {what}" for what, count in more if count]
    return f"{number:,} ({', '.join(told)})" if told else f"{number:,}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.2f} s"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _file(name: str) -> str:
    return resources.files("mob.report").joinpath(name).read_text(encoding="utf-8")
