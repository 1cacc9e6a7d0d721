"""What of a profile is compared between windows: a few numbers per column, each on a scale where it varies evenly.

Shares are taken as 2 asin(sqrt(share)) (Freeman and Tukey, 1950, Annals of Mathematical Statistics 21:607-611), whose
spread is 1/sqrt(n) whatever the share; spreads and distances as logarithms.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.monitoring.profiles.numbers import Numbers, quantiles, share_below
from penstock.monitoring.profiles.profile import Column
from penstock.monitoring.profiles.words import Words

Floats = npt.NDArray[np.float64]
_GRID = np.linspace(0.05, 0.95, 19)
_MIDDLE = np.array([0.1, 0.5, 0.9])
# 0.1 to 0.9 of a normal distribution, in standard deviations.
_SPREAD_OF_NORMAL = 2.563
_TINY = 1e-12


class Feature(NamedTuple):
    """One comparable number of one column in one window.

    Attributes:
        value: On its own scale.
        noise: Variance by chance alone for one row: that of `value` is at least `noise` / rows.
    """

    value: float
    noise: float


def features_of(column: Column, usual: Column) -> dict[str, Feature]:
    """Return the comparable numbers of a column.

    Args:
        column: Of the window.
        usual: Of all reference rows: the scale, and what distances are measured from.
    """
    found = {"missing": Feature(_angle(column.nulls, column.rows), 1.0)}
    if column.numbers is not None and usual.numbers is not None and usual.numbers.count:
        found |= _of_numbers(column.numbers, usual.numbers)
    if column.words is not None and usual.words is not None and usual.words.count:
        found |= _of_words(column.words, usual.words)
    return found


def scale_of(usual: Numbers) -> float:
    """Return the unit in which shifts of a column are told: its spread, robust against a few wild values."""
    low, _, high = quantiles(usual, _MIDDLE)
    spread = float(high - low) / _SPREAD_OF_NORMAL
    return spread if spread > _TINY else math.sqrt(usual.variance) or 1.0


def _of_numbers(numbers: Numbers, usual: Numbers) -> dict[str, Feature]:
    found = {"not_finite": Feature(_angle(numbers.not_finite, numbers.not_finite + numbers.count), 1.0)}
    if not numbers.count:
        return found
    scale = scale_of(usual)
    low, middle, high = quantiles(numbers, _MIDDLE)
    # Within these bounds one wild value moves the mean by no more than the middle of the rows does.
    found["level"] = Feature(_clipped_mean(numbers, usual, scale), 1.0)
    found["spread"] = Feature(math.log(max(float(high - low) / scale, 1e-3)), 1.3)
    found["middle"] = Feature(float(middle) / scale, 1.6)
    found["zeros"] = Feature(_angle(numbers.zeros, numbers.count), 1.0)
    edges = np.unique(quantiles(usual, _GRID))
    apart = np.abs(share_below(numbers, edges) - share_below(usual, edges)).max()
    found["shape"] = Feature(math.log(max(float(apart), 0.0) + 1 / math.sqrt(numbers.count)), 0.0)
    return found


def _of_words(words: Words, usual: Words) -> dict[str, Feature]:
    if not words.count:
        return {}
    known = sum(words.common.get(value, 0) for value in usual.common)
    new = max(words.count - words.rest - known, 0)
    apart = 0.5 * sum(
        abs(words.common.get(value, 0) / words.count - number / usual.count) for value, number in usual.common.items()
    )
    return {
        "new": Feature(_angle(new, words.count), 1.0),
        "mix": Feature(math.log(apart + 1 / math.sqrt(words.count)), 0.0),
        "largest": Feature(_angle(_count_of_largest(words, usual), words.count), 1.0),
    }


def _count_of_largest(words: Words, usual: Words) -> int:
    largest = next(iter(usual.common), "")
    return words.common.get(largest, 0)


def _clipped_mean(numbers: Numbers, usual: Numbers, scale: float) -> float:
    centre = float(quantiles(usual, _MIDDLE)[1])
    spread = 20 * scale
    mean = numbers.mean
    if numbers.low is not None and numbers.high is not None:
        wild = numbers.low < centre - spread or numbers.high > centre + spread
        if wild:
            mean = _mean_within(numbers, centre - spread, centre + spread)
    return mean / scale


def _mean_within(numbers: Numbers, low: float, high: float) -> float:
    middles = quantiles(numbers, (np.arange(200) + 0.5) / 200)
    return float(np.clip(middles, low, high).mean())


def _angle(count: int, total: int) -> float:
    # A third of a row on each side keeps the scale even at 0 and 1 (Anscombe, 1948, Biometrika 35:246-254, has 3/8).
    return 2 * math.asin(math.sqrt((count + 0.375) / (total + 0.75))) if total else 0.0
