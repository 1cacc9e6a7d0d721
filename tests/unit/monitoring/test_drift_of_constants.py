"""A column that never changes raises no alarm, however many rows come."""

from datetime import UTC, datetime, timedelta

import polars as pl

from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare
from penstock.monitoring.profiles.profile import profile

START = datetime(2025, 2, 1, tzinfo=UTC)


def seen(day: int, value: object, rows: int) -> Seen:
    return Seen(start=START + timedelta(days=day), profile=profile(pl.DataFrame({"k": [value] * rows}).lazy()))


def test_ten_times_as_many_rows_of_a_constant_are_no_drift() -> None:
    """M2: a burst of requests that all ask for ten titles has not changed what they ask; asking for twelve has."""
    for usual, other in ((10, 12), ("all", "some")):
        reference = Reference(windows=tuple(seen(day, usual, 20) for day in range(20)))
        burst = compare(reference, seen(20, usual, 200), budget=Budget(false_alarms=0.01), subject="recommend")
        changed = compare(reference, seen(20, other, 20), budget=Budget(false_alarms=0.01), subject="recommend")
        assert [one.said for one in burst if one.is_alarm] == []
        assert any(one.is_alarm for one in changed)
