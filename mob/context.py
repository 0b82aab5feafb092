"""What a mob file says about the context of a model's calls: skills, compaction, memory.

Owns: the definition types, reading them, what is wrong with them, and loading the skills. Must not:
read a skill's other files, ask a model, search.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from mob.errors import DefinitionInvalid, Mistake
from mob.tables import TableReader, nearest
from runtime.session import CompactionPolicy
from runtime.skills import NO_SKILLS, Skill, SkillInvalid, Skills, find_skills, read_skill
from runtime.tools.policy import matches

if TYPE_CHECKING:
    from mob.definition import MobDefinition


@attrs.frozen
class SkillLists:
    """Patterns of the skills that a profile may load, and the names of those its prompt holds."""

    allow: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()


NO_SKILL_LISTS: Final = SkillLists()

#: What a blueprint does not say, because it was not given.
UNGIVEN: Final = {
    "skills": attrs.asdict(NO_SKILL_LISTS),
    "memory": None,
    "board": False,
    "autonomy": None,
}

#: Whose turns a profile with a memory may search.
SCOPES: Final = ("session", "mob")


def read_skill_folders(top: TableReader) -> tuple[str, ...]:
    """The folders of the table [skills]."""
    table = top.table("skills")
    folders = table.texts("folders")
    table.done()
    return folders


def read_skill_lists(owner: TableReader) -> SkillLists:
    """The value of `skills` in a profile: patterns of what is allowed, or a table of two lists."""
    if not isinstance(owner.raw("skills"), dict):
        return SkillLists(owner.texts("skills"))
    table = owner.table("skills")
    preload = table.texts("preload")
    lists = SkillLists(table.texts("allow") if "allow" in table else preload, preload)
    table.done()
    return lists


def read_compaction(owner: TableReader) -> CompactionPolicy | None:
    """The table `compaction` of a profile; without one its sessions are never compacted."""
    if owner.take("compaction", dict) is None:
        return None
    table, default = owner.table("compaction"), CompactionPolicy()
    policy = CompactionPolicy(
        table.take("at_tokens", int),
        table.take("at_messages", int),
        table.take("keep_turns", int, default.keep_turns),
        table.take("model", str),
    )
    table.done()
    return policy


def read_memory(owner: TableReader) -> str | None:
    """The value of `memory` in a profile: its scope; None if it has no memory."""
    given = owner.raw("memory")
    if given is None or isinstance(given, bool):
        return SCOPES[0] if given else None
    table = owner.table("memory")
    scope = table.choice("scope", SCOPES[0], SCOPES)
    table.done()
    return scope


def context_mistakes(definition: MobDefinition) -> Iterable[Mistake]:
    """What does not hold of compactions and memories, each with its path."""
    for name, profile in definition.profiles.items():
        if profile.memory not in (None, *SCOPES):
            hint = nearest(str(profile.memory), SCOPES)
            why = f"{profile.memory!r} is not possible"
            yield Mistake(f"profiles.{name}.memory.scope", why, hint)
        policy, path = profile.compaction, f"profiles.{name}.compaction"
        if policy is None:
            continue
        if policy.at_tokens is None and policy.at_messages is None:
            yield Mistake(path, "give at_tokens or at_messages: when is it compacted?")
        least = {"at_tokens": 1, "at_messages": 2 * max(policy.keep_turns, 0) + 2, "keep_turns": 0}
        for key, number in least.items():
            value = getattr(policy, key)
            if value is not None and value < number:
                hint = "the turns that are kept have two messages at least"
                why = f"must be at least {number}, found {value}"
                yield Mistake(f"{path}.{key}", why, hint if key == "at_messages" else "")
        if policy.model is not None and policy.model not in definition.models:
            why = f"there is no model alias {policy.model!r}"
            yield Mistake(f"{path}.model", why, nearest(policy.model, definition.models))


class LoadedSkills:
    """The skills of a mob, read from their folders, and those of each of its profiles.

    Raises:
        DefinitionInvalid: a folder or a skill in it cannot be read, or a profile lists what is not
            there; all such mistakes are listed.
    """

    def __init__(self, definition: MobDefinition) -> None:
        self._skills: dict[str, Skill] = {}
        mistakes: list[Mistake] = []
        for index, folder in enumerate(definition.skills):
            path = f"skills.folders[{index}]"
            try:
                for each in find_skills(definition.folder / folder):
                    mistakes.extend(self._take(path, each))
            except SkillInvalid as error:
                mistakes.append(Mistake(path, str(error)))
        self._of: dict[str, Skills] = {}
        for name, profile in definition.profiles.items():
            mistakes.extend(self._listed(f"profiles.{name}.skills", profile.skills))
            offered = {
                name: skill
                for name, skill in self._skills.items()
                if matches(profile.skills.allow, name) or name in profile.skills.preload
            }
            self._of[name] = Skills(offered, profile.skills.preload) if offered else NO_SKILLS
        if mistakes:
            raise DefinitionInvalid(definition.source, tuple(mistakes))

    def of(self, profile: str) -> Skills:
        """The skills of a profile."""
        return self._of[profile]

    def _take(self, path: str, folder: Path) -> Iterable[Mistake]:
        try:
            skill = read_skill(folder)
        except SkillInvalid as error:
            yield Mistake(path, str(error))
            return
        other = self._skills.setdefault(skill.name, skill)
        if other is not skill:
            yield Mistake(path, f"{folder}: the name {skill.name!r} is taken by {other.folder}")

    def _listed(self, path: str, lists: SkillLists) -> Iterable[Mistake]:
        for pattern in lists.allow:
            if not any(matches((pattern,), name) for name in self._skills):
                why = f"there is no skill {pattern!r}"
                yield Mistake(f"{path}.allow", why, nearest(pattern, self._skills))
        for name in lists.preload:
            if name not in self._skills and name not in lists.allow:
                why = f"there is no skill {name!r}"
                yield Mistake(f"{path}.preload", why, nearest(name, self._skills))
