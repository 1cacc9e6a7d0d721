"""Live quality against ordinary windows: a fall is told, chance is not, whole and by slice (M3, M4, M6, N8)."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from penstock.checks.cells import searchable
from penstock.checks.statistics import Floats, Integers
from penstock.checks.worst_slices import Limits
from penstock.monitoring.quality import Counted, Earlier, Question, judge_level, level_of
from penstock.monitoring.slice_quality import fallen_slices, worse_slices

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def asked(n: int, labelled: int | None = None) -> Counted:
    return Counted(asked=n, whole=n, labelled=n if labelled is None else labelled)


def judged(means: Floats, rng: np.random.Generator, *, n: int = 200, false_alarms: float = 0.01) -> tuple[bool, float]:
    """Return whether the last of some days is an alarm, and its effect; of each `n` answers, a share was a success."""
    days = [(rng.random(n) < mean).astype(np.float64) for mean in means]
    earlier = [Earlier(start=START + at * DAY, level=level_of(day)) for at, day in enumerate(days[:-1])]
    question = Question(name="bought", start=START + len(earlier) * DAY, false_alarms=false_alarms)
    found = judge_level(level_of(days[-1]), asked(n), earlier, question)
    return found.is_alarm, found.effect


@pytest.mark.parametrize("wobble", [0.0, 0.05])
def test_ordinary_windows_are_hardly_ever_called_a_fall(wobble: float) -> None:
    """M6: with a budget of 5 %, 400 last days like those before are alarms in at most 5 % and noise."""
    rng = np.random.default_rng(int(100 * wobble))
    means = np.clip(0.3 + rng.normal(0, wobble, (400, 30)), 0, 1) if wobble else np.full((400, 30), 0.3)
    alarms = sum(judged(row, rng, false_alarms=0.05)[0] for row in means)
    assert alarms <= 30


def test_a_fall_is_an_alarm_and_a_rise_is_not() -> None:
    """What grew better is no reason to wake anybody; what is far below ordinary days is, with its effect."""
    rng = np.random.default_rng(1)
    fallen, effect = judged(np.array([0.5] * 20 + [0.3]), rng)
    assert fallen
    assert effect == pytest.approx(-0.4, abs=0.2)
    assert not judged(np.array([0.5] * 20 + [0.7]), rng)[0]


def test_what_is_better_when_lower_falls_upwards() -> None:
    """An outcome that costs money is worse when there is more of it."""
    rng = np.random.default_rng(2)
    days = [rng.poisson(mean, 200).astype(np.float64) for mean in [1.0] * 20 + [2.0]]
    earlier = [Earlier(start=START + at * DAY, level=level_of(day)) for at, day in enumerate(days[:-1])]
    question = Question(name="calls", start=START + 20 * DAY, false_alarms=0.01, is_higher_better=False)
    found = judge_level(level_of(days[-1]), asked(200), earlier, question)
    assert found.is_alarm
    assert "Windows ordinarily give 1.0" in found.said or "Windows ordinarily give 0.9" in found.said
    assert found.detectable is not None
    assert found.detectable > 0


def test_few_windows_few_truths_and_open_ones_raise_no_alarm() -> None:
    """Before eight windows nothing is ordinary; nine truths say little; and truth that may still come is waited for."""
    bad, good = np.zeros(100), np.r_[np.ones(60), np.zeros(40)]
    earlier = [Earlier(start=START + at * DAY, level=level_of(good)) for at in range(20)]
    question = Question(name="bought", start=START + 20 * DAY, false_alarms=0.01)
    assert judge_level(level_of(bad), asked(100), earlier, question).is_alarm
    assert judge_level(level_of(bad), asked(100), earlier[:7], question).p is None
    assert judge_level(level_of(bad[:9]), asked(9), earlier, question).p is None
    still_open = Question(name="bought", start=START + 20 * DAY, false_alarms=0.01, may_alarm=False)
    assert not judge_level(level_of(bad), asked(100), earlier, still_open).is_alarm
    assert Counted(asked=10, whole=9, labelled=9).is_settled is False


def stream(
    rng: np.random.Generator, *, days: int, per_day: int, wobble: float = 0.0
) -> tuple[pl.DataFrame, Floats, Integers]:
    """Return answers of some days by six columns, whether each was right, and the day; values of one column wobble."""
    day = np.repeat(np.arange(days), per_day)
    words = {f"word{at}": rng.choice(list("abcde"), len(day)) for at in range(4)} | {
        "region": rng.choice([f"r{at}" for at in range(10)], len(day))
    }
    frame = pl.DataFrame(words | {"number": rng.normal(size=len(day))})
    chance = 0.3 + 0.1 * (frame["word1"] == "a").to_numpy()
    moved = rng.normal(0, wobble, (days, 5))[day, np.unique(frame["word0"].to_numpy(), return_inverse=True)[1]]
    return frame, (rng.random(len(day)) < chance + moved).astype(np.float64), day


def numbered(day: Integers, *, lately: int) -> Integers:
    """Return the windows as `fallen_slices` wants them: the newest day, those looked at with it, and those before."""
    last = int(day.max())
    return np.where(day == last, -2, np.where(day > last - lately, -1, day))


@pytest.mark.parametrize("wobble", [0.0, 0.05])
def test_slices_that_vary_as_ever_are_hardly_ever_called_fallen(wobble: float) -> None:
    """N8: with a budget of 5 % per window, some slice is called fallen in at most 5 % of 150 unchanged streams."""
    alarms = 0
    for seed in range(150):
        frame, values, day = stream(np.random.default_rng(seed), days=25, per_day=80, wobble=wobble)
        limits = Limits(alpha=0.05, min_effect=0.0)
        alarms += bool(fallen_slices(frame, searchable(frame), values, numbered(day, lately=3), limits=limits))
    assert alarms <= 7


def test_a_slice_of_two_percent_that_fell_is_named() -> None:
    """N8: a pair of values that is never right any more is found in at least 9 of 10 streams, with its rows."""
    hits = 0
    for seed in range(20):
        frame, values, day = stream(np.random.default_rng(seed), days=40, per_day=300)
        bad = ((frame["word2"] == "c") & (frame["region"] == "r3")).to_numpy() & (day >= 33)
        found = fallen_slices(
            frame, searchable(frame), np.where(bad, 0.0, values), numbered(day, lately=7), limits=Limits(alpha=0.01)
        )
        names = [one.name for one in found]
        hits += names == ["word2=c and region=r3"]
        assert all(set(one.rows) <= set(np.flatnonzero(bad).tolist()) for one in found if "word2=c and" in one.name)
    assert hits >= 18


def test_a_fall_of_all_answers_is_no_fault_of_a_slice() -> None:
    """What befell everyone is told once, of all answers; slices are judged by what they lose beyond that."""
    frame, values, day = stream(np.random.default_rng(3), days=40, per_day=300)
    rng = np.random.default_rng(4)
    less = np.where((day >= 33) & (rng.random(len(day)) < 0.4), 0.0, values)
    assert fallen_slices(frame, searchable(frame), less, numbered(day, lately=7), limits=Limits(alpha=0.01)) == []


def test_slices_worse_than_the_rest_are_told_the_simplest_first() -> None:
    """The worst slices of live answers need no earlier windows: one column explains what all its pairs show."""
    rng = np.random.default_rng(5)
    frame, values, _ = stream(rng, days=10, per_day=300)
    worse = np.where((frame["word3"] == "e").to_numpy() & (rng.random(3000) < 0.7), 0.0, values)
    (found,) = worse_slices(frame, searchable(frame), worse, limits=Limits())
    assert found.name == "word3=e"
    assert found.mean < 0.2 < found.expected
    false = [
        bool(worse_slices(frame, searchable(frame), rng.permutation(values), limits=Limits(min_effect=0.0)))
        for _ in range(60)
    ]
    assert sum(false) <= 5
