"""How much a number ordinarily varies from window to window, and how surprising the next one is.

Rows of one window are seldom independent of each other: a holiday, a campaign or a cold morning moves many at once. So
the yardstick is not the chance of sampling rows but the spread of earlier windows; the chance of sampling is only its
lower bound.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.checks.statistics import student_cdf, student_quantile

Floats = npt.NDArray[np.float64]
# Fewer windows say too little of how they vary.
FEWEST = 8
_CYCLES = 3
_POWER = 0.8
_LARGEST_CARRY = 0.9


class Series(NamedTuple):
    """One number of each reference window, in order.

    Attributes:
        values: The numbers.
        noise: Variance of each by chance alone.
        seasons: Place of each window within the day or week; all 0 without a season.
    """

    values: Floats
    noise: Floats
    seasons: npt.NDArray[np.int64]


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

    def detectable(self, level: float) -> float:
        """Return the smallest change that would be found with 80 % certainty when `level` is the error rate."""
        return self.error * (student_quantile(1 - level / 2, self.degrees) + student_quantile(_POWER, self.degrees))


def surprise(before: Series, value: float, noise: float, season: int) -> Surprise:
    """Compare a window with earlier ones by the predictive distribution of the next value (Student's t).

    Windows that resemble their neighbours tell less than independent ones: their number is reduced by the first
    autocorrelation, as for an AR(1) series (Bayley and Hammersley, 1946, JRSS Suppl. 8:184-197).

    Args:
        before: At least `FEWEST` reference windows.
        value: Of the window.
        noise: Variance of the window's value by chance alone.
        season: Its place within the day or week.
    """
    expected, residuals, used = _expected(before, season)
    windows = len(residuals)
    free = max(windows - used, 2)
    variance = float(residuals @ residuals) / free
    carry = _autocorrelation(residuals)
    thinned = max(free * (1 - carry**2) / (1 + carry**2), 2.0)
    variance /= max(1 - 2 * carry / ((1 - carry) * windows), 0.25)
    # A smaller window than the earlier ones varies more by chance; no window varies less than chance.
    usual = float(np.mean(before.noise))
    variance = max(variance + max(noise - usual, 0.0), noise)
    seen = windows / max(used, 1)
    error = math.sqrt(variance * (1 + (1 + carry) / (1 - carry) / seen)) or 1e-12
    degrees = max(int(thinned), 2)
    change = value - expected
    p = 2 * student_cdf(-abs(change) / error, degrees)
    return Surprise(change, min(p, 1.0), error, degrees)


def _expected(before: Series, season: int) -> tuple[float, Floats, int]:
    """Return the expected value, the residuals of the reference, and how many means were taken from it."""
    places, counts = np.unique(before.seasons, return_counts=True)
    if len(places) > 1 and counts.min() >= _CYCLES and season in places:
        means = {int(place): float(before.values[before.seasons == place].mean()) for place in places}
        residuals = before.values - np.array([means[int(place)] for place in before.seasons])
        return means[season], residuals, len(places)
    mean = float(before.values.mean())
    return mean, before.values - mean, 1


def _autocorrelation(residuals: Floats) -> float:
    total = float(residuals @ residuals)
    if total <= 0:
        return 0.0
    found = float(residuals[1:] @ residuals[:-1]) / total
    # The estimate is low by about 1/n and uncertain by 1/sqrt(n): only what is beyond doubt counts.
    return min(max(found + 1 / len(residuals), 0.0), _LARGEST_CARRY)
