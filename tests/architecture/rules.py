"""The rules of the architecture as functions from sources to complaints.

Owns: one function per rule; each returns a list of messages, empty when the rule holds. Must
not: know this repository; what the rules apply to is said literally in the tests, and
`test_rules.py` shows each of them able to fail.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Collection, Mapping

from tests.architecture.source import Module, Sources


def imports_go_down(sources: Sources, floors: tuple[str, ...]) -> list[str]:
    """A module imports its own floor and those after it in `floors`, highest first.

    Holds inside functions and under TYPE_CHECKING too: knowing a type from above is knowing it.
    """
    complaints = []
    for module in sources.modules.values():
        floor = floors.index(_top(module.name))
        for found in module.imports:
            top = _top(found.module)
            if top in floors and floors.index(top) < floor:
                complaints.append(
                    f"{sources.where(module, found.line)}: {module.name} imports {found.module}; "
                    f"imports only go down ({' -> '.join(floors)})"
                )
    return complaints


def only_the_port(
    sources: Sources,
    *,
    package: str,
    port: Collection[str],
    importers: tuple[str, ...],
    roots: Mapping[str, str],
    libraries: Collection[str],
) -> list[str]:
    """The `importers` take from `package` only what the modules of its `port` define.

    `roots` (a module or `package.*`, with the reason) may take anything. A re-export is followed
    to the module that defines the name. `libraries` are refused like the engines they drive.
    """
    complaints = []
    for module in sources.modules.values():
        if _top(module.name) not in importers or _matches(module.name, roots):
            continue
        for found in module.imports:
            origin = sources.origin(found)
            engine = _top(origin) == package and origin not in port
            if origin == package and found.name is None:
                engine = False  # `import stores` takes no engine by itself
            if engine or _top(found.module) in libraries:
                complaints.append(
                    f"{sources.where(module, found.line)}: {module.name} takes "
                    f"{found.name or found.module} from {origin}; only {sorted(port)} are the port"
                )
    return complaints


def stays_private(sources: Sources, package: str) -> list[str]:
    """Nothing outside `package` imports it, `__main__` apart."""
    return [
        f"{sources.where(module, found.line)}: {module.name} imports {sources.target(found)}"
        for module in sources.modules.values()
        if not _within(module.name, package) and not module.name.endswith("__main__")
        for found in module.imports
        if _within(sources.target(found), package)
    ]


def pure(
    sources: Sources,
    names: Collection[str],
    *,
    impure: Collection[str],
    calls: Collection[str],
) -> list[str]:
    """Modules `names` exist, import nothing `impure` and, of our own, only each other.

    `calls` are refused as the tail of what is called: `datetime.now`, `open`. Under TYPE_CHECKING
    any module of ours may be named: its annotation cannot do anything.
    """
    complaints = [
        f"{name}: listed as pure but there is no such module"
        for name in names
        if name not in sources.modules
    ]
    ours = {_top(name) for name in sources.modules}
    for name in names:
        module = sources.modules.get(name)
        if module is None:
            continue
        for found in module.imports:
            target = sources.target(found)
            where = sources.where(module, found.line)
            if _top(target) in impure:
                complaints.append(f"{where}: pure module {name} imports {target}")
            elif _top(target) in ours and target not in names and not found.typing_only:
                complaints.append(
                    f"{where}: pure module {name} imports {target}, which is not listed as pure"
                )
        complaints += [
            f"{sources.where(module, line)}: pure module {name} calls {call}"
            for call, line in _calls(module.tree)
            if call in calls or ".".join(call.split(".")[-2:]) in calls
        ]
    return complaints


def no_cycles(sources: Sources) -> list[str]:
    """No modules import each other while they are being imported.

    The import of `a` that `import a.b` implies is not counted; naming `a` is.
    """
    graph: dict[str, set[str]] = {}
    for module in sources.modules.values():
        targets = {sources.target(found) for found in module.imports if found.at_import}
        graph[module.name] = {each for each in targets if each in sources.modules}
        graph[module.name].discard(module.name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # The sorter lists a cycle from the imported to the importer.
        return ["import cycle: " + " -> ".join(reversed(error.args[1]))]
    return []


def exports(module: Module, ours: Collection[str]) -> list[str]:
    """A package's `__all__` is sorted, without doubles, and names everything public it holds.

    Sorted is as imports are and as ruff's RUF022 fixes it: constants, classes, functions.
    Public: imported from `ours`, or a function, class or constant defined here, without a
    leading underscore. That every exported name resolves takes an import; see `test_exports.py`.
    """
    listed = _all(module.tree)
    public = {
        found.bound
        for found in module.imports
        if found.at_import and found.name is not None and _top(found.module) in ours
    }
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            public.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            public |= {each.id for each in targets if isinstance(each, ast.Name)}
    public = {name for name in public if not name.startswith("_")}
    if listed is None:
        return [f"{module.name}: no literal __all__ for {sorted(public)}"] if public else []
    complaints = []
    ordered = sorted(set(listed), key=_export_order)
    if listed != ordered:
        complaints.append(f"{module.name}: __all__ should read {ordered}")
    if missing := sorted(public - set(listed)):
        complaints.append(f"{module.name}: not in __all__: {missing} (or underscore them)")
    return complaints


def described(module: Module) -> list[str]:
    """The module says what it owns."""
    return [] if ast.get_docstring(module.tree) else [f"{module.name}: no module docstring"]


def sizes(module: Module, *, file_lines: int, function_lines: int) -> list[str]:
    """No file and no function outgrows what a reader holds at once."""
    complaints = []
    lines = module.text.count("\n")
    if lines > file_lines:
        complaints.append(f"{module.name}: {lines} lines, at most {file_lines}")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > function_lines:
                complaints.append(
                    f"{module.name}:{node.lineno}: {node.name} has {length} lines, "
                    f"at most {function_lines}"
                )
    return complaints


def catches_everything(module: Module) -> list[str]:
    """Nothing catches `BaseException`, by name, bare or through `suppress`."""
    complaints = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else _names_base_exception([node.type])
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith("suppress"):
            caught = _names_base_exception(node.args)
        else:
            continue
        if caught:
            complaints.append(
                f"{module.name}:{node.lineno}: catches {caught}; Cancelled must propagate "
                "(use finally, or name the exceptions)"
            )
    return complaints


def prints(module: Module) -> list[str]:
    """Nothing is printed."""
    return [
        f"{module.name}:{line}: prints" for call, line in _calls(module.tree) if call == "print"
    ]


def _top(name: str) -> str:
    return name.partition(".")[0]


def _export_order(name: str) -> tuple[int, str]:
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(
        _within(name, each.removesuffix(".*")) if each.endswith(".*") else name == each
        for each in patterns
    )


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute; `?` stands for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"


def _calls(tree: ast.Module) -> list[tuple[str, int]]:
    return [
        (_dotted(node.func), node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Call)
    ]


def _names_base_exception(nodes: list[ast.expr]) -> str:
    for node in nodes:
        inner = node.elts if isinstance(node, ast.Tuple) else [node]
        if any(_dotted(each).rpartition(".")[2] == "BaseException" for each in inner):
            return "BaseException"
    return ""


def _all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(each, ast.Name) and each.id == "__all__" for each in node.targets
        ):
            value = ast.literal_eval(node.value)
            return [str(each) for each in value]
    return None
