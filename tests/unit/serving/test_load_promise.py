"""Whether a stretch of load kept a promise, and the knee that steps show: pure arithmetic on made-up outcomes."""

import dataclasses

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from penstock.serving.load.knee import Ramp, knee_of, next_rate
from penstock.serving.load.outcomes import FALLBACK, UNANSWERED, Outcomes, Phase, due_times, merged, packed
from penstock.serving.load.promise import Promise, Step, judge

PROMISE = Promise(within_s=0.05)


def outcomes(latency_s: npt.ArrayLike, *, lag_s: npt.ArrayLike = 0.0, wall_s: float = 100.0) -> Outcomes:
    """Return what became of requests due each hundredth of a second; infinite where nobody answered."""
    latency = np.asarray(latency_s, float)
    due = np.arange(len(latency)) / 100
    return Outcomes(
        began_s=0.0,
        cpu_s=1.0,
        wall_s=wall_s,
        due=due,
        left=due,
        done=due + latency,
        lag=np.broadcast_to(np.asarray(lag_s, float), due.shape),
        status=np.where(np.isfinite(latency), 200, UNANSWERED).astype(np.int16),
        marks=np.zeros(len(due), np.uint8),
    )


def with_late(count: int, late: npt.ArrayLike, latency_s: float = 0.2) -> Outcomes:
    found = np.full(count, 0.01)
    found[np.asarray(late, int)] = latency_s
    return outcomes(found)


def step(rate: float, verdict: str, late: float = 0.5) -> Step:
    found = judge(with_late(500, []), PROMISE, rate)
    return msgspec.structs.replace(found, verdict=verdict, late_share=late)


def ramp_up(capacity: float, ramp: Ramp) -> list[Step]:
    """Try rates on a server that keeps its promise up to a capacity."""
    steps: list[Step] = []
    while (rate := next_rate(steps, ramp)) is not None:
        steps.append(step(rate, "holds" if rate <= capacity else "breaks"))
    return steps


def test_a_promise_is_held_only_when_that_is_sure() -> None:
    """L4, Q59: too few requests prove nothing; more late ones than promised break it; unanswered ones are late."""
    assert judge(with_late(PROMISE.needed, []), PROMISE, 100).verdict == "holds"
    assert judge(with_late(PROMISE.needed // 2, []), PROMISE, 100).verdict == "unsure"
    assert judge(with_late(1000, range(0, 1000, 25)), PROMISE, 100).verdict == "breaks"
    assert judge(with_late(1000, range(0, 1000, 25), np.inf), PROMISE, 100).verdict == "breaks"
    found = judge(with_late(1000, range(0, 1000, 25), np.inf), PROMISE, 100)
    assert (found.unanswered, found.p99_ms, found.late_share) == (40, None, 0.04)


def test_late_requests_in_a_row_are_one_pause_and_prove_less() -> None:
    """L4: as many late requests spread out are sure to be few; in one pause they say little about the next minute."""
    spread = judge(with_late(10_000, range(0, 10_000, 167)), PROMISE, 100)
    pause = judge(with_late(10_000, range(4000, 4060)), PROMISE, 100)
    assert spread.late_share == pause.late_share
    assert (spread.verdict, pause.verdict) == ("holds", "unsure")
    assert pause.late_at_most > spread.late_at_most


def test_fallbacks_count_as_failed_and_the_share_is_a_promise_of_its_own() -> None:
    """Q6: an answer by the fallback within the time is still not the answer that was promised."""
    found = with_late(1000, [])
    marked = dataclasses.replace(found, marks=np.where(np.arange(1000) % 20 == 0, FALLBACK, 0).astype(np.uint8))
    assert judge(marked, PROMISE, 100).fallbacks == 50
    assert judge(marked, PROMISE, 100).verdict == "breaks"


def test_a_generator_that_falls_behind_is_not_taken_for_a_slow_server() -> None:
    """L4: requests that left late through no fault of the server, or a generator at its end, say so."""
    late = np.where(np.arange(1000) % 20 == 0, 0.1, 0.0)
    assert judge(outcomes(0.01 + late, lag_s=late), PROMISE, 100).verdict == "generator"
    assert judge(outcomes(0.01 + late), PROMISE, 100).verdict == "breaks"
    assert judge(outcomes(0.01 + late, wall_s=1.0), PROMISE, 100).verdict == "generator"


def test_the_knee_of_any_server_is_found_within_its_precision() -> None:
    """Q6, L4: whatever the first guess, the highest rate that holds is found in a few tries."""
    ramp = Ramp(start_per_s=100.0, precision=1.08)
    for capacity in np.geomspace(2, 5000, 60):
        steps = ramp_up(capacity, ramp)
        found = knee_of(steps)
        assert found.rate_per_s is not None
        assert found.rate_per_s <= capacity <= found.rate_per_s * 1.08**2
        assert found.limit == "the server"
        assert len(steps) <= ramp.tries


def test_a_pause_of_the_machine_is_tried_once_more() -> None:
    """Q6: a step that fails nearly is asked again and the second answer counts; one that clearly fails is not."""
    ramp = Ramp(start_per_s=100.0)
    nearly = [step(100, "breaks", late=0.03)]
    assert next_rate(nearly, ramp) == 100
    assert knee_of([*nearly, step(100, "holds")]).rate_per_s == 100
    assert next_rate([*nearly, step(100, "breaks", late=0.03)], ramp) == pytest.approx(100 / 1.6**2)
    assert next_rate([step(100, "breaks", late=0.5)], ramp) == pytest.approx(100 / 1.6**2)


def test_what_stood_in_the_way_of_a_higher_rate_is_said() -> None:
    """L4: the generator is the limit, or nothing higher was tried; a rate that never held is no knee."""
    assert knee_of([step(50, "holds"), step(80, "generator")]).limit == "the generator is the limit"
    assert knee_of([step(50, "holds")]).limit == "nothing higher was tried"
    assert next_rate([step(50, "holds")], Ramp(start_per_s=50, most_per_s=50)) is None
    assert knee_of([step(50, "breaks")]).rate_per_s is None


def test_times_are_drawn_as_a_poisson_process_and_cross_a_pipe_whole() -> None:
    """L9: a burst has ten times the requests; counts and gaps are those of independent callers; nothing is lost."""
    due = due_times((Phase(200.0, 10.0), Phase(2000.0, 5.0)), seed=3)
    steady, burst = due[due < 10], due[due >= 10]
    assert abs(len(steady) - 2000) < 4 * 2000**0.5
    assert abs(len(burst) - 10_000) < 4 * 10_000**0.5
    gaps = np.diff(burst)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)
    found = with_late(50, [3])
    again = merged([packed(found), packed(found)])
    assert len(again.due) == 100
    assert np.sort(again.latency_s)[-2:] == pytest.approx([0.2, 0.2])
