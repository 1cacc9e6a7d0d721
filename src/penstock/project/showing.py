"""What was done: the runs, one run with its evidence, the releases. Reads the ledger; runs nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import CheckResult, Failure, Record
from penstock.core.refs import NAME, ReleaseRef, RunRef, parse_ref
from penstock.core.states import RunState
from penstock.engine.platform_nodes import is_executed, is_platform, with_platform_nodes
from penstock.pipeline.graph import Graph, Node, decode_graph
from penstock.pipeline.params import near_miss
from penstock.project.quality import Quality, recorded_quality
from penstock.project.timing import RunTimings, Timing, recorded, timings_of_run
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.environment import lock_text
from penstock.releases.manifest import StandIn
from penstock.releases.replay.records import ReplayShown, read_replay
from penstock.store.ledger import attempts, checks, evidence, recovery, releases, runs
from penstock.store.ledger.evidence import Evidence

# Evidence that stands in a line each; a replay has a place of its own.
_SHOWN: tuple[evidence.Kind, ...] = ("load", "drill")
# Newest runs looked through for the names of pipelines when one is misspelt.
_LOOKED_AT = 500


class RunLine(Record, frozen=True, kw_only=True):
    """A run in one line; `said` is why it has no release, if it has none.

    Attributes:
        cpu_s: Of the nodes that ran and whose usual time is known; None where none is.
        usual_cpu_s: What these usually take.
        factor: The one by the other, beyond what more rows explain.
    """

    run: str
    pipeline: str
    state: str
    cause: str
    started_at: datetime
    duration_s: float | None
    release: str | None
    said: str
    cpu_s: float | None = None
    usual_cpu_s: float | None = None
    factor: float | None = None


class Try(Record, frozen=True, kw_only=True):
    """One attempt at a node, or at one part of it."""

    node: str
    part: str
    number: int
    state: str
    wall_s: float | None
    cpu_s: float | None
    peak_bytes: int | None
    failure: Failure | None
    log: str


class NodeShown(Record, frozen=True, kw_only=True):
    """What became of a node in a run.

    Attributes:
        state: As recorded, or "not reached".
        needs: Nodes whose outputs it takes.
        parts: How many parts it was done in.
        wall_s: All its attempts together; None where there was none, since its result was reused.
        made: The dataset version, or the rows or type of what it made, by output.
        is_platform: The platform added it: a built-in check, a summary, an input frozen for serving.
        usual_cpu_s: What it took in the runs before, by their median; None while too few say it.
        factor: CPU time by what is usual, beyond what more rows explain.
    """

    node: str
    role: str
    state: str
    reason: str
    parts: int
    wall_s: float | None
    cpu_s: float | None
    peak_bytes: int | None
    made: dict[str, str]
    is_platform: bool
    needs: tuple[str, ...] = ()
    usual_cpu_s: float | None = None
    factor: float | None = None


class CheckShown(CheckResult, frozen=True, kw_only=True):
    """A check, and what it was made on."""

    subject: str


class RunShown(Record, frozen=True, kw_only=True):
    """A run with its evidence.

    Attributes:
        cpu_s: Of the nodes that ran and whose usual time is known; None where none is.
        usual_cpu_s: What these usually take.
        factor: The one by the other, beyond what more rows explain.
        answers: What an answer took when the release was proven, by serve function.
    """

    run: str
    pipeline: str
    state: str
    cause: str
    engine: str
    now: str | None
    started_at: datetime
    duration_s: float | None
    release: str | None
    error: Failure | None
    params: dict[str, dict[str, Any]]
    nodes: tuple[NodeShown, ...]
    tries: tuple[Try, ...]
    checks: tuple[CheckShown, ...]
    quality: tuple[Quality, ...]
    cpu_s: float | None = None
    usual_cpu_s: float | None = None
    factor: float | None = None
    answers: dict[str, Timing] = {}


class ReleaseLine(Record, frozen=True, kw_only=True):
    """A release in one line; `run` is None for one that was imported."""

    release: str
    hash: str
    made_at: datetime
    run: str | None
    is_live: bool


class ReleaseShown(ReleaseLine, frozen=True, kw_only=True):
    """A release: what it stands on, and the run that made it, when that was made here.

    Attributes:
        stand_ins: By serve function and argument: the faster equivalent of the model it takes, with its proof. How
            much faster it was is in the check `faster_equivalents` of the run.
        replay: The newest replay of recorded requests on it; None where there was none.
        evidence: The newest of each kind that was measured or shown of it afterwards.
    """

    goal: str
    now: str | None
    datasets: dict[str, str]
    params: dict[str, dict[str, Any]]
    files: tuple[str, ...]
    python: str
    packages: int
    checks: tuple[CheckResult, ...]
    stand_ins: dict[str, dict[str, StandIn]]
    replay: ReplayShown | None
    made_in: RunShown | None
    evidence: tuple[Evidence, ...] = ()


def show_lock(reference: str, workspace: Workspace) -> str:
    """Return the environment of a release as a requirements file of exact versions.

    Raises:
        InputError: The reference is not that of a release.
        NotFoundError: There is no such release.
    """
    ref = parse_ref(reference)
    if not isinstance(ref, ReleaseRef):
        raise InputError(f"Only a release has a lock, and {reference!r} is a run.", hint="list them: penstock releases")
    with workspace.ledger.read() as conn:
        found = releases.get(conn, ref)
    return lock_text(read_manifest(found.manifest_digest, workspace))


def _refuse_unknown(pipeline: str, known: set[str]) -> None:
    if not known:
        return  # nothing was run at all, which is what is said then
    near = near_miss(pipeline, sorted(known))
    hint = f"did you mean {near!r}?" if near is not None else f"there are {', '.join(sorted(known))}"
    raise NotFoundError(f"Nothing was ever run of a pipeline {pipeline!r}.", hint=hint)


def list_runs(
    workspace: Workspace,
    *,
    pipeline: str | None = None,
    state: RunState | None = None,
    limit: int = 20,
    before: int | None = None,
    among: Sequence[str] | None = None,
) -> tuple[RunLine, ...]:
    """Return the newest runs first; a run whose process is dead says so.

    Args:
        workspace: The project.
        pipeline: Only runs of this one.
        state: Only runs in it.
        limit: How many.
        before: Only runs begun before this one, to go on from a page.
        among: Only runs of these pipelines; None for all.
    """
    _mark_lost(workspace)
    with workspace.ledger.read() as conn:
        found = runs.page(conn, pipeline=pipeline, state=state, limit=limit, before=before, among=among)
        if not found and pipeline is not None and not runs.page(conn, pipeline=pipeline, limit=1):
            _refuse_unknown(pipeline, {run.pipeline for run in runs.page(conn, limit=_LOOKED_AT)})
        names = {run.pipeline for run in found}
        timed = {one.run: one for name in names for one in recorded(conn, name, most=limit)}
    return tuple(_run_line(run, workspace, timed.get(str(RunRef(run.id)))) for run in found)


def list_releases(workspace: Workspace, *, pipeline: str | None = None) -> tuple[ReleaseLine, ...]:
    """Return the releases, newest first within each pipeline."""
    with workspace.ledger.read() as conn:
        found = releases.of_pipeline(conn, pipeline)
        if not found and pipeline is not None and not runs.page(conn, pipeline=pipeline, limit=1):
            _refuse_unknown(pipeline, {run.pipeline for run in runs.page(conn, limit=_LOOKED_AT)})
        live = {name: releases.live(conn, name) for name in {r.pipeline for r in found}}
    return tuple(_release_line(r, live[r.pipeline]) for r in found)


def show(reference: str, workspace: Workspace) -> RunShown | ReleaseShown:
    """Return a run or a release with its evidence.

    Args:
        reference: "r41", "movies@3", or the name of a pipeline for its newest run.
        workspace: The project.

    Raises:
        InputError: The text is no reference.
        NotFoundError: There is no such run or release.
    """
    _mark_lost(workspace)
    if _is_name(reference):
        return show_run(newest_run(workspace, reference), workspace)
    match parse_ref(reference):
        case RunRef(id=number):
            return show_run(number, workspace)
        case ReleaseRef() as ref:
            return show_release(ref, workspace)


def newest_run(workspace: Workspace, pipeline: str | None = None) -> int:
    """Return the id of the newest run of a pipeline, or of all.

    Raises:
        NotFoundError: There is none.
    """
    with workspace.ledger.read() as conn:
        found = runs.page(conn, pipeline=pipeline, limit=1)
    if not found:
        whose = f" of {pipeline!r}" if pipeline is not None else ""
        raise NotFoundError(f"There is no run{whose} yet.", hint="make one: penstock run")
    return found[0].id


def show_run(run_id: int, workspace: Workspace) -> RunShown:
    """Return a run with its evidence.

    Raises:
        NotFoundError: There is no such run.
    """
    with workspace.ledger.read() as conn:
        run = runs.get(conn, run_id)
        nodes, tried = runs.nodes(conn, run_id), attempts.of_run(conn, run_id)
        checked, metrics = checks.of_run(conn, run_id), checks.metrics_of_run(conn, run_id)
        timings = timings_of_run(conn, run.pipeline, str(RunRef(run_id)))
    timed = {} if timings is None else timings.nodes
    graph = decode_graph(workspace.blobs.read(run.graph_digest))
    rows: dict[str, list[dict[str, Any]]] = {}
    for metric in metrics:
        plain = {"model": metric.model, "metric": metric.metric, "slice": metric.slice, "value": metric.value_of_slice}
        rows.setdefault(metric.node, []).append(plain | msgspec.structs.asdict(metric.interval))
    tables = {
        n.node.removeprefix("evidence:"): n.result["table"]
        for n in nodes
        if n.node.startswith("evidence:") and isinstance(n.result, dict) and "table" in n.result
    }
    return RunShown(
        run=str(RunRef(run.id)),
        pipeline=run.pipeline,
        state=run.state.value,
        cause=run.cause,
        engine=run.engine,
        now=run.now_at,
        started_at=run.started_at,
        duration_s=_duration(run),
        release=run.release,
        error=run.error,
        params=run.params,
        nodes=tuple(
            msgspec.structs.replace(_node(node, nodes, tried, timed.get(node.name)), needs=_needs(node, graph))
            for node in with_platform_nodes(graph).nodes
            if is_executed(node)
        ),
        tries=tuple(_try(a) for a in tried),
        checks=tuple(CheckShown(subject=c.subject, **msgspec.structs.asdict(c.check)) for c in checked),
        quality=recorded_quality(graph, tables, rows),
        cpu_s=None if timings is None else timings.cpu_s,
        usual_cpu_s=None if timings is None else timings.usual_cpu_s,
        factor=None if timings is None else timings.factor,
        answers={} if timings is None else {name: t for name, t in timings.nodes.items() if t.is_answer},
    )


def _is_name(reference: str) -> bool:
    return NAME.fullmatch(reference) is not None and not (reference.startswith("r") and reference[1:].isdigit())


def _mark_lost(workspace: Workspace) -> None:
    with workspace.ledger.read() as conn:
        is_any_lost = bool(recovery.find_lost(conn))
    if is_any_lost:
        with workspace.ledger.write() as conn:
            recovery.mark_lost(conn)


def _run_line(run: runs.Run, workspace: Workspace, timed: RunTimings | None) -> RunLine:
    duration = _duration(run)
    if run.state is RunState.RUNNING:
        duration = (workspace.clock.now() - run.started_at).total_seconds()
    return RunLine(
        run=str(RunRef(run.id)),
        pipeline=run.pipeline,
        state=run.state.value,
        cause=run.cause,
        started_at=run.started_at,
        duration_s=duration,
        release=run.release,
        said=run.error.message if run.error is not None else "",
        cpu_s=None if timed is None else timed.cpu_s,
        usual_cpu_s=None if timed is None else timed.usual_cpu_s,
        factor=None if timed is None else timed.factor,
    )


def _duration(run: runs.Run) -> float | None:
    return None if run.finished_at is None else (run.finished_at - run.started_at).total_seconds()


def _needs(node: Node, graph: Graph) -> tuple[str, ...]:
    found = [edge.node for edge in node.edges if edge.node]
    if any(edge.source == "model" and edge.form == "word" for edge in node.edges):  # it goes through all of them
        found += [one.name for one in graph.nodes if one.role in {"model", "baseline"}]
    return tuple(dict.fromkeys(found))


def _node(
    node: Node, ended: Sequence[runs.RunNode], tried: Sequence[attempts.Attempt], timing: Timing | None
) -> NodeShown:
    own = [r for r in ended if r.node == node.name]
    tries = [a for a in tried if a.node == node.name]
    return NodeShown(
        node=node.name,
        role=node.role,
        state=own[0].state.value if own else "running" if any(a.state == "running" for a in tries) else "not reached",
        reason=next((r.reason for r in own if r.reason), ""),
        parts=len(own),
        wall_s=_total([a.wall_s for a in tries]),
        cpu_s=_total([a.cpu_s for a in tries]),
        peak_bytes=max((a.peak_bytes for a in tries if a.peak_bytes is not None), default=None),
        made=_made(own[0]) if len(own) == 1 else {},
        is_platform=is_platform(node),
        usual_cpu_s=None if timing is None else timing.usual_cpu_s,
        factor=None if timing is None else timing.factor,
    )


def _made(node: runs.RunNode) -> dict[str, str]:
    result = node.result if isinstance(node.result, dict) else {}
    made = {}
    for name, found in result.items():
        if name == "dataset":
            made[node.node] = str(found)
        elif isinstance(found, dict) and "codec" in found:
            kind = str(found["type"]).rpartition(":")[2]
            made[name] = f"{found['rows']:,} rows" if found.get("rows") is not None else kind
    return made


def _total(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _try(attempt: attempts.Attempt) -> Try:
    return Try(
        node=attempt.node,
        part=attempt.part,
        number=attempt.number,
        state=attempt.state.value,
        wall_s=attempt.wall_s,
        cpu_s=attempt.cpu_s,
        peak_bytes=attempt.peak_bytes,
        failure=attempt.failure,
        log=attempt.log,
    )


def _release_line(release: releases.Release, live: releases.Release | None) -> ReleaseLine:
    return ReleaseLine(
        release=str(release.ref),
        hash=release.hash,
        made_at=release.made_at,
        run=None if release.run_id is None else str(RunRef(release.run_id)),
        is_live=live is not None and live.version == release.version,
    )


def show_release(ref: ReleaseRef, workspace: Workspace) -> ReleaseShown:
    """Return a release with what it stands on.

    Raises:
        NotFoundError: There is no such release.
    """
    with workspace.ledger.read() as conn:
        release = releases.get(conn, ref)
        live = releases.live(conn, ref.pipeline)
        replayed = evidence.newest(conn, ref.pipeline, "replay", str(ref))
        kept = [evidence.newest(conn, ref.pipeline, kind, str(ref)) for kind in _SHOWN]
    manifest = read_manifest(release.manifest_digest, workspace)
    graph: Graph = manifest.graph
    return ReleaseShown(
        **msgspec.structs.asdict(_release_line(release, live)),
        goal=manifest.goal,
        now=manifest.now,
        datasets={name: f"{name}@{d.version}" for name, d in manifest.datasets.items()},
        params=manifest.params,
        files=tuple(f.path for f in graph.files),
        python=str(manifest.environment.get("python", "")),
        packages=len(manifest.environment.get("packages", {})),
        checks=manifest.checks,
        stand_ins=manifest.stand_ins if manifest.policy.serve.equivalents else {},
        replay=None if replayed is None else read_replay(replayed),
        made_in=None if release.run_id is None else show_run(release.run_id, workspace),
        evidence=tuple(one for one in kept if one is not None),
    )
