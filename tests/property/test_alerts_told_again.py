"""Whatever is told again, in whatever order and by whoever died in between, the alerts are the same."""

import sys
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
from alert_windows import DAY, FIRST, finding, window
from penstock.monitoring.findings import Kind, Window
from penstock.project.alerting.cases import Case, alert_of, case_of
from penstock.project.alerting.judging import Verdict, judge

MONITORS: dict[str, Kind] = {
    "data:ratings": "data_drift",
    "answers:recommend": "prediction_drift",
    "quality:watched": "quality",
}
# Days on which each monitor alarms, and in which what was told is told again.
_DAYS = st.lists(st.tuples(*(st.booleans() for _ in MONITORS), st.booleans()), min_size=1, max_size=25)


def day_of(number: int, alarms: tuple[bool, ...]) -> list[Window]:
    """Return what the monitors say of a day."""
    found = zip(MONITORS.items(), alarms, strict=True)
    return [window(number, *([finding(kind, name)] if is_bad else []), monitor=name) for (name, kind), is_bad in found]


def told(days: list[list[Window]], again: list[bool]) -> tuple[list[Case], list[tuple[str, str]]]:
    """Tell day by day, and on some all windows of the last three days again; return all alerts and what was said."""
    cases: dict[str, Case] = {}
    closed: list[Case] = []
    said: list[tuple[str, str]] = []
    for number, day in enumerate(days):
        for part in (
            day,
            *([[w for late in days[max(0, number - 3) : number + 1] for w in late]] if again[number] else []),
        ):
            found = judge(Verdict("movies", cases, FIRST + (number + 1) * DAY), part[::-1])
            replaced = [c for key, c in cases.items() if found.cases[key].raised_at != c.raised_at]
            closed += [*replaced, *(case for case, _ in found.past)]
            said += [(key, event) for key, events in found.told.items() for event in events]
            cases = found.cases
    return [*closed, *cases.values()], said


@settings(deadline=None, max_examples=120)
@given(_DAYS)
def test_what_is_told_again_changes_nothing(days: list[tuple[bool, bool, bool, bool]]) -> None:
    """M5: kill -9 anywhere and tell again: the same alerts, with the same windows, told the same number of times."""
    found = [day_of(number, one[:3]) for number, one in enumerate(days)]
    assert told(found, [False] * len(days)) == told(found, [one[3] for one in days])


@settings(deadline=None, max_examples=120)
@given(_DAYS)
def test_alerts_alternate_between_opened_and_resolved(days: list[tuple[bool, bool, bool, bool]]) -> None:
    """Nobody hears of an end without a beginning, nor twice of a beginning; and of each cause one is open at most."""
    found = [day_of(number, one[:3]) for number, one in enumerate(days)]
    cases, said = told(found, [one[3] for one in days])
    for key in {key for key, _ in said}:
        words = [event.partition("#")[0] for name, event in said if name == key and not event.startswith("joined")]
        assert words == [("opened", "resolved")[n % 2] for n in range(len(words))]
    is_open = [case.key for case in cases if case.is_open]
    assert len(is_open) == len(set(is_open))
    assert all(case.resolved_at is None or case.resolved_at - case.raised_at >= timedelta(0) for case in cases)


@settings(deadline=None, max_examples=60)
@given(_DAYS)
def test_an_alert_is_the_same_from_the_ledger(days: list[tuple[bool, bool, bool, bool]]) -> None:
    """What is recorded of an alert gives back the alert."""
    cases, _ = told([day_of(number, one[:3]) for number, one in enumerate(days)], [False] * len(days))
    assert [case_of(alert_of(case)) for case in cases] == cases
