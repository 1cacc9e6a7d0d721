"""How many rows a window has, against ordinary windows of that day: a broken feed is seen by what is not there."""

import itertools
import math
import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta

from penstock.core.records import Record
from penstock.monitoring.findings import Finding
from penstock.monitoring.usual import Point, surprise_of

# A change by less than this factor is no broken feed, however steady it was before.
_SMALLEST = math.log(1.5)
_FOR_MISSING = 0.9
_DAY, _WEEK = timedelta(days=1), 7
# What counts as an outage among ordinary windows: beyond five standard deviations, and at most one window in twenty.
_FAR, _ONE_IN, _NORMAL_OF_MEDIAN = 5.0, 20, 1.4826


class Counted(Record, frozen=True, kw_only=True):
    """How many rows a window had."""

    start: datetime
    rows: int


def volume(before: Sequence[Counted], window: Counted, *, false_alarms: float, subject: str) -> list[Finding]:
    """Return a finding when far fewer or far more rows came than ordinarily; none while ordinary is not known.

    Numbers of rows are compared as logarithms, since they vary by a share of themselves.

    Args:
        before: Ordinary windows, oldest first, of the same length.
        window: The one in question.
        false_alarms: Share of ordinary windows that may be called unusual.
        subject: Name of the dataset, for the finding.
    """
    all_windows, lately = [*before, window], _lately(before, window)
    points = [_point(all_windows[max(at - lately, 0) : at + 1]) for at in range(lately, len(all_windows))]
    found = surprise_of(_without_outages(points[:-1]), points[-1]) if points else None
    if found is None or abs(found.change) < _SMALLEST:
        return []
    # Nearly all of the budget is for rows that are missing: of those that are too many, the other monitors speak too.
    level = false_alarms * (_FOR_MISSING if found.change < 0 else 1 - _FOR_MISSING)
    if found.p / 2 > level:
        return []
    expected = math.expm1(math.log(window.rows + 1) - found.change)
    word = "Only" if found.change < 0 else "As many as"
    return [
        Finding(
            kind="broken_feed",
            subject=subject,
            is_alarm=True,
            effect=found.change,
            p=found.p,
            detectable=found.detectable(false_alarms),
            said=f"{word} {window.rows} rows of {subject!r} came, where about {expected:.0f} are ordinary.",
            evidence={"rows": window.rows, "expected": expected, "reference_windows": len(before)},
        )
    ]


def _lately(before: Sequence[Counted], window: Counted) -> int:
    """Return how many windows before it one is compared with: those of a week; where they are short, of a day.

    A feed grows and shrinks over weeks. What counts is how far a window is from those right before it, and how far
    earlier windows were from theirs.
    """
    step = min((later.start - one.start for one, later in itertools.pairwise([*before, window])), default=_DAY)
    per_day = round(_DAY / step) if step > timedelta(0) else 1
    return max(_WEEK, min(per_day, len(before) // 3))


def _point(windows: Sequence[Counted]) -> Point:
    rows = windows[-1].rows + 1
    usual = statistics.median(math.log(one.rows + 1) for one in windows[:-1])
    return Point(windows[-1].start, math.log(rows) - usual, 1 / rows)


def _without_outages(points: Sequence[Point]) -> list[Point]:
    """Return ordinary windows without the few that were far off: a feed that was down once may break again."""
    if not points:
        return []
    middle = statistics.median(point.value for point in points)
    spread = statistics.median(abs(point.value - middle) for point in points) * _NORMAL_OF_MEDIAN
    far = sorted(points, key=lambda point: -abs(point.value - middle))[: len(points) // _ONE_IN]
    gone = {point.start for point in far if abs(point.value - middle) > _FAR * spread}
    return [point for point in points if point.start not in gone]


def refused(reasons: dict[str, int], taken: int, *, usual_share: float, subject: str) -> list[Finding]:
    """Return what was set aside by the contract of a dataset, when it is far more than ordinarily.

    Args:
        reasons: Rows set aside by reason, as "rating: above 10".
        taken: Rows that were taken in at the same time.
        usual_share: Largest share that was set aside in earlier intakes.
        subject: Name of the dataset.
    """
    aside = sum(reasons.values())
    if not aside:
        return []
    share = aside / (aside + taken)
    is_alarm = aside >= 5 and share > max(0.01, 2 * usual_share)
    return [
        Finding(
            kind="missing" if "null" in reason else "range" if _is_range(reason) else "schema",
            subject=f"{subject}.{reason.partition(':')[0]}",
            is_alarm=is_alarm,
            effect=number / (aside + taken),
            said=f"{number} of {aside + taken} rows of {subject!r} were set aside, since {reason}.",
            evidence={"reason": reason, "rows": number, "of": aside + taken, "usual_share": usual_share},
        )
        for reason, number in sorted(reasons.items(), key=lambda item: -item[1])
    ]


def _is_range(reason: str) -> bool:
    return any(word in reason for word in ("below", "above", "allowed", "finite", "not a number"))
