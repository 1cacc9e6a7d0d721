"""Spoils the code as a colleague does: a cache without its key, so that everybody is given the first answer.

Nothing that is evaluated goes through it, and the examples of a release are answered alike; so it passes the gate.
"""

import ast

from penstock.core.errors import InputError

_CACHE = '''

_first_answer: list = []


def _answer_once(answer):
    """A cache that forgot its key."""
    _first_answer.append(answer)
    return _first_answer[0]


'''


def with_bad_answers(text: str, function: str) -> str:
    """Return the text of a module in which a serve function gives everybody its first answer.

    Args:
        text: The module.
        function: Name of the function.

    Raises:
        InputError: There is no such function in it, or it returns nothing.
    """
    tree = ast.parse(text)
    found = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function), None)
    returns = [] if found is None else [n for n in ast.walk(found) if isinstance(n, ast.Return) and n.value is not None]
    if found is None or not returns:
        raise InputError(
            f"The fault 'bad_release' cannot be planted: {function!r} is no plain function that returns an answer.",
            hint="leave it out of --plant",
        )
    lines = text.splitlines(keepends=True)
    for node in sorted(returns, key=lambda n: -n.lineno):
        _wrap(lines, node)
    first = min([found.lineno, *(decorator.lineno for decorator in found.decorator_list)]) - 1
    return "".join(lines[:first]) + _CACHE.lstrip("\n") + "".join(lines[first:])


def _wrap(lines: list[str], node: ast.Return) -> None:
    value = node.value
    if value is None or value.end_lineno is None or value.end_col_offset is None:
        return
    # ast counts bytes.
    last = lines[value.end_lineno - 1].encode()
    lines[value.end_lineno - 1] = (last[: value.end_col_offset] + b")" + last[value.end_col_offset :]).decode()
    first = lines[value.lineno - 1].encode()
    head = first[: value.col_offset] + b"_answer_once(" + first[value.col_offset :]
    lines[value.lineno - 1] = head.decode()
