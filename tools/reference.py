"""Writes the reference pages that follow from the code; with `--check`, only says whether they are current."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import penstock
from penstock import sources
from penstock.core import errors

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE = "<!-- Made by `make docs` from the docstrings; edit those. -->\n\n"


def words() -> str:
    """Return the page of the public words, in the order in which `penstock` lists them."""
    parts = ["# Public words\n\n", MADE, "Everything else in the package may change without notice.\n"]
    for name in penstock.__all__:
        value = getattr(penstock, name)
        if not inspect.ismodule(value) and not (inspect.isclass(value) and issubclass(value, Exception)):
            parts.append(_described(f"penstock.{name}", value))
            parts += [_described(f"{name}.{n}", m) for n, m in _methods(value)]
    parts += [_described(f"penstock.sources.{name}", getattr(sources, name)) for name in ("files", "sql", "http")]
    return "".join(parts)


def _methods(value: object) -> list[tuple[str, object]]:
    return [(n, m) for n, m in vars(value).items() if inspect.isfunction(m) and not n.startswith("_")]


def _described(name: str, value: object) -> str:
    shown = _signature(value) if callable(value) else ""
    return f"\n## `{name}{shown}`\n\n```text\n{inspect.getdoc(value) or ''}\n```\n"


def _signature(value: Callable[..., object]) -> str:
    # Names and defaults only: how annotations print differs between versions of Python.
    found = inspect.signature(value)
    bare = [p.replace(annotation=p.empty) for name, p in found.parameters.items() if name != "self"]
    return str(found.replace(parameters=bare, return_annotation=found.empty))


def error_page() -> str:
    """Return the page of the error tree with codes and exit codes."""
    kinds = [e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, errors.PenstockError)]
    rows = "".join(f"| `{e.__name__}` | `{e.code}` | {e.exit_code} | {_first_line(e)} |\n" for e in kinds)
    tree = inspect.getdoc(errors) or ""
    return (
        f"# Errors\n\n{MADE}```text\n{tree}\n```\n\n"
        "The exit code is what the command line ends with; a cancelled run ends with 130 (Ctrl-C) or 143 (SIGTERM).\n\n"
        f"| error | code | exit code | when |\n|---|---|---|---|\n{rows}"
    )


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def main() -> int:
    """Write the pages, or with `--check` return 1 when one is not current."""
    pages = {PAGES / "words.md": words(), PAGES / "errors.md": error_page()}
    if "--check" in sys.argv[1:]:
        old = [p for p, text in pages.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
        print(
            "\n".join(f"{p} is not current: run make docs" for p in old) or f"reference: {len(pages)} pages are current"
        )
        return 1 if old else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
