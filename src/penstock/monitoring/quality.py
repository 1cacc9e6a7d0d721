"""Live quality: what became of the answers of a window, and whether that is less than windows ordinarily give.

Only answers whose truth is whole count; an answer without a truth is not wrong, it is unknown.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from msgspec.structs import replace

from penstock.checks.statistics import Floats, Grouped, mean_intervals, scale_of
from penstock.core.records import Record
from penstock.monitoring.drift.seasons import seasons_of
from penstock.monitoring.drift.variation import FEWEST, Ordinary, Surprise
from penstock.monitoring.findings import Finding

# Fewer truths say too little of a window, and too little to compare others with.
FEWEST_TRUTHS = 10


class Level(Record, frozen=True, kw_only=True):
    """How good the answers of a window were.

    Attributes:
        mean: Of the truths, with its 95 % interval; bounds are None where there are too few to say.
        n: Answers with a truth.
        variance: Of one truth.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    variance: float


class Counted(Record, frozen=True, kw_only=True):
    """How far the truth about a window has come.

    Attributes:
        asked: Answers that were given.
        whole: Those about which nothing more can come.
        labelled: Those among the whole ones that have a truth.
    """

    asked: int
    whole: int
    labelled: int

    @property
    def is_settled(self) -> bool:
        """Whether nothing more can come about any of them."""
        return self.whole >= self.asked


class Earlier(Record, frozen=True, kw_only=True):
    """A window that was accepted as ordinary, by when it began."""

    start: datetime
    level: Level


class Question(Record, frozen=True, kw_only=True):
    """What is judged, and how strictly.

    Attributes:
        name: The outcome function, or the name of the feedback.
        start: Of the window.
        false_alarms: Accepted chance of a false alarm.
        is_higher_better: Whether a larger truth is a better one.
        may_alarm: False while the truth about the window may still change.
    """

    name: str
    start: datetime
    false_alarms: float
    is_higher_better: bool = True
    may_alarm: bool = True


def level_of(values: Floats) -> Level:
    """Return mean, interval and variance of finite truths; at least one."""
    found = mean_intervals(Grouped.of(values), scale_of(values), largest=float(values.max()) or 1.0)
    low, high = float(found.low[0]), float(found.high[0])
    return Level(
        mean=float(found.mean[0]),
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        n=len(values),
        variance=float(values.var(ddof=1)) if len(values) > 1 else 0.0,
    )


def judge_level(level: Level, counted: Counted, earlier: Sequence[Earlier], question: Question) -> Finding:
    """Return how good the answers of a window were, as a finding: an alarm where that is surely less than ordinary.

    Args:
        level: Of the window.
        counted: How far its truth has come.
        earlier: Ordinary windows before it, oldest first.
        question: What is asked, and how strictly.
    """
    said = (
        f"{question.name} was {_shown(level)} over {level.n} of {counted.asked} answers of the window from "
        f"{question.start:%Y-%m-%d %H:%M} (truth is whole for {counted.whole})."
    )
    fallen = _compared(level, earlier, question)
    if fallen is None:
        return _finding(question, said=said, effect=0.0)
    found, variance = fallen
    sign = 1 if question.is_higher_better else -1
    is_down = sign * found.change < 0
    p = found.p / 2 if is_down else 1 - found.p / 2
    is_alarm = question.may_alarm and p <= question.false_alarms
    if is_alarm:
        said += (
            f" Windows ordinarily give {level.mean - found.change:.4g}; that is a change by "
            f"{abs(found.change) / found.error:.1f} ordinary spreads (chance {p:.2g})."
        )
    spread = variance**0.5 or 1.0
    finding = _finding(question, said=said, effect=found.change / spread)
    evidence: dict[str, Any] = {"expected": level.mean - found.change, "ordinary_spread": found.error}
    return replace(
        finding,
        is_alarm=is_alarm,
        p=p,
        # One-sided: half of the error rate of two sides.
        detectable=found.detectable(2 * question.false_alarms) / spread,
        evidence=evidence | {"reference_windows": len(_usable(earlier))},
    )


def _compared(level: Level, earlier: Sequence[Earlier], question: Question) -> tuple[Surprise, float] | None:
    usable = _usable(earlier)
    if len(usable) < FEWEST or level.n < FEWEST_TRUTHS:
        return None
    counts = np.array([one.level.n for one in usable], dtype=np.float64)
    variance = float(np.average([one.level.variance for one in usable], weights=counts))
    means = np.array([one.level.mean for one in usable])
    ordinary = Ordinary(means[:, None], (variance / counts)[:, None])
    seasons = seasons_of([one.start for one in usable], question.start)
    found = ordinary.surprises(np.array([level.mean]), np.array([variance / level.n]), seasons)[0]
    return None if found is None else (found, variance)


def _usable(earlier: Sequence[Earlier]) -> list[Earlier]:
    return [one for one in earlier if one.level.n >= FEWEST_TRUTHS]


def _shown(level: Level) -> str:
    if level.low is None or level.high is None:
        return f"{level.mean:.4g}"
    return f"{level.mean:.4g} [{level.low:.4g}, {level.high:.4g}]"


def _finding(question: Question, *, said: str, effect: float) -> Finding:
    return Finding(kind="quality", subject=question.name, is_alarm=False, effect=effect, said=said)
