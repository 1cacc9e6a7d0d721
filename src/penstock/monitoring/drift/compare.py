"""Compares a window with its reference: every column at once, within one alarm budget."""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from penstock.checks.statistics import holm
from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.monitoring.drift.features import Feature, features_of, scale_of
from penstock.monitoring.drift.variation import FEWEST, Series, Surprise, surprise
from penstock.monitoring.findings import Finding, Kind
from penstock.monitoring.profiles.numbers import Numbers, quantiles
from penstock.monitoring.profiles.profile import Column, Profile, merge
from penstock.monitoring.profiles.words import Words

_DAY = timedelta(days=1)
_SHOWN = 10
_SHARES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
_KINDS: dict[str, Kind] = {"missing": "missing", "not_finite": "numeric", "new": "new_category"}
_WORDS = {
    "missing": "the share of missing values",
    "not_finite": "the share of NaN and infinities",
    "level": "the level",
    "spread": "the spread",
    "middle": "the median",
    "zeros": "the share of zeros",
    "shape": "the shape of the distribution",
    "new": "the share of categories never seen before",
    "mix": "the mix of categories",
    "largest": "the share of the most common category",
}


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
    found: Surprise


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
        self.usual = reduce(merge, (window.profile for window in windows))
        self._season = _cycle(windows)
        self._features: dict[str, list[dict[str, Feature]]] = {
            name: [features_of(window.profile.columns[name], column) for window in windows]
            for name, column in self.usual.columns.items()
        }

    @property
    def is_enough(self) -> bool:
        """Whether the windows are enough to say how they vary."""
        return len(self.windows) >= FEWEST

    def series(self, column: str, feature: str) -> Series | None:
        """Return one number over the reference windows; None where some windows do not have it."""
        found = [features.get(feature) for features in self._features[column]]
        there = [one for one in found if one is not None]
        if len(there) != len(self.windows):
            return None
        rows = np.array([max(window.profile.columns[column].rows, 1) for window in self.windows])
        return Series(
            np.array([one.value for one in there]),
            np.array([one.noise for one in there]) / rows,
            np.array([self.place(window.start) for window in self.windows]),
        )

    def place(self, start: datetime) -> int:
        """Return the place of a window within the day or week; 0 without a season."""
        match self._season:
            case "week":
                return start.weekday()
            case "day":
                return start.hour
            case _:
                return 0


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
    adjusted = holm(np.array([test.found.p for test in tests])).tolist()
    level = budget.false_alarms / max(len(tests), 1)
    alarming: dict[str, tuple[_Test, float]] = {}
    for test, p in zip(tests, adjusted, strict=True):
        before = alarming.get(test.column)
        if p <= budget.false_alarms and (before is None or test.found.p < before[0].found.p):
            alarming[test.column] = (test, p)
    moved = [
        _finding(reference, window.profile, test, p, level=level, subject=subject) for test, p in alarming.values()
    ]
    return [*found, *sorted(moved, key=lambda one: -abs(one.effect))]


def detectable(reference: Reference, window: Seen, budget: Budget) -> dict[str, float]:
    """Return per numeric column the smallest shift, in its spreads, that this window would have shown."""
    if not reference.is_enough or not window.profile.rows:
        return {}
    tests = _tests(reference, window)
    level = budget.false_alarms / max(len(tests), 1)
    return {test.column: test.found.detectable(level) for test in tests if test.feature == "level"}


def _tests(reference: Reference, window: Seen) -> list[_Test]:
    tests = []
    for name, column in window.profile.columns.items():
        usual = reference.usual.columns.get(name)
        if usual is None or usual.dtype != column.dtype:
            continue
        for feature, value in features_of(column, usual).items():
            series = reference.series(name, feature)
            if series is None:
                continue
            found = surprise(series, value.value, value.noise / max(column.rows, 1), reference.place(window.start))
            tests.append(_Test(name, feature, found))
    return tests


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


def _finding(reference: Reference, window: Profile, test: _Test, p: float, *, level: float, subject: str) -> Finding:
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
        detectable=test.found.detectable(level),
        said=said,
        evidence={
            "feature": test.feature,
            "before": before,
            "after": after,
            "rows": column.rows,
            "reference_windows": len(reference.windows),
            "ordinary_spread": test.found.error,
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


def _cycle(windows: Sequence[Seen]) -> str:
    if len(windows) < 2:
        return ""
    step = min(later.start - before.start for before, later in itertools.pairwise(windows))
    if step == _DAY:
        return "week"
    return "day" if timedelta(hours=1) <= step < _DAY and _DAY % step == timedelta(0) else ""
