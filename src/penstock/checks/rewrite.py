"""Rewrites a function so that its asserts record the values of their sub-expressions, each evaluated once.

The idea is pytest's assertion rewriting, for one function instead of a module, and without an import hook.
Nothing is executed here: the new code object takes over the closure, defaults and globals of the old function.
"""

import ast
import linecache
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType
from typing import TypeVar

from penstock.checks.recorder import Assertion, Recorder, Seen

_RECORDER = "@recorder"  # not an identifier, so it meets no name of the user's
_FUTURE_FLAGS = 0x1FF0000  # CO_FUTURE_*: `from __future__` of the file holds for the rewritten function as well
_LONGEST_LABEL = 40
_LONGEST_SOURCE = 300

T = TypeVar("T", bound=ast.AST)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def rewrite(function: Callable[..., object]) -> tuple[Callable[..., object], Recorder]:
    """Return the function with recording asserts, or the function itself when its source cannot be had.

    The source counts only if it compiles to the very bytecode the function has, so a file that changed
    after it was imported is never run in its place.
    """
    unchanged = function, Recorder([])
    if not isinstance(function, FunctionType):
        return unchanged
    code = function.__code__
    node = _find_definition(code)
    if node is None:
        return unchanged
    original = _compile(node, code, code.co_freevars, optimize=-1)
    if original is None or original.co_code != code.co_code or original.co_names != code.co_names:
        return unchanged
    transformer = _Transformer()
    rewritten = transformer.visit(node)
    recorder = Recorder(transformer.assertions)
    # optimize=0: a check asserts also under `python -O`.
    new = _compile(rewritten, code, (*code.co_freevars, _RECORDER), optimize=0)
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    cells[_RECORDER] = CellType(recorder)
    if new is None or any(name not in cells for name in new.co_freevars):
        return unchanged
    closure = tuple(cells[name] for name in new.co_freevars)
    made = FunctionType(new, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__ = function.__qualname__
    made.__module__ = function.__module__
    return made, recorder


def assert_at(filename: str, line: int) -> ast.Assert | None:
    """Return the assert statement that covers a line of a file, or None."""
    tree = _parse(filename)
    if tree is None:
        return None
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert) and node.lineno <= line <= _end(node)]
    return max(found, key=lambda node: node.lineno, default=None)


def source_of(node: ast.AST, limit: int = _LONGEST_SOURCE) -> str:
    """Return the source of an expression on one line, cut in the middle when it is long."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 3 :]}"


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _parse(filename: str) -> ast.Module | None:
    lines = linecache.getlines(filename)
    if not lines:
        return None
    try:
        return ast.parse("".join(lines), filename)
    except SyntaxError:  # the file was edited after it was imported
        return None


def _find_definition(code: CodeType) -> FunctionNode | None:
    tree = _parse(code.co_filename)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, FunctionNode) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def _compile(node: FunctionNode, code: CodeType, free: tuple[str, ...], *, optimize: int) -> CodeType | None:
    """Compile a definition within a function that binds its free variables, and dig out its code object."""
    parameters = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=name) for name in free], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    outer = ast.FunctionDef(name="@outer", args=parameters, body=[node], decorator_list=[])
    outer.type_params = []  # type: ignore[attr-defined,unused-ignore]  # only from Python 3.12 on
    module = ast.fix_missing_locations(ast.Module(body=[outer], type_ignores=[]))
    flags = code.co_flags & _FUTURE_FLAGS
    compiled = compile(module, code.co_filename, "exec", flags=flags, dont_inherit=True, optimize=optimize)
    wanted = (code.co_name, code.co_firstlineno)
    return next((found for found in _codes(compiled) if (found.co_name, found.co_firstlineno) == wanted), None)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _Transformer(ast.NodeTransformer):
    """Replaces each assert by the same test with its sub-expressions noted."""

    def __init__(self) -> None:
        self.assertions: list[Assertion] = []

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        number = len(self.assertions)
        assertion = Assertion(source_of(node.test), node.lineno)
        self.assertions.append(assertion)
        test = _Watcher(number, assertion).watch(node.test)
        message = [node.msg] if node.msg is not None else []
        error = _call("failed", ast.Constant(number), *message)
        statements: list[ast.stmt] = [
            ast.Expr(_call("start", ast.Constant(number))),
            ast.If(test, [ast.Expr(_call("passed", ast.Constant(number)))], [ast.Raise(error, cause=None)]),
        ]
        return [_placed(statement, node) for statement in statements]


class _Watcher:
    """Wraps sub-expressions of one test; what is not named here stays as written."""

    def __init__(self, number: int, assertion: Assertion) -> None:
        self._number = number
        self._seen = assertion.seen

    def watch(self, node: ast.expr, *, operand: bool = False) -> ast.expr:
        """Return the expression with its parts noted."""
        match node:
            case ast.BoolOp() | ast.IfExp() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return self._choice(node)
            case ast.UnaryOp() | ast.BinOp():
                return self._note(node, self._arithmetic(node), operand=operand)
            case ast.Name() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.NamedExpr():
                return self._note(node, node, operand=operand)
            case ast.Attribute():
                base = self.watch(node.value)
                return self._note(node, ast.Attribute(base, node.attr, node.ctx), operand=operand, base=base)
            case ast.Subscript():
                base = self.watch(node.value)
                return self._note(node, ast.Subscript(base, node.slice, node.ctx), operand=operand, base=base)
            case ast.Call():
                return self._called(node, operand=operand)
            case ast.Constant() if operand:
                return self._note(node, node, operand=True)
        return node

    def _choice(self, node: ast.BoolOp | ast.IfExp | ast.Compare | ast.UnaryOp) -> ast.expr:
        match node:
            case ast.BoolOp():
                made: ast.expr = ast.BoolOp(node.op, [self.watch(value) for value in node.values])
            case ast.IfExp():
                made = ast.IfExp(self.watch(node.test), self.watch(node.body), self.watch(node.orelse))
            case ast.Compare():
                sides = [self.watch(side, operand=True) for side in (node.left, *node.comparators)]
                made = ast.Compare(sides[0], node.ops, sides[1:])
            case ast.UnaryOp():
                made = self._arithmetic(node)
        return _placed(made, node)

    def _arithmetic(self, node: ast.UnaryOp | ast.BinOp) -> ast.expr:
        if isinstance(node, ast.BinOp):
            return ast.BinOp(self.watch(node.left), node.op, self.watch(node.right))
        return ast.UnaryOp(node.op, self.watch(node.operand))

    def _called(self, node: ast.Call, *, operand: bool) -> ast.expr:
        """Note the receiver, the arguments and the result; the bound method itself says nothing."""
        function = node.func
        base = None
        if isinstance(function, ast.Attribute):
            base = self.watch(function.value)
            function = _placed(ast.Attribute(base, function.attr, function.ctx), function)
        arguments = [self._argument(argument) for argument in node.args]
        keywords = [_placed(ast.keyword(word.arg, self.watch(word.value)), word) for word in node.keywords]
        return self._note(node, ast.Call(function, arguments, keywords), operand=operand, base=base)

    def _argument(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Starred):
            return _placed(ast.Starred(self.watch(node.value), node.ctx), node)
        return self.watch(node)

    def _note(self, node: ast.expr, made: ast.expr, *, operand: bool = False, base: ast.expr | None = None) -> ast.expr:
        constant = isinstance(node, ast.Constant | ast.UnaryOp) and not any(
            isinstance(part, ast.Name | ast.Call) for part in ast.walk(node)
        )
        # A constant is evidence when compared, but "0 = 0" tells a reader nothing: it gets no label.
        self._seen.append(Seen("" if constant else _label(node), _place_of(base), operand))
        place = ast.Constant(len(self._seen) - 1)
        return _placed(_call("see", ast.Constant(self._number), place, _placed(made, node)), node)


def _label(node: ast.expr) -> str:
    text = source_of(node)
    if len(text) <= _LONGEST_LABEL and not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)):
        return text
    match node:
        case ast.Attribute():
            return f".{node.attr}"
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name
    return source_of(node, limit=_LONGEST_LABEL)


def _place_of(base: ast.expr | None) -> int | None:
    """Return the number under which a wrapped expression is noted."""
    match base:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=[_, ast.Constant(value=int(place)), _]):
            return place if name == _RECORDER else None
    return None


def _call(method: str, *arguments: ast.expr) -> ast.Call:
    function = ast.Attribute(ast.Name(_RECORDER, ast.Load()), method, ast.Load())
    return ast.Call(function, list(arguments), [])


def _placed(node: T, at: ast.AST) -> T:
    return ast.fix_missing_locations(ast.copy_location(node, at))
