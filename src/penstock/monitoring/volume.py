"""How many rows a window has, against ordinary windows of that day: a broken feed is seen by what is not there."""

import math
from collections.abc import Sequence
from datetime import datetime

from penstock.core.records import Record
from penstock.monitoring.findings import Finding
from penstock.monitoring.usual import log_point, surprise_of

# A change by less than this factor is no broken feed, however steady it was before.
_SMALLEST = math.log(1.5)


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
    points = [log_point(one.start, one.rows + 1, 1 / (one.rows + 1)) for one in before]
    found = surprise_of(points, log_point(window.start, window.rows + 1, 1 / (window.rows + 1)))
    if found is None or found.p > false_alarms or abs(found.change) < _SMALLEST:
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
