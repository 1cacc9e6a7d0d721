"""How much numbers ordinarily vary from window to window, and how surprising the next ones are.

Rows of one window are seldom independent of each other: a holiday, a campaign or a cold morning moves many at once. So
the yardstick is not the chance of sampling rows but the spread of earlier windows; the chance of sampling is only its
lower bound. Many series are judged at once, each by the season that explains it, if any.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.checks.statistics import student_cdf, student_quantile

Floats = npt.NDArray[np.float64]
# Fewer windows say too little of how they vary.
FEWEST = 8
_POWER = 0.8
_LARGEST_CARRY = 0.9
_LEAST_ERROR = 1e-12


class Surprise(NamedTuple):
    """How the next number compares.

    Attributes:
        change: From what was expected.
        p: Two-sided chance of a change this large in an ordinary window.
        error: Ordinary spread around what was expected.
        degrees: Degrees of freedom of that spread.
    """

    change: float
    p: float
    error: float
    degrees: int

    def cautious(self, most: float) -> "Surprise":
        """Return the same with so many degrees of freedom at most."""
        if self.degrees <= most:
            return self
        degrees = int(most)
        p = 2 * student_cdf(-abs(self.change) / self.error, degrees)
        return self._replace(p=max(p, self.p), degrees=degrees)

    def detectable(self, level: float) -> float:
        """Return the smallest change that would be found with 80 % certainty when `level` is the error rate."""
        return self.error * (student_quantile(1 - level / 2, self.degrees) + student_quantile(_POWER, self.degrees))


@dataclass(frozen=True)
class Season:
    """One way in which windows may depend on when they are: what each of them is regressed on.

    Attributes:
        before: A row per reference window; the first column is 1.
        now: The row of the window in question.
    """

    before: Floats
    now: Floats

    @cached_property
    def inverse(self) -> Floats:
        """What gives the weights of a regression on `before`; the same for every series."""
        return np.asarray(np.linalg.pinv(self.before), dtype=np.float64)


class Ordinary:
    """How series of numbers vary over the reference windows.

    For each series the season is chosen that explains it best for its number of parameters (Schwarz, 1978, Annals of
    Statistics 6:461-464). Windows that resemble their neighbours tell less than independent ones: their number is
    reduced by the first autocorrelation of what the season leaves, as for an AR(1) series (Bayley and Hammersley,
    1946, JRSS Suppl. 8:184-197).

    Args:
        values: A row per reference window, at least `FEWEST`; a column per series; NaN where a window has none.
        noise: Variance of each by chance alone.
    """

    def __init__(self, values: Floats, noise: Floats) -> None:
        there = np.isfinite(values)
        self.is_known = there.sum(axis=0) >= np.maximum(FEWEST, 0.8 * len(values))
        self._there = np.maximum(there.sum(axis=0), 1)
        means = np.where(there, values, 0.0).sum(axis=0) / self._there
        self._values = np.where(there, values, means)
        self._noise = np.where(there, noise, 0.0).sum(axis=0) / self._there

    def surprises(
        self, values: Floats, noise: Floats, seasons: Sequence[Season], most: Sequence[float] | None = None
    ) -> list[Surprise | None]:
        """Compare a window with earlier ones by the predictive distribution of the next value (Student's t).

        A change that is no larger than one of the reference is never called rarer than that: ordinary windows may
        have heavier tails than Student's.

        Args:
            values: Of the window, one per series; NaN where it has none.
            noise: Their variance by chance alone.
            seasons: To choose from; the first without any season.
            most: Degrees of freedom that each series may have, where its tails are heavier than a normal's.

        Returns:
            One entry per series; None where there is nothing to compare.
        """
        chosen = self._chosen(seasons)
        found: list[Surprise | None] = []
        for at, fit in enumerate(chosen):
            is_there = bool(self.is_known[at]) and math.isfinite(values[at])
            one = self._surprise(at, fit, float(values[at]), float(noise[at])) if is_there else None
            found.append(one if one is None or most is None else one.cautious(most[at]))
        return found

    def _chosen(self, seasons: Sequence[Season]) -> list["_Fit"]:
        windows = len(self._values)
        best: list[tuple[float, _Fit]] = []
        for season in seasons:
            used = season.before.shape[1]
            inverse = season.inverse
            weights = inverse @ self._values
            residuals = self._values - season.before @ weights
            squares = (residuals**2).sum(axis=0)
            costs = windows * np.log(squares / windows + _LEAST_ERROR**2) + used * math.log(windows)
            leverage = float((season.now @ inverse) @ (season.now @ inverse))
            fits = [
                (float(cost), _Fit(float(expected), residuals[:, at], used, leverage))
                for at, (cost, expected) in enumerate(zip(costs, season.now @ weights, strict=True))
            ]
            best = [min(pair, key=lambda one: one[0]) for pair in zip(best, fits, strict=True)] if best else fits
        return [fit for _, fit in best]

    def _surprise(self, at: int, fit: "_Fit", value: float, noise: float) -> Surprise:
        windows, residuals = int(self._there[at]), fit.residuals
        free = max(windows - fit.used, 2)
        carry = _autocorrelation(residuals)
        variance = float(residuals @ residuals) / free
        variance /= max(1 - 2 * carry / ((1 - carry) * windows), 0.25)
        # A smaller window than the earlier ones varies more by chance; no window varies less than chance.
        variance = max(variance + max(noise - float(self._noise[at]), 0.0), noise)
        error = max(math.sqrt(variance * (1 + fit.leverage * (1 + carry) / (1 - carry))), _LEAST_ERROR)
        degrees = max(int(free * (1 - carry**2) / (1 + carry**2)), 2)
        change = value - fit.expected
        p = 2 * student_cdf(-abs(change) / error, degrees)
        if abs(change) <= float(np.abs(residuals).max()):
            p = max(p, 1 / (windows + 1))
        return Surprise(change, min(p, 1.0), error, degrees)


class _Fit(NamedTuple):
    expected: float
    residuals: Floats
    used: int
    leverage: float


def _autocorrelation(residuals: Floats) -> float:
    total = float(residuals @ residuals)
    # Of what varies by rounding alone nothing can be said to carry over.
    if total <= _LEAST_ERROR * len(residuals):
        return 0.0
    found = float(residuals[1:] @ residuals[:-1]) / total
    # The estimate is low by about 1/n and uncertain by 1/sqrt(n): only what is beyond doubt counts.
    return min(max(found + 1 / len(residuals), 0.0), _LARGEST_CARRY)
