"""From a file to the graphs of its pipelines: remembered, or asked of a process that imports it (`inspect`).

Belongs here: finding the file, asking, and keeping the answer. Does not: importing user code.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.core.digest import digest_value
from penstock.core.errors import DeclarationError, InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.settings import Policy
from penstock.pipeline.graph import Graph
from penstock.pipeline.remembered import changed_since, recall, remember

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
    return [file for file in dict.fromkeys(files) if not file.name.startswith(_NO_PIPELINES)]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _ask(root: Path, file: Path, python: str, variable: str | None) -> tuple[Graph, ...]:
    # -P: a user's file called like a module of the standard library must not be imported by our own modules.
    command = [python, "-P", "-m", "penstock.pipeline.inspect", str(file), "--root", str(root)]
    command += ["--parent", str(os.getpid())]
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
