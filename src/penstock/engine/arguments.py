"""Turns what a task was given into the arguments of a function call, in the forms its annotations ask for."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import StepError
from penstock.engine.protocol import Given, ReleasedModel, Task
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.lake import Lake


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
        return codecs.load(given.artifact, blobs, form=given.form)
    if given.dataset is not None:
        table = Lake(home / "lake").table(given.dataset.pipeline, given.dataset.dataset)
        return codecs.convert_frame(table.scan(given.dataset), given.form)
    if given.parts is not None:
        return _parts_of(given, blobs)
    if given.released is not None:
        models = {name: load_released(model, blobs) for name, model in given.released.items()}
        return next(iter(models.values())) if given.argument == "model" else models
    if given.argument == "now" and isinstance(given.value, str):
        return datetime.fromisoformat(given.value)
    return given.value


def _parts_of(given: Given, blobs: Blobs) -> Any:
    assert given.parts is not None  # noqa: S101 - narrowed by the caller
    if given.form in {"parts", "value"}:
        return {key: codecs.load(artifact, blobs) for key, artifact in given.parts.items()}
    import polars as pl  # noqa: PLC0415 - heavy, and only fan-outs read as one frame need it

    frames = [codecs.load(artifact, blobs, form="lazy") for artifact in given.parts.values()]
    return codecs.convert_frame(pl.concat(frames), given.form)  # type: ignore[type-var]  # lazy frames, by form


def load_released(model: ReleasedModel, blobs: Blobs) -> Any:
    """Load a model of an earlier release with the classes of *its* code, not of the code that runs now."""
    with _other_code(model.code_dir, model.import_root):
        return codecs.load(model.artifact, blobs)


@contextlib.contextmanager
def _other_code(code_dir: str, import_root: str) -> Iterator[None]:
    """Import from another snapshot for a while.

    Objects made meanwhile keep the module globals of their own code. Limit: a released class that imports
    project modules only when called gets those of the code that runs then.
    """
    snapshots = str(Path(code_dir).parent)
    ours = {n: m for n, m in sys.modules.items() if str(getattr(m, "__file__", None) or "").startswith(snapshots)}
    path = os.path.normpath(os.path.join(code_dir, import_root))  # noqa: PTH118 - sys.path holds text
    before = list(sys.path)
    sys.path[:] = [path, *(p for p in before if not p.startswith(snapshots))]
    for name in ours:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(snapshots):
                del sys.modules[name]
        sys.modules.update(ours)
        sys.path[:] = before


def json_ready(answer: object) -> Any:
    """Return an answer as the plain JSON a client would get."""
    return msgspec.json.decode(msgspec.json.encode(answer, enc_hook=codecs.plain))
