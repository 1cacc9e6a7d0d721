"""What columns a function surely returns, read from its text; most functions do not say, and then nothing is known.

Belongs here: reading of return statements. Does not: what is made of it (`validate`).
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator

# Frame methods after which the columns are those before it.
_KEEPING = frozenset(
    {"cast", "collect", "drop_nulls", "fill_nan", "fill_null", "filter", "head", "lazy", "limit", "sample", "slice"}
    | {"sort", "tail", "unique"}
)


def columns_returned(function: Callable[..., object]) -> tuple[str, ...] | None:
    """Return the columns that are in every frame `function` returns, where its text leaves no doubt; None otherwise."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return None
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        return None
    found = [None if leaf.value is None else _columns(leaf.value) for leaf in _returns(tree.body[0].body)]
    if not found or any(columns is None for columns in found):
        return None
    first, *others = [columns for columns in found if columns is not None]
    return tuple(name for name in first if all(name in columns for columns in others))


def _returns(body: list[ast.stmt]) -> Iterator[ast.Return]:
    stack: list[ast.AST] = list(reversed(body))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))


def _columns(made: ast.expr) -> tuple[str, ...] | None:
    match made:
        case ast.Call(func=ast.Attribute(value=frame, attr=method)) if method in _KEEPING:
            return _columns(frame)
        case ast.Call(func=ast.Attribute(attr="select"), args=given, keywords=named) if _is_of_frames(given, named):
            return _named(given, named)
        case ast.Call(func=ast.Attribute(value=frame, attr="with_columns"), args=given, keywords=named):
            before, added = _columns(frame), _named(given, named)
            return None if before is None or added is None else tuple(dict.fromkeys((*before, *added)))
        case ast.Call(
            func=ast.Name(id="DataFrame" | "LazyFrame") | ast.Attribute(attr="DataFrame" | "LazyFrame"),
            args=[ast.Dict(keys=keys)],
            keywords=[],
        ):
            return _texts(keys)
        case _:
            return None


def _is_of_frames(given: list[ast.expr], named: list[ast.keyword]) -> bool:
    # `select` of a bare text may be anything's; with an expression or a named column it is a frame's.
    return bool(named) or any(isinstance(one, ast.Call) for one in given)


def _named(given: list[ast.expr], named: list[ast.keyword]) -> tuple[str, ...] | None:
    found: list[str] = []
    for one in given:
        names = _texts(one.elts) if isinstance(one, ast.List | ast.Tuple) else _name_of(one)
        if names is None:
            return None
        found.extend(names)
    for keyword in named:
        if keyword.arg is None:
            return None
        found.append(keyword.arg)
    return tuple(found)


def _texts(given: list[ast.expr] | list[ast.expr | None]) -> tuple[str, ...] | None:
    found: list[str] = []
    for one in given:
        name = None if one is None else _text(one)
        if name is None:
            return None
        found.append(name)
    return tuple(found)


def _name_of(expression: ast.expr) -> tuple[str, ...] | None:
    """Return the name of the one column an expression makes: "a", pl.col("a"), or anything with .alias("a") last."""
    match expression:
        case ast.Call(func=ast.Attribute(attr="col" | "alias"), args=[one], keywords=[]):
            name = _text(one)
        case _:
            name = _text(expression)
    return None if name is None else (name,)


def _text(expression: ast.expr) -> str | None:
    match expression:
        case ast.Constant(value=str() as text) if text != "*" and not text.startswith("^"):  # those stand for several
            return text
        case _:
            return None
