"""Builds the manifest of a run: what it used, what it made, what was shown about it.

Every run that reached its end has one, so runs and releases are compared by the same code;
only the manifest of a run whose checks all passed may become a release.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.core.errors import CheckError
from penstock.core.records import Artifact, CheckResult, DatasetVersion, Interval
from penstock.core.settings import Policy
from penstock.core.states import NodeState
from penstock.engine.platform_nodes import frozen_name
from penstock.engine.state import Kept, RunOutcome
from penstock.engine.units import CHAMPION
from penstock.pipeline.graph import Edge, Graph, Node
from penstock.releases.archive import needed
from penstock.releases.environment import environment, imported
from penstock.releases.manifest import (
    Example,
    Manifest,
    ReleasedDataset,
    ReleasedEvaluation,
    StandIn,
    encode_manifest,
)
from penstock.store import codecs
from penstock.store.blobs import Blobs


def manifest_of(
    graph: Graph,
    outcome: RunOutcome,
    *,
    params: dict[str, dict[str, Any]],
    policy: Policy,
    champion: str | None,
) -> Manifest:
    """Return the manifest of a run.

    Args:
        graph: The pipeline as the user wrote it, without the platform's own nodes.
        outcome: What the run came to.
        params: Run parameters by node.
        policy: The engineer's policy the run was made under.
        champion: Hash of the release it was compared with.
    """
    artifacts = {
        "/".join(p for p in (node, part, output) if p): artifact
        for node, parts in sorted(outcome.kept.items())
        for part, kept in sorted(parts.items())
        for output, artifact in sorted(kept.outputs.items())
    }
    return Manifest(
        pipeline=graph.pipeline,
        goal=graph.goal,
        graph=graph,
        artifacts=artifacts,
        serving=_serving(graph, outcome.kept),
        datasets={
            name: ReleasedDataset(
                version=v.version,
                digest=v.digest,
                schema=v.schema,
                contract=v.contract,
                watermark=_newest_time(graph.node(name), v),
            )
            for name, v in sorted(outcome.datasets.items())
        },
        params=params,
        now=outcome.now,
        policy=policy,
        environment=environment(),
        checks=tuple(sorted(outcome.checks, key=lambda c: c.name)),
        evaluations=_evaluations(graph, outcome.kept),
        examples=_examples(outcome.kept),
        inputs=_inputs(outcome.kept),
        champion=champion,
    )


def is_same_content(one: Manifest, other: Manifest) -> bool:
    """Return whether two manifests describe the same pipeline, whatever each was compared with.

    What was found about a release (checks, evaluations, faster equivalents, the champion of the day) follows from what
    it is, and from what was live when it was made; a run that changes nothing must not make a new release of the old.
    """
    return _content(one) == _content(other)


def _content(manifest: Manifest) -> bytes:
    # As bytes: one of the two was just made, the other read from JSON, where tuples have become lists.
    judged = {f"{n.name}/{CHAMPION}" for n in manifest.graph.nodes if n.role == "evaluate"}
    artifacts = {name: a for name, a in manifest.artifacts.items() if name.rpartition("/")[0] not in judged}
    content = msgspec.structs.replace(
        manifest,
        artifacts=artifacts,
        checks=(),
        evaluations={},
        champion=None,
        stand_ins={},
        # A package that the code does not import may come and go beside it.
        environment={"python": manifest.environment.get("python"), "packages": imported(manifest)},
    )
    return encode_manifest(content)


def with_check(manifest: Manifest, check: CheckResult) -> Manifest:
    """Return the manifest with one more check."""
    return msgspec.structs.replace(manifest, checks=(*manifest.checks, check))


def with_stand_ins(manifest: Manifest, stand_ins: dict[str, dict[str, StandIn]]) -> Manifest:
    """Return the manifest with the faster equivalents that were proven."""
    return msgspec.structs.replace(manifest, stand_ins=stand_ins)


def gate(manifest: Manifest, outcome: RunOutcome) -> None:
    """Let through only a run in which every node is done and every check passed.

    Raises:
        CheckError: Names the first check that failed, or the node that is not done.
    """
    done = {NodeState.SUCCEEDED, NodeState.REUSED}
    failed = [c for c in (*manifest.checks, *outcome.checks) if not c.passed]
    if failed:
        raise CheckError(
            f"Check {failed[0].name!r} failed for {manifest.pipeline} run r{outcome.run_id}: {failed[0].message}",
            hint=f"see the evidence: penstock show r{outcome.run_id}",
        )
    undone = [name for name, state in outcome.nodes.items() if state not in done]
    if undone:
        raise CheckError(f"Run r{outcome.run_id} of {manifest.pipeline} did not finish {undone[0]!r}.")


def secure(manifest: Manifest, blobs: Blobs) -> None:
    """Read every byte a release stands on, and wait until it is on the disk.

    Raises:
        DamagedError: A blob is missing, or not the bytes that were stored.
        StoreError: The disk refused.
    """
    parts = [d for artifact in manifest.artifacts.values() for d in codecs.blobs_of(artifact, blobs)]
    digests = sorted({*needed(manifest, blobs), *parts})
    for digest in digests:
        blobs.verify(digest)
    blobs.sync(digests)


def _newest_time(node: Node, version: DatasetVersion) -> str | None:
    # A source's own cursor may hold file times of this machine, which are no part of what the release is.
    is_time = bool(node.options.get("time")) and isinstance(version.watermark, str)
    return str(version.watermark) if is_time else None


def _serving(graph: Graph, kept: Mapping[str, Mapping[str, Kept]]) -> dict[str, dict[str, Artifact]]:
    return {
        node.name: {edge.argument: found for edge in node.edges if (found := _served(edge, graph, kept)) is not None}
        for node in graph.nodes
        if node.role in {"serve", "fallback"}
    }


def _served(edge: Edge, graph: Graph, kept: Mapping[str, Mapping[str, Kept]]) -> Artifact | None:
    if not edge.node:
        return None
    name = frozen_name(edge.source) if graph.node(edge.node).role == "dataset" else edge.node
    output = name if graph.node(edge.node).role == "dataset" else edge.source
    found = kept.get(name, {}).get("")
    return found.outputs.get(output) if found is not None else None


def _evaluations(graph: Graph, kept: Mapping[str, Mapping[str, Kept]]) -> dict[str, ReleasedEvaluation]:
    return {
        node.name: ReleasedEvaluation(
            metric=_metric(node, kept.get(f"evidence:{node.name}", {}).get("", Kept())),
            means=_means(kept.get(f"evidence:{node.name}", {}).get("", Kept())),
            rows={model: k.outputs[node.outputs[0]] for model, k in sorted(kept[node.name].items()) if k.outputs},
        )
        for node in graph.nodes
        if node.role == "evaluate" and node.name in kept
    }


def _metric(node: Node, summary: Kept) -> str:
    # Without a declared one the first metric decides; it is told first.
    first = next(iter(summary.facts.get("metrics", [])), {"metric": ""})
    return str(node.options.get("metric") or first["metric"])


def _means(summary: Kept) -> dict[str, dict[str, Interval]]:
    means: dict[str, dict[str, Interval]] = {}
    for row in summary.facts.get("metrics", []):
        # A single example has a mean without an interval: nothing is known by it, so nothing is claimed.
        if not row["slice"] and row["mean"] is not None and row["low"] is not None:
            interval = Interval(mean=row["mean"], low=row["low"], high=row["high"], n=row["n"])
            means.setdefault(row["model"], {})[row["metric"]] = interval
    return means


def _examples(kept: Mapping[str, Mapping[str, Kept]]) -> dict[str, tuple[Example, ...]]:
    found = {}
    for name, parts in sorted(kept.items()):
        if name.startswith("answers:") and "" in parts:
            facts = parts[""].facts
            pairs = zip(facts.get("requests", []), facts.get("answers", []), strict=True)
            found[name.removeprefix("answers:")] = tuple(Example(fields=f, answer=a) for f, a in pairs)
    return found


def _inputs(kept: Mapping[str, Mapping[str, Kept]]) -> dict[str, tuple[tuple[str, str], ...]]:
    return {
        name.removeprefix("answers:"): tuple((str(column), str(dtype)) for column, dtype in parts[""].facts["columns"])
        for name, parts in sorted(kept.items())
        if name.startswith("answers:") and "columns" in parts.get("", Kept()).facts
    }
