"""Turns what a task was given into the arguments of a function call, in the forms its annotations ask for."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from penstock.checks.evaluation import Evaluation, Roles
from penstock.core.errors import DamagedError, StepError
from penstock.core.records import Artifact
from penstock.engine.protocol import Given, ReleasedModel, Task
from penstock.pipeline.graph import Form, texts
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.lake import Lake


class DamagedInputError(DamagedError):
    """An artifact that a function was to be given cannot be read; `digest` names it as the ledger does."""

    def __init__(self, argument: str, digest: str, cause: DamagedError) -> None:
        super().__init__(f"{argument!r} (artifact {digest}) is damaged: {cause.message}", hint=cause.hint)
        self.digest = digest


def function_of(task: Task) -> Callable[..., Any]:
    """Import the user's function from the code snapshot."""
    enter_code(task.place.code_dir, task.place.import_root)
    module, _, qualname = task.node.function.partition(":")
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise StepError(f"{task.node.function!r} is not a function.")
    return found  # type: ignore[no-any-return]  # a user's function may be anything callable


def enter_code(code_dir: str, import_root: str) -> None:
    """Make the code snapshot importable, once per process, ahead of everything else."""
    path = os.path.normpath(os.path.join(code_dir, import_root))  # noqa: PTH118 - sys.path holds text
    if path not in sys.path:
        sys.path.insert(0, path)


def arguments_of(task: Task) -> dict[str, Any]:
    """Return every given argument by name."""
    return {given.argument: value_of(given, task) for given in task.given}


def value_of(given: Given, task: Task) -> Any:
    """Return one argument in the form its function asks for."""
    home = Path(task.place.home)
    blobs = Blobs(home / "blobs")
    if given.artifact is not None:
        return _load(given.argument, given.artifact, blobs, given.form)
    if given.dataset is not None:
        table = Lake(home / "lake").table(given.dataset.pipeline, given.dataset.dataset)
        return in_form(table.scan(given.dataset), given.form)
    if given.form == "evaluation":
        return _evaluation_of(given, blobs)
    if given.parts is not None:
        return _parts_of(given, blobs)
    if given.released is not None:
        models = {name: load_released(model, blobs) for name, model in given.released.items()}
        return next(iter(models.values())) if given.argument == "model" else models
    if given.argument == "now" and isinstance(given.value, str):
        return datetime.fromisoformat(given.value)
    return given.value


def _load(argument: str, artifact: Artifact, blobs: Blobs, form: Form = "value") -> object:
    try:
        return codecs.load(artifact, blobs, form=form)
    except DamagedError as error:
        raise DamagedInputError(argument, artifact.digest, error) from error


def _parts_of(given: Given, blobs: Blobs) -> Any:
    assert given.parts is not None  # noqa: S101 - narrowed by the caller
    if given.form in {"parts", "value"}:
        return {key: _load(given.argument, artifact, blobs) for key, artifact in given.parts.items()}
    frames = [_load(given.argument, artifact, blobs, "lazy") for artifact in given.parts.values()]
    return in_form(pl.concat([f for f in frames if isinstance(f, pl.LazyFrame)]), given.form)


def in_form(frame: pl.LazyFrame, form: Form) -> Any:
    """Return a frame in the form a function asks for."""
    match form:
        case "lazy":
            return frame
        case "pandas":
            return frame.collect().to_pandas()
        case "arrow":
            return frame.collect().to_arrow()
        case "batches":
            return iter(frame.collect().to_arrow().to_batches())
        case _:
            return frame.collect()


def _evaluation_of(given: Given, blobs: Blobs) -> Evaluation:
    parts = given.parts or {}
    rows = {model: _load(given.argument, artifact, blobs, "polars") for model, artifact in parts.items()}
    options, roles = given.value["options"], given.value["roles"]
    return Evaluation(
        {model: frame for model, frame in rows.items() if isinstance(frame, pl.DataFrame)},
        roles=Roles(
            candidate=(*roles["candidates"], *roles["baselines"])[0],
            baselines=tuple(roles["baselines"]) if roles["candidates"] else (),
            champion=roles["champion"],
        ),
        metric=options.get("metric") or "",
        slices=texts(options.get("slices")),
        key=texts(options.get("key")),
        higher_is_better=bool(options.get("higher_is_better", True)),
    )


def load_released(model: ReleasedModel, blobs: Blobs) -> Any:
    """Load a model of an earlier release with the classes of *its* code, not of the code that runs now."""
    with _other_code(model.code_dir, model.import_root):
        return _load("champion", model.artifact, blobs)


@contextlib.contextmanager
def _other_code(code_dir: str, import_root: str) -> Iterator[None]:
    """Import from another snapshot for a while.

    Objects made meanwhile keep the module globals of their own code. Limit: a released class that imports
    project modules only when called gets those of the code that runs then.
    """
    snapshots = str(Path(code_dir).parent)
    path = os.path.normpath(os.path.join(code_dir, import_root))  # noqa: PTH118 - sys.path holds text
    # By name, wherever ours came from: a debugged node runs from the working tree, not from a snapshot.
    names = {entry.stem for entry in Path(path).iterdir()}
    ours = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in names or _is_below(m, snapshots)}
    before = list(sys.path)
    sys.path[:] = [path, *(p for p in before if not p.startswith(snapshots))]
    for name in ours:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if _is_below(module, snapshots):
                del sys.modules[name]
        sys.modules.update(ours)
        sys.path[:] = before


def _is_below(module: object, folder: str) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(folder + os.sep)
