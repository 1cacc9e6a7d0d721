"""Profiles of numeric columns: moments, extremes and a histogram (`bins`), from which quantiles and shares follow."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from penstock.core.records import Record
from penstock.monitoring.profiles.bins import (
    FINEST,
    Floats,
    Histogram,
    added,
    histogram_of,
    middles_of,
)

# What fits the processor's second cache: each block is read from memory once for all its sums.
_BLOCK = 32_768


class Numbers(Record, frozen=True, kw_only=True):
    """What numbers look like.

    Attributes:
        count: Finite numbers.
        not_finite: NaN and infinities; they count towards nothing else.
        zeros: Of the finite ones.
        mean: Of the finite ones; 0 when there are none.
        m2: Sum of squared deviations from the mean.
        low: Smallest; None when there are none.
        high: Largest.
        bits: How narrow the bins are: at most 2^-bits of their values.
        bins: Numbers of the bins that are not empty, ascending, as little-endian 64-bit integers.
        counts: Numbers per bin, likewise.
    """

    count: int = 0
    not_finite: int = 0
    zeros: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float | None = None
    high: float | None = None
    bits: int = FINEST
    bins: bytes = b""
    counts: bytes = b""

    @property
    def variance(self) -> float:
        """Sample variance; 0 for fewer than two numbers."""
        return self.m2 / (self.count - 1) if self.count > 1 else 0.0

    @property
    def histogram(self) -> Histogram:
        """The bins as arrays."""
        return Histogram(self.bits, np.frombuffer(self.bins, dtype="<i8"), np.frombuffer(self.counts, dtype="<i8"))


class _Moments(NamedTuple):
    mean: float
    m2: float
    low: float
    high: float


def numbers_of(series: pl.Series) -> Numbers:
    """Profile a column of numbers, dates or times without nulls; times count in microseconds."""
    values = _as_floats(series)
    if not len(values):
        return Numbers()
    moments, not_finite = _moments_of(values), 0
    # Extremes tell whether there are NaN or infinities, which is seldom: a look at each number would cost more.
    if not (math.isfinite(moments.low) and math.isfinite(moments.high)):
        finite = values[np.isfinite(values)]
        not_finite = len(values) - len(finite)
        if not len(finite):
            return Numbers(not_finite=not_finite)
        values, moments = finite, _moments_of(finite)
    found = histogram_of(values, moments.low, moments.high)
    return Numbers(
        count=len(values),
        not_finite=not_finite,
        # Zeros are told from other tiny numbers only where their bin is filled.
        zeros=int(len(values) - np.count_nonzero(values)) if (found.bins == 0).any() else 0,
        mean=moments.mean,
        m2=moments.m2,
        low=moments.low,
        high=moments.high,
        bits=found.bits,
        bins=found.bins.astype("<i8").tobytes(),
        counts=found.counts.astype("<i8").tobytes(),
    )


def joined_numbers(parts: Sequence[Numbers]) -> Numbers:
    """Return the profile of the numbers of all parts.

    Moments are joined as by Chan, Golub and LeVeque (1983), The American Statistician 37:242-247.
    """
    not_finite = sum(part.not_finite for part in parts)
    filled = [part for part in parts if part.count]
    if len(filled) < 2:
        return msgspec.structs.replace(filled[0] if filled else Numbers(), not_finite=not_finite)
    counts = np.array([part.count for part in filled], dtype=np.float64)
    means = np.array([part.mean for part in filled])
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(means @ (counts / counts.sum()))
        between = float(counts @ (means - mean) ** 2)
    found = added([part.histogram for part in filled])
    return Numbers(
        count=sum(part.count for part in filled),
        not_finite=not_finite,
        zeros=sum(part.zeros for part in filled),
        mean=mean,
        m2=float(sum(part.m2 for part in filled) + between),
        low=min(part.low for part in filled if part.low is not None),
        high=max(part.high for part in filled if part.high is not None),
        bits=found.bits,
        bins=found.bins.astype("<i8").tobytes(),
        counts=found.counts.astype("<i8").tobytes(),
    )


def quantiles(numbers: Numbers, shares: Floats) -> Floats:
    """Return quantiles, each within the width of its bin and within the extremes; NaN where there are no numbers.

    Bins are at most 1/32 wide relative to their values unless numbers spread over more than 30 powers of two.

    Args:
        numbers: The profile.
        shares: Between 0 and 1.
    """
    if not numbers.count:
        return np.full(len(shares), np.nan)
    histogram = numbers.histogram
    below = np.cumsum(histogram.counts)
    at = np.searchsorted(below, np.asarray(shares) * numbers.count, side="left").clip(0, len(below) - 1)
    found: Floats = np.clip(middles_of(histogram)[at], numbers.low, numbers.high)
    return found


def share_below(numbers: Numbers, edges: Floats) -> Floats:
    """Return the share of numbers at or below each edge, as far as bins tell."""
    if not numbers.count:
        return np.zeros(len(edges))
    histogram = numbers.histogram
    below = np.concatenate([[0], np.cumsum(histogram.counts)])
    found: Floats = below[np.searchsorted(middles_of(histogram), edges, side="right")] / numbers.count
    return found


def _moments_of(values: Floats) -> _Moments:
    """Return mean, squared deviations and extremes, block by block, so that no sum loses digits.

    Squares of numbers beyond 1e154 are infinite, which is all that is said of their deviation. Extremes are NaN or
    infinite where any number is.
    """
    blocks = [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
    work = np.empty(min(_BLOCK, len(values)))
    means, squares, lows, highs = (np.empty(len(blocks)) for _ in range(4))
    with np.errstate(over="ignore", invalid="ignore"):
        for place, block in enumerate(blocks):
            mean = means[place] = block.mean()
            apart = np.subtract(block, mean, out=work[: len(block)])
            squares[place] = np.multiply(apart, apart, out=apart).sum()
            lows[place], highs[place] = block.min(), block.max()
        counts = np.array([len(block) for block in blocks], dtype=np.float64)
        mean = float((means * (counts / len(values))).sum())
        m2 = float(squares.sum() + (counts * (means - mean) ** 2).sum())
    return _Moments(mean, m2, float(lows.min()), float(highs.max()))


def _as_floats(series: pl.Series) -> Floats:
    if series.dtype.is_temporal():
        series = series.cast(pl.Datetime("us") if series.dtype == pl.Date else series.dtype).to_physical()
    if series.dtype != pl.Float64:
        series = series.cast(pl.Float64)
    return np.ascontiguousarray(series.to_numpy(), dtype=np.float64)
