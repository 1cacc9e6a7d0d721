"""Streams of windows whose rows are known to be ordinary, and the ways in which the last window may have changed.

20 columns: 15 of numbers (normal, heavy-tailed, mostly zero, whole) and 5 of categories (2 to 200 of them).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
NORMAL, HEAVY, ZEROS, WHOLE = 7, 3, 2, 3
NUMBERS = NORMAL + HEAVY + ZEROS + WHOLE
CATEGORIES = (2, 5, 20, 50, 200)
START = datetime(2024, 1, 1, tzinfo=UTC)
MISSING = ("n3", "n4", "h0")


@dataclass(frozen=True, slots=True)
class Mood:
    """What all rows of one window have in common.

    Attributes:
        level: Of each column of numbers, in its standard deviations.
        stretch: Logarithm of the factor of its spread.
        mix: Logarithm of the factor of each category's share, one row of 200 per column.
        missing: Logarithm of the factor of the share of missing values.
    """

    level: Floats
    stretch: Floats
    mix: Floats
    missing: float


@dataclass(frozen=True, slots=True)
class Kind:
    """How windows of unchanged streams differ from each other.

    Attributes:
        wobble: Standard deviation of a window's level, in those of the column's rows.
        carry: Correlation of a level with that of the window before.
        season: Height of the season, likewise.
        trend: Change of the level per window.
        step: Length of a window.
    """

    name: str
    wobble: float = 0.0
    carry: float = 0.0
    season: float = 0.0
    trend: float = 0.0
    step: timedelta = timedelta(days=1)


KINDS = (
    Kind("independent"),
    Kind("wobbling", wobble=0.08),
    Kind("seasonal, days", wobble=0.03, season=0.5),
    Kind("seasonal, hours", wobble=0.03, season=0.5, step=timedelta(hours=1)),
    Kind("autocorrelated", wobble=0.08, carry=0.7),
    Kind("slowly trending", wobble=0.03, trend=0.005),
)


class Stream:
    """Windows in order; each call of `rows` gives the next."""

    def __init__(self, kind: Kind, rows: int, seed: int) -> None:
        self.kind, self.size = kind, rows
        self.rng = np.random.default_rng([seed, rows, len(kind.name)])
        self.at = 0
        self._level = np.zeros(NUMBERS)
        self._pattern = self.rng.normal(size=(NUMBERS, 7))
        self._turn = self.rng.random(NUMBERS) * 2 * np.pi
        self._tilt = self.rng.choice([-1.0, 1.0], NUMBERS)

    def start(self) -> datetime:
        """Return when the next window begins."""
        return START + self.at * self.kind.step

    def rows(self) -> pl.DataFrame:
        """Return the rows of the next window."""
        mood = self._mood()
        self.at += 1
        return pl.DataFrame(_numbers(self.rng, self.size, mood) | _categories(self.rng, self.size, mood))

    def _mood(self) -> Mood:
        kind, rng = self.kind, self.rng
        fresh = rng.normal(size=NUMBERS) * kind.wobble
        self._level = kind.carry * self._level + np.sqrt(1 - kind.carry**2) * fresh
        level = self._level + kind.trend * self.at * self._tilt
        if kind.season and kind.step >= timedelta(days=1):
            level = level + kind.season * self._pattern[:, self.start().weekday()]
        elif kind.season:
            level = level + kind.season * np.sin(2 * np.pi * self.start().hour / 24 + self._turn)
        return Mood(
            level=level,
            stretch=rng.normal(size=NUMBERS) * kind.wobble * 0.5,
            mix=rng.normal(size=(len(CATEGORIES), max(CATEGORIES))) * kind.wobble,
            missing=float(rng.normal() * kind.wobble * 3),
        )


def _numbers(rng: np.random.Generator, size: int, mood: Mood) -> dict[str, pl.Series]:
    found: dict[str, pl.Series] = {}
    for place in range(NUMBERS):
        z = rng.standard_normal(size)
        z = z * np.exp(mood.stretch[place]) + mood.level[place]
        name, values = _shaped(rng, place, z)
        found[name] = pl.Series(values)
        if name in MISSING:
            is_missing = rng.random(size) < 0.02 * np.exp(mood.missing)
            found[name] = pl.Series(np.where(is_missing, np.nan, values)).fill_nan(None)
    return found


def _shaped(rng: np.random.Generator, place: int, z: Floats) -> tuple[str, Floats]:
    if place < NORMAL:
        return f"n{place}", z * (place + 1) + 10 * place
    if place < NORMAL + HEAVY:
        at = place - NORMAL
        return f"h{at}", np.exp(z * (0.7 + 0.6 * at))
    if place < NORMAL + HEAVY + ZEROS:
        return f"z{place - NORMAL - HEAVY}", np.where(rng.random(len(z)) < 0.7, 0.0, np.exp(z))
    at = place - NORMAL - HEAVY - ZEROS
    rate = (3.0, 100.0, 0.5)[at]
    return f"d{at}", np.maximum(np.rint(rate + np.sqrt(rate) * z), 0.0)


def _categories(rng: np.random.Generator, size: int, mood: Mood) -> dict[str, pl.Series]:
    found = {}
    for place, many in enumerate(CATEGORIES):
        shares = np.exp(mood.mix[place, :many]) / np.arange(2, many + 2)
        codes = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rng.random(size))
        names = pl.Series([f"c{place}-{code}" for code in range(many)])
        found[f"c{place}"] = names.gather(pl.Series(codes))
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """One way in which a window is no longer ordinary: other values in one column."""

    name: str
    column: str
    make: Callable[[pl.Series, np.random.Generator], pl.Series]


def shift(size: float, column: str = "n0") -> Change:
    """Return a shift by so many standard deviations of the column."""
    spread = float(int(column[1:]) + 1)
    return Change(f"shift of {size:g} spreads", column, lambda values, _: values + size * spread)


def _two_humps(values: pl.Series, rng: np.random.Generator) -> pl.Series:
    # Half the rows to either side by 0.8, the rest of the variance around: mean and spread stay as they are.
    side = rng.choice([-0.8, 0.8], len(values))
    return (values - 10) * 0.6 + 10 + pl.Series(side * 2)


def _missing(values: pl.Series, rng: np.random.Generator) -> pl.Series:
    return pl.Series(np.where(rng.random(len(values)) < 0.05, np.nan, values.to_numpy())).fill_nan(None)


def _mixed(values: pl.Series, rng: np.random.Generator) -> pl.Series:
    moved = pl.Series(rng.random(len(values)) < 0.15)
    return pl.select(pl.when(moved).then(pl.lit("c2-7")).otherwise(values)).to_series()


CHANGES = (
    shift(0.1),
    shift(0.25),
    shift(0.5),
    Change("two humps, same mean and spread", "n1", _two_humps),
    Change("spread x 1.5", "n2", lambda values, _: (values - 20) * 1.5 + 20),
    Change("5 % more missing", "n3", _missing),
    Change("15 % of rows to one of 20 categories", "c2", _mixed),
)
