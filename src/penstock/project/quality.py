"""What evaluations found, ready to be shown: models with intervals, lifts with a verdict, the worst slices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penstock.core.records import Record
from penstock.engine.state import RunOutcome
from penstock.pipeline.graph import Graph, Node

Verdict = Literal["better", "worse", "unclear"]
WORST_SLICES = 5
_SMALLEST_SLICE = 20  # as in the check `slices_not_worse`: fewer examples say too little


class Compared(Record, frozen=True, kw_only=True):
    """The mean difference to another model on the same examples; "unclear" where its interval holds zero."""

    over: str
    mean: float
    low: float | None
    high: float | None
    verdict: Verdict


class ModelQuality(Record, frozen=True, kw_only=True):
    """A model's mean of one metric with its 95 % interval; None where it cannot be computed."""

    model: str
    role: str
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    lifts: tuple[Compared, ...] = ()


class SliceQuality(Record, frozen=True, kw_only=True):
    """The candidate's mean of the main metric in one slice."""

    column: str
    value: str
    mean: float
    low: float
    high: float
    n: int


class Quality(Record, frozen=True, kw_only=True):
    """What one evaluation found.

    Attributes:
        metric: The metric that decides.
        models: Every model and metric, the deciding metric first.
        worst: The candidate's slices that are surely worst by the deciding metric.
    """

    evaluation: str
    metric: str
    higher_is_better: bool
    models: tuple[ModelQuality, ...]
    worst: tuple[SliceQuality, ...]


def quality_of(outcome: RunOutcome, graph: Graph) -> tuple[Quality, ...]:
    """Return what the evaluations of a run found."""
    found = []
    for node in _evaluations(graph):
        kept = outcome.kept.get(f"evidence:{node.name}", {}).get("")
        if kept is not None and kept.facts.get("table"):
            found.append(read_quality(node, kept.facts["table"], kept.facts.get("metrics", [])))
    return tuple(found)


def recorded_quality(
    graph: Graph, tables: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[Quality, ...]:
    """Return what was recorded of the evaluations: tables and metric rows by evaluation."""
    return tuple(
        read_quality(node, tables[node.name], metrics.get(node.name, ()))
        for node in _evaluations(graph)
        if tables.get(node.name)
    )


def read_quality(node: Node, table: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]) -> Quality:
    """Return the quality that the plain rows of `Evaluation.table` and `Evaluation.to_metrics` describe."""
    higher = bool(node.options.get("higher_is_better", True))
    metric = str(node.options.get("metric") or table[0]["metric"])
    models = [_model(row, is_higher_better=higher) for row in table]
    candidate = next((m.model for m in models if m.role == "candidate"), "")
    return Quality(
        evaluation=node.name,
        metric=metric,
        higher_is_better=higher,
        models=tuple(sorted(models, key=lambda m: m.metric != metric)),
        worst=_worst([r for r in metrics if r["model"] == candidate and r["metric"] == metric], higher),
    )


def _evaluations(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.role == "evaluate"]


def _model(row: Mapping[str, Any], *, is_higher_better: bool) -> ModelQuality:
    return ModelQuality(
        model=row["model"],
        role=row["role"],
        metric=row["metric"],
        mean=row["mean"],
        low=row["low"],
        high=row["high"],
        n=row["n"],
        lifts=tuple(
            Compared(
                over=lift["over"],
                mean=lift["mean"],
                low=lift["low"],
                high=lift["high"],
                verdict=_verdict(lift["low"], lift["high"], is_higher_better=is_higher_better),
            )
            for lift in row["lifts"]
        ),
    )


def _verdict(low: float | None, high: float | None, *, is_higher_better: bool) -> Verdict:
    if low is None or high is None or low <= 0 <= high:
        return "unclear"
    return "better" if (low > 0) == is_higher_better else "worse"


def _worst(rows: Sequence[Mapping[str, Any]], is_higher_better: bool) -> tuple[SliceQuality, ...]:  # noqa: FBT001 - private
    known = [r for r in rows if r["slice"] and r["n"] >= _SMALLEST_SLICE and _is_known(r)]
    known.sort(key=lambda r: r["high"] if is_higher_better else -r["low"])
    return tuple(
        SliceQuality(column=r["slice"], value=str(r["value"]), mean=r["mean"], low=r["low"], high=r["high"], n=r["n"])
        for r in known[:WORST_SLICES]
    )


def _is_known(row: Mapping[str, Any]) -> bool:
    return all(row[name] is not None and math.isfinite(row[name]) for name in ("mean", "low", "high"))
