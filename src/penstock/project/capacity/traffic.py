"""How much a pipeline is asked: the busiest minute and each day of its prediction log, and when that is too much."""

import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from penstock.core.records import Record
from penstock.project.workspace import Workspace
from penstock.serving.predictions.reading import predictions_frame

_DAYS = 90
# Fewer days than this show no trend, whatever they are.
_FEWEST_DAYS = 7
_FAR_DAYS = 3650
# Where there is no traffic to learn it from: the busiest minute of a day beside its mean.
PEAK = 3.0


class Day(Record, frozen=True, kw_only=True):
    """Requests of one day (UTC)."""

    day: date
    requests: int


class Traffic(Record, frozen=True, kw_only=True):
    """What callers asked over the protocols of a server, newest ninety days.

    Attributes:
        busiest_per_s: Requests a second in the busiest minute.
        busiest_at: When that minute began.
        daily: Whole days, the oldest first; days without a request among them.
        peak_factor: The busiest minute beside the mean of its day.
    """

    requests: int
    busiest_per_s: float
    busiest_at: datetime
    daily: tuple[Day, ...]
    peak_factor: float


class Forecast(Record, frozen=True, kw_only=True):
    """When the capacity runs out, if requests go on to change as they did.

    Attributes:
        grows_per_day: Requests a day by which days grow, the median of all pairs of days.
        at: The day on which the busiest minute asks for more than the capacity; None where that never comes.
        earliest: The same if growth is as fast as the days allow to think, with 95 % certainty.
        said: In a sentence.
    """

    grows_per_day: float
    at: date | None
    earliest: date | None
    said: str


def traffic_of(pipeline: str, workspace: Workspace) -> Traffic | None:
    """Return how much a pipeline is asked; None where nobody asked it."""
    now = workspace.clock.now()
    number = pl.col("prediction_id").str.split_exact("-", 1).struct.field("field_1")
    minutes = (
        predictions_frame(workspace.home, pipeline, since=now - timedelta(days=_DAYS))
        .filter(~pl.col("protocol").is_in(["batch", "stream"]), number.is_null() | (number == "0"))
        .group_by(pl.col("at").dt.truncate("1m"))
        .len("requests")
        .collect(engine="streaming")
        .sort("at")
    )
    if minutes.is_empty():
        return None
    busiest = minutes.sort("requests", "at", descending=[True, False]).row(0, named=True)
    daily = _daily(minutes, now.date())
    on_that_day = int(minutes.filter(pl.col("at").dt.date() == busiest["at"].date())["requests"].sum())
    return Traffic(
        requests=int(minutes["requests"].sum()),
        busiest_per_s=busiest["requests"] / 60,
        busiest_at=busiest["at"],
        daily=daily,
        peak_factor=busiest["requests"] * 1440 / on_that_day,
    )


def forecast(daily: Sequence[Day], peak_factor: float, capacity_per_s: float) -> Forecast | None:
    """Return when the busiest minute of a day will ask for more than the capacity; None with under a week of days.

    The trend is the median slope of all pairs of days (Theil, 1950; Sen, 1968, JASA 63:1379-1389), with Sen's interval
    for it: a single wild day moves neither.

    Args:
        daily: Requests by day, the oldest first.
        peak_factor: How much busier the busiest minute is than its day.
        capacity_per_s: The knee.
    """
    if len(daily) < _FEWEST_DAYS:
        return None
    days = np.array([one.day.toordinal() for one in daily], dtype=float)
    counts = np.array([one.requests for one in daily], dtype=float)
    slope, fastest = _slopes(days, counts)
    level = float(np.median(counts - slope * (days - days[-1])))
    holds = capacity_per_s / peak_factor * 86_400
    last = daily[-1].day
    at, earliest = _reached(last, level, slope, holds), _reached(last, level, fastest, holds)
    return Forecast(grows_per_day=slope, at=at, earliest=earliest, said=_told(at, earliest, slope, last))


def _slopes(days: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    first, second = np.triu_indices(len(days), 1)
    slopes = np.sort((counts[second] - counts[first]) / (days[second] - days[first]))
    n = len(days)
    # Sen's ranks of the limits, from the variance of Kendall's statistic without ties.
    spread = 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    rank = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return float(np.median(slopes)), float(slopes[rank])


def _reached(last: date, level: float, slope: float, holds: float) -> date | None:
    if level >= holds:
        return last
    days = (holds - level) / slope if slope > 0 else math.inf
    return last + timedelta(days=math.ceil(days)) if days < _FAR_DAYS else None


def _told(at: date | None, earliest: date | None, slope: float, last: date) -> str:
    if at == last:
        return "busy minutes already ask for more than it holds"
    grows = f"days grow by {slope:,.0f} requests" if slope >= 0.5 else "days do not grow"
    if at is not None:
        sooner = f" (by {earliest} at the earliest)" if earliest is not None and earliest < at else ""
        return f"{grows}: the capacity runs out on {at}{sooner}"
    if earliest is not None:
        return f"{grows}: the capacity lasts; by {earliest} at the earliest if they grow as fast as they might"
    return f"{grows}: no day is in sight on which the capacity runs out"


def _daily(minutes: pl.DataFrame, today: date) -> tuple[Day, ...]:
    by_day = minutes.group_by(pl.col("at").dt.date().alias("day")).agg(pl.col("requests").sum()).sort("day")
    known = dict(by_day.iter_rows())
    first = min(known)
    # Today is not over, and the first day may have begun in its middle.
    days = [first + timedelta(days=number) for number in range(1, (today - first).days)]
    return tuple(Day(day=day, requests=int(known.get(day, 0))) for day in days)
