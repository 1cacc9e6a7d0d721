"""The user's modules as units: each statement that binds names, each import, and the rest at the top level.

Belongs here: finding project files by module name, parsing each once, sorting its statements.
Does not: following names from unit to unit (`reach`).
"""

import ast
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from penstock.core.digest import digest_bytes
from penstock.core.errors import DeclarationError
from penstock.core.installed import INSTALLED
from penstock.pipeline.names import Bound, Chain, Target, bound, imported, root_of
from penstock.pipeline.normalise import normalised, says_nothing
from penstock.pipeline.statements import OWN, acted_on, is_plain_call, leaves, pipelines_made
from penstock.pipeline.uses import Uses, uses

_OUTSIDE = INSTALLED | {"venv", "env", "node_modules", "__pycache__"}


class Unit:
    """What a fingerprint can cover: a definition, one imported name, or the top level of a module.

    Attributes:
        key: Stable name without line numbers, "features:_genre_weights".
        label: What a person reads, "`_genre_weights` in features.py:31".
        targets: What the unit's imports bind its names to.
    """

    def __init__(self, module: "Module", names: tuple[str, ...], nodes: list[ast.stmt], *, line: int = 0) -> None:
        self.module = module
        self.nodes = nodes
        self.line = line or (nodes[0].lineno if nodes else 0)
        self.targets: dict[str, tuple[Target, ...]] = {}
        shown = ", ".join(names[:3]) + ("..." if len(names) > 3 else "")
        self.key = module.new_key(shown)
        self.label = f"`{shown}` in {module.path}:{self.line}" if names else f"top level of {module.path}"

    @cached_property
    def digest(self) -> str:
        """Digest of the normalised tree, or of what an import binds."""
        if self.nodes:
            return digest_bytes(normalised(self.nodes))
        return digest_bytes(repr(sorted(self.targets.items())).encode())

    @cached_property
    def uses(self) -> Uses:
        """What the unit takes from outside itself."""
        return uses(self.nodes, self.module.package)


@dataclass(slots=True, eq=False)
class Module:
    """A project module, sorted into units.

    Attributes:
        path: Relative to the project root, with "/".
        package: The package that relative imports start from.
        units: By each name they bind, in order of execution.
        stars: Modules whose names are all imported, each with the unit of the statement.
        exports: Names in a literal `__all__`; None when there is none or it cannot be read.
        pipelines: Names of `Pipeline` objects made here.
    """

    name: str
    path: str
    package: str
    tree: ast.Module
    units: dict[str, list[Unit]] = field(default_factory=dict)
    stars: list[tuple[str, Unit]] = field(default_factory=list)
    exports: frozenset[str] | None = None
    pipelines: set[str] = field(default_factory=set)
    top: Unit = field(init=False)
    bound: Bound = field(default_factory=Bound)
    _keys: dict[str, int] = field(default_factory=dict)

    def new_key(self, shown: str) -> str:
        """Return a key for the next unit shown as `shown`; a second one of that name gets "#2"."""
        count = self._keys[shown] = self._keys.get(shown, 0) + 1
        return f"{self.name}:{shown or '*'}" + (f"#{count}" if count > 1 else "")

    def add(self, unit: Unit, names: Iterable[str]) -> None:
        """Keep a unit under each name it binds."""
        for name in names:
            self.units.setdefault(name, []).append(unit)

    def public(self, name: str) -> bool:
        """Whether `from module import *` brings `name`."""
        return not name.startswith("_") if self.exports is None else name in self.exports


class Project:
    """The modules under `root`, each parsed once when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.import_roots: list[Path] = [self.root, self.root / "src"]
        self._places: dict[str, Path] = {}
        self._texts: dict[str, bytes] = {}
        self._modules: dict[str, Module | None] = {}
        self._found: dict[str, Path | None] = {}

    def add_text(self, name: str, source: str) -> None:
        """Give a module that is no file: cells of a notebook, put together."""
        self._texts[name] = source.encode()
        self._modules.pop(name, None)

    def text(self, name: str) -> bytes | None:
        """Return the source given to `add_text`."""
        return self._texts.get(name)

    def place(self, name: str, path: Path) -> str:
        """Note that `path` is module `name`, so that what it imports is looked for beside it; return its name."""
        path = path.resolve()
        parts = name.split(".")
        above = path.parent if path.name != "__init__.py" else path.parent.parent
        tail = [*path.relative_to(path.anchor).with_suffix("").parts]
        if tail[-1] == "__init__":
            tail.pop()
        if tail[-len(parts) :] == parts:
            import_root = above
            for _ in parts[1:]:
                import_root = import_root.parent
        else:
            import_root = above
            self._places[name] = path
        self.look_in(import_root)
        return name

    def look_in(self, import_root: Path) -> None:
        """Look for modules in a folder before all others."""
        if import_root not in self.import_roots:
            self.import_roots.insert(0, import_root)
            self._found.clear()

    def name_of(self, path: Path) -> str:
        """Return the module name of a file: with the packages around it, as far as they have `__init__.py`."""
        parts = [] if path.name == "__init__.py" else [path.stem]
        folder = path.parent
        while folder != self.root and (folder / "__init__.py").is_file():
            parts.insert(0, folder.name)
            folder = folder.parent
        return ".".join(parts)

    def holds(self, path: Path) -> bool:
        """Whether a file is the user's: under the root, outside hidden folders and environments."""
        if not path.is_relative_to(self.root):
            return False
        parts = path.relative_to(self.root).parts
        return not any(part in _OUTSIDE or part.startswith(".") for part in parts[:-1])

    def find(self, name: str) -> Path | None:
        """Return the file of a module of the project, or None."""
        if name not in self._found:
            self._found[name] = self._places.get(name) or self._look_for(name)
        return self._found[name]

    def _look_for(self, name: str) -> Path | None:
        first, *_ = parts = name.split(".")
        if first == OWN or not all(part.isidentifier() for part in parts):
            return None  # Penstock is never the user's code, not even in its own repository
        for import_root in self.import_roots:
            stem = import_root.joinpath(*parts)
            for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
                if path.is_file() and self.holds(path):
                    return path
        return None

    def is_folder(self, name: str) -> bool:
        """Whether `name` is a package without `__init__.py` that holds modules of the project."""
        return any(
            self.holds(stem / "x.py") and any(stem.rglob("*.py"))
            for import_root in self.import_roots
            if (stem := import_root.joinpath(*name.split("."))).is_dir()
        )

    def module(self, name: str) -> Module | None:
        """Return a module of the project, or None when no file of the project has that name.

        Raises:
            DeclarationError: The file cannot be read as Python.
        """
        if name not in self._modules:
            self._modules[name] = None
            path = self.find(name)
            text = self._texts.get(name)
            if text is not None:
                self._fill(_parsed(name, f"{name.replace('.', '/')}.py", text, is_package=False))
            elif path is not None:
                shown = path.relative_to(self.root).as_posix()
                self._fill(_parsed(name, shown, _read(path, shown), is_package=path.name == "__init__.py"))
        return self._modules[name]

    def _fill(self, module: Module) -> None:
        self._modules[module.name] = module
        module.bound = bound(module.tree.body, module.package)
        for node in module.tree.body:
            module.pipelines.update(pipelines_made(node, module.bound))
        rest: list[ast.stmt] = []
        for node in module.tree.body:
            self._sort(module, node, rest)
        module.top = Unit(module, (), rest)

    def _sort(self, module: Module, node: ast.stmt, rest: list[ast.stmt]) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                _add_imports(module, node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._drop_decorators(module, node)
                module.add(Unit(module, (node.name,), [node]), (node.name,))
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__")), orelse=[]):
                return  # `if __name__ == "__main__":` does not run on import
            case _ if not says_nothing(node):
                self._sort_other(module, node, rest)

    def _sort_other(self, module: Module, node: ast.stmt, rest: list[ast.stmt]) -> None:
        if pipelines_made(node, module.bound):
            return
        for child in ast.walk(node):
            self._drop_decorators(module, child)
        found = bound([node], module.package)
        changed, has_effects = self._effects(module, node)
        names = (*found.names, *sorted(changed - set(found.names)))
        if names:
            unit = Unit(module, names, [node])
            unit.targets = {name: targets for name, targets in found.names.items() if targets}
            module.add(unit, names)
            _note_exports(module, node)
        if has_effects:
            rest.append(node)

    def _effects(self, module: Module, node: ast.stmt) -> tuple[set[str], bool]:
        """Return the module's own names that a statement changes in place, and whether it does anything else."""
        changed: set[str] = set()
        has_effects = False
        for leaf in leaves(node):
            for part in acted_on(leaf):
                name, chain = root_of(part)
                if self.is_pipeline(module, name, chain):
                    continue
                if module.bound.names.get(name) == () and not is_plain_call(leaf):
                    changed.add(name)
                else:
                    has_effects = True
        return changed, has_effects

    def _drop_decorators(self, module: Module, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not self._is_of_pipeline(module, d)]

    def _is_of_pipeline(self, module: Module, decorator: ast.expr) -> bool:
        return self.is_pipeline(module, *root_of(decorator.func if isinstance(decorator, ast.Call) else decorator))

    def is_pipeline(self, module: Module, name: str, chain: Chain) -> bool:
        """Whether `name.chain` in a module starts with a `Pipeline` object, its own or an imported one."""
        return self._is_pipeline(module, name, chain, frozenset())

    def _is_pipeline(self, module: Module, name: str, chain: Chain, seen: frozenset[tuple[str, str]]) -> bool:
        if name in module.pipelines:
            return True
        if (module.name, name) in seen:
            return False
        seen |= {(module.name, name)}
        for target in module.bound.names.get(name, ()):
            inner, left = (target.name, chain) if target.name else (chain[0] if chain else "", chain[1:])
            other = self.module(target.module) if inner else None
            if other is not None and self._is_pipeline(other, inner, left, seen):
                return True
        return False


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeclarationError((f"{shown}: cannot be read ({error.strerror}).",)) from error


def _parsed(name: str, shown: str, text: bytes, *, is_package: bool) -> Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python says the same of these lines when it imports them
            tree = ast.parse(text, shown)
    except SyntaxError as error:
        raise DeclarationError((f"{shown}:{error.lineno or 1}: not valid Python ({error.msg}).",)) from error
    except ValueError as error:
        raise DeclarationError((f"{shown}:1: not readable as Python text ({error}).",)) from error
    return Module(name, shown, name if is_package else name.rpartition(".")[0], tree)


def _add_imports(module: Module, node: ast.Import | ast.ImportFrom) -> None:
    for name, target in imported(node, module.package):
        unit = Unit(module, (name if name != "*" else f"{target.module}.*",), [], line=node.lineno)
        unit.targets = {name: (target,)}
        if name == "*":
            module.stars.append((target.module, unit))
        else:
            module.add(unit, (name,))


def _note_exports(module: Module, node: ast.stmt) -> None:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=items) | ast.Tuple(elts=items)):
            module.exports = _texts(items)
        case ast.AugAssign(target=ast.Name(id="__all__"), value=ast.List(elts=items) | ast.Tuple(elts=items)):
            more = _texts(items)
            known = module.exports is not None and more is not None
            module.exports = (module.exports or frozenset()) | (more or frozenset()) if known else None


def _texts(items: list[ast.expr]) -> frozenset[str] | None:
    values = [item.value if isinstance(item, ast.Constant) else None for item in items]
    return frozenset(v for v in values if isinstance(v, str)) if all(isinstance(v, str) for v in values) else None
