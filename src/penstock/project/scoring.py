"""Answers many rows with a release: a batch over files or a dataset, recorded in the ledger when it is done."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.pipeline.graph import Node, texts
from penstock.project.moving import person
from penstock.project.serving import served_release
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.serving.offline.batch import BatchOptions, Progress, run_batch
from penstock.serving.offline.job import Finished, Job
from penstock.serving.offline.scoring import Asking, Counts
from penstock.serving.offline.tasks import Form
from penstock.store.ledger import events
from penstock.store.ledger.releases import Release

_ACTION = "batch.finished"
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What a person asks for.

    Attributes:
        input: Files (path, directory, glob) or a dataset, as "ratings" or "ratings@7".
        out: Directory for the results.
        function: Serve function; may be left out where there is only one.
        keep: Columns of the input to write beside the answers; None for those that say what a row is about.
        constants: Fields that are the same for all rows.
        form: Form of the results.
        workers: Processes; None for the project's number.
        restart: Forget what was begun in `out`.
        on_progress: Called now and then.
    """

    input: str
    out: Path
    function: str | None = None
    keep: tuple[str, ...] | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "parquet"
    workers: int | None = None
    restart: bool = False
    on_progress: Callable[[Progress], None] | None = None


class BatchReport(Record, frozen=True, kw_only=True):
    """What a batch came to.

    Attributes:
        parts: Files written.
        counts: What became of the rows.
        failure: The first failure of the function with its frames, "" when there was none.
    """

    release: str
    function: str
    out: str
    parts: int
    counts: Counts
    failure: str = ""


def batch(target: str | None, request: BatchRequest, workspace: Workspace) -> BatchReport:
    """Answer every row of an input with a release.

    Args:
        target: "movies", "movies@3", or None for the only pipeline.
        request: What to read, ask and write.
        workspace: The project.

    Raises:
        NotFoundError: There is no such release, function, file or dataset.
        InputError: Another job was begun in the directory, or it is not clear what is meant.
        DataError: The input cannot be read.
        StepError: The release cannot be loaded, or its process died three times on the same rows.
        StoreError: The results cannot be written.
    """
    release = served_release(target, workspace)
    manifest = read_manifest(release.manifest_digest, workspace)
    node = serve_node(manifest, request.function)

    def note(job: Job, finished: Finished) -> None:
        _record(job, finished, request.out, workspace)

    finished = run_batch(
        BatchOptions(
            home=workspace.home,
            folder=Path.cwd(),
            pipeline=release.pipeline,
            release=str(release.ref),
            hash=release.hash,
            manifest=release.manifest_digest,
            asking=asking_of(node, manifest, keep=request.keep, constants=request.constants),
            input=request.input,
            out=request.out,
            form=request.form,
            workers=request.workers or workspace.settings.workers,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            restart=request.restart,
            on_progress=request.on_progress,
            on_finished=note,
        )
    )
    return BatchReport(
        release=str(release.ref),
        function=node.name,
        out=os.fspath(request.out),
        parts=finished.parts,
        counts=finished.counts,
        failure=finished.failure,
    )


def serve_node(manifest: Manifest, wanted: str | None) -> Node:
    """Return the serve function meant: by name, or the only one.

    Raises:
        NotFoundError: There is none, or none of that name.
        InputError: There are several and none is named.
    """
    nodes = {node.name: node for node in manifest.graph.nodes if node.role == "serve"}
    if wanted is not None and wanted in nodes:
        return nodes[wanted]
    known = ", ".join(sorted(nodes)) or "none"
    if wanted is not None:
        message = f"Pipeline {manifest.pipeline!r} has no serve function {wanted!r}."
        raise NotFoundError(message, hint=f"it has: {known}")
    if not nodes:
        message = f"Pipeline {manifest.pipeline!r} has no serve function."
        raise NotFoundError(message, hint="write one with @pipeline.serve, then run")
    if len(nodes) > 1:
        message = f"Pipeline {manifest.pipeline!r} has {len(nodes)} serve functions."
        raise InputError(message, hint=f"say which with --function: {known}")
    return next(iter(nodes.values()))


def asking_of(node: Node, manifest: Manifest, *, keep: tuple[str, ...] | None, constants: Mapping[str, Any]) -> Asking:
    """Return how a serve function is asked about rows."""
    keys = [name for n in manifest.graph.nodes if n.role == "dataset" for name in texts(n.options.get("key"))]
    return Asking(
        function=node.name,
        keep=keep,
        keys=tuple(dict.fromkeys(keys)),
        constants=dict(constants),
        batch_rows=manifest.policy.serve.batch_rows,
    )


def release_of(target: str | None, workspace: Workspace) -> tuple[Release, Manifest]:
    """Return the release meant with its manifest."""
    release = served_release(target, workspace)
    return release, read_manifest(release.manifest_digest, workspace)


def _record(job: Job, finished: Finished, out: Path, workspace: Workspace) -> None:
    """Record the batch once, also when it was killed between this and its own record of being done."""
    with workspace.ledger.write() as conn:
        earlier = events.page(conn, target=job.release, limit=_LOOKED_AT)
        if any(event.action == _ACTION and event.details.get("job") == job.id for event in earlier):
            return
        counts = {name: getattr(finished.counts, name) for name in finished.counts.__struct_fields__}
        details = {"job": job.id, "function": job.asking.function, "out": os.fspath(out.resolve()), **counts}
        events.append(conn, actor=person(), action=_ACTION, target=job.release, details=details)
