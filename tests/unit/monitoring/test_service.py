"""How serve functions do their work: judged on predictions as the log keeps them, with known rates of what is wrong."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from penstock.monitoring.findings import Finding
from penstock.monitoring.service import Served, cost_of, judge_promise, judge_service, served_profile

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def window(day: int, asked: int = 500, *, slower: float = 1.0, **changes: Sequence[object]) -> Served:
    """Return a day of answers: none wrong, each in about a millisecond, unless said otherwise."""
    chance = np.random.default_rng(day)
    took_us = (900 * slower * np.exp(chance.normal(0, 0.3, asked))).astype(int)
    columns: dict[str, Sequence[object]] = {
        "error": [None] * asked,
        "fallback": [False] * asked,
        "timings": [f'{{"parse_us":20,"answer_us":{took}}}' for took in took_us],
        "fields": [f'{{"user":{user}}}' for user in range(asked)],
        "answer": [str(user % 7) for user in range(asked)],
    }
    rows = pl.DataFrame(columns | changes, schema_overrides={"error": pl.String})
    return Served(start=FIRST + day * DAY, profile=served_profile(rows, rows))


def judged(today: Served, days: int = 28, **slo: float) -> list[Finding]:
    """Judge a day after ordinary ones."""
    before = [window(day) for day in range(days)]
    return judge_service(before, today, slo=slo, false_alarms=0.01, subject="recommend")


def test_ordinary_days_are_not_told() -> None:
    """M3: where nothing is wrong nothing is found, with and without ordinary days to compare with."""
    found = [judged(window(28 + day), days) for day in range(60) for days in (0, 28)]
    assert sum(bool(one) for one in found) <= 2


def test_an_error_burst_is_found_with_its_reasons() -> None:
    """M3: three in a hundred questions without an answer, where there were none, and which errors these were."""
    errors = [*["KeyError"] * 12, *["deadline"] * 3, *[None] * 485]
    (finding,) = judged(window(28, error=errors))
    assert (finding.kind, finding.is_alarm, finding.evidence["number"]) == ("errors", True, 15)
    assert finding.evidence["reasons"] == {"KeyError": 12, "deadline": 3}


@pytest.mark.parametrize(("days", "is_found"), [(0, False), (28, True)])
def test_without_ordinary_days_only_many_errors_are_found(days: int, is_found: bool) -> None:
    """M3: at release nothing is known yet; a pipeline that mostly fails is told even then."""
    some, most = [*["KeyError"] * 15, *[None] * 485], [*["KeyError"] * 300, *[None] * 200]
    assert bool(judged(window(28, error=some), days)) is is_found
    assert [finding.kind for finding in judged(window(28, error=most), days)] == ["errors"]


def test_a_broken_promise_is_found_on_the_first_day() -> None:
    """M3: what was promised needs no ordinary days; within the promise it may be as slow as it likes."""
    (late,) = [f for f in judged(window(28, slower=3.0), 0, p99_ms=4.0) if f.kind == "latency"]
    assert late.effect > 1.2
    assert "4 ms were promised" in late.said
    assert judged(window(28), 0, p99_ms=4.0) == []
    errors = [*["KeyError"] * 6, *[None] * 494]
    assert [f.kind for f in judged(window(28, error=errors), 0, availability=0.9999)] == ["errors"]


def test_twice_as_slow_is_found_without_a_promise() -> None:
    """M3: the middle and the tail are both compared with ordinary days."""
    found = judged(window(28, slower=2.2))
    assert {finding.kind for finding in found} == {"latency"}
    assert {finding.evidence["percent"] for finding in found} == {50, 99}
    assert found[0].effect == pytest.approx(2.2, rel=0.2)


def test_a_fallback_that_answers_more_often_is_found() -> None:
    """M3: the reasons of the fallbacks are told."""
    errors = [*["deadline"] * 40, *[None] * 460]
    (finding,) = judged(window(28, error=errors, fallback=[True] * 40 + [False] * 460))
    assert (finding.kind, finding.evidence["reasons"]) == ("fallbacks", {"deadline": 40})


def test_answers_that_are_no_numbers_are_numeric_and_no_errors() -> None:
    """M4: an answer with NaN in it is refused by the server and counted as what it is."""
    (finding,) = judged(window(28, error=[*["AnswerError"] * 10, *[None] * 490]))
    assert (finding.kind, finding.is_alarm) == ("numeric", True)


def test_one_answer_to_everything_is_numeric() -> None:
    """M4: a constant answer is an alarm where answers ordinarily differ; on the first day it is told."""
    same = ["3"] * 500
    (finding,) = judged(window(28, answer=same))
    assert (finding.kind, finding.is_alarm, finding.evidence["questions"]) == ("numeric", True, 500)
    assert [finding.is_alarm for finding in judged(window(28, answer=same), 0)] == [False]


def test_a_tenfold_burst_of_questions_is_found() -> None:
    """M3: load is a cost; nobody asking any more is a broken feed."""
    assert [finding.kind for finding in judged(window(28, 5000))] == ["cost"]
    assert [finding.kind for finding in judged(window(28, 40))] == ["broken_feed"]


def test_a_promise_to_one_application_is_broken_only_beyond_doubt() -> None:
    """Q58: of 1,000 kept promises at most 1 % are called broken; three times too many slow answers always are."""
    chance = np.random.default_rng(58)
    promised = {"limit_ms": 50.0, "percent": 99.0, "false_alarms": 0.01, "subject": "recommend/website"}
    kept = [judge_promise(int(slow), 500, **promised) for slow in chance.binomial(500, 0.01, 1000)]  # type: ignore[arg-type]  # as they are named
    assert sum(bool(found) for found in kept) <= 10
    [broken] = judge_promise(15, 500, **promised)  # type: ignore[arg-type]  # as above
    assert (broken.kind, broken.subject, broken.is_alarm) == ("latency", "recommend/website", True)
    assert "15 of 500 questions of 'recommend/website' took longer than 50 ms (3.00%)" in broken.said
    assert judge_promise(0, 0, **promised) == []  # type: ignore[arg-type]  # as above


def test_answers_have_a_price() -> None:
    """Q27: what a window cost is told where policy says what an answer costs, and is never an alarm."""
    (finding,) = cost_of(window(0), price=0.002, subject="recommend")
    assert finding.effect == pytest.approx(1.0)
    assert not finding.is_alarm
    assert cost_of(window(0), price=0.0, subject="recommend") == []
