"""Compares a window with its reference: every column at once, within one alarm budget."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.monitoring.drift.features import CAUTIOUS, WEIGHTS, Feature, Yardstick, scale_of
from penstock.monitoring.drift.moved import parts_that_moved
from penstock.monitoring.drift.seasons import seasons_of
from penstock.monitoring.drift.shapes import shape_of
from penstock.monitoring.drift.variation import FEWEST, Ordinary, Season, Surprise
from penstock.monitoring.findings import Finding, Kind
from penstock.monitoring.profiles.numbers import Numbers, quantiles
from penstock.monitoring.profiles.profile import Column, Profile, merge_all
from penstock.monitoring.profiles.words import Words

_SHOWN = 10
_SHARES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
_KINDS: dict[str, Kind] = {"missing": "missing", "not_finite": "numeric", "new": "new_category"}
_WORDS = {
    "missing": "the share of missing values",
    "not_finite": "the share of NaN and infinities",
    "level": "the level",
    "spread": "the spread",
    "low": "the share below the usual lower quartile",
    "middle": "the share below the usual median",
    "high": "the share below the usual upper quartile",
    "zeros": "the share of zeros",
    "lean": "how far the distribution leans to one side",
    "tails": "how much of the distribution lies far out",
    "new": "the share of categories never seen before",
    "mix": "the mix of categories",
    "largest": "the share of the most common category",
}


Floats = npt.NDArray[np.float64]


class Seen(Record, frozen=True, kw_only=True):
    """A window that was accepted as ordinary, by when it began."""

    start: datetime
    profile: Profile


class Budget(Record, frozen=True, kw_only=True):
    """How many false alarms are accepted.

    Attributes:
        false_alarms: Per window, over all its columns together: 0.01 is at most one in a hundred windows.
    """

    false_alarms: float = 0.01


class _Test(NamedTuple):
    column: str
    feature: str
    share: float
    found: Surprise


class _Measured(NamedTuple):
    yardstick: Yardstick
    features: tuple[str, ...]
    ordinary: Ordinary


class Reference:
    """Ordinary windows of one subject, and what the rows of all of them look like together.

    Args:
        windows: In order of time, of one schema and about one length.

    Raises:
        InputError: There is none, or their schemas differ.
    """

    def __init__(self, windows: Sequence[Seen]) -> None:
        if not windows:
            raise InputError("A reference needs at least one window.", hint="take in rows of some days first")
        self.windows = tuple(windows)
        self.usual = merge_all([window.profile for window in windows])
        self._filled = [window for window in windows if window.profile.rows]
        self._measured: dict[tuple[str, int], _Measured] = {}

    @property
    def is_enough(self) -> bool:
        """Whether the windows are enough to say how they vary."""
        return len(self._filled) >= FEWEST

    def surprises(self, window: Seen) -> dict[tuple[str, str], Surprise]:
        """Return how each comparable number of each column compares, by column and feature."""
        seasons = seasons_of([one.start for one in self._filled], window.start)
        found = {}
        for name, column in window.profile.columns.items():
            usual = self.usual.columns.get(name)
            if usual is None or usual.dtype != column.dtype:
                continue
            for feature, one in self._of_column(name, column, seasons).items():
                found[name, feature] = one
        return found

    def _of_column(self, name: str, column: Column, seasons: Sequence[Season]) -> dict[str, Surprise]:
        measured = self._measure(name, column.numbers.bits if column.numbers is not None else 0)
        features = measured.yardstick.measured(column, is_part=False)
        values, noise = _row(features, measured.features)
        most = [CAUTIOUS.get(feature, math.inf) for feature in measured.features]
        found = measured.ordinary.surprises(values, noise, seasons, most)
        return {feature: one for feature, one in zip(measured.features, found, strict=True) if one is not None}

    def _measure(self, name: str, bits: int) -> _Measured:
        """Return how a column ordinarily is, in bins no narrower than those of the window it is compared with."""
        usual = self.usual.columns[name]
        bits = min(bits, usual.numbers.bits) if usual.numbers is not None else 0
        if (name, bits) not in self._measured:
            columns = [window.profile.columns[name] for window in self._filled]
            yardstick = Yardstick(usual, float(np.median([column.rows for column in columns])), bits)
            rows = [yardstick.measured(column, is_part=True) for column in columns]
            names = tuple(name for name in WEIGHTS if any(name in row for row in rows))
            values, noise = zip(*(_row(row, names) for row in rows), strict=True)
            self._measured[name, bits] = _Measured(yardstick, names, Ordinary(np.array(values), np.array(noise)))
        return self._measured[name, bits]


def compare(reference: Reference, window: Seen, *, budget: Budget, subject: str) -> list[Finding]:
    """Return what moved, the largest change first; nothing while the reference is too short to know.

    Args:
        reference: Ordinary windows.
        window: The one in question.
        budget: Of false alarms, shared by everything that is compared here.
        subject: Name of the dataset or function, for the findings.
    """
    found = _schema_findings(reference.usual, window.profile, subject)
    if not reference.is_enough or not window.profile.rows:
        return found
    tests = _tests(reference, window)
    alarming: dict[str, tuple[_Test, float]] = {}
    for test, p in zip(tests, _adjusted(tests), strict=True):
        before = alarming.get(test.column)
        if p <= budget.false_alarms and (before is None or _rank(test) < _rank(before[0])):
            alarming[test.column] = (test, p)
    moved = [_finding(reference, window.profile, test, p, budget, subject) for test, p in alarming.values()]
    return [*found, *sorted(moved, key=lambda one: -abs(one.effect))]


def detectable(reference: Reference, window: Seen, budget: Budget) -> dict[str, float]:
    """Return per numeric column the smallest shift, in its spreads, that this window would have shown."""
    if not reference.is_enough or not window.profile.rows:
        return {}
    level = budget.false_alarms
    return {
        test.column: test.found.detectable(level * test.share)
        for test in _tests(reference, window)
        if test.feature == "level"
    }


def _row(features: dict[str, Feature], names: Sequence[str]) -> tuple[Floats, Floats]:
    there = [features.get(name, Feature(np.nan, np.nan)) for name in names]
    return np.array([one.value for one in there]), np.array([one.noise for one in there])


def _tests(reference: Reference, window: Seen) -> list[_Test]:
    found = reference.surprises(window)
    totals: dict[str, float] = {}
    for column, feature in found:
        totals[column] = totals.get(column, 0.0) + WEIGHTS[feature]
    return [
        _Test(column, feature, WEIGHTS[feature] / totals[column] / len(totals), one)
        for (column, feature), one in found.items()
    ]


def _adjusted(tests: Sequence[_Test]) -> list[float]:
    """Return p-values adjusted for everything that was asked, each by its share of the budget.

    Holm (1979), Scand. J. Statistics 6:65-70, section 4: with weights, however the questions depend on each other.
    """
    adjusted, largest, left = [1.0] * len(tests), 0.0, sum(test.share for test in tests)
    for at in sorted(range(len(tests)), key=lambda at: tests[at].found.p / tests[at].share):
        largest = max(largest, min(tests[at].found.p / tests[at].share * left, 1.0))
        adjusted[at] = largest
        left -= tests[at].share
    return adjusted


def _rank(test: _Test) -> tuple[float, float]:
    # Chances below what a float holds are alike; then the change in ordinary spreads decides.
    return test.found.p / test.share, -abs(test.found.change) / test.found.error


def _schema_findings(usual: Profile, window: Profile, subject: str) -> list[Finding]:
    known = {name: column.dtype for name, column in usual.columns.items()}
    there = {name: column.dtype for name, column in window.columns.items()}
    found = []
    for name in sorted(known.keys() | there.keys()):
        if known.get(name) == there.get(name):
            continue
        before, after = known.get(name, "absent"), there.get(name, "absent")
        found.append(
            Finding(
                kind="schema",
                subject=f"{subject}.{name}",
                is_alarm=True,
                effect=1.0,
                said=f"Column {name!r} of {subject!r} was {before} and is {after}.",
                evidence={"before": before, "after": after},
            )
        )
    return found


def _finding(  # noqa: PLR0917 - what a finding says of a test
    reference: Reference, window: Profile, test: _Test, p: float, budget: Budget, subject: str
) -> Finding:
    column, usual = window.columns[test.column], reference.usual.columns[test.column]
    size = test.found.change / test.found.error
    before, after = _shown(usual), _shown(column)
    said = (
        f"{_WORDS[test.feature].capitalize()} of {test.column!r} in {subject!r} moved by {abs(size):.1f} ordinary "
        f"spreads between windows (chance {p:.2g} over all that was compared)."
    )
    return Finding(
        kind=_KINDS.get(test.feature, "data_drift"),
        subject=f"{subject}.{test.column}",
        is_alarm=True,
        effect=_effect(column, usual, test),
        p=p,
        detectable=test.found.detectable(budget.false_alarms * test.share),
        said=said,
        evidence={
            "feature": test.feature,
            "before": before,
            "after": after,
            "rows": column.rows,
            "reference_windows": len(reference.windows),
            "ordinary_spread": test.found.error,
            "moved": [msgspec.to_builtins(part) for part in parts_that_moved(test.column, column, usual)],
            "shape": shape_of(column, usual),
        },
    )


def _effect(column: Column, usual: Column, test: _Test) -> float:
    """Return the shift in spreads of the column for numbers, else the change on the scale of shares."""
    if column.numbers is not None and usual.numbers is not None and column.numbers.count and usual.numbers.count:
        return (column.numbers.mean - usual.numbers.mean) / scale_of(usual.numbers)
    return test.found.change


def _shown(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"rows": column.rows, "missing": column.nulls}
    if column.numbers is not None:
        shown |= _shown_numbers(column.numbers)
    if column.words is not None:
        shown |= _shown_words(column.words)
    return shown


def _shown_numbers(numbers: Numbers) -> dict[str, Any]:
    if not numbers.count:
        return {"not_finite": numbers.not_finite}
    marks = dict(zip(("p5", "p25", "p50", "p75", "p95"), quantiles(numbers, _SHARES).tolist(), strict=True))
    return {"mean": numbers.mean, "not_finite": numbers.not_finite, **marks}


def _shown_words(words: Words) -> dict[str, Any]:
    # Names of categories are what a person must see here; how many there are is bounded.
    shares = {value: number / words.count for value, number in list(words.common.items())[:_SHOWN] if words.count}
    return {"distinct": words.distinct, "common": shares}
