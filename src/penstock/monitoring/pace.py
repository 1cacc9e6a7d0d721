"""Whether work takes more than it did: a change point in a short and noisy series of times or sizes.

Belongs here: the test. What was measured, and where an alert goes, is known by those who ask.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from penstock.core.records import Record

REFERENCE = 10  # measurements before a change, and most after it: a change that lasts longer is how things are now
FEWEST = 5  # before a change, else nothing is known of what is usual
_PERSISTS = 3  # measurements after it: one slow run is an accident, two may be
SLOWER = 1.3  # the factor from which a change matters
# Each run after the change has to show this much of it (as a power of the factor).
_EACH = 0.7
_CERTAIN = 3.5
# Ordinary variation before anything is known of it: 10 %, worth four measurements. So few numbers may lie close
# together by chance (Smyth, 2004, Statistical Applications in Genetics and Molecular Biology 3:3, for the weights).
_PRIOR, _PRIOR_WEIGHT = 0.1, 4.0
_MAD = 1.4826  # of a normal distribution, standard deviations per median absolute deviation


class Took(NamedTuple):
    """One measurement.

    Attributes:
        amount: Seconds or bytes.
        rows: Rows that were worked on; None where nobody knows.
    """

    amount: float
    rows: int | None = None


class Slowdown(Record, frozen=True, kw_only=True):
    """A change for the worse.

    Attributes:
        after: How many measurements show it: the newest.
        before: How many it was compared with.
        usual: Amount that was ordinary before.
        now: Ordinary since.
        factor: By which it grew beyond what more rows explain.
        score: Size of the change in its standard errors.
    """

    after: int
    before: int
    usual: float
    now: float
    factor: float
    score: float


def slowdown_of(series: Sequence[Took], *, least: float = 0.0) -> Slowdown | None:
    """Return the surest change for the worse that still shows in the newest measurements; None where there is none.

    Every place from three to ten measurements ago may be the change. Logarithms are compared by their medians, so that
    one measurement taken on a busy machine changes little on either side.

    Args:
        series: Oldest first.
        least: Growth that nobody minds, in the unit of the amounts.
    """
    best: Slowdown | None = None
    for after in range(_PERSISTS, min(REFERENCE, len(series) - FEWEST) + 1):
        cut = len(series) - after
        found = _change(series[max(0, cut - REFERENCE) : cut], series[cut:], least)
        if found is not None and (best is None or found.score > best.score):
            best = found
    return best


def factor_of(before: Sequence[Took], newest: Took) -> float | None:
    """Return how many times the usual amount the newest is, beyond what its rows explain; None if nothing is usual."""
    known = list(before)[-REFERENCE:]
    if len(known) < FEWEST or newest.amount <= 0:
        return None
    rows = _usual_rows(known)
    return math.exp(_size(newest, rows) - median(_size(one, rows) for one in known))


def usual_of(before: Sequence[Took]) -> float | None:
    """Return the amount that is usual; None while too few measurements say it."""
    known = list(before)[-REFERENCE:]
    return median(one.amount for one in known) if len(known) >= FEWEST else None


def _change(before: Sequence[Took], after: Sequence[Took], least: float) -> Slowdown | None:
    rows = _usual_rows(before)
    old, new = [_size(one, rows) for one in before], [_size(one, rows) for one in after]
    middle = median(old)
    change = median(new) - middle
    usual, now = median(one.amount for one in before), median(one.amount for one in after)
    if change < math.log(SLOWER) or now - usual < least or min(new) < middle + _EACH * math.log(SLOWER):
        return None
    seen, weight = (_MAD * median(abs(size - middle) for size in old)) ** 2, len(old) - 1
    spread = math.sqrt((_PRIOR_WEIGHT * _PRIOR**2 + weight * seen) / (_PRIOR_WEIGHT + weight))
    # The variance of a median of n is that of their mean times pi/2.
    score = change / (spread * math.sqrt(math.pi / 2 * (1 / len(old) + 1 / len(new))))
    if score < _CERTAIN:
        return None
    return Slowdown(
        after=len(new), before=len(old), usual=usual, now=now, factor=math.exp(change), score=round(score, 2)
    )


def _usual_rows(before: Sequence[Took]) -> float | None:
    known = [one.rows for one in before if one.rows]
    return median(known) if len(known) == len(before) else None


def _size(one: Took, rows: float | None) -> float:
    """Return the logarithm of an amount.

    More rows than usual excuse more of it in proportion. Fewer accuse nobody: part of any work does not depend on them.
    """
    excused = math.log(max(1.0, one.rows / rows)) if rows and one.rows else 0.0
    return math.log(max(one.amount, 1e-9)) - excused
