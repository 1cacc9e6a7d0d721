"""Slices of live answers, by every column and pair of columns: those that fell, and those worse than the rest.

Truths are compared as angles, 2 asin(sqrt(mean / largest)), on which the spread of a mean is 1/sqrt(n) whatever the
mean is (Freeman and Tukey, 1950, Annals of Mathematical Statistics 21:607-611); values below zero on their own scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.checks.cells import Cells, CodedColumn, cells_of, coded
from penstock.checks.statistics import Floats, Integers, false_discovery, student_cdf
from penstock.checks.worst_slices import MOST_TOLD, Limits, simplest
from penstock.core.records import Record

_FEWEST_PER_WINDOW = 5
_FEWEST_WINDOWS = 8
_CORRECTION = 0.375
_SIDE = 1.0
Mask = npt.NDArray[np.bool_]


class SliceLevel(Record, frozen=True, kw_only=True):
    """A slice of live answers that is surely worse than it should be.

    Attributes:
        parts: Column and value, of one or of two columns.
        n: Answers with a truth in it.
        mean: Of their truths.
        expected: What was to be expected: earlier windows and what became of all others, or the rest of the answers.
        p: Chance of this by ordinary variation, adjusted for all slices that were looked at.
        effect: The difference in standard deviations of a truth.
        rows: Places of its rows among those in question.
    """

    parts: tuple[tuple[str, str], ...]
    n: int
    mean: float
    expected: float
    p: float
    effect: float
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """The slice as text: "genre=Drama and decade=1990s"."""
        return " and ".join(f"{column}={value}" for column, value in self.parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    """How a mean becomes a number whose variance is 1/n.

    Attributes:
        unit: What a mean is divided by.
        is_angle: Whether the share of the unit becomes an angle.
    """

    unit: float
    is_angle: bool

    def of(self, sums: npt.NDArray[Any], n: npt.NDArray[Any]) -> Floats:
        if not self.is_angle:
            return np.asarray(sums / np.maximum(n, 1) / self.unit, dtype=np.float64)
        share = (np.maximum(sums, 0.0) / self.unit + _CORRECTION) / (n + 2 * _CORRECTION)
        return np.asarray(2 * np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Rows in question and rows they are compared with.

    Attributes:
        values: Truths, the larger the better.
        now: Which rows are in question.
        before: Which they are compared with.
        wobble: Variance of a slice from window to window beyond chance.
        windows: How many windows the comparison rests on; 0 where it is not with earlier ones.
    """

    values: Floats
    now: Mask
    before: Mask
    scale: _Scale
    wobble: float = 0.0
    windows: int = 0

    def tested(self, n_now: Floats, s_now: Floats, n_before: Floats, s_before: Floats) -> tuple[Floats, Floats]:
        """Return how far slices lie from what is expected, in standard errors, and the one-sided p-values."""
        common = 0.0
        if self.windows:  # what befell all answers is no fault of a slice
            common = self._whole(self.now) - self._whole(self.before)
        change = self.scale.of(s_now, n_now) - self.scale.of(s_before, n_before) - common
        between = self.wobble * (1 + 1 / max(self.windows, 1))
        variance = 1 / np.maximum(n_now, 1) + 1 / np.maximum(n_before, 1) + between
        away = change / np.sqrt(variance)
        own = 0.0 if self.scale.is_angle else 1.0  # a spread that is estimated from the rows is itself uncertain
        doubt = between**2 / max(self.windows - 1, 1) + own / np.maximum(n_now - 1, 1) ** 3
        degrees = np.minimum(variance**2 / np.maximum(doubt, 1e-12), 1e6)
        p_values = np.ones(len(away))
        for at in np.flatnonzero(away < -_SIDE):
            p_values[at] = student_cdf(float(away[at]), max(int(degrees[at]), 1))
        return away, p_values

    def _whole(self, rows: Mask) -> float:
        return float(self.scale.of(np.array([self.values[rows].sum()]), np.array([float(rows.sum())]))[0])


def fallen_slices(
    frame: pl.DataFrame, names: Sequence[str], values: Floats, windows: Integers, *, limits: Limits
) -> list[SliceLevel]:
    """Return the slices that fell against earlier windows, beyond what befell all answers and what is ordinary.

    How much slices ordinarily vary from window to window beyond chance is estimated from the earlier windows, over all
    slices by one column. Corrected by Benjamini and Yekutieli, which holds however slices depend on each other: a slice
    that is compared with all others depends on them negatively.

    Args:
        frame: Rows, earlier ones and those in question.
        names: Columns to slice by.
        values: Truths, the larger the better.
        windows: Number of the earlier window of each row, from 0; -1 for those in question, which may be of several
            windows, and -2 for those of the newest one.
        limits: Accepted chance that any slice is called fallen where none is, fewest rows, smallest fall.
    """
    now, before = windows < 0, windows >= 0
    count = int(windows.max(initial=-1)) + 1
    if count < _FEWEST_WINDOWS or not now.any():
        return []
    columns = coded(frame, names)
    scale = _scale_of(values[before])
    sides = _Sides(values, now, before, scale, _wobble(columns, values, windows, scale), count)
    newest = windows == -2
    weights = [now, values * now, before, values * before, newest, values * newest]
    cells = cells_of(columns, [np.asarray(one, dtype=np.float64) for one in weights], min_n=2 * limits.min_n)
    found = _surely_low(cells, sides, limits)
    # A fault that is over is not told again for as long as its rows are looked at.
    return [one for one, at in found if _is_low_lately(cells.sums[at], scale)]


def worse_slices(frame: pl.DataFrame, names: Sequence[str], values: Floats, *, limits: Limits) -> list[SliceLevel]:
    """Return the slices whose answers are surely worse than all other answers; corrected as `fallen_slices`.

    Args:
        frame: Rows.
        names: Columns to slice by.
        values: Truths, the larger the better.
        limits: Accepted chance that any slice is called worse where none is, fewest rows, smallest difference.
    """
    everything = np.ones(len(values), dtype=np.bool_)
    sides = _Sides(values, everything, everything, _scale_of(values))
    cells = cells_of(coded(frame, names), [everything.astype(np.float64), values], min_n=limits.min_n)
    n, sums = cells.sums[:, 0], cells.sums[:, 1]
    rest = np.column_stack([n, sums, len(values) - n, values.sum() - sums])
    return [one for one, _ in _surely_low(_with_sums(cells, rest), sides, limits)]


def _surely_low(cells: Cells, sides: _Sides, limits: Limits) -> list[tuple[SliceLevel, int]]:
    enough = (cells.sums[:, 0] >= limits.min_n) & (cells.sums[:, 2] >= limits.min_n)
    kept = np.flatnonzero(enough)
    if not len(kept):
        return []
    away, p_values = sides.tested(*(cells.sums[kept, at] for at in range(4)))
    adjusted = np.ones(len(cells.n))
    adjusted[kept] = false_discovery(p_values, is_any_dependence=True)
    strength = np.zeros(len(cells.n))
    strength[kept] = -away
    bad = np.flatnonzero(adjusted <= limits.alpha).tolist()
    factor = float((1 / np.arange(1, len(kept) + 1)).sum())
    levels = limits.alpha * np.arange(1, MOST_TOLD + 1) / len(kept) / factor
    levels[0] *= max(len(bad), 1)

    def is_bad(part: Mask, told: int) -> bool:
        now = part & sides.now
        before = part & sides.before if sides.windows else ~part
        counts = [np.array([float(one)]) for one in (now.sum(), sides.values[now].sum())]
        counts += [np.array([float(one)]) for one in (before.sum(), sides.values[before].sum())]
        if counts[0][0] < limits.min_n or counts[2][0] < limits.min_n:
            return False
        return bool(sides.tested(*counts)[1][0] <= levels[told])

    spread = float(sides.values[sides.before].std()) or 1.0
    told = [
        (_level(cells, at, sides, spread=spread, p=float(adjusted[at])), at)
        for at in simplest(cells, bad, strength, is_bad=is_bad, rows=len(sides.values))
    ]
    return [(one, at) for one, at in told if one.effect <= -limits.min_effect]


def _level(cells: Cells, at: int, sides: _Sides, *, spread: float, p: float) -> SliceLevel:
    n, total, n_before, before = (float(one) for one in cells.sums[at, :4])
    common = float(sides.values[sides.now].mean() - sides.values[sides.before].mean()) if sides.windows else 0.0
    expected = before / n_before + common
    rows = np.flatnonzero(cells.mask(at, len(sides.values)) & sides.now)
    return SliceLevel(
        parts=cells.parts(at),
        n=int(n),
        mean=total / n,
        expected=expected,
        p=p,
        effect=(total / n - expected) / spread,
        rows=tuple(rows.tolist()),
    )


def _is_low_lately(sums: Floats, scale: _Scale) -> bool:
    n, total = sums[4:5], sums[5:6]
    return bool(n[0] > 0 and scale.of(total, n)[0] < scale.of(sums[3:4], sums[2:3])[0])


def _with_sums(cells: Cells, sums: Floats) -> Cells:
    return Cells(
        cells.columns, cells.first, cells.second, cells.first_label, cells.second_label,
        n=cells.n, sums=sums, too_small=cells.too_small,
    )  # fmt: skip


def _scale_of(values: Floats) -> _Scale:
    if len(values) and float(values.min()) >= 0 and float(values.sum()) > 0:
        # As in `checks.statistics`: the value of something that is this or nothing, of the spread that is found.
        return _Scale(float((values**2).sum() / values.sum()), is_angle=True)
    return _Scale(float(values.std()) or 1.0, is_angle=False)


def _wobble(columns: Sequence[CodedColumn], values: Floats, windows: Integers, scale: _Scale) -> float:
    """Return the variance between windows, beyond chance, of what slices differ from all answers by."""
    count = int(windows.max()) + 1
    before = windows >= 0
    whole_n = np.bincount(windows[before], minlength=count).astype(np.float64)
    whole = scale.of(np.bincount(windows[before], weights=values[before], minlength=count), whole_n)
    excess = weight = 0.0
    for column in columns:
        rows = np.arange(len(values)) if column.rows is None else column.rows
        kept = before[rows]
        size = len(column.labels)
        codes = column.groups[kept] * count + windows[rows[kept]]
        n = np.bincount(codes, minlength=size * count).reshape(size, count).astype(np.float64)
        sums = np.bincount(codes, weights=values[rows[kept]], minlength=size * count).reshape(size, count)
        there = n >= _FEWEST_PER_WINDOW
        apart = np.where(there, scale.of(sums, n) - whole, 0.0)
        held = np.where(there, n, 0.0)
        total = np.maximum(held.sum(axis=1), 1.0)
        residual = apart - ((held * apart).sum(axis=1) / total)[:, None]
        # A slice is part of all answers, and its own mean is taken out: both make chance smaller than 1/n.
        chance = (1 - held / total[:, None]) * (1 - held / np.maximum(whole_n, 1.0))
        excess += float((held * residual**2).sum() - chance[there].sum())
        weight += float(held.sum())
    return max(excess / weight, 0.0) if weight and math.isfinite(excess) else 0.0
