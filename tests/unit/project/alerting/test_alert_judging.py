"""Which windows open, refresh, join and resolve alerts: a pure function, told windows in any order and twice."""

import sys
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[3]))
from alert_windows import DAY, FIRST, finding, judged, window
from penstock.monitoring.findings import Kind
from penstock.project.alerting.cases import FAMILY, FOLLOWS, RANK


def test_every_kind_of_finding_has_a_family_with_a_place_in_the_order() -> None:
    """M5: nothing that a monitor can find is without a cause to be told under."""
    assert set(FAMILY) == set(get_args(Kind))
    assert {*FAMILY.values(), *FOLLOWS} <= set(RANK)
    assert all(RANK[up] < RANK[family] for family, ups in FOLLOWS.items() for up in ups)


def test_five_columns_that_moved_in_one_window_are_one_alert() -> None:
    """M5: one alert per cause: it names the largest first and counts the rest."""
    found = judged(window(0, *(finding(subject=f"ratings.c{n}", effect=0.1 * n) for n in range(1, 6))))
    (case,) = found.cases.values()
    assert (case.kind, case.subject, case.found.subjects) == ("drift", "data:ratings", 5)
    assert case.found.worst.subject == "ratings.c5"
    assert found.told == {"drift data:ratings": ["opened"]}


def test_a_cause_that_lasts_refreshes_its_alert() -> None:
    """The same cause on the next days is the same alert: it grows in windows and size, and nobody is told again."""
    first = judged(window(0, finding(effect=0.3)))
    second = judged(window(1, finding(effect=0.9)), window(2, finding(effect=0.2)), cases=first.cases)
    (case,) = second.cases.values()
    assert (case.windows, case.found.worst.effect, case.found.since) == (3, 0.9, FIRST)
    assert (case.raised_at, case.seen_at) == (FIRST + DAY, FIRST + 3 * DAY)
    assert second.told == {}


def test_windows_told_twice_change_nothing() -> None:
    """Whoever tells again what was told, after a crash or beside another worker, changes nothing."""
    windows = [window(day, *([finding()] if day < 3 else [])) for day in range(4)]
    once = judged(*windows)
    again = judged(*windows[::-1], cases=once.cases, now=FIRST + 9 * DAY)
    assert again.cases == once.cases
    assert (again.told, again.past) == ({}, [])


def test_two_clean_windows_resolve() -> None:
    """It resolves by itself after two windows in a row without it; one is not enough."""
    one = judged(window(0, finding()), window(1))
    assert one.cases["drift data:ratings"].is_open
    two = judged(window(2), cases=one.cases)
    case = two.cases["drift data:ratings"]
    assert (case.is_open, case.resolved_at) == (False, FIRST + 3 * DAY)
    assert two.told == {"drift data:ratings": ["resolved"]}


def test_a_window_without_rows_is_not_clean() -> None:
    """Where nothing came, nothing was seen to be well."""
    found = judged(window(0, finding()), window(1, rows=0), window(2, rows=0))
    assert found.cases["drift data:ratings"].is_open


def test_a_window_that_could_not_have_shown_it_is_not_clean() -> None:
    """A window that says it could only see larger changes than the alert's does not resolve it."""
    blind = finding(is_alarm=False, p=0.4, effect=0.1, detectable=2.0)
    found = judged(window(0, finding()), window(1, blind), window(2, blind))
    assert found.cases["drift data:ratings"].is_open


def test_what_comes_back_soon_is_the_same_alert_and_needs_longer_to_resolve() -> None:
    """A cause that comes and goes is one alert, which resolves after twice as many clean windows each time."""
    days = [window(day, *([finding()] if day in {0, 4} else [])) for day in range(9)]
    found = judged(*days)
    (case,) = found.cases.values()
    assert (case.is_open, case.found.returns, case.windows) == (False, 1, 2)
    assert case.found.clean == tuple((FIRST + day * DAY).isoformat() for day in (5, 6, 7, 8))
    assert found.told == {"drift data:ratings": ["opened", "resolved", "opened#2", "resolved#2"]}
    assert [one.what for one in case.done] == ["opened", "resolved", "came back", "resolved"]


def test_what_comes_back_after_long_is_another_alert() -> None:
    """Within one telling both are kept, each with what was told of it."""
    days = [window(day, *([finding()] if day in {0, 20} else [])) for day in range(21)]
    found = judged(*days)
    ((older, told),) = found.past
    assert (older.is_open, told) == (False, ["opened", "resolved"])
    assert found.cases["drift data:ratings"].found.since == FIRST + 20 * DAY
    assert found.told == {"drift data:ratings": ["opened"]}


def test_late_rows_that_undo_the_only_window_resolve_the_alert() -> None:
    """A window that was computed again without it takes the alert back."""
    first = judged(window(0, finding()))
    again = judged(window(0), cases=first.cases)
    case = again.cases["drift data:ratings"]
    assert (case.is_open, case.found.ended) == (False, "rows that came late undid it")


@pytest.mark.parametrize("order", [1, -1])
def test_answers_and_quality_that_follow_from_data_are_joined_to_its_alert(order: int) -> None:
    """M5: three monitors, one cause, one alert; people hear once of each that joins."""
    came = [
        window(0, finding()),
        window(0, finding("prediction_drift", "recommend.answer"), monitor="answers:recommend"),
        window(0, finding("slice_quality", "quality/genre=Drama", -0.2), monitor="quality:watched"),
    ]
    found = judged(*came[::order])
    (case,) = found.cases.values()
    assert set(case.found.joined) == {"answers answers:recommend", "quality quality:watched"}
    assert found.told[case.key][0] == "opened"
    assert len(found.told[case.key]) == 3
    later = judged(
        window(1, finding()),
        window(1, finding("prediction_drift", "recommend.answer"), monitor="answers:recommend"),
        cases=found.cases,
    )
    assert later.told == {}
    assert later.cases[case.key].found.joined["answers answers:recommend"].until == FIRST + 2 * DAY


def test_quality_that_was_bad_before_the_data_moved_keeps_its_own_alert() -> None:
    """What began earlier does not follow from what began later."""
    bad = finding("quality", "quality")
    found = judged(
        window(0, bad, monitor="quality:watched"), window(1, bad, monitor="quality:watched"), window(1, finding())
    )
    assert {case.kind for case in found.cases.values()} == {"quality", "drift"}


def test_quality_learnt_after_the_data_recovered_names_what_it_follows() -> None:
    """Late truth about a time whose data alert is over is an alert, and says which one it follows from."""
    data = judged(window(0, finding()), window(1), window(2))
    cases = {key: replace(case, id=7) for key, case in data.cases.items()}
    late = judged(
        window(0, finding("quality", "quality"), monitor="quality:watched"), cases=cases, now=FIRST + 15 * DAY
    )
    assert late.cases["quality quality:watched"].found.follows == "a7"


def test_a_monitor_that_speaks_no_more_keeps_no_alert_open() -> None:
    """A dataset that left the pipeline has no clean windows; its alert ends after a fortnight of silence."""
    first = judged(window(0, finding()))
    found = judged(window(16, monitor="data:titles"), cases=first.cases)
    case = found.cases["drift data:ratings"]
    assert not case.is_open
    assert "nothing was heard of data:ratings for 14 days" in case.found.ended
