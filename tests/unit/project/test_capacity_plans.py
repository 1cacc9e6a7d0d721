"""Plans, forecasts, ladders and required evidence: what follows from figures, without a server."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.settings import LoopPolicy
from penstock.project.capacity.hostile import hostile_requests
from penstock.project.capacity.keeping import missing_evidence
from penstock.project.capacity.ladder import ladder
from penstock.project.capacity.plan import Answers, Consumer, Grain, Mode, make_plan, parse_rate
from penstock.project.capacity.promises import parse_promise, promise_of, said
from penstock.project.capacity.records import Load, load_of, needs_of
from penstock.project.capacity.traffic import Day, forecast
from penstock.serving.load.knee import Knee
from penstock.serving.load.promise import Promise
from penstock.serving.load.queueing import ServiceTime
from penstock.store.ledger.evidence import Evidence, Kind

FIRST = date(2026, 3, 1)
TEN_MS = ServiceTime(quantiles_s=(0.01,) * 100, cpu_s=0.008)


def days(*counts: float) -> list[Day]:
    return [Day(day=FIRST + timedelta(days=number), requests=round(count)) for number, count in enumerate(counts)]


def load_with(knee: float | None, workers: int = 1) -> Load:
    return Load(
        release="movies@3",
        at=datetime(2026, 3, 1, tzinfo=UTC),
        promise=Promise(within_s=0.05),
        workers=workers,
        cores=4,
        asked="2,000 recorded",
        steps=(),
        knee=Knee(rate_per_s=knee, broken_per_s=None, limit="the server"),
    )


@pytest.mark.parametrize(
    ("consumer", "grain", "applications", "promise", "mode"),
    [
        ("screen", "one", 1, "p99=50ms", "online"),
        ("api", "many", 3, "p99=200ms", "online"),
        ("api", "many", 1, "p99=1h", "batch"),
        ("file", "many", 1, "p99=1d", "batch"),
        ("event", "one", 1, "p99=5s", "stream"),
        ("in-app", "one", 1, "p99=50ms", "in process"),
        ("in-app", "one", 4, "p99=50ms", "online"),
    ],
)
def test_five_answers_give_a_mode_with_its_reason(
    consumer: Consumer, grain: Grain, applications: int, promise: str, mode: Mode
) -> None:
    """L4, Q55, Q56, Q57: who, how often, how many rows, how many applications, how soon: each leads somewhere."""
    answers = Answers(
        consumer=consumer, rate_per_s=200, grain=grain, applications=applications, promise=parse_promise(promise)
    )
    plan = make_plan("movies@3", answers, TEN_MS, cores=4, cpu_hour=0.1)
    assert plan.mode == mode
    assert plan.reasons[0].startswith(f"{mode}: ")
    assert (plan.batch_rows is None) == (grain == "one" and mode != "stream")
    assert plan.commands
    assert plan.cost_month is not None
    assert (applications > 1 and mode == "online") == any("x-penstock-consumer" in reason for reason in plan.reasons)


def test_workers_are_enough_and_not_more() -> None:
    """L4, Q59: each worker is at most 80 % full; one fewer would be too few; cores bound a machine."""
    answers = Answers(
        consumer="api", rate_per_s=500, grain="one", applications=1, promise=Promise(within_s=0.05, failed=0.01)
    )
    plan = make_plan("movies@3", answers, TEN_MS, cores=4, cpu_hour=0.1)
    most = plan.highest_per_s / plan.workers
    assert plan.workers * 0.8 * most >= 500 > (plan.workers - 1) * 0.8 * most
    assert plan.machines == -(-plan.workers // 4)
    assert plan.predicted_ms is not None
    assert plan.predicted_ms <= 50
    assert plan.cost_month == pytest.approx(plan.workers * 730 * 0.1)
    assert plan.cores_used == pytest.approx(4.0)


def test_a_promise_that_no_number_of_workers_keeps_is_said() -> None:
    """L4: a service longer than the promise is not helped by more machines."""
    answers = Answers(
        consumer="api", rate_per_s=5, grain="one", applications=1, promise=Promise(within_s=0.005, failed=0.01)
    )
    plan = make_plan("movies@3", answers, TEN_MS, cores=4, cpu_hour=0.0)
    assert not plan.is_possible
    assert "no number of workers" in plan.reasons[-1]


def test_the_day_on_which_the_capacity_runs_out_is_forecast() -> None:
    """Q22: steady growth gives the day to the day; a wild day does not move it; no growth gives none."""
    growing = [86_400 + 8_640 * day for day in range(30)]  # from 1 a second on average, a tenth more each day
    found = forecast(days(*growing), peak_factor=2.0, capacity_per_s=10.0)  # five a second on average
    assert found is not None
    assert found.at == FIRST + timedelta(days=40)
    wild = [*growing]
    wild[10] *= 40
    again = forecast(days(*wild), peak_factor=2.0, capacity_per_s=10.0)
    assert again is not None
    assert again.at is not None
    assert abs((again.at - (FIRST + timedelta(days=40))).days) <= 2
    flat = forecast(days(*[86_400 + (day % 2) for day in range(30)]), peak_factor=2.0, capacity_per_s=10.0)
    assert flat is not None
    assert flat.at is None
    assert "no day is in sight" in flat.said
    assert forecast(days(*growing[:6]), peak_factor=2.0, capacity_per_s=10.0) is None


def test_a_noisy_trend_says_how_early_it_might_be() -> None:
    """Q22: with noise the earliest day lies before the expected one, and in most worlds before the true one."""
    early = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 20_000, 40)
        counts = [86_400 + 4_320 * day + extra for day, extra in enumerate(noise)]
        found = forecast(days(*counts), peak_factor=2.0, capacity_per_s=10.0)
        assert found is not None
        assert found.at is not None
        assert found.earliest is not None
        assert found.earliest <= found.at
        early += found.earliest <= FIRST + timedelta(days=80)
    assert early >= 35


def test_busy_minutes_beyond_the_knee_are_said_at_once() -> None:
    """Q22: the capacity ran out already."""
    found = forecast(days(*[900_000] * 10), peak_factor=2.0, capacity_per_s=10.0)
    assert found is not None
    assert "already" in found.said


def test_the_ladder_says_what_each_number_of_users_takes() -> None:
    """Q28: 1, 100, 10,000 and a million users: which this server holds, and workers and machines for the others."""
    rungs = ladder(load_with(500.0), per_user=10)
    assert [rung.users for rung in rungs] == [1, 100, 10_000, 1_000_000]
    assert [rung.is_held for rung in rungs] == [True, True, True, True]
    busier = ladder(load_with(500.0), per_user=1000)
    assert [rung.is_held for rung in busier] == [True, True, True, False]
    needs = busier[-1].needs
    assert needs is not None
    assert needs.workers == -(-round(busier[-1].rate_per_s) // 400)
    assert needs.machines == -(-needs.workers // 4)
    assert {rung.is_held for rung in ladder(load_with(None), per_user=10)} == {None}


def test_a_target_is_planned_at_four_fifths_of_the_knee() -> None:
    """L4: 2,000 a second where two workers hold 1,000: five workers, two machines of four cores."""
    needs = needs_of(2000, knee_per_s=1000, workers=2, cores=4)
    assert (needs.workers, needs.machines) == (5, 2)


def test_a_load_test_passes_where_it_holds_what_is_asked_for() -> None:
    """Q46: evidence passes for the traffic there is and the target; without a knee, or broken off, it never does."""
    assert load_with(500.0).passed
    assert not load_with(None).passed
    full = {name: getattr(load_with(500.0), name) for name in Load.__struct_fields__}
    assert not Load(**{**full, "busiest_per_s": 600.0}).passed
    assert Load(**{**full, "busiest_per_s": 400.0}).headroom == 1.25
    assert not Load(**{**full, "target": needs_of(600, knee_per_s=500, workers=1, cores=4)}).passed
    assert not Load(**{**full, "is_whole": False}).passed
    assert load_of({"release": "movies@3"}) is None, "what another version wrote is not read as something else"


def evidence(kind: Kind, subject: str = "movies@3", *, passed: bool | None = True) -> Evidence:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return Evidence(id=1, at=at, pipeline="movies", subject=subject, kind=kind, by="ann", passed=passed)


def test_required_evidence_that_is_missing_is_named_with_what_brings_it() -> None:
    """Q46, L9: none, that of another release, and what did not pass or was never judged all count as lacking."""
    found: dict[Kind, Evidence | None] = {"drill": evidence("drill"), "load": evidence("load", passed=False)}
    missing = missing_evidence("movies@3", ("drill", "load", "replay"), found)
    assert [(one.kind, one.hint) for one in missing] == [
        ("load", "penstock load movies@3"),
        ("replay", "penstock replay movies@3"),
    ]
    assert "did not pass" in missing[0].said
    assert "no replay" in missing[1].said
    assert missing_evidence("movies@3", ("drill",), found) == ()
    assert missing_evidence("movies@4", ("drill",), found)[0].kind == "drill"
    assert missing_evidence("movies@3", ("drill",), {"drill": evidence("drill", passed=None)})
    assert missing_evidence("movies@3", (), {}) == ()


def test_promises_and_rates_are_read_or_refused_with_what_to_write() -> None:
    """L4: as typed, or as policy says; never half understood."""
    assert said(parse_promise("p99=50ms")) == "p99 within 50 ms, at most 1 % failed"
    assert parse_promise("p99.9 = 1.5s").quantile == pytest.approx(0.999)
    policy = LoopPolicy(slo={"p95_ms": 80, "availability": 0.999})
    assert promise_of(policy).quantile == 0.95
    assert promise_of(policy).within_s == 0.08
    assert promise_of(policy).failed == pytest.approx(0.001)
    assert promise_of(policy, "p99=50ms").within_s == 0.05
    for text in ("50ms", "p99", "p99=fast", "p0=5ms", "p99=0ms"):
        with pytest.raises(InputError, match=r"promise|duration|nobody"):
            parse_promise(text)
    with pytest.raises(InputError, match="Nothing is promised"):
        promise_of(LoopPolicy())
    assert parse_rate("200/s") == 200
    assert parse_rate("1,000,000/d") == pytest.approx(1e6 / 86_400)
    for text in ("200", "0/s", "many/s", "5/week"):
        with pytest.raises(InputError, match="is no rate"):
            parse_rate(text)


def test_hostile_requests_cover_what_faults_name() -> None:
    """L9, N5: broken JSON, NaN, wrong types, missing and unknown fields, edges of each type; and what may come."""
    found = {one.name: one for one in hostile_requests({"x": 1.5, "name": "a", "k": 3})}
    assert found["x is NaN"].expects == "refused"
    assert found["x is of another type"].expects == "refused"
    assert found["NaN"].body.startswith(b'{"x": NaN')
    assert found["name is missing"].expects == "answered"
    assert found["k is -1"].expects == "answered"
    assert found[f"k is {2**63 - 1}"].expects == "survived"
    assert any(one.name.startswith("a field nobody knows") and one.expects == "refused" for one in found.values())
