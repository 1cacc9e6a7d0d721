"""Windows as monitors would tell them, a day each; and what alerts stand after them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.monitoring.findings import Finding, Kind, Window
from penstock.project.alerting.cases import Case
from penstock.project.alerting.judging import Verdict, judge

DAY = timedelta(days=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)


def finding(kind: Kind = "data_drift", subject: str = "ratings.rating", effect: float = 0.5, **more: Any) -> Finding:
    """Return an alarm; more of it may be said."""
    given: dict[str, Any] = {"is_alarm": True, "p": 0.001, "said": f"{subject} moved by {effect}", **more}
    return Finding(kind=kind, subject=subject, effect=effect, **given)


def window(day: int, *findings: Finding, monitor: str = "data:ratings", rows: int = 100) -> Window:
    """Return what a monitor found on a day; nothing where nothing is given."""
    start = FIRST + day * DAY
    return Window(
        monitor=monitor, start=start, end=start + DAY, rows=rows, release="movies@3", findings=tuple(findings)
    )


def judged(
    *windows: Window, cases: dict[str, Case] | None = None, now: datetime | None = None, budget: float = 0.01
) -> Verdict:
    """Judge windows as of the end of the last."""
    moment = now or max(w.end for w in windows)
    return judge(Verdict("movies", cases or {}, moment), windows, budget=budget)
