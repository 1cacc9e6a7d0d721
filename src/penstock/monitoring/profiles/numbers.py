"""Profiles of numeric columns: moments, extremes and a histogram whose bins need no agreement beforehand.

The bin of a number is the upper 17 bits of its IEEE 754 form: sign, exponent, and five bits of the fraction. So every
number knows its bin without looking at the others, histograms of any two sets of rows add up, and a bin is at most
1/32 wide relative to its values. The idea is that of DDSketch (Masson, Rim and Lee, 2019, VLDB 12:2195-2205) with
logarithms replaced by the bits that are there anyway.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.records import Record

_SHIFT = np.uint64(47)
_BINS = 1 << 17
_FIRST_NEGATIVE = 1 << 16
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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
        bins: Bin numbers in the order of the values they hold, ascending.
        counts: Numbers per bin.
    """

    count: int = 0
    not_finite: int = 0
    zeros: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float | None = None
    high: float | None = None
    bins: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def variance(self) -> float:
        """Sample variance; 0 for fewer than two numbers."""
        return self.m2 / (self.count - 1) if self.count > 1 else 0.0


def numbers_of(series: pl.Series) -> Numbers:
    """Profile a column of numbers, dates or times without nulls; times count in microseconds."""
    values = _as_floats(series)
    if not len(values):
        return Numbers()
    finite = np.isfinite(values)
    not_finite = int(len(values) - finite.sum())
    if not_finite:
        values = values[finite]
        if not len(values):
            return Numbers(not_finite=not_finite)
    mean = float(values.mean())
    shifted = values - mean
    bins, counts = _filled((values.view(np.uint64) >> _SHIFT).view(np.int64))
    return Numbers(
        count=len(values),
        not_finite=not_finite,
        zeros=int(len(values) - np.count_nonzero(values)),
        mean=mean,
        m2=float(shifted @ shifted),
        low=float(values.min()),
        high=float(values.max()),
        bins=tuple(bins.tolist()),
        counts=tuple(counts.tolist()),
    )


def merged_numbers(one: Numbers, other: Numbers) -> Numbers:
    """Return the profile of both sets of numbers.

    Moments are joined as by Chan, Golub and LeVeque (1983), The American Statistician 37:242-247.
    """
    if not one.count or not other.count:
        filled = one if one.count else other
        return _replaced(filled, not_finite=one.not_finite + other.not_finite)
    count = one.count + other.count
    apart = other.mean - one.mean
    totals: dict[int, int] = dict(zip(one.bins, one.counts, strict=True))
    for place, number in zip(other.bins, other.counts, strict=True):
        totals[place] = totals.get(place, 0) + number
    bins = np.fromiter(totals, dtype=np.int64, count=len(totals))
    bins = bins[np.argsort(_order(bins), kind="stable")]
    return Numbers(
        count=count,
        not_finite=one.not_finite + other.not_finite,
        zeros=one.zeros + other.zeros,
        mean=one.mean + apart * other.count / count,
        m2=one.m2 + other.m2 + apart * apart * one.count * other.count / count,
        low=min(x for x in (one.low, other.low) if x is not None),
        high=max(x for x in (one.high, other.high) if x is not None),
        bins=tuple(bins.tolist()),
        counts=tuple(totals[place] for place in bins.tolist()),
    )


def quantiles(numbers: Numbers, shares: Floats) -> Floats:
    """Return quantiles, each within 1/32 of the true value and within the extremes; NaN where there are no numbers.

    Args:
        numbers: The profile.
        shares: Between 0 and 1.
    """
    if not numbers.count:
        return np.full(len(shares), np.nan)
    below = np.cumsum(numbers.counts)
    at = np.searchsorted(below, np.asarray(shares) * numbers.count, side="left").clip(0, len(below) - 1)
    middles = middles_of(np.asarray(numbers.bins, dtype=np.int64))[at]
    found: Floats = np.clip(middles, numbers.low, numbers.high)
    return found


def share_below(numbers: Numbers, edges: Floats) -> Floats:
    """Return the share of numbers at or below each edge, as far as bins tell."""
    if not numbers.count:
        return np.zeros(len(edges))
    middles = middles_of(np.asarray(numbers.bins, dtype=np.int64))
    below = np.concatenate([[0], np.cumsum(numbers.counts)])
    found: Floats = below[np.searchsorted(middles, edges, side="right")] / numbers.count
    return found


def middles_of(bins: Integers) -> Floats:
    """Return the middle of each bin; 0 for the two bins around zero that hold nothing but zero and tiny numbers."""
    lower = (bins.astype(np.uint64) << _SHIFT).view(np.float64)
    upper = ((bins.astype(np.uint64) << _SHIFT) | np.uint64((1 << 47) - 1)).view(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isin(bins, (0, _FIRST_NEGATIVE)), 0.0, lower + (upper - lower) / 2)


def _filled(places: Integers) -> tuple[Integers, Integers]:
    """Return the bins that are not empty in the order of their values, and how many numbers each holds."""
    if len(places) < _BINS:  # sorting few numbers is quicker than clearing and walking all bins
        bins, counts = np.unique(places, return_counts=True)
    else:
        all_counts = np.bincount(places, minlength=_BINS)
        bins = np.flatnonzero(all_counts)
        counts = all_counts[bins]
    by_value = np.argsort(_order(bins), kind="stable")
    return bins[by_value], counts[by_value]


def _order(bins: Integers) -> Integers:
    # Bits of negative numbers grow with their size, so their order is turned round.
    return np.where(bins >= _FIRST_NEGATIVE, _FIRST_NEGATIVE - 1 - bins, bins)


def _as_floats(series: pl.Series) -> Floats:
    if series.dtype.is_temporal():
        series = series.cast(pl.Datetime("us") if series.dtype == pl.Date else series.dtype).to_physical()
    if series.dtype == pl.Boolean or series.dtype.is_decimal():
        series = series.cast(pl.Float64)
    return np.ascontiguousarray(series.to_numpy(), dtype=np.float64)


def _replaced(numbers: Numbers, **changes: Any) -> Numbers:
    return Numbers(**{name: getattr(numbers, name) for name in numbers.__struct_fields__} | changes)
