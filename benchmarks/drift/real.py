"""Real streams in their own order: electricity, bank marketing, and NAB's labelled anomalies."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare
from penstock.monitoring.drift.variation import FEWEST
from penstock.monitoring.findings import Finding
from penstock.monitoring.profiles.profile import profile

DATA = Path(__file__).parents[2].parent / "shared" / "data"
START = datetime(1996, 5, 7, tzinfo=UTC)
BUDGET = Budget(false_alarms=0.01)
REFERENCE = 56
FIRST = 21
HOURS = 4


@dataclass(frozen=True, slots=True)
class Walked:
    """A window that was looked at, and what was found."""

    start: datetime
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What came of series with labelled anomalies.

    Attributes:
        labelled: Stretches that people marked, after the first windows of their series.
        hit: Those in which at least one window alarmed.
        looks: Windows outside of all of them.
        false: Those that alarmed.
    """

    labelled: int
    hit: int
    looks: int
    false: int


def walked(windows: Sequence[Seen], first: int = FIRST) -> Iterator[Walked]:
    """Look at windows in turn, each against those before it."""
    seen: list[Seen] = []
    for window in windows:
        if len(seen) < max(first, FEWEST):
            seen.append(window)
            continue
        found = tuple(compare(Reference(seen[-REFERENCE:]), window, budget=BUDGET, subject="stream"))
        yield Walked(window.start, found)
        # A level that stays is the new ordinary one, or every window would alarm for ever.
        seen.append(window)


def electricity(folder: Path = DATA) -> list[Seen]:
    """Return the days of the market of New South Wales: 48 half hours each."""
    frame = pl.read_parquet(folder / "elec2" / "elec2.parquet").drop("t", "feat_1")
    return _cut(frame, 48, timedelta(days=1))


def calls(folder: Path = DATA) -> list[Seen]:
    """Return the calls of the bank in their order, 500 at a time; without `month`, which says when they were."""
    frame = pl.read_parquet(folder / "bank_marketing" / "bank_full.parquet").drop("row", "month", "day_of_week")
    return _cut(frame, 500, timedelta(days=7))


def anomalies(folder: Path = DATA, most: int | None = None) -> dict[str, Anomalies]:
    """Return per series of NAB what was found of its labelled stretches, in windows of four hours.

    Args:
        folder: Of the data.
        most: Series to take, the first by name; all by default.
    """
    frame = pl.read_parquet(folder / "nab" / "nab.parquet")
    names = frame["series"].unique().sort().to_list()[:most]
    return {name: _anomalies(frame.filter(pl.col("series") == name)) for name in names}


def told(windows: Sequence[Seen]) -> str:
    """Return how many windows alarmed, and for which columns most."""
    looked = list(walked(windows))
    alarms = [one for one in looked if any(finding.is_alarm for finding in one.findings)]
    columns = Counter(finding.subject.partition(".")[2] for one in alarms for finding in one.findings)
    first = ", ".join(f"{one.start:%Y-%m-%d}" for one in alarms[:5])
    most = ", ".join(f"{name} {number}" for name, number in columns.most_common(6))
    return f"{len(alarms)} of {len(looked)} windows alarm; columns: {most or 'none'}; first: {first or 'never'}"


def _cut(frame: pl.DataFrame, rows: int, step: timedelta) -> list[Seen]:
    return [
        Seen(start=START + at * step, profile=profile(frame.slice(at * rows, rows)))
        for at in range(frame.height // rows)
    ]


def _anomalies(frame: pl.DataFrame) -> Anomalies:
    grouped = frame.sort("timestamp").group_by_dynamic("timestamp", every=f"{HOURS}h")
    marks = grouped.agg(pl.col("value"), pl.col("in_anomaly_window").any().alias("is_marked"), pl.len())
    marks = marks.filter(pl.col("len") >= 10)
    windows = [
        Seen(start=start.replace(tzinfo=UTC), profile=profile(values.alias("value").to_frame()))
        for start, values in zip(marks["timestamp"], marks["value"], strict=True)
    ]
    alarms = {one.start: any(finding.is_alarm for finding in one.findings) for one in walked(windows)}
    looked = [
        (alarms[window.start], marked)
        for window, marked in zip(windows, marks["is_marked"], strict=True)
        if window.start in alarms
    ]
    stretches: list[list[bool]] = []
    before = False
    for is_alarm, is_marked in looked:
        if is_marked:
            stretches = stretches if before else [*stretches, []]
            stretches[-1].append(is_alarm)
        before = is_marked
    outside = [is_alarm for is_alarm, is_marked in looked if not is_marked]
    return Anomalies(len(stretches), sum(any(one) for one in stretches), len(outside), sum(outside))
