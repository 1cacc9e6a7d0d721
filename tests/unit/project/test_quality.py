"""Plain rows of an evaluation become models with verdicts, and the worst slices."""

from typing import Any

import pytest

from penstock.pipeline.graph import Fingerprint, Node
from penstock.project.quality import read_quality


def node(**options: Any) -> Node:
    return Node(
        name="quality", role="evaluate", function="m:f", file="m.py", line=1, edges=(), params=(), outputs=("quality",),
        options=options, code=Fingerprint(digest=""),
    )  # fmt: skip


def row(model: str, role: str, metric: str = "ndcg", **lift: Any) -> dict[str, Any]:
    lifts = [{"over": "popular", "mean": 0.01, "n": 90, **lift}] if lift else []
    return {
        "model": model,
        "role": role,
        "metric": metric,
        "mean": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 90,
        "lifts": lifts,
    }


@pytest.mark.parametrize(
    ("low", "high", "higher", "verdict"),
    [
        (0.01, 0.03, True, "better"),
        (-0.03, -0.01, True, "worse"),
        (-0.01, 0.02, True, "unclear"),
        (0.01, 0.03, False, "worse"),
        (-0.03, -0.01, False, "better"),
        (None, None, True, "unclear"),
    ],
)
def test_a_verdict_is_given_where_the_interval_leaves_out_zero(
    low: float | None, high: float | None, higher: bool, verdict: str
) -> None:
    found = read_quality(node(higher_is_better=higher), [row("ranker", "candidate", low=low, high=high)], [])
    assert found.models[0].lifts[0].verdict == verdict


def test_the_deciding_metric_comes_first() -> None:
    rows = [row("ranker", "candidate", "hit"), row("ranker", "candidate", "ndcg")]
    assert [m.metric for m in read_quality(node(metric="ndcg"), rows, []).models] == ["ndcg", "hit"]
    assert read_quality(node(), rows, []).metric == "hit"


def test_the_worst_slices_are_the_candidate_s_and_large_enough() -> None:
    """By the bound of the interval nearest to good; tiny slices and unknown intervals say too little."""

    def part(value: str, high: float, n: int = 50, model: str = "ranker") -> dict[str, Any]:
        numbers = {"mean": high / 2, "low": 0.0, "high": high, "n": n}
        return {"model": model, "metric": "ndcg", "slice": "genre", "value": value, **numbers}

    metrics = [
        part("drama", 0.4), part("noir", 0.2), part("tiny", 0.1, n=3), part("war", 0.1, model="popular"),
        part("odd", float("nan")),
    ]  # fmt: skip
    found = read_quality(node(metric="ndcg"), [row("ranker", "candidate")], metrics)
    assert [s.value for s in found.worst] == ["noir", "drama"]
