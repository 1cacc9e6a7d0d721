"""What of a profile is compared between windows: a few numbers per column, each on a scale where it varies evenly.

Shares are taken as 2 asin(sqrt(share)) (Freeman and Tukey, 1950, Annals of Mathematical Statistics 21:607-611), whose
spread is 1/sqrt(n) whatever the share; spreads and distances as logarithms. All are smooth in the rows: a quantile of
a column of whole numbers stays or jumps, the share of rows below it does neither.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.monitoring.profiles.bins import Histogram, coarsened, middles_of
from penstock.monitoring.profiles.numbers import Numbers, quantiles
from penstock.monitoring.profiles.profile import Column
from penstock.monitoring.profiles.words import Words

Floats = npt.NDArray[np.float64]
_MIDDLE = np.array([0.1, 0.5, 0.9])
_QUARTERS = {"low": 0.25, "middle": 0.5, "high": 0.75}
# 0.1 to 0.9 of a normal distribution, in standard deviations.
_SPREAD_OF_NORMAL = 2.563
_TINY = 1e-12
_SMALLEST_VARIANCE = 1e-6
# How a column's part of the budget is divided: most to what moves most often.
WEIGHTS = {
    "missing": 2.0, "not_finite": 0.5, "level": 9.0, "spread": 2.0, "low": 0.5, "middle": 0.5, "high": 0.5,
    "zeros": 0.5, "lean": 1.0, "tails": 1.0, "new": 2.0, "mix": 5.0, "largest": 2.0,
}  # fmt: skip
# Degrees of freedom at most: higher moments and distances have heavier tails than means and shares.
CAUTIOUS = {"spread": 20, "lean": 8, "tails": 8, "mix": 20}


class Feature(NamedTuple):
    """One comparable number of one column in one window.

    Attributes:
        value: On its own scale.
        noise: Its variance by chance alone, if rows were independent.
    """

    value: float
    noise: float


class Yardstick:
    """What windows of one column are measured with: made of all reference rows.

    Args:
        usual: The column over all reference rows.
        rows: Rows of an ordinary window: chance moves distances of smaller ones further, which is taken off.
        bits: Of the bins; at most those of `usual`.
    """

    def __init__(self, usual: Column, rows: float, bits: int | None = None) -> None:
        self.usual, self.rows = usual, rows
        self._numbers: _OfNumbers | None = None
        if usual.numbers is not None and usual.numbers.count:
            histogram = usual.numbers.histogram
            self._numbers = _OfNumbers(usual.numbers, histogram.bits if bits is None else min(bits, histogram.bits))

    def measured(self, column: Column, *, is_part: bool) -> dict[str, Feature]:
        """Return the comparable numbers of a column.

        Args:
            column: Of one window.
            is_part: Its rows are among those of `usual`; distances are then from the others.
        """
        found = {"missing": _share(column.nulls, column.rows)}
        small = math.sqrt(min(column.rows / self.rows, 1.0)) if self.rows else 1.0
        if column.numbers is not None and self._numbers is not None:
            found |= self._numbers.measured(column.numbers)
        if column.words is not None and self.usual.words is not None and self.usual.words.count:
            found |= _of_words(column.words, self.usual.words, small, is_part=is_part)
        return found


def scale_of(usual: Numbers) -> float:
    """Return the unit in which shifts of a column are told: its spread, robust against a few wild values."""
    low, _, high = quantiles(usual, _MIDDLE)
    spread = float(high - low) / _SPREAD_OF_NORMAL
    return spread if spread > _TINY else math.sqrt(usual.variance) or 1.0


class _OfNumbers:
    def __init__(self, usual: Numbers, bits: int) -> None:
        self.bits, self.scale = bits, scale_of(usual)
        self._centre = float(quantiles(usual, _MIDDLE)[1])
        histogram = coarsened(usual.histogram, bits)
        values, shares = self._values(histogram), histogram.counts / usual.count
        mean = float(values @ shares)
        # By how much a shift of one spread moves the mean of the values: their slope is 1 / cosh of themselves.
        self._slope = float((1 / np.cosh(values)) @ shares)
        apart = (values - mean) ** 2
        self.variance = float(apart @ shares)
        fourth = float((apart * apart) @ shares)
        self.is_constant = self.variance <= _SMALLEST_VARIANCE
        self._noise_of_spread = 0.0 if self.is_constant else max(fourth / self.variance**2 - 1, 0.1) / 4
        self._quarters = _quarters(histogram, np.cumsum(histogram.counts))

    def measured(self, numbers: Numbers) -> dict[str, Feature]:
        found = {"not_finite": _share(numbers.not_finite, numbers.not_finite + numbers.count)}
        if not numbers.count:
            return found
        histogram = coarsened(numbers.histogram, self.bits)
        values, shares = self._values(histogram), histogram.counts / numbers.count
        mean = float(values @ shares)
        variance = float((values - mean) ** 2 @ shares)
        noise = max(variance, self.variance) / numbers.count
        found["level"] = Feature(mean / self._slope, noise / self._slope**2)
        if not self.is_constant:
            spread = 0.5 * math.log(max(variance, _SMALLEST_VARIANCE))
            found["spread"] = Feature(spread, self._noise_of_spread / numbers.count)
            found |= _leaning(values - mean, shares, variance)
        found["zeros"] = _share(numbers.zeros, numbers.count)
        below = np.concatenate([[0], np.cumsum(histogram.counts)])
        for name, edge in self._quarters.items():
            found[name] = _share(int(below[np.searchsorted(histogram.bins, edge, side="right")]), numbers.count)
        return found

    def _values(self, histogram: Histogram) -> Floats:
        """Return the middles of the bins in spreads from the median, on a scale that shortens what lies far out.

        The inverse hyperbolic sine (Johnson, 1949, Biometrika 36:149-176) is linear near the median and logarithmic
        beyond: one wild value moves nothing, and what varies by a share of itself varies evenly.
        """
        found: Floats = np.arcsinh((middles_of(histogram) - self._centre) / self.scale)
        return found


def _leaning(apart: Floats, shares: Floats, variance: float) -> dict[str, Feature]:
    """Return skewness and the logarithm of kurtosis: a shape that neither the level nor the spread changes."""
    if variance <= _SMALLEST_VARIANCE:
        return {}
    third, fourth = float(apart**3 @ shares), float(apart**4 @ shares)
    return {
        "lean": Feature(third / variance**1.5, 0.0),
        "tails": Feature(math.log(max(fourth / variance**2, 1.0)), 0.0),
    }


def _quarters(histogram: Histogram, below: npt.NDArray[np.int64]) -> dict[str, int]:
    """Return the bins up to which a quarter, half and three quarters of the rows are; none that holds all."""
    found: dict[str, int] = {}
    for name, share in _QUARTERS.items():
        at = int(np.searchsorted(below, share * below[-1]))
        edge = int(histogram.bins[at])
        if at < len(below) - 1 and edge not in found.values():
            found[name] = edge
    return found


def _of_words(words: Words, usual: Words, small: float, *, is_part: bool) -> dict[str, Feature]:
    if not words.count:
        return {}
    counts = np.array([words.common.get(value, 0) for value in usual.common], dtype=np.float64)
    usuals = np.fromiter(usual.common.values(), dtype=np.float64, count=len(usual.common))
    others = abs((words.count - counts.sum()) / words.count - (usual.count - usuals.sum()) / usual.count)
    apart = 0.5 * (float(np.abs(counts / words.count - usuals / usual.count).sum()) + others)
    apart *= _from_others(words.count, usual.count, is_part=is_part)
    found = {
        "mix": _distance(apart * small, words.count, small),
        "largest": _share(int(counts[0]) if len(counts) else 0, words.count),
    }
    if not usual.rest:
        # What only this part of the reference has, the others have never seen.
        new = counts[counts == usuals].sum() if is_part else words.count - counts.sum()
        found["new"] = _share(int(new), words.count)
    return found


def _from_others(count: int, usual: int, *, is_part: bool) -> float:
    # A window is nearer to a whole that it is part of; by exactly this much, as distances are of shares.
    return usual / (usual - count) if is_part and usual > count else 1.0


def _distance(apart: float, count: int, small: float) -> Feature:
    # A shorter distance than chance makes anyway is nothing to tell apart; none at all, as of a constant, says nothing.
    return Feature(math.log(apart + small / math.sqrt(count)), 0.0 if apart else 1.0)


def _share(count: int, total: int) -> Feature:
    # A third of a row on each side keeps the scale even at 0 and 1 (Anscombe, 1948, Biometrika 35:246-254, has 3/8).
    if not total:
        return Feature(0.0, 1.0)
    return Feature(2 * math.asin(math.sqrt((count + 0.375) / (total + 0.75))), 1 / total)
