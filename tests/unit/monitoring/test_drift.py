"""Drift is found when it is there, and seldom when it is not: error rates over streams with fixed seeds."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare, detectable
from penstock.monitoring.drift.variation import Ordinary, Season
from penstock.monitoring.findings import Finding
from penstock.monitoring.profiles.profile import profile

START = datetime(2024, 1, 1, tzinfo=UTC)
NUMBERS, WORDS, ROWS, WINDOWS = 6, 2, 400, 22
CITIES = np.array(["Bern", "Oslo", "Rome", "Lima", "Pune"])


def stream(seed: int, *, wobble: float = 0.0, carry: float = 0.0, season: float = 0.0) -> list[Seen]:
    """Return windows of days whose rows differ by chance, by a shared daily wobble, by the day of the week."""
    rng = np.random.default_rng(seed)
    mood = np.zeros(NUMBERS)
    found = []
    for day in range(WINDOWS + 1):
        mood = carry * mood + np.sqrt(1 - carry**2) * rng.normal(size=NUMBERS) * wobble
        level = mood + season * np.sin(2 * np.pi * (day % 7) / 7)
        numbers = rng.normal(size=(ROWS, NUMBERS)) + level
        mix = np.exp(wobble * rng.normal(size=len(CITIES)))
        columns: dict[str, object] = {f"n{place}": numbers[:, place] for place in range(NUMBERS)}
        columns |= {f"c{place}": rng.choice(CITIES, ROWS, p=mix / mix.sum()) for place in range(WORDS)}
        found.append(Seen(start=START + timedelta(days=day), profile=profile(pl.DataFrame(columns))))
    return found


def look(windows: list[Seen], budget: float = 0.01) -> list[Finding]:
    """Compare the last window with the others."""
    return compare(Reference(windows[:-1]), windows[-1], budget=Budget(false_alarms=budget), subject="people")


def shifted(windows: list[Seen], change: pl.Expr) -> list[Seen]:
    """Return the windows with other rows in the last."""
    rng = np.random.default_rng(99)
    columns: dict[str, object] = {f"n{place}": rng.normal(size=ROWS) for place in range(NUMBERS)}
    columns |= {f"c{place}": rng.choice(CITIES, ROWS) for place in range(WORDS)}
    last = Seen(start=windows[-1].start, profile=profile(pl.DataFrame(columns).with_columns(change)))
    return [*windows[:-1], last]


@pytest.mark.parametrize(
    ("wobble", "carry", "season"),
    [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.1, 0.6, 0.0), (0.02, 0.0, 0.5)],
    ids=["independent", "wobbling", "carried over", "weekly"],
)
def test_unchanged_streams_stay_within_the_alarm_budget(wobble: float, carry: float, season: float) -> None:
    """M6, N13: at a budget of 5 % at most that share of ordinary windows alarms, whatever their variation is."""
    alarms = sum(bool(look(stream(seed, wobble=wobble, carry=carry, season=season), 0.05)) for seed in range(40))
    # With 40 streams at 5 %, six alarms or more would come up in less than one case of 70.
    assert alarms <= 5


def test_a_shift_of_half_a_spread_in_one_column_is_found_and_named() -> None:
    """M1: also when windows wobble; the finding says which column, how far, and what would have been seen."""
    found = [look(shifted(stream(seed, wobble=0.05), pl.col("n3") + 0.6)) for seed in range(10)]
    named = [[one.subject for one in findings] for findings in found]
    assert sum("people.n3" in names for names in named) >= 9
    finding = next(one for one in found[0] if one.subject == "people.n3")
    assert finding.is_alarm
    assert finding.kind == "data_drift"
    assert finding.effect == pytest.approx(0.6, abs=0.2)
    assert finding.detectable is not None
    assert finding.detectable < 0.6
    assert finding.p is not None
    assert finding.p <= 0.01
    assert finding.evidence["after"]["mean"] > finding.evidence["before"]["mean"]


@pytest.mark.parametrize(
    ("change", "subject", "kind"),
    [
        (pl.when(pl.int_range(pl.len()) < 60).then(None).otherwise(pl.col("n0")).alias("n0"), "n0", "missing"),
        (pl.when(pl.int_range(pl.len()) < 40).then(float("nan")).otherwise(pl.col("n1")).alias("n1"), "n1", "numeric"),
        (pl.col("n2") * 3, "n2", "data_drift"),
        (pl.lit("Atlantis").alias("c0"), "c0", "new_category"),
        (pl.lit("Bern").alias("c1"), "c1", "data_drift"),
    ],
    ids=["missing", "not a number", "spread", "new category", "mix"],
)
def test_other_changes_are_found_by_what_they_are(change: pl.Expr, subject: str, kind: str) -> None:
    """M1, tO2, tO5: missing values, NaN, a wider spread, new categories and another mix each have their kind."""
    found = look(shifted(stream(1, wobble=0.02), change))
    assert [(one.subject, one.kind) for one in found] == [(f"people.{subject}", kind)]


def test_a_changed_schema_needs_no_statistics() -> None:
    """Fault 26: a column that is gone, new or of another type is found at the first window."""
    windows = stream(2)[:2]
    other = windows[1].profile.columns | {"n0": windows[1].profile.columns["c0"]}
    changed = Seen(start=windows[1].start, profile=type(windows[1].profile)(rows=ROWS, columns=other))
    found = look([windows[0], changed])
    assert [(one.kind, one.subject) for one in found] == [("schema", "people.n0")]


def test_a_short_reference_alarms_about_nothing() -> None:
    """M6: before it is known how windows vary, nothing is called unusual."""
    assert look(shifted(stream(3)[-5:], pl.col("n0") + 5)) == []


def test_what_could_have_been_seen_is_known() -> None:
    """M6: a monitor says how large a change it would have found, and more rows let it see less."""
    windows = stream(4)
    seen = detectable(Reference(windows[:-1]), windows[-1], Budget())
    assert set(seen) == {f"n{place}" for place in range(NUMBERS)}
    assert all(0.1 < size < 1.0 for size in seen.values())


def test_the_chance_of_an_ordinary_value_is_even() -> None:
    """M6: p-values of the next value of ordinary series are uniform, also with few windows."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(11, 2000))
    whole = Season(np.ones((10, 1)), np.ones(1))
    found = Ordinary(values[:-1], np.zeros((10, 2000))).surprises(values[-1], np.zeros(2000), [whole])
    chances = np.array([one.p for one in found if one is not None])
    assert len(chances) == 2000
    for level in (0.01, 0.05, 0.2):
        share = float(np.mean(chances <= level))
        assert share <= level + 3 * np.sqrt(level / 2000)
        assert share >= level / 4
