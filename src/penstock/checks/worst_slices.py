"""The worst slices, found and not declared: every slice by one column or a pair, tested, corrected and made few.

Belongs here: what makes a slice surely bad, and which of overlapping ones is told. Counting is in `cells`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.checks.cells import Cells, cells_of, coded
from penstock.checks.statistics import Floats, false_discovery, student_quantile
from penstock.core.records import Record

# Of sums of symmetric terms over the root of the sum of their squares: Bentkus and Dzindzalieta (2015), Bernoulli
# 21:1231-1237, P(S >= x) <= c P(Z >= x) with c = 1 / (4 P(Z >= sqrt 2)). Valid for any number of rows.
_BENTKUS = 3.178
MOST_TOLD = 20
_MOST_COMPARED = 300
# By how many standard errors a pair must tell more than a single column to be preferred.
_SIMPLER = 1.0

Mask = npt.NDArray[np.bool_]


class Limits(Record, frozen=True, kw_only=True):
    """What counts as a bad slice.

    Attributes:
        alpha: Accepted share of false ones among the slices called bad.
        min_n: Fewest rows of a slice.
        min_effect: Smallest loss that counts, in standard deviations of what is measured: what is surely lost may be
            next to nothing. From 0.2 on a difference is called small (Cohen, 1988, Statistical Power Analysis), which
            is for slices that were picked out of thousands; `DECLARED` is for the few that somebody named.
    """

    alpha: float = 0.05
    min_n: int = 20
    min_effect: float = 0.2


# Two trainings of one pipeline, on the same rows or on those of two days, differ in slices by about half of this.
DECLARED = Limits(min_effect=0.03)


class WorstSlice(Record, frozen=True, kw_only=True):
    """A slice that is surely bad.

    Attributes:
        parts: Column and value, of one or of two columns.
        mean: Mean gain in the slice; below zero.
        low: Lower bound of the mean; bounds hold at the level that accounts for having been picked out.
        p: Chance of a mean this low where there is no loss; for one question.
        p_adjusted: The same, adjusted for all slices that were looked at.
        effect: The mean in standard deviations of what is measured.
    """

    parts: tuple[tuple[str, str], ...]
    n: int
    mean: float
    low: float
    high: float
    p: float
    p_adjusted: float
    effect: float

    @property
    def name(self) -> str:
        """The slice as text: "genre=Drama and decade=1990s"."""
        return " and ".join(f"{column}={value}" for column, value in self.parts)


class Searched(Record, frozen=True, kw_only=True):
    """What a search for the worst slices came to.

    Attributes:
        judged: How many slices were tested.
        too_small: How many had too few rows.
        bad: How many are surely bad, overlapping ones counted each.
        found: The simplest that explain them, the surest first.
    """

    judged: int
    too_small: int
    bad: int = 0
    found: tuple[WorstSlice, ...] = ()


_USUAL = Limits()


def search_slices(
    frame: pl.DataFrame, names: Sequence[str], gains: Floats, *, unit: float = 1.0, limits: Limits = _USUAL
) -> Searched:
    """Return the slices in which the mean gain is surely below zero.

    The test asks whether gains lean to the bad side more than symmetric ones can; two equally good models give
    symmetric differences, of whatever distribution, so its level holds from the smallest slice on. Slices of the same
    rows overlap or are apart, so their one-sided statistics are correlated by zero or more, for which Benjamini and
    Hochberg's correction holds: where there is no bad slice, any is called bad in at most `limits.alpha` of cases.
    Bounds are for slices that were picked out: Benjamini and Yekutieli (2005), JASA 100:71-81.

    Args:
        frame: Rows that are described by the columns `names`.
        names: Columns to slice by.
        gains: Per row, above zero where it is good; finite.
        unit: Standard deviation of what is measured, in which effects are told.
        limits: What counts as bad.
    """
    order = np.argsort(gains, kind="stable")  # no digit of a sum depends on the order in which rows come
    values = gains[order]
    cells = cells_of(coded(frame[order], names), [values, values**2], min_n=limits.min_n)
    p_values = p_of_loss(cells.sums[:, 0], cells.sums[:, 1])
    adjusted = false_discovery(p_values)
    bad = np.flatnonzero(adjusted <= limits.alpha).tolist()
    # Overlapping slices are told once: the second that is told may take what two of all may, and so on.
    levels = limits.alpha * np.arange(1, MOST_TOLD + 1) / max(len(p_values), 1)
    levels[0] *= max(len(bad), 1)

    def is_bad(rest: Mask, told: int) -> bool:
        part = values[rest]
        sums = np.array([part.sum(), (part**2).sum()])
        return len(part) >= limits.min_n and bool(p_of_loss(sums[:1], sums[1:])[0] <= levels[told])

    strength = -cells.sums[:, 0] / np.sqrt(np.maximum(cells.sums[:, 1], 1e-300))
    kept = simplest(cells, bad, strength, is_bad=is_bad, rows=len(values))
    told = [
        _told(cells, at, (float(p_values[at]), float(adjusted[at])), level=level, unit=unit)
        for at, level in zip(kept, levels.tolist(), strict=False)
    ]
    # Only now: otherwise chance would pick some part, with a larger loss, of a slice whose loss is too small to count.
    found = tuple(one for one in told if one.effect <= -limits.min_effect and one.high < 0)
    return Searched(judged=len(p_values), too_small=cells.too_small, bad=len(bad), found=found)


def simplest(
    cells: Cells, bad: Sequence[int], strength: Floats, *, is_bad: Callable[[Mask, int], bool], rows: int
) -> list[int]:
    """Return those slices that explain the others: without the rows of those already kept, each is still bad.

    Args:
        cells: All slices.
        bad: Places of the bad ones.
        strength: By place, how sure it is in standard errors. A pair must be surer by one than a single column.
        is_bad: Whether some rows by themselves are, when so many slices are kept already.
        rows: How many rows there are.
    """
    order = sorted(bad, key=lambda at: (_SIMPLER * cells.is_pair(at) - strength[at], at))
    covered = np.zeros(rows, dtype=np.bool_)
    kept: list[int] = []
    for at in order[:_MOST_COMPARED]:
        mask = cells.mask(at, rows)
        if is_bad(mask & ~covered, len(kept)):
            kept.append(at)
            covered |= mask
        if len(kept) == MOST_TOLD:
            break
    return kept


def p_of_loss(sums: Floats, squares: Floats) -> Floats:
    """Return one-sided p-values for "gains are symmetric around zero", one per sum; 1 where the sum is not below 0."""
    share = np.where(squares > 0, -sums / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0)
    found = np.ones(len(share))
    for at in np.flatnonzero(share > 0):
        found[at] = min(_BENTKUS * 0.5 * math.erfc(share[at] / math.sqrt(2)), 1.0)
    return found


def _bounds(sums: Floats, n: int, level: float) -> tuple[float, float, float]:
    """Return the mean and its bounds (Student's t), each at the given error rate."""
    mean = float(sums[0]) / n
    if n < 2:
        return mean, -math.inf, math.inf
    error = math.sqrt(max(float(sums[1]) - n * mean**2, 0.0) / (n - 1) / n)
    half = student_quantile(1 - level, n - 1) * error
    return mean, mean - half, mean + half


def _told(cells: Cells, at: int, p: tuple[float, float], *, level: float, unit: float) -> WorstSlice:
    n = int(cells.n[at])
    mean, low, high = _bounds(cells.sums[at], n, level)
    return WorstSlice(
        parts=cells.parts(at),
        n=n,
        mean=mean,
        low=low,
        high=high,
        p=p[0],
        p_adjusted=p[1],
        effect=mean / unit if unit > 0 else 0.0,
    )
