"""Checks the shape of the code: files at most 500 lines, functions at most 60, classes at most 15 public methods.

Rules that the linter does not have. `python tools/shape.py` prints each fault with its place and ends with 1.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 500
FUNCTION_LINES = 60
PUBLIC_METHODS = 15
ROOTS = ("src", "examples", "benchmarks", "tools", "tests")


def faults_of(path: Path) -> Iterator[str]:
    """Yield one sentence per fault in a file."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n") + 1
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines; split it by what its parts are about ({FILE_LINES} at most)"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function_faults(path, node)
        elif isinstance(node, ast.ClassDef):
            yield from _class_faults(path, node)


def _function_faults(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > FUNCTION_LINES:
        yield f"{path}:{node.lineno}: `{node.name}` has {length} lines ({FUNCTION_LINES} at most)"


def _class_faults(path: Path, node: ast.ClassDef) -> Iterator[str]:
    methods = {
        item.name
        for item in node.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith(("_", "visit_"))
    }
    is_public = path.parts[0] == "src" and not node.name.startswith("_")
    if is_public and len(methods) > PUBLIC_METHODS:
        yield f"{path}:{node.lineno}: class `{node.name}` has {len(methods)} public methods ({PUBLIC_METHODS} at most)"


def main() -> int:
    """Print every fault; return 1 when there is one."""
    files = [path for root in ROOTS for path in sorted(Path(root).rglob("*.py"))]
    faults = [fault for path in files for fault in faults_of(path)]
    print("\n".join(faults) or f"shape: {len(files)} files are within bounds")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
