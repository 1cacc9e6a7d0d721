"""What a statement takes from outside itself, by Python's rules of scope.

Belongs here: reading one statement. Does not: what the names stand for (`reach`), where modules lie (`modules`).
"""

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from penstock.pipeline.names import COMPREHENSIONS, Bound, Chain, Target, bound, children, root_of

CHANGING = frozenset({
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault",
    "sort", "update",
})  # fmt: skip
"""Methods that change the list, set or dict they are called on."""
_READING = frozenset({"read_text", "read_bytes", "open"})
_TYPE = re.compile(r"[A-Za-z_ ][\w\s.,\[\]|']*")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(slots=True)
class Uses:
    """What a statement takes from outside itself; each maps to the first line that does so.

    Attributes:
        names: Module-level names with the attributes read from them: `x.c.d` is ("x", ("c", "d")).
        quoted: The same, out of quoted annotations, where a text need not be a name.
        imports: What imports inside functions bring in, as far as it is used.
        changes: Module-level names whose value a function changes in place or binds anew.
        remarks: What cannot be seen statically, as ends of sentences.
    """

    names: dict[tuple[str, Chain], int] = field(default_factory=dict)
    quoted: dict[tuple[str, Chain], int] = field(default_factory=dict)
    imports: dict[tuple[Target, Chain], int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)


def uses(nodes: Iterable[ast.AST], package: str) -> Uses:
    """Return what module-level statements take from outside themselves."""
    reader = _Reader(package)
    for node in nodes:
        reader.read(node)
    return reader.uses


@dataclass(slots=True)
class _Scope:
    bound: Bound
    parent: "_Scope | None"
    is_class: bool = False


class _Reader:
    """Walks a statement, keeping the scope it is in; `scope` is None at the level of the module."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.uses = Uses()
        self.scope: _Scope | None = None
        self.is_quoted = False

    def read(self, node: ast.AST | None) -> None:
        if node is None:
            return
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            handler(self, node)
            return
        for child in children(node):
            self.read(child)

    def read_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            self.read(node)

    def read_within(self, found: Bound, nodes: Iterable[ast.AST | None], *, is_class: bool = False) -> None:
        self.scope = _Scope(found, self.scope, is_class)
        self.read_all(nodes)
        self.scope = self.scope.parent

    def local(self, name: str) -> tuple[Target, ...] | None:
        """What a name stands for in the scopes around; None when it is a name of the module."""
        scope, is_first = self.scope, True
        while scope is not None:
            if name in scope.bound.module_level:
                return None
            if name in scope.bound.names and (is_first or not scope.is_class):
                return scope.bound.names[name]
            scope, is_first = scope.parent, False
        return None

    def load(self, name: str, chain: Chain, line: int) -> None:
        targets = self.local(name)
        if targets is None:
            (self.uses.quoted if self.is_quoted else self.uses.names).setdefault((name, chain), line)
            return
        for target in targets:
            self.uses.imports.setdefault((target, chain), line)

    def change(self, name: str, line: int) -> None:
        if name and self.scope is not None and self.local(name) is None:
            self.uses.changes.setdefault(name, line)

    def name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.load(node.id, (), node.lineno)
        else:
            self.change(node.id, node.lineno)

    def attribute(self, node: ast.Attribute) -> None:
        is_read = isinstance(node.ctx, ast.Load)
        chain = [node.attr] if is_read else []
        inner: ast.expr = node.value
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        if not is_read:
            self.change(root_of(inner)[0], node.lineno)
        if isinstance(inner, ast.Name):
            self.load(inner.id, tuple(reversed(chain)), node.lineno)
        else:
            self.read(inner)

    def subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.change(root_of(node)[0], node.lineno)
        self.read(node.value)
        self.read(node.slice)

    def statement(self, node: ast.Expr) -> None:
        match node.value:
            case ast.Call(func=ast.Attribute(value=owner, attr=attr)) if attr in CHANGING:
                self.change(root_of(owner)[0], node.lineno)
        self.read(node.value)

    def call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[owner, ast.Constant(value=str(attr)), *rest]):
                name, chain = root_of(owner)
                if name and not isinstance(owner, ast.Subscript):
                    self.load("getattr", (), node.lineno)
                    self.load(name, (*chain, attr), node.lineno)
                    self.read_all(rest)
                    return
        self.remark(node)
        self.read(node.func)
        self.read_all(node.args)
        self.read_all(node.keywords)

    def remark(self, node: ast.Call) -> None:
        match node:
            case ast.Call(func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")):
                self.dynamic_import(node)
            case ast.Call(func=ast.Name(id="eval" | "exec" as word)) if self.local(word) is None:
                self.uses.remarks.setdefault(f"runs text as code ({word})", node.lineno)
            case ast.Call(func=ast.Name(id="open"), args=[ast.Constant(value=str(file)), *rest]):
                mode = rest[0].value if rest and isinstance(rest[0], ast.Constant) else "r"
                if mode in {"r", "rb", "rt"}:
                    self.uses.remarks.setdefault(f"reads the file {file!r}", node.lineno)
            case ast.Call(
                func=ast.Attribute(
                    attr=verb, value=ast.Call(func=ast.Name(id="Path"), args=[ast.Constant(value=str(file))])
                )
            ) if verb in _READING:
                self.uses.remarks.setdefault(f"reads the file {file!r}", node.lineno)

    def dynamic_import(self, node: ast.Call) -> None:
        match node.args:
            case [ast.Constant(value=str(module))] if not module.startswith("."):
                self.uses.imports.setdefault((Target(module), ()), node.lineno)
            case _:
                self.uses.remarks.setdefault("imports a module by a name made at run time", node.lineno)

    def annotation(self, node: ast.AST | None) -> None:
        if node is None:
            return
        self.read(node)
        for child in ast.walk(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str):
                self.quoted(child.value, child.lineno)

    def quoted(self, text: str, line: int) -> None:
        if _TYPE.fullmatch(text) is None:
            return
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except SyntaxError:
            return  # a value of Literal[...], not a quoted type
        for child in ast.walk(tree):
            if hasattr(child, "lineno"):
                child.lineno = line
        before, self.is_quoted = self.is_quoted, True
        self.read(tree.body)
        self.is_quoted = before

    def annotated(self, node: ast.AnnAssign) -> None:
        self.annotation(node.annotation)
        self.read(node.target)
        self.read(node.value)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.read_all(node.decorator_list)
        self.read_all([*node.args.defaults, *node.args.kw_defaults])
        with_types = self.type_scope(node)
        arguments = _arguments(node.args)
        for argument in arguments:
            self.annotation(argument.annotation)
        self.annotation(node.returns)
        found = bound(node.body, self.package)
        for argument in arguments:
            found.add(argument.arg)
        self.read_within(found, node.body)
        if with_types and self.scope is not None:
            self.scope = self.scope.parent

    def type_scope(self, node: ast.AST) -> bool:
        """Enter the scope of `def f[T]` and `class C[T]` (Python 3.12); False when there is none."""
        params: list[ast.AST] = getattr(node, "type_params", [])
        if not params:
            return False
        found = Bound({str(getattr(param, "name", "")): () for param in params})
        self.scope = _Scope(found, self.scope)
        self.read_all(params)
        return True

    def function_expression(self, node: ast.Lambda) -> None:
        self.read_all([*node.args.defaults, *node.args.kw_defaults])
        found = bound([node.body], self.package)
        for argument in _arguments(node.args):
            found.add(argument.arg)
        self.read_within(found, [node.body])

    def class_(self, node: ast.ClassDef) -> None:
        self.read_all(node.decorator_list)
        with_types = self.type_scope(node)
        self.read_all([*node.bases, *node.keywords])
        self.read_within(bound(node.body, self.package), node.body, is_class=True)
        if with_types and self.scope is not None:
            self.scope = self.scope.parent

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        first, *others = node.generators
        self.read(first.iter)
        found = bound([generator.target for generator in node.generators], self.package)
        inner: list[ast.AST] = [*first.ifs]
        for generator in others:
            inner += [generator.iter, *generator.ifs]
        inner += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.read_within(found, inner)


def _arguments(node: ast.arguments) -> list[ast.arg]:
    stars = [argument for argument in (node.vararg, node.kwarg) if argument is not None]
    return [*node.posonlyargs, *node.args, *node.kwonlyargs, *stars]


_HANDLERS: dict[type[ast.AST], Callable[..., None]] = {
    ast.Name: _Reader.name,
    ast.Attribute: _Reader.attribute,
    ast.Subscript: _Reader.subscript,
    ast.Expr: _Reader.statement,
    ast.Call: _Reader.call,
    ast.AnnAssign: _Reader.annotated,
    ast.Lambda: _Reader.function_expression,
    ast.ClassDef: _Reader.class_,
    **dict.fromkeys(_FUNCTIONS, _Reader.function),
    **dict.fromkeys(COMPREHENSIONS, _Reader.comprehension),
}
