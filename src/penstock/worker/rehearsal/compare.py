"""Means of outcomes with intervals, and two arms request by request. Pure."""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.checks.statistics import CONFIDENCE, student_quantile
from penstock.worker.rehearsal.records import ArmName, Compared, Quality

_LEAST_BLOCKS = 2
_DIGITS = 9  # what is compared between two rehearsals must not hang on the order in which numbers were added


def mean_of(truths: pl.DataFrame) -> Quality:
    """Return the mean outcome with its interval.

    Args:
        truths: One row per prediction: `value`, and `key` and `step`, whose rows are not independent.
    """
    if not truths.height:
        return Quality()
    return _quality(truths["value"].to_numpy(), [truths["key"], truths["step"]])


def compared_with(outcome: str, other: ArmName, ours: pl.DataFrame, theirs: pl.DataFrame) -> Compared:
    """Return how two arms compare on the requests that both answered and whose truth is whole in both.

    Args:
        outcome: The outcome function.
        other: The arm compared with.
        ours: The policy's truths: `id`, `step`, `key`, `value`.
        theirs: The other's, alike.
    """
    pairs = ours.join(theirs.select("id", pl.col("value").alias("other")), on="id", how="inner").sort("id")
    if not pairs.height:
        return Compared(outcome=outcome, other=other, ours=None, theirs=None, difference=Quality())
    mine, other_values = pairs["value"].to_numpy(), pairs["other"].to_numpy()
    return Compared(
        outcome=outcome,
        other=other,
        ours=round(float(mine.mean()), _DIGITS),
        theirs=round(float(other_values.mean()), _DIGITS),
        difference=_quality(mine - other_values, [pairs["key"], pairs["step"]]),
    )


def _quality(values: NDArray[np.float64], blocks: list[pl.Series]) -> Quality:
    """Return a mean with the widest of the intervals by block: Liang and Zeger (1986), Biometrika 73:13-22."""
    mean = float(values.mean())
    half = [_half(values - mean, by) for by in blocks]
    known = [width for width in half if width is not None]
    if not known:
        return Quality(mean=round(mean, _DIGITS), n=len(values))
    width = max(known)
    low, high = round(mean - width, _DIGITS), round(mean + width, _DIGITS)
    return Quality(mean=round(mean, _DIGITS), low=low, high=high, n=len(values))


def _half(deviations: NDArray[np.float64], by: pl.Series) -> float | None:
    """Return half the width of the interval of a mean whose errors are independent only between blocks."""
    _, block = np.unique(by.to_numpy(), return_inverse=True)
    count = int(block.max()) + 1
    if count < _LEAST_BLOCKS:
        return None
    sums = np.bincount(block, weights=deviations, minlength=count)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(deviations)
    return student_quantile((1 + CONFIDENCE) / 2, count - 1) * error
