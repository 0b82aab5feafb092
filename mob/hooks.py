"""Hooks as a mob file says them: reading, checking, loading, and which of them a profile has.

Owns: `HookDefinition` and making `runtime.hooks.Hook`s of it. Must not: run a hook.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from mob.errors import DefinitionInvalid, Mistake
from mob.tables import TableReader, nearest
from runtime.hookbodies import command_body, http_body, python_body
from runtime.hooks import OBSERVED_ONLY, TIMEOUT_S, Body, Hook, HookPoint, Hooks
from runtime.tools.function import load_function

if TYPE_CHECKING:
    from mob.definition import MobDefinition

POINTS: Final = tuple(point.value for point in HookPoint)
MODES: Final = ("observe", "guardrail")


@attrs.frozen
class HookDefinition:
    """A hook: what is run (exactly one of `python`, ``file.py:name`` beside the mob file, `command`
    and `url`), at which points, and how it is meant."""

    on: tuple[str, ...]
    python: str | None = None
    command: tuple[str, ...] = ()
    url: str | None = None
    mode: str = "observe"
    timeout_s: float = TIMEOUT_S
    on_error: str = "deny"
    enabled: bool = True


#: By name: whether a profile has the mob's hook of that name, or one of its own instead.
Overrides: TypeAlias = Mapping[str, bool | HookDefinition]


def read_hooks(table: TableReader) -> dict[str, HookDefinition]:
    """The hooks of ``[hooks.NAME]`` tables."""
    return {name: _read_hook(inner) for name, inner in table.tables("hooks").items()}


def read_overrides(profile: TableReader) -> dict[str, bool | HookDefinition]:
    """What ``[profiles.X.hooks]`` says: true, false or a table for each name."""
    given = profile.take("hooks", dict, {})
    overrides: dict[str, bool | HookDefinition] = {}
    for name, value in given.items():
        if isinstance(value, bool):
            overrides[name] = value
        elif isinstance(value, dict):
            path = f"{profile.path}.hooks.{name}"
            overrides[name] = _read_hook(TableReader(path, value, profile.mistakes))
        else:
            profile.wrong(f"hooks.{name}", f"expected true, false or a table, found {value!r}")
    return overrides


def _read_hook(table: TableReader) -> HookDefinition:
    hook = HookDefinition(
        table.texts("on"),
        table.take("python", str),
        table.texts("command"),
        table.take("url", str),
        table.choice("mode", "observe", MODES),
        table.take("timeout_s", float, TIMEOUT_S),
        table.choice("on_error", "deny", ("allow", "deny")),
        table.take("enabled", bool, True),
    )
    table.done()
    return hook


def hook_mistakes(definition: MobDefinition) -> Iterable[Mistake]:
    """What does not hold of the hooks, each with its path."""
    for name, hook in definition.hooks.items():
        yield from _mistakes(f"hooks.{name}", hook)
    for profile_name, profile in definition.profiles.items():
        for name, how in profile.hooks.items():
            path = f"profiles.{profile_name}.hooks.{name}"
            if isinstance(how, HookDefinition):
                yield from _mistakes(path, how)
            elif name not in definition.hooks:
                yield Mistake(path, f"there is no hook {name!r}", nearest(name, definition.hooks))


def _mistakes(path: str, hook: HookDefinition) -> Iterable[Mistake]:
    given = [key for key in ("python", "command", "url") if getattr(hook, key)]
    if len(given) != 1:
        yield Mistake(path, "give exactly one of python, command and url")
    if not hook.on:
        yield Mistake(f"{path}.on", "is missing; the points it is run at are needed here")
    for point in hook.on:
        if point not in POINTS:
            yield Mistake(f"{path}.on", f"there is no point {point!r}", nearest(point, POINTS))
        elif hook.mode == "guardrail" and HookPoint(point) in OBSERVED_ONLY:
            yield Mistake(f"{path}.on", f"at {point} there is nothing to guard", "observe it")
    if hook.python is not None and not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", hook.python):
        yield Mistake(f"{path}.python", f"{hook.python!r} is not of the form file.py:function_name")
    if hook.url is not None and not hook.url.startswith(("http://", "https://")):
        yield Mistake(f"{path}.url", f"{hook.url!r} does not start with http:// or https://")
    if not hook.timeout_s > 0:
        yield Mistake(f"{path}.timeout_s", f"must be more than 0, found {hook.timeout_s:g}")


class LoadedHooks:
    """The hooks of a mob, loaded, and those of each of its profiles. `bodies` stand in for what the
    hooks of these names run, which is not loaded then.

    Raises:
        DefinitionInvalid: a function cannot be loaded, or HTTP is not installed; all are listed.
    """

    def __init__(self, definition: MobDefinition, bodies: Mapping[str, Body] | None = None) -> None:
        self._bodies = bodies or {}
        self._mistakes: list[Mistake] = []
        self._definition = definition
        mob = Hooks(
            hook
            for name, each in definition.hooks.items()
            if (hook := self._load(f"hooks.{name}", name, each)) is not None and each.enabled
        )
        disabled = {
            name: hook
            for name, each in definition.hooks.items()
            if not each.enabled and (hook := self._load(f"hooks.{name}", name, each)) is not None
        }
        self._of: dict[str, Hooks | None] = {}
        for profile_name, profile in definition.profiles.items():
            how: dict[str, bool | Hook] = {}
            for name, override in profile.hooks.items():
                path = f"profiles.{profile_name}.hooks.{name}"
                if isinstance(override, HookDefinition):
                    loaded = self._load(path, name, override)
                    how[name] = loaded if loaded is not None and override.enabled else False
                else:
                    how[name] = disabled.get(name, True) if override else False
            self._of[profile_name] = mob.overridden(how)
        if self._mistakes:
            raise DefinitionInvalid(definition.source, tuple(self._mistakes))

    def of(self, profile: str) -> Hooks | None:
        """The hooks of a profile; None if it has none."""
        return self._of[profile]

    def _load(self, path: str, name: str, hook: HookDefinition) -> Hook | None:
        try:
            body = self._bodies.get(name) or self._body(hook)
        except Exception as error:  # noqa: BLE001 whatever the user's file raises is a mistake in it
            key = "python" if hook.python is not None else "url"
            self._mistakes.append(Mistake(f"{path}.{key}", f"{type(error).__name__}: {error}"))
            return None
        return Hook(
            name,
            frozenset(HookPoint(point) for point in hook.on),
            body,
            cast("Literal['observe', 'guardrail']", hook.mode),
            hook.timeout_s,
            cast("Literal['allow', 'deny']", hook.on_error),
        )

    def _body(self, hook: HookDefinition) -> Body:
        folder = self._definition.folder
        if hook.python is not None:
            file_name, _, function_name = hook.python.partition(":")
            function: Any = load_function(folder / file_name, function_name)
            return python_body(function)
        if hook.command:
            return command_body(hook.command, folder)
        if importlib.util.find_spec("httpx2") is None:
            raise ImportError("a hook with a url needs httpx2: pip install 'trio-mob[http]'")
        assert hook.url is not None
        return http_body(hook.url)
