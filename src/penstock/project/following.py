"""Answers rows as they come, with the live release: a directory, a dataset, standard input, Kafka or NATS."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import parse_name
from penstock.project.scoring import asking_of, release_of, serve_node
from penstock.project.workspace import Workspace
from penstock.serving.offline.brokers import KafkaFollowed, NatsFollowed
from penstock.serving.offline.following import DatasetFollowed, DirectoryFollowed, LinesFollowed
from penstock.serving.offline.scoring import Counts
from penstock.serving.offline.sinks import DatasetSink, DirectorySink, LinesSink, StreamRecord
from penstock.serving.offline.stream import Answering, StreamOptions, run_stream
from penstock.serving.offline.streaming import StreamSink, StreamSource
from penstock.serving.offline.tasks import Form
from penstock.store.ledger import releases

_DATASET = "dataset:"
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a person asks for.

    Attributes:
        input: A directory, a dataset, "-" for standard input, "kafka://host:9092/topic" or "nats://host:4222/stream".
        out: A directory, "-" for standard output, or "dataset:NAME".
        function: Serve function; may be left out where there is only one.
        keep: Columns of the input to write beside the answers; None for those that say what a row is about.
        constants: Fields that are the same for all rows.
        form: Form of files.
        once: End when there is nothing new.
        on_batch: Called after each batch with what became of its rows.
    """

    input: str
    out: str
    function: str | None = None
    keep: tuple[str, ...] | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "jsonl"
    once: bool = False
    on_batch: Callable[[Counts], None] | None = None


class StreamReport(Record, frozen=True, kw_only=True):
    """What a stream came to since it was started."""

    release: str
    function: str
    counts: Counts


def stream(target: str | None, request: StreamRequest, workspace: Workspace) -> StreamReport:
    """Answer rows as they come, until the source ends or a signal asks to stop.

    Args:
        target: "movies" to follow the live release, "movies@3" to stay with one, or None for the only pipeline.
        request: What to follow, ask and write.
        workspace: The project.

    Raises:
        NotFoundError: There is no such release, function, directory or dataset.
        InputError: Another stream was begun in the directory, or it is not clear what is meant.
        DataError: The source cannot be read.
        StepError: The release cannot be loaded, or its process died three times on the same rows.
        StoreError: The answers cannot be kept.
    """
    release, manifest = release_of(target, workspace)
    node = serve_node(manifest, request.function)
    asking = asking_of(node, manifest, keep=request.keep, constants=request.constants)
    first = Answering(release=str(release.ref), manifest=release.manifest_digest)
    is_pinned = target is not None and "@" in target
    look = _Look(first, release.pipeline, workspace)
    source = find_source(request.input, release.pipeline, workspace)
    try:
        record = StreamRecord(pipeline=release.pipeline, source=source.name, asking=asking, form=request.form)
        sink = _find_sink(request.out, record, workspace, release=lambda: look.last.release)
        try:
            options = StreamOptions(
                home=workspace.home,
                asking=asking,
                current=(lambda: first) if is_pinned else look,
                is_once=request.once,
                on_batch=request.on_batch,
            )
            counts = run_stream(source, sink, options)
        finally:
            sink.close()
    finally:
        source.close()
    return StreamReport(release=look.last.release, function=node.name, counts=counts)


class _Look:
    """The live release, looked up now and then."""

    def __init__(self, first: Answering, pipeline: str, workspace: Workspace) -> None:
        self.last = first
        self._pipeline = pipeline
        self._workspace = workspace
        self._looked_at = time.monotonic()

    def __call__(self) -> Answering:
        if time.monotonic() - self._looked_at >= _LOOK_S:
            self._looked_at = time.monotonic()
            with self._workspace.ledger.read() as conn:
                live = releases.live(conn, self._pipeline)
            if live is not None:
                self.last = Answering(release=str(live.ref), manifest=live.manifest_digest)
        return self.last


def find_source(text: str, pipeline: str, workspace: Workspace) -> StreamSource:
    """Return the source that a person names.

    Raises:
        NotFoundError: It is none that is there.
    """
    if text == "-":
        return LinesFollowed(0)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "kafka":
        return KafkaFollowed(*_broker(rest, text))
    if separator and scheme == "nats":
        return NatsFollowed(*_broker(rest, text))
    if Path(text).is_dir():
        return DirectoryFollowed(Path(text))
    if (pipeline, text) in workspace.lake.tables():
        return DatasetFollowed(workspace.lake, pipeline, text)
    known = ", ".join(name for owner, name in workspace.lake.tables() if owner == pipeline) or "none"
    raise NotFoundError(
        f"{text!r} is neither a directory nor a dataset of {pipeline!r}.",
        hint=f"datasets: {known}; or -, kafka://host:9092/topic, nats://host:4222/stream",
    )


def _broker(rest: str, text: str) -> tuple[str, str]:
    servers, _, name = rest.partition("/")
    if not servers or not name:
        raise InputError(f"{text!r} names no broker and topic.", hint="write it as kafka://host:9092/topic")
    return servers, name


def _find_sink(out: str, record: StreamRecord, workspace: Workspace, *, release: Callable[[], str]) -> StreamSink:
    if out == "-":
        return LinesSink(os.dup(1))
    if out.startswith(_DATASET):
        name = parse_name(out.removeprefix(_DATASET), what="dataset")
        own = workspace.home / "tmp"
        return DatasetSink(workspace.lake, record.pipeline, name, own=own, source=record.source)
    return DirectorySink(Path(out), record, release)
