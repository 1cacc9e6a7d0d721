"""The process that imports user code: from a file to graphs as plain data.

`python -m penstock.pipeline.inspect FILE|MODULE [--variable NAME] [--root DIR] [--parent PID]` writes one JSON envelope
to standard output, {"graphs": [...]} or {"error": {...}}; what the user's code prints goes to standard error instead.
It dies with its parent.
"""

import argparse
import gc
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgspec

from penstock.core.digest import digest_bytes
from penstock.core.errors import DeclarationError, InputError, PenstockError
from penstock.core.process import die_with_parent
from penstock.pipeline.declare import Declarations
from penstock.pipeline.describe import describe, import_root_of, module_name
from penstock.pipeline.graph import CodeFile, Graph
from penstock.pipeline.imports import loaded_files
from penstock.pipeline.inspection import Complaint, Envelope, find_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Import the target, describe its pipelines, and write the envelope."""
    parser = argparse.ArgumentParser(prog="python -m penstock.pipeline.inspect")
    parser.add_argument("target")
    parser.add_argument("--variable")
    parser.add_argument("--root", default=".")
    parser.add_argument("--parent", type=int)
    options = parser.parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)  # a module that never ends would otherwise outlive whoever asked
    # Syntax trees are a million small objects that all live to the end of this short process.
    gc.disable()
    # The answer has a file descriptor of its own, so that nothing the user's code prints can be mixed into it.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        envelope = Envelope(graphs=_inspect(Path(options.root).resolve(), options.target, options.variable))
    except DeclarationError as error:
        envelope = Envelope(
            error=Complaint(kind="declaration", message=error.message, hint=error.hint, mistakes=error.mistakes)
        )
    except PenstockError as error:
        envelope = Envelope(error=Complaint(kind="input", message=error.message, hint=error.hint))
    with os.fdopen(answer, "wb") as out:
        out.write(msgspec.json.encode(envelope))
    return 0 if envelope.error is None else 2


def _inspect(root: Path, target: str, variable: str | None) -> tuple[Graph, ...]:
    file = find_file(root, target)
    module = _import(file, root)
    found = _pipelines(module, variable)
    if not found:
        what = "no Pipeline" if variable is None else f"no Pipeline called {variable!r}"
        raise InputError(f"{_shown(file, root)} makes {what}.", hint="write: name = Pipeline('name', goal='...')")
    graphs, mistakes = [], list[str]()
    for declared in found:
        try:
            graphs.append(_whole(describe(declared, root), root))
        except DeclarationError as error:
            mistakes += error.mistakes
    if mistakes:
        raise DeclarationError(tuple(dict.fromkeys(mistakes)))
    return tuple(graphs)


def _import(file: Path, root: Path) -> ModuleType:
    import_root = import_root_of(file)
    if sys.flags.safe_path:
        sys.path.insert(0, str(import_root))
    else:
        sys.path[0] = str(import_root)  # where -m has put the current directory
    name = module_name(file, import_root)
    try:
        module = importlib.import_module(name)
    except PenstockError:
        raise
    except SystemExit as error:
        text = f"{_shown(file, root)} ends the process while it is imported (exit code {error.code!r})."
        raise DeclarationError((text,), hint="put what runs under: if __name__ == '__main__'") from error
    except Exception as error:  # whatever the user's module raises: the boundary to user code
        raise DeclarationError(
            (_failed(error, file, root),), hint=f"run 'python {_shown(file, root)}' alone"
        ) from error
    got = getattr(module, "__file__", None)
    if got is None or Path(got).resolve() != file:
        raise InputError(
            f"{_shown(file, root)} cannot be imported as {name!r}: that name belongs to {got or 'Python itself'}.",
            hint="rename the file",
        )
    return module


def _failed(error: Exception, file: Path, root: Path) -> str:
    """Return the user's own frames, the message, and where it happened."""
    told = traceback.TracebackException.from_exception(error)
    ours = (str(Path(__file__).parent), "<frozen importlib", str(Path(importlib.__file__).parent))
    seen: traceback.TracebackException | None = told
    while seen is not None:
        own = [frame for frame in seen.stack if not frame.filename.startswith(ours)]
        seen.stack = traceback.StackSummary.from_list(own)
        seen = seen.__cause__ or seen.__context__
    last = told.stack[-1] if told.stack else None
    where = f" at {_shown(Path(last.filename), root)}:{last.lineno}" if last is not None else ""
    said = f"{type(error).__name__}: {error}"
    text = "".join(told.format()).rstrip()
    return f"{text}\n  {_shown(file, root)} cannot be imported{where}: {said}"


def _pipelines(module: ModuleType, variable: str | None) -> list[Declarations]:
    made: dict[int, Declarations] = {}
    for name, value in vars(module).items():
        declared = inspect.getattr_static(value, "declared", None)
        if isinstance(declared, Declarations) and variable in {None, name}:
            made[id(declared)] = declared
    own = [declared for declared in made.values() if declared.module == module.__name__] or list(made.values())
    parts = {id(part) for declared in own for part in declared.parts}
    return [declared for declared in own if id(declared) not in parts or variable is not None]


def _whole(graph: Graph, root: Path) -> Graph:
    """Return the graph with files that only importing could show, as those of a dynamic import."""
    ours = Path(__file__).resolve().parents[1]
    listed = {file.path: file for file in graph.files}
    for path in loaded_files(root):
        name = path.relative_to(root).as_posix()
        if name not in listed and not path.is_relative_to(ours):
            listed[name] = CodeFile(path=name, digest=digest_bytes(path.read_bytes()))
    return msgspec.structs.replace(graph, files=tuple(listed[name] for name in sorted(listed)))


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


if __name__ == "__main__":
    sys.exit(main())
