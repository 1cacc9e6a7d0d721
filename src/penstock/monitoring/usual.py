"""One number per window, against what it was in ordinary windows: the yardstick of drift for whatever is no column."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from penstock.monitoring.drift.seasons import seasons_of
from penstock.monitoring.drift.variation import FEWEST, Ordinary, Surprise


class Point(NamedTuple):
    """A number of one window.

    Attributes:
        noise: Variance of `value` by chance alone.
    """

    start: datetime
    value: float
    noise: float


def surprise_of(before: Sequence[Point], point: Point) -> Surprise | None:
    """Return how unusual a number is; None while there are too few ordinary windows to know.

    Args:
        before: Of ordinary windows, oldest first.
        point: Of the window in question.
    """
    if len(before) < FEWEST:
        return None
    values = np.array([[one.value] for one in before])
    noise = np.array([[one.noise] for one in before])
    seasons = seasons_of([one.start for one in before], point.start)
    ordinary = Ordinary(values, noise)
    return ordinary.surprises(np.array([point.value]), np.array([point.noise]), seasons)[0]


def share_point(start: datetime, count: int, total: int) -> Point:
    """Return a share as a number whose chance does not depend on its size (Anscombe, 1948, Biometrika 35:246-254)."""
    return Point(start, 2 * math.asin(math.sqrt((count + 0.375) / (total + 0.75))), 1 / (total + 0.5))


def log_point(start: datetime, value: float, noise: float) -> Point:
    """Return a size as its logarithm: sizes vary by a share of themselves."""
    return Point(start, math.log(max(value, 1e-9)), noise)
