"""Fingerprints: everything of the user's project and environment that a function reaches, under one digest.

Read from the syntax trees, never by running anything. What cannot be seen that way is a warning.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from penstock.core.digest import digest_bytes, digest_value
from penstock.core.errors import NotFoundError
from penstock.pipeline.graph import CodeFile, Fingerprint, Part
from penstock.pipeline.imports import imported_files, loaded_files, module_files
from penstock.pipeline.modules import Module, Project, Unit
from penstock.pipeline.packages import Packages, is_ignored
from penstock.pipeline.reach import Reach


class Analyzer:
    r"""Fingerprints functions of the project under `root`; keeps what it has read, so use one for one moment.

    Attributes:
        warnings: What could not be seen in anything fingerprinted so far, one sentence each.

    Example:
        >>> from pathlib import Path
        >>> analyzer = Analyzer(Path("."))
        >>> analyzer.add_module("tiny", "RATE = 3\ndef double(x):\n    return x * RATE\n")
        >>> sorted(analyzer.fingerprint_named("tiny", "double").parts)
        ['tiny:RATE', 'tiny:double']
    """

    def __init__(self, root: Path) -> None:
        self._project = Project(root)
        self._packages = Packages()
        self._reach = Reach(self._project, self._packages)
        self._warnings: dict[str, None] = {}
        self._done: dict[frozenset[Unit], Fingerprint] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._aliases: dict[str, str] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be seen in anything fingerprinted so far, one sentence each."""
        return tuple(self._warnings)

    def add_module(self, name: str, source: str, *, called: str = "", import_root: Path | None = None) -> None:
        """Give the text of a module that is no file: the cells of a notebook, put together.

        Args:
            name: Name that other processes import it by.
            source: Its text.
            called: What the module of its functions is called here, as "__main__"; `name` when empty.
            import_root: Where it finds the modules beside it; the root when None.
        """
        self._aliases[called or name] = name
        self._project.add_text(name, source)
        if import_root is not None:
            self._project.look_in(import_root)

    def fingerprint(self, function: Callable[..., object]) -> Fingerprint:
        """Fingerprint a function, following everything it reaches.

        Raises:
            DeclarationError: A file it reaches cannot be read as Python.
        """
        plain = inspect.unwrap(function)
        code = getattr(plain, "__code__", None)
        module = str(getattr(plain, "__module__", "") or "")
        qualname = str(getattr(plain, "__qualname__", type(plain).__qualname__))
        if code is None:
            return self._unseen(module, qualname)
        name = self._module_of(module, code.co_filename)
        found = self._project.module(name) if name else None
        if found is None:
            return self._unseen(module, qualname)
        units = _units_at(found, qualname, code.co_firstlineno)
        if not units:
            return self._unseen(module, qualname)
        extra = self._captured(plain, qualname, found.path)
        return self._keep(self._made(frozenset(units), extra))

    def fingerprint_named(self, module: str, qualname: str) -> Fingerprint:
        """Fingerprint a function or class by where it lives, without importing it.

        Raises:
            NotFoundError: The project has no such module, or the module no such name.
            DeclarationError: A file it reaches cannot be read as Python.
        """
        found = self._project.module(module)
        if found is None:
            raise NotFoundError(f"{module!r} is no module of the project at {str(self._project.root)!r}.")
        units = _units_at(found, qualname, 0)
        if not units:
            raise NotFoundError(f"{found.path} defines no {qualname!r}.")
        return self._keep(self._made(frozenset(units), {}))

    def files(self, entry: Path, *, with_loaded: bool = False) -> tuple[CodeFile, ...]:
        """List every project file that a file imports, itself included, sorted by path: the code snapshot.

        Args:
            entry: The pipeline's file.
            with_loaded: Add what this process has imported: right in a process that imported the pipeline only.

        Raises:
            DeclarationError: A file cannot be read as Python, or lies outside the project.
        """
        root = self._project.root
        return self._listed({*module_files(entry, root, self._project), *(loaded_files(root) if with_loaded else ())})

    def files_of(self, modules: Iterable[str]) -> tuple[CodeFile, ...]:
        """List every project file that some modules import, their own included where they have one, sorted by path.

        Raises:
            DeclarationError: A file cannot be read as Python.
        """
        return self._listed(set(imported_files(modules, self._project)))

    def _listed(self, paths: AbstractSet[Path]) -> tuple[CodeFile, ...]:
        root = self._project.root
        return tuple(
            CodeFile(path=path.relative_to(root).as_posix(), digest=digest_bytes(path.read_bytes()))
            for path in sorted(paths)
        )

    def _module_of(self, module: str, filename: str) -> str:
        """Return the name to look a function's module up by; "" when it has no source in the project."""
        # Resolving a path costs more than fingerprinting a small function, and a thousand functions share a file.
        if (module, filename) not in self._named:
            self._named[module, filename] = self._look_up(module, filename)
        return self._named[module, filename]

    def _look_up(self, module: str, filename: str) -> str:
        if module in self._aliases:
            return self._aliases[module]
        path = Path(filename).resolve()
        if not path.is_file() or not self._project.holds(path):
            return ""
        if module == "__main__":
            module = self._project.name_of(path)  # as it is called when another process imports it
        return self._project.place(module, path)

    def _made(self, units: frozenset[Unit], extra: Mapping[str, Part]) -> Fingerprint:
        if units in self._done and not extra:
            return self._done[units]
        reached = frozenset().union(*(self._reach.closure(unit) for unit in units))
        covered = [spot for spot in reached if isinstance(spot, Unit) and (spot.nodes or spot.targets)]
        covered.sort(key=lambda unit: unit.key)
        parts = {unit.key: Part(label=unit.label, digest=unit.digest) for unit in covered} | dict(extra)
        packages: dict[str, str] = {}
        for name in sorted(spot for spot in reached if isinstance(spot, str)):
            packages |= self._packages.versions(name)
        remarks = [text for unit in covered for text in self._reach.remarks(unit)]
        made = Fingerprint(
            digest=fingerprint_digest(parts, packages),
            parts=parts,
            packages=packages,
            warnings=tuple(dict.fromkeys(remarks)),
        )
        if not extra:
            self._done[units] = made
        return made

    def _captured(self, function: object, qualname: str, path: str) -> dict[str, Part]:
        """Cover the values a nested function holds from the function that made it, where they are plain."""
        code = getattr(function, "__code__", None)
        cells = getattr(function, "__closure__", None) or ()
        parts: dict[str, Part] = {}
        for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
            label = f"`{name}` held by `{qualname}` in {path}"
            try:
                digest = digest_value(_plain(cell.cell_contents))
            except ValueError:  # an empty cell: a name bound only later
                continue
            except TypeError:
                self._warnings[f"{label} is no plain value; a change of it is not seen."] = None
                continue
            parts[f"held:{name}"] = Part(label=label, digest=digest)
        return parts

    def _unseen(self, module: str, qualname: str) -> Fingerprint:
        """Cover a function without source in the project by its name and its package's version."""
        key = f"{module}:{qualname}"
        part = Part(label=f"`{qualname}` of {module or 'nowhere'}", digest=digest_value(key))
        top = module.partition(".")[0]
        packages = {} if is_ignored(top) else self._packages.versions(top)
        text = f"`{qualname}` of {module or 'nowhere'} has no source in the project; a change of it is not seen."
        return self._keep(
            Fingerprint(
                digest=fingerprint_digest({key: part}, packages), parts={key: part}, packages=packages, warnings=(text,)
            )
        )

    def _keep(self, made: Fingerprint) -> Fingerprint:
        self._warnings.update(dict.fromkeys(made.warnings))
        return made


def fingerprint_digest(parts: Mapping[str, Part], packages: Mapping[str, str]) -> str:
    """Return the digest over parts and packages; labels, which hold line numbers, do not count."""
    lines = [f"{key} {part.digest}" for key, part in sorted(parts.items())]
    lines += [f"{name}=={version}" for name, version in sorted(packages.items())]
    return digest_bytes("\n".join(lines).encode())


def _plain(value: object) -> object:
    """Return what a value digests as; TypeError when it is not plain."""
    if isinstance(value, float | int | str | bytes | bool | None):
        return [type(value).__name__, repr(value)]
    if isinstance(value, tuple | list):
        return [type(value).__name__, *(_plain(item) for item in value)]
    if isinstance(value, dict):
        return ["dict", *([_plain(key), _plain(item)] for key, item in value.items())]
    raise TypeError(type(value).__name__)


def _units_at(module: Module, qualname: str, line: int) -> list[Unit]:
    """Return the units that hold a function: by name, else by line (lambdas, functions bound in an expression)."""
    named = module.units.get(qualname.partition(".")[0], [])
    if named:
        return list(named)
    every = [unit for units in module.units.values() for unit in units]
    return [
        unit
        for unit in dict.fromkeys([*every, module.top])
        if any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in unit.nodes)
    ]
