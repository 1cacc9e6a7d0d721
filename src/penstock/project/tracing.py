"""One prediction step by step: what was asked, what the function was given, what it said, and what it says now."""

import math
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import polars as pl

from penstock.core.errors import ArtifactError, NotFoundError, PenstockError
from penstock.core.records import Artifact, Record
from penstock.core.refs import NAME, ReleaseRef, parse_ref
from penstock.pipeline.graph import Edge, Node
from penstock.project.asking import ask_process
from penstock.project.workspace import Workspace, read_manifest, released_code
from penstock.releases.manifest import Manifest
from penstock.serving.predictions.reading import feedback_frame, find_prediction, predictions_frame
from penstock.serving.predictions.records import Prediction, check_id
from penstock.serving.predictions.tables import PREDICTIONS
from penstock.serving.processes.retrace import Asked, RetraceOptions, RetraceReply, Said
from penstock.store.ledger import artifacts, releases

# Sums in another order differ in the last digits; a proven equivalent says itself by how much it may differ.
_RELATIVE = 1e-9
_MOST_SHOWN = 50


class GivenArgument(Record, frozen=True, kw_only=True):
    """One argument that the pipeline gave the function.

    Attributes:
        source: What it is: an output, or a dataset at its version, "titles@7".
        type: Its Python type.
        made_by: Run and node that made it first, "r41/recommender"; "" when that is not known here.
        stand_in: Kind of the faster equivalent that answered for it, "" when itself did.
    """

    argument: str
    source: str
    type: str
    digest: str
    rows: int | None
    size_bytes: int
    made_by: str
    made_at: datetime | None
    stand_in: str = ""


class Difference(Record, frozen=True, kw_only=True):
    """Where two answers differ; `path` as in "[0].score"."""

    path: str
    served: Any
    recomputed: Any


class Recomputed(Record, frozen=True, kw_only=True):
    """The same question, asked of the release offline.

    Attributes:
        verdict: "close" when only numbers differ, by no more than a proven equivalent may.
        why: Why it was not recomputed, or what failed.
        largest: Largest relative difference of numbers.
        instead: What the serve function itself says now, where its fallback had answered.
        differing: Packages of another version than the release was made with.
    """

    verdict: Literal["equal", "close", "different", "failed", "not recomputed"]
    why: str = ""
    answer: Any = None
    took_us: int | None = None
    largest: float = 0.0
    differences: tuple[Difference, ...] = ()
    instead: Any = None
    differing: tuple[str, ...] = ()


class TruthShown(Record, frozen=True, kw_only=True):
    """What was said about the answer afterwards."""

    name: str
    source: str
    value: float | None
    detail: Any
    at: datetime


class Traced(Record, frozen=True, kw_only=True):
    """A prediction, explained.

    Attributes:
        function: Where the code is: "movies.py:101", and its `def`.
        run: The run that made the release, "r41"; "" for an imported one.
        truth: What became of it, the newest of each name.
    """

    pipeline: str
    prediction: Prediction
    function: str
    released_at: datetime | None
    run: str
    arguments: tuple[GivenArgument, ...]
    recomputed: Recomputed
    truth: tuple[TruthShown, ...]


def trace(
    prediction_id: str, workspace: Workspace, *, pipeline: str | None = None, is_recomputed: bool = True
) -> Traced:
    """Explain one prediction, and answer it again with the same release in a process of its own.

    Args:
        prediction_id: As callers got it; that of one answer where a request was given several.
        workspace: The project.
        pipeline: Whose it is; looked for in all of them when None.
        is_recomputed: It is answered again; otherwise only what is recorded is told.

    Raises:
        InputError: The text is not a prediction id.
        NotFoundError: It is not stored here.
    """
    whose, found = _find(prediction_id, workspace, pipeline)
    truth = _truth(whose, prediction_id, workspace)
    try:
        release, manifest = _release(found.release, workspace)
    except (NotFoundError, ArtifactError) as error:
        gone = Recomputed(verdict="not recomputed", why=f"{found.release} is not here any more: {error.message}")
        return Traced(
            pipeline=whose, prediction=found, function=found.serve, released_at=None, run="", arguments=(),
            recomputed=gone, truth=truth,
        )  # fmt: skip
    node = next((node for node in manifest.graph.nodes if node.name == found.serve), None)
    return Traced(
        pipeline=whose,
        prediction=found,
        function=found.serve if node is None else f"{node.file}:{node.line} {node.name}",
        released_at=release.made_at,
        run="" if release.run_id is None else f"r{release.run_id}",
        arguments=() if node is None else tuple(_arguments(node, manifest, workspace)),
        recomputed=_recomputed([found], release.manifest_digest, manifest, workspace)[0]
        if is_recomputed
        else Recomputed(verdict="not recomputed", why="that was not asked for"),
        truth=truth,
    )


def pipelines_with_predictions(workspace: Workspace) -> list[str]:
    """Return the pipelines of which something was answered here."""
    folders = workspace.home.joinpath("predictions").iterdir()
    logged = {path.name for path in folders if path.is_dir() and NAME.fullmatch(path.name)}
    return sorted(logged | {owner for owner, name in workspace.lake.tables() if name == PREDICTIONS})


def recent_predictions(
    pipeline: str, workspace: Workspace, *, where: pl.Expr | None = None, since: datetime | None = None, limit: int = 20
) -> list[Prediction]:
    """Return the newest predictions of a pipeline, the newest first.

    Args:
        pipeline: Whose.
        workspace: The project.
        where: Only those, over the columns of the table of predictions.
        since: Only those asked at this time or later.
        limit: How many.
    """
    found = predictions_frame(workspace.home, pipeline, since=since)
    found = found if where is None else found.filter(where)
    rows = found.sort("at", "prediction_id", descending=True).head(limit).collect(engine="streaming")
    return [_prediction(row) for row in rows.iter_rows(named=True)]


def _prediction(row: dict[str, Any]) -> Prediction:
    plain = {name: msgspec.json.decode(row[name]) for name in ("fields", "answer", "timings")}
    redacted = tuple(row["redacted"].split(",")) if row["redacted"] else ()
    return msgspec.convert({**row, **plain, "id": row["prediction_id"], "redacted": redacted}, Prediction)


def _find(prediction_id: str, workspace: Workspace, pipeline: str | None) -> tuple[str, Prediction]:
    check_id(prediction_id)
    known = pipelines_with_predictions(workspace) if pipeline is None else [pipeline]
    failed: NotFoundError | None = None
    for name in known:
        try:
            return name, find_prediction(workspace.home, name, prediction_id)
        except NotFoundError as error:
            # A request of several answers is known: that says more than "not found" elsewhere.
            failed = error if failed is None or "answers" in error.message else failed
    if failed is not None and ("answers" in failed.message or len(known) == 1):
        raise failed
    raise NotFoundError(
        f"No prediction {prediction_id!r} is stored here.", hint="penstock predictions lists what was answered"
    )


def _release(reference: str, workspace: Workspace) -> tuple[releases.Release, Manifest]:
    ref = parse_ref(reference)
    if not isinstance(ref, ReleaseRef):
        raise NotFoundError(f"{reference!r} is no release.")
    with workspace.ledger.read() as conn:
        release = releases.get(conn, ref)
    return release, read_manifest(release.manifest_digest, workspace)


def _arguments(node: Node, manifest: Manifest, workspace: Workspace) -> Iterator[GivenArgument]:
    kept = manifest.serving.get(node.name, {})
    stand_ins = manifest.stand_ins.get(node.name, {})
    for edge in node.edges:
        artifact = kept.get(edge.argument)
        if artifact is None:
            continue
        stand_in = stand_ins.get(edge.argument)
        made_by, made_at = _maker(edge, artifact, manifest, workspace)
        dataset = manifest.datasets.get(edge.node)
        yield GivenArgument(
            argument=edge.argument,
            source=edge.source if dataset is None else f"{edge.node}@{dataset.version}",
            type=artifact.type.rpartition(":")[2],
            digest=artifact.digest,
            rows=artifact.rows,
            size_bytes=artifact.size_bytes,
            made_by=made_by,
            made_at=made_at,
            stand_in="" if stand_in is None or stand_in.kind == "original" else stand_in.kind,
        )


def _maker(edge: Edge, artifact: Artifact, manifest: Manifest, workspace: Workspace) -> tuple[str, datetime | None]:
    released = manifest.artifacts.get(f"{edge.node}/{edge.source}", artifact)
    for digest in (released.digest, artifact.digest):
        try:
            with workspace.ledger.read() as conn:
                kept = artifacts.get(conn, digest)
        except NotFoundError:
            continue
        return kept.made_by, kept.made_at
    return "", None


def recompute(found: Sequence[Prediction], workspace: Workspace) -> list[Recomputed]:
    """Answer predictions of one release and one serve function again, in one process.

    Raises:
        NotFoundError: The release is not here any more.
        ArtifactError: Its manifest is damaged.
    """
    release, manifest = _release(found[0].release, workspace)
    return _recomputed(found, release.manifest_digest, manifest, workspace)


def _recomputed(
    found: Sequence[Prediction], manifest_digest: str, manifest: Manifest, workspace: Workspace
) -> list[Recomputed]:
    known = {place: refusal for place, one in enumerate(found) if (refusal := _refusal(one)) is not None}
    rest = [one for place, one in enumerate(found) if place not in known]
    answered = iter(_asked_again(rest, manifest_digest, manifest, workspace) if rest else ())
    return [known[place] if place in known else next(answered) for place in range(len(found))]


def _refusal(found: Prediction) -> Recomputed | None:
    if found.redacted:
        return Recomputed(verdict="not recomputed", why=f"policy redacted {', '.join(found.redacted)}")
    if not isinstance(found.fields, dict):
        return Recomputed(verdict="not recomputed", why="the rows that were asked about cannot be read again")
    return None


def _asked_again(
    found: Sequence[Prediction], manifest_digest: str, manifest: Manifest, workspace: Workspace
) -> list[Recomputed]:
    first, *others = found
    options = RetraceOptions(
        home=os.fspath(workspace.home),
        manifest=manifest_digest,
        serve=first.serve,
        fields=first.fields,
        fallback=first.fallback,
        more=tuple(Asked(fields=one.fields, fallback=one.fallback) for one in others),
        parent=os.getpid(),
    )
    try:
        code = os.fspath(released_code(manifest, workspace))
        module = "penstock.serving.processes.retrace"
        reply = ask_process(module, options, RetraceReply, workspace, code=code)
    except PenstockError as error:
        return [Recomputed(verdict="not recomputed", why=error.message)] * len(found)
    if reply.error is not None:
        return [Recomputed(verdict="not recomputed", why=reply.error[1])] * len(found)
    tolerance = _tolerance(first.serve, manifest)
    said = (reply.said, *reply.more)
    return [_compared(one, own, reply.differing, tolerance) for one, own in zip(found, said, strict=True)]


def _compared(
    found: Prediction, answered: Sequence[Said], differing: tuple[str, ...], tolerance: tuple[float, float]
) -> Recomputed:
    said = answered[-1]
    instead = msgspec.json.decode(answered[0].answer) if found.fallback and not answered[0].error else None
    if said.error:
        # The same failure again is what was served.
        is_same = found.answer is None and found.error is not None and f"{found.error}:" in said.error
        verdict: Any = "equal" if is_same else "failed"
        return Recomputed(verdict=verdict, why=said.error, differing=differing)
    answer = msgspec.json.decode(said.answer)
    differences = list(_differences(found.answer, answer, ""))
    largest = max((_relative(one.served, one.recomputed) for one in differences), default=0.0)
    is_close = all(_is_close(one.served, one.recomputed, tolerance) for one in differences)
    return Recomputed(
        verdict="equal" if not differences else "close" if is_close else "different",
        answer=answer,
        took_us=said.took_us,
        largest=largest if math.isfinite(largest) else 0.0,
        differences=tuple(differences[:_MOST_SHOWN]),
        instead=instead,
        differing=differing,
    )


def _tolerance(serve: str, manifest: Manifest) -> tuple[float, float]:
    used = [one for one in manifest.stand_ins.get(serve, {}).values() if one.kind != "original"]
    return max([_RELATIVE, *(one.relative for one in used)]), max([0.0, *(one.absolute for one in used)])


def _differences(served: Any, again: Any, path: str) -> Iterator[Difference]:
    if isinstance(served, dict) and isinstance(again, dict):
        for name in dict.fromkeys([*served, *again]):
            yield from _differences(served.get(name), again.get(name), f"{path}.{name}" if path else name)
    elif isinstance(served, list) and isinstance(again, list) and len(served) == len(again):
        for place, (one, other) in enumerate(zip(served, again, strict=True)):
            yield from _differences(one, other, f"{path}[{place}]")
    elif served != again or isinstance(served, bool) != isinstance(again, bool):
        yield Difference(path=path, served=served, recomputed=again)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _relative(one: Any, other: Any) -> float:
    if not (_is_number(one) and _is_number(other)):
        return math.inf
    return float(abs(one - other) / max(1.0, abs(one)))


def _is_close(served: Any, again: Any, tolerance: tuple[float, float]) -> bool:
    if not (_is_number(served) and _is_number(again)):
        return False
    relative, absolute = tolerance
    return bool(abs(served - again) <= absolute + relative * abs(again))


def _truth(pipeline: str, prediction_id: str, workspace: Workspace) -> tuple[TruthShown, ...]:
    rows = feedback_frame(workspace.home, pipeline).filter(pl.col("prediction_id") == prediction_id)
    return tuple(
        TruthShown(
            name=row["name"],
            source=row["source"],
            value=row["value"],
            detail=None if row["detail"] is None else msgspec.json.decode(row["detail"]),
            at=row["at"],
        )
        for row in rows.sort("name").collect(engine="streaming").iter_rows(named=True)
    )
