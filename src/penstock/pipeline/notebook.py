"""One importable module out of the cells of a notebook, or of a `__main__` that has no file.

Kept: what the declared functions reach, in order of execution. Left out: what a cell did, showed or tried.
"""

import ast
import inspect
import linecache
import re
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.core.errors import DeclarationError
from penstock.pipeline.names import bound, root_of
from penstock.pipeline.uses import CHANGING, uses

Function = Callable[..., object]
_DECLARING = frozenset({
    "include", "dataset", "step", "model", "baseline", "evaluate", "check", "serve", "fallback", "outcome",
})  # fmt: skip
_TIMING = frozenset({"time", "timeit", "capture", "prun"})
_MAGIC = re.compile(r"\s*([%!?]|\w+\s*=\s*[%!]|[\w.]+\?+\s*$)")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True, eq=False)
class _Statement:
    """A top-level statement of a cell.

    Attributes:
        fresh: Names it binds without looking at what they held before.
        changed: Names it changes: adds to, deletes, assigns into.
        at_once: Names it needs when it runs.
        later: Names that the functions it defines need when they are called.
    """

    text: str
    fresh: frozenset[str]
    changed: frozenset[str]
    at_once: frozenset[str]
    later: frozenset[str]
    declares_on: str = ""


def from_namespace(functions: Sequence[Function], namespace: Mapping[str, object]) -> str:
    """Assemble the module of a live notebook, or of a `__main__` whose functions have their text in `linecache`.

    Args:
        functions: The functions declared on the pipeline.
        namespace: Their globals; IPython keeps its history there as `In`.

    Raises:
        DeclarationError: A name they need can neither be found in a cell nor imported.
    """
    return assemble(functions, namespace, gather_cells(functions, namespace))


def gather_cells(functions: Sequence[Function], namespace: Mapping[str, object]) -> list[str]:
    """Return the texts of the cells run so far, in order of execution."""
    history = namespace.get("In")
    if isinstance(history, list) and "get_ipython" in namespace:
        return [cell for cell in history if isinstance(cell, str) and cell.strip()]
    known = [value for value in (*functions, *namespace.values()) if callable(value)]
    families = {_family(inspect.unwrap(function).__code__.co_filename) for function in known if _is_plain(function)}
    return [
        "".join(entry[2])
        for name, entry in list(linecache.cache.items())
        if len(entry) == 4 and _family(name) in families
    ]


def _is_plain(function: object) -> bool:
    return callable(function) and inspect.isfunction(inspect.unwrap(function))


def _family(filename: str) -> str:
    """Return what "<cell 3>" and "<cell 12>" have in common; a real file is a family of its own."""
    return re.sub(r"[0-9]+(-[0-9a-f]+)?", "#", filename) if filename.startswith("<") else filename


def assemble(functions: Sequence[Function], namespace: Mapping[str, object], cells: Iterable[str]) -> str:
    """Build the source of a module that declares the same pipeline as the cells did.

    Only statements that bind names the functions reach are kept, in order of execution, the last definition of a
    name in place of earlier ones; calls, magics and displayed values are dropped.

    Args:
        functions: The functions declared on the pipeline.
        namespace: The globals of the notebook, for names that no cell binds (`%run`, values pushed in).
        cells: Texts of the cells in order of execution; a cell that is not Python never ran and is left out.

    Raises:
        DeclarationError: A name they need can neither be found in a cell nor imported.
    """
    statements: list[_Statement] = []
    future: dict[str, None] = {}
    for cell in cells:
        _read_cell(cell, statements, future)
    chooser = _Chooser(statements)
    for function in functions:
        chooser.choose(inspect.unwrap(function).__qualname__.partition(".")[0], len(statements))
    for position, statement in enumerate(statements):
        if statement.declares_on in chooser.names:
            chooser.keep(position, len(statements))
    missing = [_outside(name, namespace) for name in sorted(chooser.missing) if name in namespace]
    kept = dict.fromkeys(statements[position].text for position in sorted(chooser.kept))
    return "\n".join([*future, *missing, *kept]) + "\n"


class _Chooser:
    """Follows names from statement to statement, as they stood when they were needed."""

    def __init__(self, statements: Sequence[_Statement]) -> None:
        self.statements = statements
        self.kept: set[int] = set()
        self.names: set[str] = set()
        self.missing: set[str] = set()
        self._asked: set[tuple[str, int]] = set()
        self._positions: dict[str, list[int]] = {}
        for position, statement in enumerate(statements):
            for name in statement.fresh | statement.changed:
                self._positions.setdefault(name, []).append(position)

    def choose(self, name: str, limit: int) -> None:
        """Keep what gives `name` the value it has just before statement `limit`, and all that this needs."""
        waiting = [(name, limit)]
        while waiting:
            name, limit = waiting.pop()
            if (name, limit) in self._asked:
                continue
            self._asked.add((name, limit))
            self.names.add(name)
            if name not in self._positions:
                self.missing.add(name)
            for position in self._giving(name, limit):
                waiting += self._needed(position, limit)

    def keep(self, position: int, limit: int) -> None:
        """Keep one statement and all that it needs."""
        for name, before in self._needed(position, limit):
            self.choose(name, before)

    def _needed(self, position: int, limit: int) -> list[tuple[str, int]]:
        self.kept.add(position)
        statement = self.statements[position]
        at_once = [(name, position) for name in statement.at_once]
        return at_once + [(name, limit) for name in statement.later]

    def _giving(self, name: str, limit: int) -> list[int]:
        before = [position for position in self._positions.get(name, ()) if position < limit]
        fresh = [position for position in before if name in self.statements[position].fresh]
        return [position for position in before if not fresh or position >= fresh[-1]]


def _read_cell(cell: str, statements: list[_Statement], future: dict[str, None]) -> None:
    text = _without_magics(cell)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # a cell that is not Python bound nothing
    for node in tree.body:
        match node:
            case ast.Expr(value=ast.Call(args=[ast.Constant(value=magic), _, ast.Constant(value=str(inner))])):
                # IPython keeps `%%time` cells as get_ipython().run_cell_magic("time", "", "the cell").
                if magic in _TIMING:
                    _read_cell(inner, statements, future)
            case ast.ImportFrom(module="__future__"):
                future[_text_of(node, text)] = None
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__")), orelse=[]):
                continue
            case _:
                statement = _statement(node, text)
                if statement.fresh or statement.changed or statement.declares_on:
                    statements.append(statement)


def _without_magics(cell: str) -> str:
    """Cut magics (`%`, `!`) and help (`?`) from a cell as typed."""
    first, _, rest = cell.lstrip("\n").partition("\n")
    if first.startswith("%%"):
        return rest if first[2:].split(" ")[0] in _TIMING else ""
    if _is_python(cell):  # a line that continues an expression may start with "%"
        return cell
    kept: list[str] = []
    for line in cell.splitlines():
        goes_on = bool(kept) and kept[-1].endswith("\\")
        if goes_on or _MAGIC.match(line) is None:
            kept.append(line)
    return "\n".join(kept)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _text_of(node: ast.stmt, text: str) -> str:
    decorators = node.decorator_list if isinstance(node, _DEFINITIONS) else []
    if decorators:
        first = min(decorator.lineno for decorator in decorators)
        return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return ast.get_source_segment(text, node) or ast.unparse(node)


def _statement(node: ast.stmt, text: str) -> _Statement:
    taken = uses([node], "")
    needs = frozenset(name for name, _ in (*taken.names, *taken.quoted))
    binds = frozenset(bound([node], "").names)
    changed, declares_on = _acts(node)
    if isinstance(node, _DEFINITIONS):
        return _Statement(_text_of(node, text), binds, frozenset(), _needed_at_once(node), needs)
    is_partial = isinstance(node, ast.AugAssign | ast.Delete | ast.If | ast.Try | ast.For | ast.While | ast.With)
    fresh = frozenset() if is_partial else binds - needs
    needs |= {changed} - {""}
    return _Statement(
        _text_of(node, text), fresh, (binds - fresh) | ({changed} - {""}), needs | (binds - fresh), needs, declares_on
    )


def _acts(node: ast.stmt) -> tuple[str, str]:
    """Return the name a statement changes in place, and the name of the pipeline it declares something on."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=attr))) if attr in CHANGING:
            return root_of(owner)[0], ""
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr))) if attr in _DECLARING:
            return "", name
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute() as target]):
            return root_of(target)[0], ""
        case ast.AugAssign(target=ast.Subscript() | ast.Attribute() as target):
            return root_of(target)[0], ""
        case _:
            return "", ""


def _needed_at_once(node: ast.stmt) -> frozenset[str]:
    """Return what a definition needs when it is made: decorators, defaults, annotations, the body of a class."""
    nodes: list[ast.AST] = []
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            nodes += [*node.decorator_list, *arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
            nodes += [a.annotation for a in every if a is not None and a.annotation is not None]
            nodes += [node.returns] if node.returns is not None else []
        case ast.ClassDef():
            nodes += [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]
            nodes += [inner for inner in node.body if not isinstance(inner, _DEFINITIONS)]
    return frozenset(name for name, _ in uses(nodes, "").names)


def _outside(name: str, namespace: Mapping[str, object]) -> str:
    """Return a statement that binds a name no cell binds: an import, or a plain value."""
    value = namespace[name]
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__} as {name}"
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module and module != "__main__" and qualname.isidentifier():
        return f"from {module} import {qualname} as {name}"
    if isinstance(value, int | float | str | bytes | None):
        return f"{name} = {value!r}"
    raise DeclarationError(
        (f"`{name}` is used by the pipeline, but no cell of the notebook binds it (found a {type(value).__name__}).",),
        hint=f"bind `{name}` in a cell of its own, or import it from a file",
    )
