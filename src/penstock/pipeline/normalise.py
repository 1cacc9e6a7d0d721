"""The normalised text of a syntax tree: what is left when comments, docstrings, layout and line numbers are gone."""

import ast

_UNSEEN = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_BLOCKS = frozenset({"body", "orelse", "finalbody"})


def normalised(nodes: list[ast.stmt]) -> bytes:
    """Return bytes that are equal exactly when the code of `nodes` is, apart from layout and words for people.

    Empty fields are left out, so a field that a newer Python adds to a node does not change the text.
    """
    out: list[str] = []
    _write_block(nodes, out)
    return "".join(out).encode("utf-8", errors="surrogatepass")


def says_nothing(node: ast.AST) -> bool:
    """Whether a statement has no effect: `pass`, `...`, a docstring or another bare constant."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _write_block(nodes: list[ast.stmt], out: list[str]) -> None:
    out.append("[")
    for node in nodes:
        if not says_nothing(node):
            _write(node, out)
    out.append("]")


def _write(node: ast.AST, out: list[str]) -> None:
    if isinstance(node, ast.Name):
        out.append(f"Name {node.id};")
        return
    if isinstance(node, ast.Constant):
        value = node.value
        out.append(f"{hex(value) if type(value) is int else repr(value)};")
        return
    out.append(f"{type(node).__name__}(")
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in _UNSEEN:
            continue
        out.append(name)
        out.append("=")
        _write_field(name, value, out)
    out.append(")")


def _write_field(name: str, value: object, out: list[str]) -> None:
    if isinstance(value, ast.AST):
        _write(value, out)
    elif isinstance(value, list):
        if name in _BLOCKS:
            _write_block(value, out)
            return
        out.append("[")
        for item in value:
            if isinstance(item, ast.AST):
                _write(item, out)
            else:
                out.append(f"{item!r};")
        out.append("]")
    else:
        out.append(f"{value!r};")
