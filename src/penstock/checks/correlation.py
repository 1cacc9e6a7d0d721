"""Whether two figures go together, by ranks, with an interval."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from penstock.checks.statistics import CONFIDENCE, Floats
from penstock.core.records import Record

FEWEST = 5


class Correlation(Record, frozen=True, kw_only=True):
    """A rank correlation with its 95 % interval; the interval is -1 to 1 where too little is known."""

    r: float
    low: float
    high: float
    n: int


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Correlation:
    """Return Spearman's correlation of two figures of the same things.

    The interval is Fisher's with the variance of Bonett and Wright (2000), Psychometrika 65:23-28.

    Raises:
        ValueError: There is not one figure of each kind per thing.
    """
    n = len(first)
    if n != len(second):
        raise ValueError(f"{n} figures do not go with {len(second)}")
    one, other = _ranks(first), _ranks(second)
    if n < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return Correlation(r=0.0, low=-1.0, high=1.0, n=n)
    r = float(np.clip(np.corrcoef(one, other)[0, 1], -1.0, 1.0))
    if n < FEWEST:
        return Correlation(r=r, low=-1.0, high=1.0, n=n)
    # At plus or minus one the transformation is infinite; half a rank short of it is what n can tell apart.
    bounded = min(max(r, -1 + 1 / n**2), 1 - 1 / n**2)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt((1 + bounded**2 / 2) / (n - 3))
    centre = math.atanh(bounded)
    return Correlation(r=r, low=math.tanh(centre - half), high=math.tanh(centre + half), n=n)


def _ranks(values: Sequence[float]) -> Floats:
    """Return ranks from 1, equal values with the mean of theirs."""
    found = np.asarray(values, dtype=np.float64)
    _, at, counts = np.unique(found, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = ((2 * ends - counts + 1) / 2.0)[at]
    return ranks
