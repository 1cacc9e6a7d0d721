"""The process that imports user code: from a file to graphs as plain data.

`python -m penstock.pipeline.inspect FILE|MODULE [--variable NAME] [--root DIR]` writes one JSON envelope to standard
output, {"graphs": [...]} or {"error": {...}}; what the user's code prints goes to standard error instead.
"""

import argparse
import gc
import importlib
import inspect
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import msgspec

from penstock.core.digest import digest_bytes, digest_value
from penstock.core.errors import DeclarationError, InputError, NotFoundError, PenstockError
from penstock.core.records import Record
from penstock.core.settings import Policy
from penstock.pipeline.declare import Declarations
from penstock.pipeline.describe import describe, import_root_of, module_name
from penstock.pipeline.graph import CodeFile, Graph
from penstock.pipeline.remembered import changed_since, recall, remember
from penstock.pipeline.snapshot import loaded_files

_MADE = re.compile(r"\bPipeline\(\s*(?:name\s*=\s*)?[\"']([^\"']+)[\"']")
_NO_PIPELINES = ("test_", "conftest", "setup", "noxfile")
_TRIES = 3


class Complaint(Record, frozen=True, kw_only=True):
    """Why a file gave no graph.

    Attributes:
        kind: "declaration" (with all mistakes) or "input".
    """

    kind: str
    message: str
    hint: str = ""
    mistakes: tuple[str, ...] = ()


class Envelope(Record, frozen=True, kw_only=True):
    """What the process answers: graphs, or why there are none."""

    graphs: tuple[Graph, ...] = ()
    error: Complaint | None = None


def inspect_project(
    root: Path, target: Path | str, cache_dir: Path, *, python: str = sys.executable, variable: str | None = None
) -> tuple[Graph, ...]:
    """Return the graphs of all pipelines in a file, importing it in a fresh process only if something changed.

    Args:
        root: The project; the process runs there.
        target: The file, or the dotted name of a module below `root` or `root/src`.
        cache_dir: Where the last answer is kept.
        python: The interpreter that runs the project.
        variable: Name of one `Pipeline` object; all in the file when None.

    Raises:
        DeclarationError: The file cannot be imported, or a pipeline in it is wrong.
        InputError: There is no such file, or no pipeline in it.
    """
    root = root.resolve()
    file = find_file(root, target)
    place = cache_dir / f"graph-{digest_value([str(file), variable, python])[:32]}.json"
    known = recall(root, place)
    if known is not None:
        return known
    for _ in range(_TRIES):
        started_ns = time.time_ns()
        graphs = _ask(root, file, python, variable)
        if not changed_since(root, graphs, started_ns):
            remember(root, place, graphs)
            break
    return graphs


def find_file(root: Path, target: Path | str) -> Path:
    """Return the file that `target`, a path or the dotted name of a module, stands for.

    Raises:
        NotFoundError: There is none.
    """
    direct = root / target
    if direct.is_file():
        return direct.resolve()
    inside = str(target).replace(".", "/")
    for base in (root, root / "src"):
        for path in (base / f"{inside}.py", base / inside / "__init__.py"):
            if path.is_file():
                return path.resolve()
    raise NotFoundError(
        f"{str(target)!r} is neither a file nor a module in {str(root)!r}.",
        hint="give the path of the file that makes the Pipeline",
    )


def find_target(root: Path, *, pipeline: str | None = None, policies: Mapping[str, Policy] | None = None) -> Path:
    """Return the file that defines the pipeline meant: the one `penstock.toml` names, or the only one there is.

    Args:
        root: The project.
        pipeline: Name of the pipeline; None when the project has only one file of pipelines.
        policies: The engineer's policies by pipeline, which may name files.

    Raises:
        NotFoundError: No file makes a pipeline (of that name).
        InputError: Several do.
    """
    named = {name: policy.file for name, policy in (policies or {}).items() if policy.file}
    wanted = {named[pipeline]} if pipeline in named else set(named.values()) if pipeline is None else set()
    if len(wanted) == 1:
        return find_file(root, wanted.pop())
    found = {file: _MADE.findall(_text(file)) for file in _candidates(root) if "Pipeline(" in _text(file)}
    exact = [file for file, made in found.items() if pipeline in made]
    files = exact or list(found)
    if len(files) == 1:
        return files[0]
    sought = "makes a Pipeline" if pipeline is None else f"makes the Pipeline {pipeline!r}"
    if not files:
        hint = "run it in the directory of the project, name that with --project, or begin one: penstock new movies"
        raise NotFoundError(f"No file in {str(root)!r} {sought}.", hint=hint)
    listed = ", ".join(str(file.relative_to(root)) for file in files)
    raise InputError(f"{len(files)} files may be meant: {listed}.", hint="give the file, or the name of the pipeline")


def _candidates(root: Path) -> list[Path]:
    tops = [root, root / "src"]
    packages = [folder.parent for top in tops for folder in top.glob("[!.]*/__init__.py")]
    files = [file for folder in (*tops, *packages) for file in sorted(folder.glob("*.py"))]
    return [
        file for file in dict.fromkeys(files) if not file.name.startswith(("test_", "conftest", "setup", "noxfile"))
    ]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _ask(root: Path, file: Path, python: str, variable: str | None) -> tuple[Graph, ...]:
    # -P: a user's file called like a module of the standard library must not be imported by our own modules.
    command = [python, "-P", "-m", "penstock.pipeline.inspect", str(file), "--root", str(root)]
    if variable is not None:
        command += ["--variable", variable]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    try:
        envelope = msgspec.json.decode(done.stdout, type=Envelope)
    except msgspec.DecodeError as error:
        name = file.relative_to(root) if file.is_relative_to(root) else file
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise DeclarationError(
            (f"{name}: the process that imports it ended with {how} before it could answer.",),
            hint=f"run 'python {name}' to see why",
        ) from error
    if envelope.error is None:
        return envelope.graphs
    if envelope.error.kind == "declaration":
        raise DeclarationError(envelope.error.mistakes, hint=envelope.error.hint)
    raise InputError(envelope.error.message, hint=envelope.error.hint)


def main(arguments: Sequence[str] | None = None) -> int:
    """Import the target, describe its pipelines, and write the envelope."""
    parser = argparse.ArgumentParser(prog="python -m penstock.pipeline.inspect")
    parser.add_argument("target")
    parser.add_argument("--variable")
    parser.add_argument("--root", default=".")
    options = parser.parse_args(arguments)
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
