"""Writes the reference pages that follow from the code; with `--check`, only says whether they are current."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from typer.models import ArgumentInfo

import penstock
from penstock import sources
from penstock.cli.app import COMMANDS
from penstock.core import errors

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
_COMMAND_LINE = """\
Each command has `--help`; what takes `--json` writes one JSON document to standard output and nothing else, an error as
`{"error": {"code", "message", "hint"}}`. Errors go to standard error. `penstock --install-completion` makes the shell
complete commands and options. Colours are left out in a pipe and where `NO_COLOR` is set.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the pipeline's code or data failed |
| 2 | wrong input: an option, a name, a mistake in the pipeline file |
| 3 | a check did not pass |
| 4 | the store cannot be read or written |
| 5 | another process took over the work |
| 130, 143 | cancelled by Ctrl-C, by SIGTERM |
"""
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


def command_page() -> str:
    """Return the page of the command line: what each command does, its options, an example."""
    parts = ["# The command line\n\n", MADE, _COMMAND_LINE, "\n"]
    parts += [f"- [`penstock {name}`](#penstock-{name}): {entry.help}\n" for name, entry in COMMANDS.items()]
    return "".join([*parts, *(_command(name) for name in COMMANDS)])


def _command(name: str) -> str:
    module, _, function = COMMANDS[name].place.partition(":")
    called = getattr(importlib.import_module(module), function)
    about, _, example = (inspect.getdoc(called) or "").partition("Example:\n")
    options = [_option(p) for p in inspect.signature(called).parameters.values()]
    rows = "".join(f"| {spelled} | {said} |\n" for spelled, said in options)
    shown = inspect.cleandoc(example)
    return f"\n## `penstock {name}`\n\n{about.strip()}\n\n| | |\n|---|---|\n{rows}\n```console\n{shown}\n```\n"


def _option(parameter: inspect.Parameter) -> tuple[str, str]:
    (info,) = parameter.annotation.__metadata__
    # Within `Annotated`, typer takes the first spelling as its default.
    spellings = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
    spelled = ", ".join(spellings) or f"--{parameter.name.replace('_', '-')}"
    if isinstance(info, ArgumentInfo):
        spelled = info.metavar or parameter.name.upper()
    elif info.metavar:
        spelled = f"{spelled} {info.metavar}"
    # A bar would end the cell of the table.
    return f"`{spelled}`".replace("|", "\\|"), str(info.help or "").replace("|", "\\|")


def main() -> int:
    """Write the pages, or with `--check` return 1 when one is not current."""
    pages = {PAGES / "words.md": words(), PAGES / "errors.md": error_page(), PAGES / "cli.md": command_page()}
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
