"""Ages against ordinary waits, and volumes and ranges against ordinary windows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from penstock.monitoring.findings import Finding
from penstock.monitoring.freshness import cost_of_retrains, ordinary_wait, stale_data, stale_model
from penstock.monitoring.profiles.profile import profile
from penstock.monitoring.ranges import out_of_range
from penstock.monitoring.volume import Counted, refused, volume

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST = datetime(2026, 1, 5, tzinfo=UTC)


def test_a_daily_feed_is_missed_on_the_second_day() -> None:
    """M2: one and a half ordinary waits are too many where waits are regular."""
    waits = [DAY + k * timedelta(minutes=3) for k in range(20)]
    assert stale_data("ratings", DAY, waits) == []
    (finding,) = stale_data("ratings", 2 * DAY, waits)
    assert (finding.kind, finding.subject) == ("stale_data", "ratings")
    assert "2.0 days old" in finding.said


def test_a_feed_without_hours_is_given_time() -> None:
    """M2: of 4,000 irregular waits at most one in a hundred is called stale."""
    chance = np.random.default_rng(5)
    waits = [timedelta(hours=float(hours)) for hours in chance.exponential(24, 4056)]
    told = sum(bool(stale_data("ratings", waits[k], waits[k - 56 : k])) for k in range(56, 4056))
    assert told <= 40


def test_a_feed_that_was_down_once_is_missed_the_next_time_too() -> None:
    """M2: a long wait does not become the ordinary one."""
    waits = [*[DAY] * 20, 9 * DAY, *[DAY] * 20]
    assert ordinary_wait(waits) == DAY
    assert stale_data("ratings", 3 * DAY, waits) != []


def test_few_waits_say_nothing() -> None:
    """M2: a dataset that never grew is not late."""
    assert stale_data("ratings", 400 * DAY, [DAY, DAY]) == []
    assert stale_data("ratings", 400 * DAY, []) == []


def test_a_model_is_old_when_much_has_come_since() -> None:
    """M5: half as many rows again as it was made from; an age alone says nothing while nothing comes."""
    assert stale_model("movies@3", 90 * DAY, [], trained_rows=1000, new_rows=499) == []
    (grown,) = stale_model("movies@3", 90 * DAY, [], trained_rows=1000, new_rows=600)
    assert grown.kind == "stale_model"
    assert grown.effect == pytest.approx(1.2)
    weekly = [7 * DAY] * 4
    assert stale_model("movies@3", 40 * DAY, weekly, trained_rows=1000, new_rows=0) == []
    assert stale_model("movies@3", 20 * DAY, weekly, trained_rows=1000, new_rows=5) == []
    assert stale_model("movies@3", 22 * DAY, weekly, trained_rows=1000, new_rows=5) != []


def test_runs_have_a_price() -> None:
    """Q27: what retraining cost is told where policy says what an hour of CPU costs."""
    (finding,) = cost_of_retrains([1800.0, 1800.0], cpu_hour=0.04, subject="movies")
    assert finding.effect == pytest.approx(0.04)
    assert not finding.is_alarm
    assert cost_of_retrains([1800.0], cpu_hour=0.0, subject="movies") == []


def weekly_rows(day: int, chance: np.random.Generator) -> int:
    """Return the rows of a day: fewer on weekends, ten per cent more or less by chance."""
    busy = 600 if (FIRST + day * DAY).weekday() >= 5 else 1000
    return int(busy * np.exp(chance.normal(0, 0.1)))


def counted(rows: int, day: int, seed: int) -> list[Finding]:
    """Judge how many rows came after eight ordinary weeks."""
    chance = np.random.default_rng(seed)
    before = [Counted(start=FIRST + k * DAY, rows=weekly_rows(k, chance)) for k in range(56)]
    today = Counted(start=FIRST + day * DAY, rows=rows)
    return volume(before, today, false_alarms=0.01, subject="ratings")


def test_volumes_alarm_no_more_often_than_budgeted() -> None:
    """M2: over 600 ordinary days, weekends among them."""
    told = [counted(weekly_rows(56 + k % 7, np.random.default_rng(900 + k)), 56 + k % 7, k) for k in range(600)]
    assert sum(bool(one) for one in told) <= 12


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_missing_rows_are_a_broken_feed(share: float) -> None:
    """M2: half of the rows of a Wednesday, a third, none; the finding says how many were expected."""
    found = [counted(int(1000 * share), 58, seed) for seed in range(40)]
    assert all(len(one) == 1 for one in found)
    assert found[0][0].kind == "broken_feed"
    assert found[0][0].evidence["expected"] == pytest.approx(1000, rel=0.15)


def test_a_weekend_is_no_broken_feed() -> None:
    """M2: what is little for a Monday is ordinary for a Saturday."""
    assert counted(600, 61, 3) == []


def test_rows_set_aside_say_by_which_rule() -> None:
    """M1: rows refused by the contract are an alarm when they are more than ordinarily."""
    reasons = {"rating: above 10": 80, "rating: null": 5}
    high, null = refused(reasons, 900, usual_share=0.0, subject="ratings")
    assert (high.kind, high.subject, high.is_alarm) == ("range", "ratings.rating", True)
    assert null.kind == "missing"
    assert not any(one.is_alarm for one in refused(reasons, 900, usual_share=0.08, subject="ratings"))


def test_a_scale_has_an_end() -> None:
    """M1: an eleven on a scale to ten is found though it is one row in a thousand; a longer tail is not."""
    chance = np.random.default_rng(0)

    def frame() -> pl.DataFrame:
        return pl.DataFrame({"rating": chance.integers(0, 11, 1000), "price": chance.exponential(5.0, 1000)})

    before = [profile(frame()) for _ in range(30)]
    assert [out_of_range(before, profile(frame()), subject="ratings") for _ in range(100)] == [[]] * 100
    wrong = frame().with_columns(rating=pl.when(pl.int_range(pl.len()) == 7).then(11).otherwise(pl.col("rating")))
    (finding,) = out_of_range(before, profile(wrong), subject="ratings")
    assert (finding.kind, finding.subject) == ("range", "ratings.rating")
    assert finding.evidence == {"before": {"low": 0.0, "high": 10.0}, "after": {"low": 0.0, "high": 11.0}}
    cents = frame().with_columns(price=pl.when(pl.int_range(pl.len()) == 7).then(9000.0).otherwise(pl.col("price")))
    assert [one.subject for one in out_of_range(before, profile(cents), subject="ratings")] == ["ratings.price"]
