"""Joins the truth to predictions: calls the outcome functions of a release in a process of their own.

Run as `python -P -m penstock.serving.processes.outcomes OPTIONS`; writes JSON to standard output. What it finds is
kept as it goes, so whoever kills it loses nothing that was found; asked again it finds the same.
"""

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError, StepError
from penstock.core.process import die_with_parent
from penstock.core.records import DatasetVersion, Record
from penstock.core.settings import parse_duration
from penstock.engine.arguments import enter_code, in_form
from penstock.pipeline.annotations import Reader
from penstock.pipeline.graph import Edge, Form, Node
from penstock.releases.manifest import Manifest, decode_manifest
from penstock.serving.predictions.feedback import FeedbackLog
from penstock.serving.predictions.outcomes import Joined, Window, due_predictions, known_outcomes, truths_of
from penstock.serving.predictions.typed import Shape, as_time, dtype_of
from penstock.serving.processes.staying import Answer, answer_quietly
from penstock.serving.program.load import user_frames
from penstock.serving.program.rows import form_of
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.lake.dtypes import parse_dtype
from penstock.store.lake.table import Lake

_PREDICTIONS = "predictions"


class OutcomeOptions(Record, frozen=True, kw_only=True):
    """What to join.

    Attributes:
        home: The project's store.
        manifest: Digest of the blob of the manifest whose functions are asked.
        code_dir: Its code snapshot, laid out for import.
        names: Outcome functions to ask.
        now: Predictions asked before this are joined, UTC.
        parent: Process id of who starts it; it ends when that one does.
    """

    home: str
    manifest: str
    code_dir: str
    names: tuple[str, ...]
    now: datetime
    parent: int | None = None


class OutcomeReply(Record, frozen=True, kw_only=True):
    """What the process says.

    Attributes:
        error: Code, message and hint of the error that stopped it; what was joined before it stays.
    """

    joined: tuple[Joined, ...] = ()
    error: tuple[str, str, str] | None = None


def main(arguments: list[str]) -> int:
    """Ask each outcome function about the predictions that are due."""
    die_with_parent(msgspec.json.decode(arguments[0], type=OutcomeOptions).parent)
    answer_quietly(open_asking(), arguments[0].encode())
    return 0


def open_asking() -> Answer:
    """Return what joins by one set of options after the other."""
    return _join


def _join(order: bytes) -> bytes:
    options = msgspec.json.decode(order, type=OutcomeOptions)
    joined: list[Joined] = []
    error = None
    try:
        work = _Work(options)
        joined.extend(work.join(name) for name in options.names)
    except PenstockError as failed:
        error = (failed.code, failed.message, failed.hint)
    return msgspec.json.encode(OutcomeReply(joined=tuple(joined), error=error))


class _Work:
    """The outcome functions of one release, and what they are given."""

    def __init__(self, options: OutcomeOptions) -> None:
        self._options = options
        self._home = Path(options.home)
        self._blobs = Blobs(self._home / "blobs")
        self._manifest: Manifest = decode_manifest(self._blobs.read(options.manifest))
        graph = self._manifest.graph
        enter_code(options.code_dir, graph.import_root)
        self._nodes = {node.name: node for node in graph.nodes}
        serving = [node for node in graph.nodes if node.role == "serve"]
        self._shapes = {
            node.name: _shape(_imported(node), self._manifest.inputs.get(node.name, ())) for node in serving
        }

    def join(self, name: str) -> Joined:
        """Ask one function, part by part, and keep what it finds.

        Raises:
            StepError: The function failed, or returned something else than outcomes.
        """
        node = self._nodes[name]
        function = _imported(node)
        versions = self._versions(node)
        window = self._window(node, versions)
        pipeline = self._manifest.pipeline
        known = known_outcomes(self._home, pipeline, name)
        done = Joined(name=name, as_of=window.as_of)
        # Segments are named by the real time, in whose order they are taken in, whatever time is played.
        log = FeedbackLog(self._home, pipeline, worker=f"outcome-{os.getpid()}", clock=Clock())
        try:
            for asked in due_predictions(self._home, pipeline, window, self._shapes):
                result = self._call(node, function, asked, versions)
                truths = truths_of(result, asked, window, known)
                if truths and not log.write(truths):
                    raise StepError("The outcomes cannot be written.", hint="free space on the disk, then join again")
                done = _added(done, asked, result, window, written=len(truths))
        finally:
            log.close()
        return done

    def _call(
        self, node: Node, function: Callable[..., object], asked: pl.DataFrame, versions: Mapping[str, DatasetVersion]
    ) -> Any:
        given = {edge.argument: self._value(edge, function, asked, versions) for edge in node.edges}
        try:
            return function(**given, **self._manifest.params.get(node.name, {}))
        except Exception as error:  # user code may raise anything; this is its boundary
            raise StepError(
                f"{user_frames(error)}Outcome {node.name!r} failed: {type(error).__qualname__}: {error}.",
                hint="call the function by itself to debug it",
            ) from error

    def _value(
        self, edge: Edge, function: Callable[..., object], asked: pl.DataFrame, versions: Mapping[str, DatasetVersion]
    ) -> Any:
        if edge.source == _PREDICTIONS and not edge.node:
            return in_form(asked.lazy(), _form_of_predictions(function))
        if not edge.node:
            return self._options.now
        if edge.node in versions:
            table = Lake(self._home / "lake").table(self._manifest.pipeline, edge.node)
            return in_form(table.scan(versions[edge.node]), edge.form)
        return codecs.load(self._manifest.artifacts[f"{edge.node}/{edge.source}"], self._blobs, form=edge.form)

    def _versions(self, node: Node) -> dict[str, DatasetVersion]:
        """Return the datasets it takes, as they are in the lake now."""
        lake = Lake(self._home / "lake")
        names = [edge.node for edge in node.edges if edge.node and self._nodes[edge.node].role == "dataset"]
        found = {name: lake.table(self._manifest.pipeline, name).latest() for name in names}
        missing = [name for name, version in found.items() if version is None]
        if missing:
            raise StepError(
                f"Outcome {node.name!r} takes dataset {missing[0]!r}, of which nothing was taken in here.",
                hint="run the pipeline once: penstock run",
            )
        return {name: version for name, version in found.items() if version is not None}

    def _window(self, node: Node, versions: Mapping[str, DatasetVersion]) -> Window:
        within = node.options.get("within")
        newest = [self._newest(version) for version in versions.values()]
        now = self._options.now
        return Window(
            name=node.name,
            within_s=None if within is None else parse_duration(str(within)),
            as_of=min([now, *(moment for moment in newest if moment is not None)]),
            now=now,
        )

    def _newest(self, version: DatasetVersion) -> datetime | None:
        time = version.contract.get("time")
        if time is None or not dict(version.schema)[time].startswith("Date"):
            return None
        table = Lake(self._home / "lake").table(version.pipeline, version.dataset)
        found = table.scan(version).select(pl.col(time).max()).collect(engine="streaming").item()
        return None if found is None else as_time(found)


def _added(done: Joined, asked: pl.DataFrame, result: Any, window: Window, *, written: int) -> Joined:
    frame = result.collect() if isinstance(result, pl.LazyFrame) else result
    return msgspec.structs.replace(
        done,
        asked=done.asked + asked.height,
        found=done.found + len(frame),
        written=done.written + written,
        whole=done.whole + sum(map(window.is_whole, asked["at"])),
    )


def _imported(node: Node) -> Callable[..., object]:
    module, _, qualname = node.function.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except Exception as error:  # importing runs the user's module, which may raise anything
        raise StepError(
            f"{user_frames(error)}{node.function!r} of the released code cannot be imported: {error}.",
            hint="run the pipeline again with the code mended",
        ) from error
    function: Callable[..., object] = found
    return function


def _shape(function: Callable[..., object], columns: tuple[tuple[str, str], ...]) -> Shape:
    hints = typing.get_type_hints(function, include_extras=True)
    answer = hints.pop("return", None)
    fields: dict[str, pl.DataType | None] = {}
    takes_rows = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = hints.get(parameter.name, Any)
        if form_of(hint) is None:
            fields[parameter.name] = dtype_of(hint)
            continue
        takes_rows = True
        fields |= {column: parse_dtype(kind) for column, kind in columns}
    # A function of rows says the type of all its answers, not that of one.
    return Shape(fields, None if takes_rows else dtype_of(answer))


def _form_of_predictions(function: Callable[..., object]) -> Form:
    raw = getattr(function, "__annotations__", {}).get(_PREDICTIONS)
    found = None if raw is None else Reader().read(raw, function)
    return "polars" if found is None or found.form is None else found.form


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
