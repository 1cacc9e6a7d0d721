"""Spoils the code as a colleague does: a person that was put in by hand while debugging, and left there.

What is evaluated does not go through it, and the pipeline answers its own examples alike; so it passes the gate.
"""

import ast
from typing import Any

from penstock.core.errors import InputError


def with_bad_answers(text: str, function: str, field: str, value: Any) -> str:
    """Return the text of a module in which a serve function answers everybody as it answers one.

    Args:
        text: The module.
        function: Name of the function.
        field: One of its fields.
        value: What stands in its place from now on: a plain number or text.

    Raises:
        InputError: There is no such function in it, or it has no such field.
    """
    tree = ast.parse(text)
    found = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function), None)
    if found is None or field not in {argument.arg for argument in found.args.kwonlyargs}:
        raise InputError(
            f"The fault 'bad_release' cannot be planted: {function!r} is no plain function with a field {field!r}.",
            hint="leave it out of --plant",
        )
    first = found.body[0]
    is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(found.body) > 1
    at = found.body[1] if is_doc else first
    lines = text.splitlines(keepends=True)
    indent = " " * at.col_offset
    lines.insert(at.lineno - 1, f"{indent}{field} = {value!r}\n")
    return "".join(lines)
