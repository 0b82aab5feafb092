"""Skills: folders of instructions that a model reads when it needs them.

Owns: reading a skill's folder, what a prompt says of the skills there are, and the tool that loads
one. Must not: run anything that is in a folder, or read outside it.

A skill is a folder with a ``SKILL.md``: front matter with a name and a description, then a body.
Prompts hold name and description only; the body, and whatever other files it speaks of, are read
with `load_skill` when the model decides to. So a hundred skills cost a hundred lines. The format is
that of Agent Skills (agentskills.io). Of YAML the front matter needs little, and only that little
is read: texts, plain, quoted or as blocks. Keys other than these two are passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from runtime.errors import MobError
from runtime.models.base import ToolSpec
from runtime.tools.base import ToolContext, ToolFailed

LOAD_SKILL: Final = "load_skill"
SKILL_FILE: Final = "SKILL.md"

#: As in the format's description.
MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 1024

#: Bytes of a file that a model may read; its text is cut to what any tool may answer.
MAX_FILE_BYTES: Final = 1 << 20

#: Files that are named when one is asked for that is not there.
_NAMED: Final = 50

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_KEY: Final = re.compile(r"([A-Za-z_][\w-]*)\s*:(?:\s+(.*)|)$")


class SkillInvalid(MobError):
    """A folder is no skill: `path` is the file or folder, `reason` what is wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@attrs.frozen
class Skill:
    """One skill. Its other files are in `folder`; without one it has none."""

    name: str
    description: str
    body: str
    folder: Path | None = None


@attrs.frozen
class Skills:
    """The skills that a session may load, and those whose body its prompt holds."""

    offered: Mapping[str, Skill] = attrs.field(factory=dict)
    preloaded: tuple[str, ...] = ()

    def prompt(self, instructions: str) -> str:
        """`instructions` with what is to be known of the skills."""
        if not self.offered:
            return instructions
        lines = [f"- {each.name}: {each.description}" for each in self.offered.values()]
        told = (
            f"You have skills: instructions for particular work. Before you do what one of them is"
            f" for, read it with {LOAD_SKILL}.\n" + "\n".join(lines)
        )
        parts = [instructions, told, *map(self._body, self.preloaded)]
        return "\n\n".join(part for part in parts if part)

    def preloading(self, names: Iterable[str]) -> Skills:
        """These skills, the bodies of `names` in the prompt too."""
        return attrs.evolve(self, preloaded=tuple(dict.fromkeys((*self.preloaded, *names))))

    def added(self, instructions: str, names: Iterable[str]) -> str:
        """`instructions` with the bodies of these skills, for one turn."""
        fresh = [name for name in dict.fromkeys(names) if name not in self.preloaded]
        return "\n\n".join([part for part in (instructions, *map(self._body, fresh)) if part])

    def _body(self, name: str) -> str:
        skill = self.offered.get(name)
        if skill is None:  # it was there when the message came
            return f"The skill {name!r}, which you were to use, is not there any more."
        return f'<skill name="{name}">\n{skill.body}\n</skill>'

    def unknown(self, names: Iterable[str]) -> str | None:
        """What to say about the first of `names` that is not offered; None if all are."""
        for name in names:
            if name not in self.offered:
                known = ", ".join(self.offered) or "none"
                return f"there is no skill {name!r} here; the skills are: {known}"
        return None


NO_SKILLS: Final = Skills()


@attrs.frozen
class LoadSkill:
    """The tool that reads a skill's body, or another file of its folder, and nothing else."""

    skills: Skills
    spec: ToolSpec = attrs.field(init=False)
    idempotent: bool = True
    timeout_s: float | None = 30.0

    def __attrs_post_init__(self) -> None:
        parameters = {
            "type": "object",
            "properties": {
                "name": {"type": "string", "enum": list(self.skills.offered)},
                "file": {
                    "type": "string",
                    "description": "Another file of the skill, as its text names it.",
                },
            },
            "required": ["name"],
            "additionalProperties": False,
        }
        spec = ToolSpec(LOAD_SKILL, "Read a skill's instructions, or one of its files.", parameters)
        object.__setattr__(self, "spec", spec)

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Raises `ToolFailed` for a file that is not there, is not in the folder, or no text."""
        skill = self.skills.offered[arguments["name"]]
        name = arguments.get("file", SKILL_FILE)
        if name == SKILL_FILE:
            return skill.body
        if skill.folder is None:
            raise ToolFailed(f"skill {skill.name!r} has no other files")
        return await trio.to_thread.run_sync(
            _read_inside, skill.folder, name, abandon_on_cancel=True
        )


def _read_inside(folder: Path, name: str) -> str:
    """The text of a file of `folder`, links followed before it is decided where it is."""
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        inside = path.is_relative_to(root)
        if inside and path.is_file():
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise ToolFailed(f"{name!r} has {size} bytes; at most {MAX_FILE_BYTES} are read")
            return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ToolFailed(f"{name!r} is not UTF-8 text") from None
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of links
        raise ToolFailed(f"{name!r} cannot be read: {error}") from None
    if not inside:
        raise ToolFailed(f"{name!r} is outside the skill's folder")
    there = sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())
    raise ToolFailed(f"there is no file {name!r}; there are: {', '.join(there[:_NAMED])}")


# -- reading folders -----------------------------------------------------------------------


def find_skills(folder: Path) -> Iterator[Path]:
    """The skills' folders in `folder`, by name; `folder` itself if it is one.

    Raises:
        SkillInvalid: there is no such folder, or no skill in it.
    """
    if not folder.is_dir():
        raise SkillInvalid(folder, "there is no such folder")
    if (folder / SKILL_FILE).is_file():
        yield folder
        return
    found = [each for each in sorted(folder.iterdir()) if (each / SKILL_FILE).is_file()]
    if not found:
        raise SkillInvalid(folder, f"no skill is in it: a skill is a folder with a {SKILL_FILE}")
    yield from found


def read_skill(folder: Path) -> Skill:
    """The skill in `folder`.

    Raises:
        SkillInvalid: its file cannot be read, or says no usable name or description.
    """
    path = folder / SKILL_FILE
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SkillInvalid(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SkillInvalid(path, "is not UTF-8 text") from None
    try:
        front, body = split_front_matter(text)
    except ValueError as error:
        raise SkillInvalid(path, str(error)) from None
    name, description = front.get("name", ""), front.get("description", "")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise SkillInvalid(
            path, f"name: {name!r} is not a name of letters, digits, - and _, at most {MAX_NAME}"
        )
    if not 1 <= len(description) <= MAX_DESCRIPTION:
        raise SkillInvalid(
            path, f"description: has {len(description)} characters, not 1 to {MAX_DESCRIPTION}"
        )
    return Skill(name, " ".join(description.split()), body.strip(), folder)


def read_folders(folders: Iterable[Path]) -> dict[str, Skill]:
    """The skills of all `folders`, by name. Raises `SkillInvalid`, also for a name used twice."""
    found: dict[str, Skill] = {}
    for folder in folders:
        for each in find_skills(folder):
            skill = read_skill(each)
            if skill.name in found:
                other = found[skill.name].folder
                raise SkillInvalid(each / SKILL_FILE, f"name: {skill.name!r} is taken by {other}")
            found[skill.name] = skill
    return found


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """The texts of a front matter, and what follows it.

    Raises:
        ValueError: there is none, or name or description is written in a way not read here.
    """
    lines = text.splitlines()
    ends = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        raise ValueError("front matter is missing: it begins and ends with a line ---")
    front: dict[str, str] = {}
    place = 1
    while place < ends[1]:
        line = lines[place]
        place += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        matched = _KEY.match(line)
        if matched is None:
            raise ValueError(f"line {place} of the front matter is not of the form key: text")
        deeper: list[str] = []
        while place < ends[1] and (not lines[place].strip() or lines[place][0] in " \t"):
            deeper.append(lines[place])
            place += 1
        key, value = matched[1], (matched[2] or "").strip()
        if key in front:
            raise ValueError(f"{key}: is there twice")
        if key in ("name", "description"):
            front[key] = _scalar(key, value, deeper)
    return front, "\n".join(lines[ends[1] + 1 :])


def _scalar(key: str, value: str, deeper: list[str]) -> str:
    """A YAML text: plain, quoted, or a block."""
    if value[:1] in ("|", ">"):
        kept = [line.strip() for line in deeper]
        return ("\n" if value[0] == "|" else " ").join(kept).strip()
    value = " ".join([value, *(line.strip() for line in deeper)]).strip()
    if value.startswith('"'):
        text, rest = _double_quoted(key, value)
    elif value.startswith("'"):
        matched = re.match(r"'((?:[^']|'')*)'", value)
        if matched is None:
            raise ValueError(f"{key}: the quote is not closed")
        text, rest = matched[1].replace("''", "'"), value[matched.end() :]
    else:
        if value[:1] in tuple("[]{}&*!%@`") or re.search(r":\s", value):
            raise ValueError(f"{key}: {value!r:.60} is not a plain text; put it in quotes")
        return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
    if rest.strip() and not rest.lstrip().startswith("#"):
        raise ValueError(f"{key}: something follows the quoted text: {rest.strip()!r:.60}")
    return text


def _double_quoted(key: str, value: str) -> tuple[str, str]:
    try:
        text, end = json.JSONDecoder().raw_decode(value)
    except ValueError:
        why = "the quoted text is not closed, or has an escape unknown here"
        raise ValueError(f"{key}: {why}") from None
    return str(text), value[end:]
