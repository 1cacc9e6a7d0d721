"""Which names a piece of code binds in its scope, and the small questions one asks of a syntax tree.

Belongs here: binding. Does not: what code takes from outside itself (`uses`), what names stand for (`reach`).
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

Chain = tuple[str, ...]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


_PLAIN_FIELDS = frozenset({
    "arg", "attr", "conversion", "ctx", "id", "is_async", "kind", "level", "module", "op", "ops", "rest", "simple",
    "type_comment", "type_ignores",
})  # fmt: skip
_LEAVES = frozenset({ast.Constant, ast.alias, ast.Pass, ast.Break, ast.Continue})
_NODE_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}


class Target(NamedTuple):
    """What an import binds a name to: a module (`name` empty), a name in it, or "*"."""

    module: str
    name: str = ""


@dataclass(slots=True)
class Bound:
    """Names a scope binds (with what imports bind them to), and names it hands to outer scopes."""

    names: dict[str, tuple[Target, ...]] = field(default_factory=dict)
    module_level: set[str] = field(default_factory=set)
    enclosing: set[str] = field(default_factory=set)

    def add(self, name: str, *targets: Target) -> None:
        """Bind `name`, keeping what earlier imports bound it to."""
        self.names[name] = (*self.names.get(name, ()), *targets)


def absolute(package: str, level: int, module: str) -> str:
    """Return the absolute name of a module that code in `package` imports with `level` leading dots."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    base = parts[: len(parts) - (level - 1)]
    return ".".join([*base, module] if module else base)


def imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Target]]:
    """Yield each name an import statement binds, "*" included, and what it binds it to."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            whole = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or whole, Target(whole)
        return
    module = absolute(package, node.level, node.module or "")
    for alias in node.names:
        yield alias.asname or alias.name, Target(module, alias.name)


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly inside a node; the fields that hold nodes are looked up once per kind of node."""
    kind = type(node)
    fields = _NODE_FIELDS.get(kind)
    if fields is None:
        fields = _NODE_FIELDS[kind] = tuple(name for name in kind._fields if name not in _PLAIN_FIELDS)
    found: list[ast.AST] = []
    for name in fields:
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [item for item in value if item.__class__ is not str and item is not None]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def bound(nodes: Iterable[ast.AST], package: str) -> Bound:
    """Return what `nodes` bind in the scope they stand in, without entering scopes inside it."""
    found = Bound()
    stack: list[tuple[ast.AST, bool]] = [(node, False) for node in reversed(list(nodes))]
    while stack:
        node, inside = stack.pop()  # inside a comprehension only `:=` binds in the scope around it
        match node:
            case ast.Name(ctx=ast.Load()) | ast.Constant():
                continue
            case ast.Name() if not inside:
                found.add(node.id)
            case ast.NamedExpr(target=ast.Name(id=name)):
                found.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
                continue
            case ast.Lambda():
                continue
            case _:
                _bind_rarer(node, package, found)
        inside = inside or isinstance(node, COMPREHENSIONS)
        for child in children(node)[::-1]:
            if type(child) not in _LEAVES:
                stack.append((child, inside))  # noqa: PERF401 - a generator here costs a quarter of the whole reading
    for name in found.module_level | found.enclosing:
        found.names.pop(name, None)
    return found


def _bind_rarer(node: ast.AST, package: str, found: Bound) -> None:
    match node:
        case ast.Import() | ast.ImportFrom():
            for name, target in imported(node, package):
                found.add(name, target)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            found.add(name)
        case ast.MatchMapping(rest=str(name)):
            found.add(name)
        case ast.Global():
            found.module_level.update(node.names)
        case ast.Nonlocal():
            found.enclosing.update(node.names)


def root_of(node: ast.AST) -> tuple[str, Chain]:
    """Return ("x", ("c", "d")) for `x.c[0].d`, ("", ()) when it does not start at a name; indexes end the chain."""
    chain: list[str] = []
    while True:
        match node:
            case ast.Attribute(value=value, attr=attr):
                chain.append(attr)
                node = value
            case ast.Subscript(value=value):
                chain.clear()
                node = value
            case ast.Name(id=name):
                return name, tuple(reversed(chain))
            case _:
                return "", ()
