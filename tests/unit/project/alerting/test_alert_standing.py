"""What stands and no window found: told once while it stands, resolved when it does not; a pure function."""

import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from alert_windows import FIRST
from penstock.project.alerting.cases import Case, Fact
from penstock.project.alerting.judging import Verdict, judge_facts

HOUR = timedelta(hours=1)
SCOPE = frozenset({"intake", "retrain", "quarantine"})


def fact(kind: str = "intake", subject: str = "ratings", mark: str = "1", hours: int = 0) -> Fact:
    """Return something that stands."""
    return Fact(kind=kind, subject=subject, mark=mark, at=FIRST + hours * HOUR, said=f"{subject} is away")


def stood(*facts: Fact, cases: dict[str, Case] | None = None, hours: int = 0) -> Verdict:
    """Judge facts at an hour."""
    return judge_facts(Verdict("movies", cases or {}, FIRST + hours * HOUR), facts, SCOPE)


def test_a_fact_told_hour_after_hour_is_one_alert_and_unchanged() -> None:
    """The same failure again changes nothing; another one of the same cause refreshes it, and nobody hears again."""
    first = stood(fact())
    again = stood(fact(hours=1), cases=first.cases, hours=1)
    assert (again.cases, again.told) == (first.cases, {})
    other = stood(fact(mark="2", hours=2), cases=first.cases, hours=2)
    assert (other.cases["intake ratings"].windows, other.told) == (2, {})


def test_what_stands_no_more_is_resolved() -> None:
    """And only what was looked at: alerts of other kinds stay."""
    first = stood(fact())
    assert not stood(cases=first.cases, hours=1).cases["intake ratings"].is_open
    unseen = judge_facts(Verdict("movies", first.cases, FIRST), [], frozenset({"quarantine"}))
    assert unseen.cases == first.cases


def test_a_source_that_comes_and_goes_is_one_alert() -> None:
    """M6: away again within a day is the same alert, told as such; later it is another."""
    first = stood(cases=stood(fact()).cases, hours=1)
    back = stood(fact(mark="2", hours=3), cases=first.cases, hours=3)
    assert back.told == {"intake ratings": ["opened#2"]}
    later = stood(fact(mark="3", hours=90), cases=first.cases, hours=90)
    assert later.told == {"intake ratings": ["opened"]}
    assert later.cases["intake ratings"].found.returns == 0


def test_a_retrain_that_fails_for_want_of_rows_is_joined_to_the_intake() -> None:
    """One cause, one alert: what follows is named under it, and stands alone once the cause is over."""
    away, failed = fact(), fact("retrain", "movies")
    both = stood(failed, away)
    assert set(both.cases) == {"intake ratings"}
    assert set(both.cases["intake ratings"].found.joined) == {"retrain movies"}
    mended = stood(failed, cases=both.cases, hours=1)
    after = stood(failed, cases=mended.cases, hours=2)
    assert {key for key, case in after.cases.items() if case.is_open} == {"retrain movies"}
