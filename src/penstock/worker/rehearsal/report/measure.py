"""Means and paired differences of what outcome functions found, with intervals for answers that hang together.

Answers to one question asked again and again, and answers of one day by one release, are no independent draws. So the
interval is the wider of two: by questions, and by days. Each is Student's with the cluster-robust standard error of a
mean (Liang and Zeger, 1986, Biometrika 73:13-22; t with one degree of freedom less than clusters).
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.checks.statistics import CONFIDENCE, student_quantile
from penstock.project.quality import Compared, Verdict
from penstock.worker.rehearsal.report.records import Difference, LiveQuality, Measure

_QUESTION = ("at", "serve", "fields")
_FEWEST = 2


def live_quality(outcome: str, answers: pl.DataFrame, truths: pl.DataFrame) -> LiveQuality:
    """Return the mean outcome of answers whose truth is whole.

    Args:
        outcome: Name of the outcome function.
        answers: prediction_id, at, serve, fields.
        truths: prediction_id, value, is_whole.
    """
    whole = _with_truth(answers, truths).filter("is_whole")
    measure = measure_of(whole["value"].to_numpy(), whole) if whole.height else None
    return LiveQuality(outcome=outcome, measure=measure, waiting=answers.height - whole.height)


def difference(outcome: str, other: str, loop: pl.DataFrame, others: pl.DataFrame) -> Difference | None:
    """Return how much better the loop answered the same questions; None where no question has both truths.

    Args:
        outcome: Name of the outcome function.
        other: Name of the other arm.
        loop: at, serve, fields, value of the loop's answers, from `with_whole_truth`.
        others: The same of the other arm.
    """
    pairs = loop.join(others, on=_QUESTION, how="inner", suffix="_other")
    if not pairs.height:
        return None
    found = measure_of((pairs["value"] - pairs["value_other"]).to_numpy(), pairs)
    compared = Compared(over=other, mean=found.mean, low=found.low, high=found.high, verdict=_verdict(found))
    return Difference(outcome=outcome, compared=compared, pairs=pairs.height)


def with_whole_truth(answers: pl.DataFrame, truths: pl.DataFrame) -> pl.DataFrame:
    """Return at, serve, fields and value of answers whose truth is whole, each question of a moment once."""
    whole = _with_truth(answers, truths).filter("is_whole")
    return whole.unique(_QUESTION, keep="first", maintain_order=True).select(*_QUESTION, "value")


def measure_of(values: npt.NDArray[np.float64], answers: pl.DataFrame) -> Measure:
    """Return the mean of values with the wider of the intervals by questions and by days.

    Args:
        values: One per answer, finite; at least one.
        answers: `fields` and `at` of each.
    """
    mean = float(values.mean())
    clusters = (answers["fields"], answers["at"].dt.truncate("1d"))
    half = max(_half_width(values - mean, labels) for labels in clusters)
    is_known = math.isfinite(half)
    return Measure(
        mean=mean, low=mean - half if is_known else None, high=mean + half if is_known else None, n=len(values)
    )


def _half_width(residuals: npt.NDArray[np.float64], labels: pl.Series) -> float:
    sums = pl.DataFrame({"label": labels, "sum": residuals}).group_by("label").agg(pl.col("sum").sum())
    count = sums.height
    if count < _FEWEST:
        return math.inf
    squares = float((sums["sum"].sort() ** 2).sum())
    error = math.sqrt(squares * count / (count - 1)) / len(residuals)
    return student_quantile((1 + CONFIDENCE) / 2, count - 1) * error


def _with_truth(answers: pl.DataFrame, truths: pl.DataFrame) -> pl.DataFrame:
    known = truths.filter(pl.col("value").is_finite())
    return answers.join(known, on="prediction_id", how="inner", maintain_order="left")


def _verdict(found: Measure) -> Verdict:
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return "unclear"
    return "better" if found.low > 0 else "worse"
