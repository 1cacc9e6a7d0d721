"""The change point test of run times, on its error rates."""

import math

import numpy as np
import pytest

from penstock.monitoring.pace import Took, factor_of, slowdown_of

SERIES = 200


def noisy(rng: np.random.Generator, runs: int, spread: float) -> list[Took]:
    """Return CPU seconds as a shared machine gives them: heavy tails, and 3 % of runs up to twice as long."""
    noise = rng.standard_t(4, runs) / math.sqrt(2) * spread
    noise += np.where(rng.random(runs) < 0.03, rng.uniform(0.2, math.log(2), runs), 0)
    return [Took(float(amount)) for amount in 10 * np.exp(noise)]


@pytest.mark.parametrize("spread", [0.03, 0.1])
def test_false_alarms_are_rare(spread: float) -> None:
    """M7, tO6: of 200 unchanged noisy series of 40 runs, looked at after each run, at most 2 % alarm at all."""
    rng = np.random.default_rng(20_261)
    alarmed = 0
    for _ in range(SERIES):
        series = noisy(rng, 40, spread)
        alarmed += any(slowdown_of(series[max(0, n - 20) : n]) is not None for n in range(1, 41))
    assert alarmed <= 0.02 * SERIES


@pytest.mark.parametrize("spread", [0.03, 0.1])
def test_a_slowdown_by_half_is_found_within_three_runs(spread: float) -> None:
    """M7, tO6: work that takes 1.5 times as long is found by the third such run in at least 90 % of 200 series."""
    rng = np.random.default_rng(20_262)
    found, factors = 0, []
    for _ in range(SERIES):
        series = noisy(rng, 15, spread)
        series[12:] = [Took(1.5 * one.amount) for one in series[12:]]
        seen = slowdown_of(series)
        if seen is not None:
            found += 1
            factors.append(seen.factor)
    assert found >= 0.9 * SERIES
    assert float(np.median(factors)) == pytest.approx(1.5, rel=0.1)


def test_more_rows_explain_more_time_and_fewer_do_not_accuse() -> None:
    """tO6: three times the rows in three times the time is no change; fixed costs on few rows are none either."""
    usual = [Took(10.0 + 0.1 * (n % 3), 1000) for n in range(10)]
    assert slowdown_of([*usual, *[Took(30.0, 3000)] * 3]) is None
    assert slowdown_of([*usual, *[Took(9.0, 100)] * 3]) is None
    assert factor_of(usual, Took(20.0, 1000)) == pytest.approx(2.0, rel=0.02)
    slower = slowdown_of([*usual, *[Took(30.0, 1000)] * 3])
    assert slower is not None
    assert (slower.after, slower.before, slower.now) == (3, 10, 30.0)


def test_what_is_slow_for_long_is_how_things_are_now() -> None:
    """M7: one slow run is no change, a change that lasts longer than ten runs is none any more, nor is a small one."""
    usual = [Took(10.0)] * 10
    assert slowdown_of([*usual, Took(30.0)]) is None
    assert slowdown_of([*usual, Took(30.0), Took(10.0), Took(30.0)]) is None
    assert slowdown_of([*usual, *[Took(30.0)] * 10]) is not None
    assert slowdown_of([*usual, *[Took(30.0)] * 15]) is None
    assert slowdown_of([*usual, *[Took(30.0)] * 3], least=25.0) is None
    assert slowdown_of([*usual[:4], *[Took(30.0)] * 3]) is None
