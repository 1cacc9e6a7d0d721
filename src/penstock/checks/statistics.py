"""Intervals, p-values and corrections, with the source of each formula; numpy only, vectorised over groups.

Every sum runs over sorted values in one plain loop, so a result does not depend on the order of rows, on the number
of threads or on the processor: it is part of what a release's hash covers.
"""

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Scale = Literal["share", "nonnegative", "real"]

CONFIDENCE = 0.95
_ENOUGH_ZEROS = 0.5
_NO_SKEW = 1e-6


@dataclass(frozen=True, slots=True)
class Intervals:
    """Means with 95 % confidence intervals, one entry per group; unbounded (infinite) where nothing is known."""

    mean: Floats
    low: Floats
    high: Floats
    n: Integers


@dataclass(frozen=True, slots=True)
class Grouped:
    """Values with the group each belongs to (0 to size - 1), sorted by group and value."""

    values: Floats
    groups: Integers
    size: int

    @classmethod
    def of(cls, values: Floats, groups: Integers | None = None, size: int = 1) -> "Grouped":
        """Sort values within their groups; one group if none are given."""
        at = np.zeros(len(values), dtype=np.int64) if groups is None else groups
        order = np.lexsort((values, at))
        return cls(values[order].astype(np.float64), at[order], size)

    def sum(self, terms: Floats) -> Floats:
        """Return the sum of terms per group."""
        # bincount adds one by one in C; np.sum would add in an order that depends on the processor's vectors.
        return np.bincount(self.groups, weights=terms, minlength=self.size).astype(np.float64)

    def count(self) -> Integers:
        """Return the number of values per group."""
        return np.bincount(self.groups, minlength=self.size).astype(np.int64)


def scale_of(values: Floats) -> Scale:
    """Return what kind of quantity a whole column of a metric is."""
    if len(values) and bool(np.isin(values, (0.0, 1.0)).all()):
        return "share"
    return "nonnegative" if len(values) and bool((values >= 0).all()) else "real"


def mean_intervals(data: Grouped, scale: Scale, *, largest: float = 1.0) -> Intervals:
    """Return the mean of each group with its 95 % interval.

    - `share` (all values 0 or 1): Wilson's score interval. Wilson (1927), JASA 22:209-212.
    - `nonnegative`, half or more of the values zero (as NDCG or revenue): the score interval of a variable that is
      `h` or 0, with `h` = sum of squares / sum, so that its variance at the mean is the variance found; with h = 1
      it is Wilson's. Student's interval holds such means in 64 to 94 % of cases only (docs/explanation/evaluation.md).
    - otherwise: Student's t after Hall's transformation, which takes out the skewness; without skewness it is
      Student's interval. Hall (1992), JRSS B 54:221-228.

    Groups of one value have no bounds, except shares. Groups without values have mean NaN.

    Args:
        data: Finite values by group.
        scale: What the whole column is, from `scale_of`: a slice of zeros is not by itself a share.
        largest: Largest value of the whole column; stands for `h` where a group has only zeros.
    """
    n = data.count()
    safe = np.maximum(n, 1)
    mean = np.where(n > 0, data.sum(data.values) / safe, np.nan)
    if scale == "share":
        low, high = _score(mean, np.ones(data.size), n, _normal_quantiles(n))
    else:
        low, high = _hall(data, mean, n)
        if scale == "nonnegative":
            low = np.maximum(low, 0.0)
            zeros = data.sum((data.values == 0.0).astype(np.float64)) / safe >= _ENOUGH_ZEROS
            total = data.sum(data.values)
            height = np.maximum(
                data.sum(data.values**2) / np.where(total > 0, total, 1.0), mean
            )  # squares may underflow
            height = np.where(height > 0, height, largest)
            score_low, score_high = _score(mean, height, n, _student_quantiles(n))
            low, high = np.where(zeros, score_low, low), np.where(zeros, score_high, high)
        low, high = np.where(n > 1, low, -np.inf), np.where(n > 1, high, np.inf)
    empty = n == 0
    return Intervals(mean, np.where(empty, -np.inf, low), np.where(empty, np.inf, high), n)


def difference_intervals(data: Grouped) -> Intervals:
    """Return the mean of paired differences per group with Student's 95 % interval.

    Under "no difference" paired differences are near symmetric, where Student's interval keeps its error rate and
    errs to the safe side when most pairs are equal. A correction for skewness would call two wins and no loss a win.
    """
    n, mean, error = _standard_error(data)
    half = _student_quantiles(n) * error
    low, high = np.where(n > 1, mean - half, -np.inf), np.where(n > 1, mean + half, np.inf)
    return Intervals(mean, low, high, n)


def p_below_zero(data: Grouped) -> Floats:
    """Return, per group, the one-sided p-value for "the mean difference is below zero" (Student's t); 1 if unknown."""
    n, mean, error = _standard_error(data)
    values = np.ones(data.size)
    for at in np.flatnonzero(n > 1):
        if error[at] > 0:
            values[at] = student_cdf(float(mean[at] / error[at]), int(n[at]) - 1)
        elif mean[at] < 0:
            values[at] = 0.0
    return values


def spread(values: Floats) -> float:
    """Return the standard deviation of values, the unit in which effects are told; 0 of none."""
    data, count = Grouped.of(values), max(len(values), 1)
    mean = data.sum(data.values) / count
    return math.sqrt(float(data.sum((data.values - mean) ** 2)[0]) / count)


def holm(p_values: Floats) -> Floats:
    """Return p-values adjusted for the number of questions asked: Holm (1979), Scand. J. Statistics 6:65-70."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def false_discovery(p_values: Floats, *, is_any_dependence: bool = False) -> Floats:
    """Return p-values adjusted so that calling those below a level keeps the share of false calls at that level.

    Benjamini and Hochberg (1995), JRSS B 57:289-300, valid where the questions depend positively on each other; with
    the factor of Benjamini and Yekutieli (2001), Annals of Statistics 29:1165-1188, theorem 1.3, however they depend.

    Args:
        p_values: One per question.
        is_any_dependence: Nothing is known about how the questions depend on each other.
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    factor = float((1 / np.arange(1, count + 1)).sum()) if is_any_dependence else 1.0
    scaled = p_values[order] * factor * count / np.arange(1, count + 1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def student_cdf(t: float, df: int) -> float:
    """Return P(T <= t) of Student's distribution: Abramowitz & Stegun (1964) 26.7.1 by the incomplete beta."""
    tail = 0.5 * _incomplete_beta(df / (df + t * t), df / 2, 0.5)
    return tail if t < 0 else 1.0 - tail


@functools.lru_cache(maxsize=4096)
def student_quantile(p: float, df: int) -> float:
    """Return the quantile of Student's distribution: Abramowitz & Stegun (1964) 26.7.5, then bisection if df is small.

    Raises:
        ValueError: `p` is not within (0, 1), or `df` is below 1.
    """
    if not 0 < p < 1 or df < 1:
        raise ValueError(f"no quantile at p={p!r} with df={df!r}")
    if p < 0.5:
        return -student_quantile(1 - p, df)
    z = NormalDist().inv_cdf(p)
    if df > 1000:
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        return z + first / df + second / df**2 + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / df**3
    low, high = 0.0, 2.0
    while student_cdf(high, df) < p:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if student_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def _standard_error(data: Grouped) -> tuple[Integers, Floats, Floats]:
    n = data.count()
    mean = np.where(n > 0, data.sum(data.values) / np.maximum(n, 1), np.nan)
    squares = data.sum((data.values - mean[data.groups]) ** 2)
    return n, mean, np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))


def _hall(data: Grouped, mean: Floats, n: Integers) -> tuple[Floats, Floats]:
    deviations = data.values - mean[data.groups]
    count = np.maximum(n, 1)
    spread = np.sqrt(data.sum(deviations**2) / np.maximum(n - 1, 1))
    # Scaled before the cube: powers of tiny deviations underflow.
    scaled = deviations / np.where(spread > 0, spread, 1.0)[data.groups]
    skewness = data.sum(scaled**3) / count * (count / np.maximum(n - 1, 1)) ** 1.5
    quantiles = _student_quantiles(n)
    return (
        mean - spread * _unskewed(quantiles, skewness, count),
        mean - spread * _unskewed(-quantiles, skewness, count),
    )


def _unskewed(quantiles: Floats, skewness: Floats, n: Integers) -> Floats:
    """Return Hall's inverse transformation: where (mean - mu) / s has the given quantile, skewness considered."""
    skewed = np.abs(skewness) > _NO_SKEW
    g = np.where(skewed, skewness, 1.0)
    root = np.cbrt(1 + g * (quantiles / np.sqrt(n) - g / (6 * n)))
    return np.where(skewed, 3 / g * (root - 1), quantiles / np.sqrt(n))


def _score(mean: Floats, height: Floats, n: Integers, quantiles: Floats) -> tuple[Floats, Floats]:
    count = np.maximum(n, 1)
    share, square = mean / height, quantiles**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = quantiles / (1 + square / count) * np.sqrt(share * (1 - share) / count + square / (4 * count**2))
    # At a share of 0 or 1 the bound is exact; rounding must not put it a hair inside.
    low, high = np.where(share <= 0, 0.0, centre - half), np.where(share >= 1, 1.0, centre + half)
    return height * low, height * high


def _student_quantiles(n: Integers) -> Floats:
    return np.array([student_quantile((1 + CONFIDENCE) / 2, max(int(count) - 1, 1)) for count in n])


def _normal_quantiles(n: Integers) -> Floats:
    return np.full(len(n), NormalDist().inv_cdf((1 + CONFIDENCE) / 2))


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction (Numerical Recipes, 3rd ed., 6.4)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            fraction *= d * c
        if abs(fraction - before) <= 1e-16 * abs(fraction):
            break
    return front * fraction / a
