"""Python sources as facts: modules, their syntax trees and what they import.

Owns: finding and parsing modules and resolving import statements to module names. Must not:
judge anything; the rules are in `rules.py`, their subject matter in the tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen
class Import:
    """One imported module or name, at one line."""

    #: The module named by the statement: `a.b` in `import a.b` and in `from a.b import c`.
    module: str
    #: The name taken from it, None for a plain `import`.
    name: str | None
    #: The name it is bound to here.
    bound: str
    line: int
    #: Runs when the module is imported: not inside a function, not under TYPE_CHECKING.
    at_import: bool
    #: Under `if TYPE_CHECKING:`, so it never runs.
    typing_only: bool


@attrs.frozen
class Module:
    """One parsed source file."""

    name: str
    path: Path
    text: str
    tree: ast.Module = attrs.field(repr=False)
    imports: tuple[Import, ...] = attrs.field(repr=False)

    @property
    def is_package(self) -> bool:
        """Whether this is a package's `__init__`."""
        return self.path.name == "__init__.py"


@attrs.frozen
class Sources:
    """Every module of some packages below one folder, by dotted name."""

    root: Path
    modules: dict[str, Module]

    @classmethod
    def read(cls, root: Path, packages: tuple[str, ...]) -> Sources:
        """Parse every module of `packages` below `root`."""
        modules = {}
        for package in packages:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                text = path.read_text(encoding="utf-8")
                tree = ast.parse(text, filename=str(path))
                modules[name] = Module(
                    name, path, text, tree, tuple(_imports(tree.body, name, path))
                )
        return cls(root, modules)

    def where(self, module: Module, line: int = 1) -> str:
        """`path:line`, as editors and terminals understand it."""
        return f"{module.path.relative_to(self.root)}:{line}"

    def target(self, found: Import) -> str:
        """The module an import reaches: `from a import b` is `a.b` if that is a module."""
        if found.name is not None and f"{found.module}.{found.name}" in self.modules:
            return f"{found.module}.{found.name}"
        return found.module

    def origin(self, found: Import) -> str:
        """The module that defines what an import takes, followed through re-exports."""
        seen = set()
        while (target := self.target(found)) == found.module and target not in seen:
            seen.add(target)
            onward = None
            if target in self.modules:
                for each in self.modules[target].imports:
                    if each.name is not None and each.bound == found.name:
                        onward = each
            if onward is None:
                break
            found = onward
        return target


def _imports(
    body: list[ast.stmt], module: str, path: Path, *, at_import: bool = True, typing: bool = False
) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield Import(alias.name, None, bound, node.lineno, at_import, typing)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, module, path)
            for alias in node.names:
                bound = alias.asname or alias.name
                yield Import(source, alias.name, bound, node.lineno, at_import, typing)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _imports(node.body, module, path, at_import=False, typing=True)
            yield from _imports(node.orelse, module, path, at_import=at_import, typing=typing)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for block in _blocks(node):
                yield from _imports(
                    block, module, path, at_import=at_import and not inside, typing=typing
                )


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statement lists directly inside a statement."""
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if block:
            yield block
    for branch in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield branch.body


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - (path.name == "__init__.py")
    base = module.split(".")
    base = base[: len(base) - up]
    return ".".join([*base, *([node.module] if node.module else [])])


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
