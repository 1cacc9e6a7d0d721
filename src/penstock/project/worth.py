"""Reads what releases were worth: their evaluation, the truth about their answers, and the experiments they were in."""

from collections.abc import Mapping, Sequence

from penstock.core.errors import ArtifactError, InputError, NotFoundError
from penstock.core.records import Interval, Record
from penstock.pipeline.graph import Graph, Node
from penstock.project.status.pays import Sum, per_release
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.releases.worth import Agreement, Match, Triple, agreement_of
from penstock.store.ledger import evidence, releases, windows

_MOST = 10_000


class Worth(Record, frozen=True, kw_only=True):
    """What the releases of a pipeline were worth, newest first.

    Attributes:
        value: What one outcome is worth, in money; None where nobody said.
    """

    pipeline: str
    outcome: str
    metric: str
    value: float | None
    triples: tuple[Triple, ...]
    agreement: Agreement


def worth_of(pipeline: str, workspace: Workspace, *, outcome: str | None = None) -> Worth:
    """Return what the releases of a pipeline were worth, and whether offline figures tell anything of it.

    Args:
        pipeline: Whose.
        workspace: The project.
        outcome: By which outcome; the first declared when None.

    Raises:
        NotFoundError: There is no release, or no such outcome.
    """
    with workspace.ledger.read() as conn:
        known = releases.of_pipeline(conn, pipeline)
        verdicts = evidence.of_kind(conn, pipeline, "verdict", most=_MOST)
    if not known:
        raise NotFoundError(f"Pipeline {pipeline!r} has no release.", hint=f"make one: penstock run {pipeline}")
    manifests = {str(one.ref): _manifest(one, workspace) for one in known}
    newest = next((manifest for manifest in manifests.values() if manifest is not None), None)
    if newest is None:
        raise InputError(f"No release of {pipeline!r} can be read.", hint="see what is wrong: penstock doctor")
    node = _outcome(newest.graph, outcome)
    with workspace.ledger.read() as conn:
        seen = windows.page(conn, pipeline, f"quality:{node.name}", limit=_MOST)
    online = {one.release: one for one in per_release(seen[::-1])}
    value = node.options.get("value")
    worth = float(value) if isinstance(value, int | float) else None
    metric, higher = _metric(newest)
    mine = [one for one in verdicts if one.figures.get("outcome") == node.name]
    triples = [
        _triple(ref, _offline(manifest, metric), online.get(ref), value=worth, verdicts=mine)
        for ref, manifest in manifests.items()
    ]
    is_turned = higher != ((worth or 0.0) >= 0)
    agreement = agreement_of(
        triples, _matches(triples, is_higher_better=higher), metric=metric, outcome=node.name, is_turned=is_turned
    )
    return Worth(
        pipeline=pipeline, outcome=node.name, metric=metric, value=worth, triples=tuple(triples), agreement=agreement
    )


def _manifest(release: releases.Release, workspace: Workspace) -> Manifest | None:
    try:
        return read_manifest(release.manifest_digest, workspace)
    except ArtifactError:  # `doctor` tells of it; the others are still worth something
        return None


def _outcome(graph: Graph, name: str | None) -> Node:
    known = [node for node in graph.nodes if node.role == "outcome"]
    found = next((node for node in known if name in {None, node.name}), None)
    if found is not None:
        return found
    what = "outcome" if name is None else f"outcome {name!r}"
    hint = f"it has {', '.join(n.name for n in known)}" if known else "declare one with @pipeline.outcome(value=...)"
    raise NotFoundError(f"Pipeline {graph.pipeline!r} has no {what}.", hint=hint)


def _metric(manifest: Manifest) -> tuple[str, bool]:
    """Return the main metric of the first evaluation, and whether more of it is better."""
    node = next((node for node in manifest.graph.nodes if node.role == "evaluate"), None)
    kept = None if node is None else manifest.evaluations.get(node.name)
    if node is None or kept is None:
        return "", True
    return kept.metric, bool(node.options.get("higher_is_better", True))


def _offline(manifest: Manifest | None, metric: str) -> Interval | None:
    if manifest is None:
        return None
    models = {node.name for node in manifest.graph.nodes if node.role == "model"}
    for kept in manifest.evaluations.values():
        found = [means[metric] for model, means in kept.means.items() if model in models and metric in means]
        if found:
            return found[0]
    return None


def _triple(
    release: str,
    offline: Interval | None,
    online: Sum | None,
    *,
    value: float | None,
    verdicts: Sequence[evidence.Evidence],
) -> Triple:
    mine = [one for one in verdicts if one.subject == release]
    return Triple(
        release=release,
        offline=offline,
        online=None if online is None else online.mean,
        half=0.0 if online is None else online.half,
        answers=0 if online is None else online.count,
        money=None if online is None or value is None else online.mean * value,
        won=tuple(_name(one.figures) for one in mine if one.passed and one.figures.get("kind") == "wins"),
        lost=tuple(_name(one.figures) for one in mine if one.passed is False and one.figures.get("kind") == "wins"),
    )


def _name(figures: Mapping[str, object]) -> str:
    return str(figures.get("experiment", ""))


def _matches(triples: Sequence[Triple], *, is_higher_better: bool) -> list[Match]:
    """Return the experiments whose winner and losers all have an offline figure."""
    found = []
    for winner in triples:
        for name in winner.won:
            losers = [one for one in triples if name in one.lost]
            if winner.offline is None or not losers or any(one.offline is None for one in losers):
                continue
            others = [one.offline.mean for one in losers if one.offline is not None]
            is_best = winner.offline.mean > max(others) if is_higher_better else winner.offline.mean < min(others)
            found.append(Match(experiment=name, winner=winner.release, is_as_offline=is_best))
    return found
