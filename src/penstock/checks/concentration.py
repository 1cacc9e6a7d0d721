"""Where rows with something in common are flagged more often than rows at large: slices searched, tested, made few.

Belongs here: flags that are yes or no. Gains and losses in numbers are in `worst_slices`.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.checks.cells import Cells, cells_of, coded
from penstock.checks.statistics import Floats, Integers, false_discovery
from penstock.checks.worst_slices import MOST_TOLD, Mask, simplest
from penstock.core.records import Record

Flags = npt.NDArray[np.bool_]
_ALPHA = 0.05
_MIN_N = 5
# A slice whose share is a hair above that of all may be surely so, and tells nobody anything.
_LEAST_LIFT = 1.25
_MOST_OTHERS = 6


class Concentrated(Record, frozen=True, kw_only=True):
    """A slice and its flagged rows.

    Attributes:
        parts: Column and value, of one or of two columns.
        share: Of its rows, those that are flagged.
        lift: That share over the share of all rows.
        p_adjusted: Chance of so many flagged ones among as many rows drawn from all, adjusted for all slices.
        is_sure: Flags concentrate here, and no surer slice explains it.
    """

    parts: tuple[tuple[str, str], ...]
    n: int
    flagged: int
    share: float
    lift: float
    p_adjusted: float
    is_sure: bool

    @property
    def name(self) -> str:
        """The slice as text: "genre=Drama and decade=1990s"."""
        return " and ".join(f"{column}={value}" for column, value in self.parts)


class Concentration(Record, frozen=True, kw_only=True):
    """What a search came to: how many slices were tested, the sure ones first, then others by their share."""

    judged: int
    found: tuple[Concentrated, ...] = ()


def search_concentration(frame: pl.DataFrame, names: Sequence[str], flags: Flags) -> Concentration:
    """Return the slices, by a column or a pair of columns, in which rows are surely flagged more often than elsewhere.

    Each slice is tested by the hypergeometric tail (Fisher's exact test, one-sided), with Benjamini and Hochberg's
    correction over all slices: where flags are spread by chance, any slice is called sure in at most 5 % of cases.

    Args:
        frame: Rows that are described by the columns `names`.
        names: Columns to slice by.
        flags: Per row, whether it is flagged.
    """
    rows, total = len(flags), int(flags.sum())
    if not rows or total in {0, rows} or not names:
        return Concentration(judged=0)
    cells = cells_of(coded(frame, names), [flags.astype(np.float64)], min_n=_MIN_N)
    flagged = cells.sums[:, 0].astype(np.int64)
    p_values = _tails(flagged, cells.n, total, rows)
    adjusted = false_discovery(p_values)
    lifts = flagged / cells.n * (rows / total)
    sure = np.flatnonzero((adjusted <= _ALPHA) & (lifts >= _LEAST_LIFT)).tolist()
    levels = _ALPHA * np.arange(1, MOST_TOLD + 1) / max(len(p_values), 1)
    levels[0] *= max(len(sure), 1)

    def is_flagged(rest: Mask, told: int) -> bool:
        n, hits = int(rest.sum()), int(flags[rest].sum())
        return n >= _MIN_N and float(_tails(np.array([hits]), np.array([n]), total, rows)[0]) <= levels[told]

    kept = simplest(cells, sure, _strengths(flagged, cells.n, total, rows), is_bad=is_flagged, rows=rows)
    found = [_told(cells, at, p=float(adjusted[at]), total=total, rows=rows, is_sure=True) for at in kept]
    singles = [at for at in range(len(p_values)) if not cells.is_pair(at) and at not in kept and flagged[at]]
    # Columns that say the same of these rows are told once.
    alone = {(int(flagged[at]), int(cells.n[at])): at for at in [*reversed(singles), *kept]}
    others = sorted(set(alone.values()) - set(kept), key=lambda at: (-lifts[at], at))[:_MOST_OTHERS]
    found += [_told(cells, at, p=float(adjusted[at]), total=total, rows=rows, is_sure=False) for at in others]
    return Concentration(judged=len(p_values), found=tuple(found))


def _told(cells: Cells, at: int, *, p: float, total: int, rows: int, is_sure: bool) -> Concentrated:
    n, flagged = int(cells.n[at]), int(cells.sums[at, 0])
    lift = flagged / n * (rows / total)
    return Concentrated(
        parts=cells.parts(at), n=n, flagged=flagged, share=flagged / n, lift=lift, p_adjusted=p, is_sure=is_sure
    )


def _strengths(flagged: Integers, n: Integers, total: int, rows: int) -> Floats:
    """Return by how many standard errors each slice has more flagged rows than one drawn from all would have."""
    share = total / rows
    spread = np.sqrt(np.maximum(n * share * (1 - share) * (rows - n) / max(rows - 1, 1), 1e-12))
    return (flagged - n * share) / spread


def _tails(flagged: Integers, n: Integers, total: int, rows: int) -> Floats:
    """Return, per slice, P(at least `flagged` of `n` rows drawn from `rows`, of which `total` are flagged)."""
    found = np.ones(len(flagged))
    for at in np.flatnonzero(flagged * rows > n * total):
        found[at] = hypergeometric_tail(int(flagged[at]), int(n[at]), total, rows)
    return found


def hypergeometric_tail(least: int, drawn: int, marked: int, rows: int) -> float:
    """Return the chance that of `drawn` rows out of `rows`, of which `marked` are, at least `least` are marked."""
    most = min(drawn, marked)
    if least > most:
        return 0.0
    # The first term by logarithms, each further one from the one before: they fall, as `least` is above the mean.
    log = _log_choose(marked, least) + _log_choose(rows - marked, drawn - least) - _log_choose(rows, drawn)
    term = total = 1.0
    for hits in range(least, most):
        term *= (marked - hits) * (drawn - hits) / ((hits + 1) * (rows - marked - drawn + hits + 1))
        total += term
        if term < total * 1e-17:
            break
    return min(math.exp(log) * total, 1.0)


def _log_choose(n: int, k: int) -> float:
    if k < 0 or k > n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
