"""Which files of the project a pipeline imports: read from their text, and from what a process has loaded.

Belongs here: listing. Does not: what becomes of the files (`snapshot`).
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from penstock.core.errors import DeclarationError
from penstock.pipeline.modules import Module, Project
from penstock.pipeline.names import imported


def module_files(entry: Path, root: Path, project: Project | None = None) -> tuple[Path, ...]:
    """List every project file that `entry` imports, directly or not, `entry` included, sorted.

    Imports anywhere in a file count, also those inside functions; so do the packages around a module.

    Args:
        entry: The file to start from.
        root: The project.
        project: Its modules, where some have been read before, so that none is parsed twice.

    Raises:
        DeclarationError: A file cannot be read as Python.
    """
    project = project or Project(root)
    entry = entry.resolve()
    if not project.holds(entry):
        raise DeclarationError((f"{entry}: lies outside the project at {str(project.root)!r}.",))
    return imported_files([project.place(project.name_of(entry), entry)], project)


def imported_files(modules: Iterable[str], project: Project) -> tuple[Path, ...]:
    """List every project file that some modules import, directly or not, their own included, sorted.

    Raises:
        DeclarationError: A file cannot be read as Python.
    """
    found: set[Path] = set()
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if "." in current:
            waiting.append(current.rpartition(".")[0])
        module = project.module(current)
        path = project.find(current)
        if path is not None:
            found.add(path)
        if module is not None:
            waiting.extend(_imports_of(module))
    return tuple(sorted(found))


def loaded_files(root: Path) -> tuple[Path, ...]:
    """List the project files that this process has imported: what static reading of imports may have missed."""
    project = Project(root)
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(file).resolve() for file in files if isinstance(file, str) and file.endswith(".py")}
    return tuple(sorted(path for path in paths if path.is_file() and project.holds(path)))


def _imports_of(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                for _, target in imported(node, module.package):
                    yield target.module
                    if target.name != "*":
                        yield f"{target.module}.{target.name}"
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name
