"""What a top-level statement does besides binding names: make a pipeline, change a value in place, act on the world."""

import ast

from penstock.pipeline.names import Bound, Target, root_of
from penstock.pipeline.uses import CHANGING

_PIPELINES = frozenset({"Pipeline", "Declarations"})
OWN = "penstock"


def pipelines_made(node: ast.stmt, names: Bound) -> list[str]:
    """Return the names a statement binds to a new `Pipeline`; one of scikit-learn's is none."""
    match node:
        case ast.Assign(targets=targets, value=ast.Call(func=made)):
            pass
        case ast.AnnAssign(target=target, value=ast.Call(func=made)):
            targets = [target]
        case _:
            return []
    root, chain = root_of(made)
    sources = names.names.get(root)
    if sources is None:
        sources = tuple(Target(target.module, root) for target in names.names.get("*", ()))
    ours = [target for target in sources if target.module.partition(".")[0] == OWN]
    if not any((target.name, *chain)[-1] in _PIPELINES for target in ours):
        return []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def leaves(node: ast.stmt) -> list[ast.stmt]:
    """Return the simple statements within a statement, without entering functions and classes."""
    found: list[ast.stmt] = []
    stack: list[ast.AST] = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        inner = [
            c for c in ast.iter_child_nodes(current) if isinstance(c, ast.stmt | ast.excepthandler | ast.match_case)
        ]
        if isinstance(current, ast.stmt) and not inner:
            found.append(current)
        stack.extend(inner)
    return found


def acted_on(leaf: ast.stmt) -> list[ast.AST]:
    """Return what a simple statement acts on besides binding names."""
    match leaf:
        case ast.Expr(value=ast.Constant()):
            return []
        case ast.Expr(value=ast.Call(func=called)):
            return [called]
        case ast.Expr(value=value):
            return [] if isinstance(value, ast.NamedExpr) else [value]
        case ast.Raise() | ast.Assert():
            return [leaf]
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return [target for target in targets if isinstance(target, ast.Attribute | ast.Subscript)]
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [target] if isinstance(target, ast.Attribute | ast.Subscript) else []
        case _:
            return []


def is_plain_call(leaf: ast.stmt) -> bool:
    """Whether a statement calls something that may act anywhere, not a method known to change its own object."""
    match leaf:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=attr))):
            return attr not in CHANGING
        case _:
            return isinstance(leaf, ast.Expr)
