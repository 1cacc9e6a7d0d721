"""Error rates of sequential intervals looked at at every step, and how soon they find an effect; with fixed seeds."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.checks.sequential import (
    LEAST,
    LEAST_HITS,
    Moments,
    detectable,
    difference_of_means,
    difference_of_shares,
    radius,
    sample_ratio_p,
    units_needed,
)
from penstock.checks.statistics import Floats

STREAMS = 500
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
Draw = Callable[[np.random.Generator, int], Floats]


def _revenue(rng: np.random.Generator, n: int) -> Floats:
    """Return sales of which 99 % are zero and the others log-normal: the largest of a thousand is 100 times usual."""
    return np.where(rng.random(n) < 0.01, np.exp(1.5 * rng.standard_normal(n)), 0.0)


DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "revenue": _revenue,
    "lognormal": lambda rng, n: np.exp(2 * rng.standard_normal(n)),
}


def _running(values: Floats, mask: Mask) -> tuple[Floats, Floats, Floats]:
    """Return the moments of the masked values after every step."""
    kept = np.where(mask, values, 0.0)
    n = np.cumsum(mask).astype(np.float64)
    mean = np.cumsum(kept) / np.maximum(n, 1)
    return n, mean, np.maximum(np.cumsum(kept * kept) - n * mean * mean, 0.0)


def _ever_excludes_zero(values: Floats, is_candidate: Mask) -> bool:
    """Look at every step; the step that looks worst goes through the function that users call."""
    n_base, base, base_m2 = _running(values, ~is_candidate)
    n, mean, m2 = _running(values, is_candidate)
    seen = np.flatnonzero((n_base >= LEAST) & (n >= LEAST))
    n_base, base, base_m2, n, mean, m2 = (part[seen] for part in (n_base, base, base_m2, n, mean, m2))
    effective = n * n_base / (n + n_base)
    both = (base_m2 + m2 + (mean - base) ** 2 * effective) / (n + n_base - 1)
    variance = np.maximum(base_m2 / (n_base - 1), both) / n_base + np.maximum(m2 / (n - 1), both) / n
    worst = int(np.argmax(np.abs(mean - base) - radius(variance, effective, 0.05)))
    found = difference_of_means(
        Moments(n=int(n_base[worst]), mean=float(base[worst]), m2=float(base_m2[worst])),
        Moments(n=int(n[worst]), mean=float(mean[worst]), m2=float(m2[worst])),
    )
    return found.is_above or found.is_below


@pytest.mark.parametrize("split", [0.5, 0.1])
@pytest.mark.parametrize("name", sorted(DRAWS))
def test_means_without_difference_are_told_apart_in_at_most_five_per_cent(name: str, split: float) -> None:
    """Q74, L5: 500 streams of 10,000 units, looked at after every unit from 50 a side on, heavy tails and all."""
    rng = np.random.default_rng([7, sorted(DRAWS).index(name), int(split * 100)])
    wrong = sum(_ever_excludes_zero(DRAWS[name](rng, 10_000), rng.random(10_000) < split) for _ in range(STREAMS))
    assert wrong <= 0.05 * STREAMS


@pytest.mark.parametrize("split", [0.5, 0.05])
@pytest.mark.parametrize(("share", "n"), [(0.001, 40_000), (0.01, 8_000), (0.1, 2_000)])
def test_shares_without_difference_are_told_apart_in_at_most_five_per_cent(share: float, n: int, split: float) -> None:
    """Q74, L5: 500 streams, looked at at every hit and just before it, from the first unit on.

    Between hits an interval only grows more or less sure in one direction, so these looks stand for all.
    """
    rng = np.random.default_rng([11, int(share * 1000), int(split * 100)])
    wrong = sum(
        any(
            found.is_above or found.is_below
            for found in (
                difference_of_shares(*look) for look in _doubtful(rng.random(n) < share, rng.random(n) < split)
            )
        )
        for _ in range(STREAMS)
    )
    assert wrong <= 0.05 * STREAMS


def _doubtful(is_hit: Mask, is_candidate: Mask) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return base and candidate at every hit and just before it, without those looks that no interval can call sure.

    The exact one needs a likelihood ratio above 1 / alpha, the other two standard errors; both leave out with room.
    """
    places = np.flatnonzero(is_hit)
    n, hits = np.cumsum(is_candidate), np.cumsum(is_hit & is_candidate)
    whole, all_hits = np.arange(1, len(is_hit) + 1), np.cumsum(is_hit)
    at = np.unique(np.concatenate([places, places[places > 0] - 1]))
    h1, n1 = hits[at], n[at]
    h0, n0 = all_hits[at] - h1, whole[at] - n1
    ratio = 2 * (_likelihood(h1, n1) + _likelihood(h0, n0) - _likelihood(h1 + h0, n1 + n0))
    pooled = (h1 + h0) / (n1 + n0)
    error = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / np.maximum(n1, 1) + 1 / np.maximum(n0, 1)))
    gap = np.abs(h1 / np.maximum(n1, 1) - h0 / np.maximum(n0, 1))
    kept = np.flatnonzero((ratio > 6.0) | (gap > 2 * error))
    return [((int(h0[k]), int(n0[k])), (int(h1[k]), int(n1[k]))) for k in kept]


def _likelihood(hits: Counts, n: Counts) -> Floats:
    share = np.clip(hits / np.maximum(n, 1), 1e-12, 1 - 1e-12)
    found: Floats = hits * np.log(share) + (n - hits) * np.log1p(-share)
    return found


@pytest.mark.parametrize(("base", "share"), [(0.001, 0.02), (0.01, 0.05), (0.1, 0.2)])
def test_a_canary_of_a_hundredth_that_fails_more_often_is_found(base: float, share: float) -> None:
    """L5: a canary with 1 % of 200,000 requests whose errors are 2 to 20 times as many is found in 95 % of streams."""
    rng = np.random.default_rng([13, int(base * 1000)])
    found = 0
    for _ in range(200):
        looks = [(1_000 * k, 99_000 * k) for k in (1, 2)]
        hits = np.cumsum(rng.binomial(1_000, share, 2)), np.cumsum(rng.binomial(99_000, base, 2))
        found += any(
            difference_of_shares((int(hits[1][k]), n_base), (int(hits[0][k]), n)).is_above
            for k, (n, n_base) in enumerate(looks)
        )
    assert found >= 190


def test_an_effect_is_found_with_the_units_that_the_plan_says() -> None:
    """Q74: with the units planned for 80 % power, at least 80 % of streams find the effect; half need under 70 %."""
    rng = np.random.default_rng(17)
    units = units_needed(0.02, 0.3, 0.05)
    looks = np.arange(units // 50, units + 1, units // 50)
    first = []
    for _ in range(STREAMS):
        base, candidate = rng.normal(0.1, 0.3, units), rng.normal(0.12, 0.3, units)
        n = looks.astype(np.float64)
        gap = np.cumsum(candidate)[looks - 1] / n - np.cumsum(base)[looks - 1] / n
        seen = np.flatnonzero(gap > radius(2 * 0.09 / n, n / 2, 0.05, tightest=units // 2))
        first.append(looks[seen[0]] / units if len(seen) else math.inf)
    assert np.mean(np.isfinite(first)) >= 0.8
    assert np.median(first) <= 0.7
    assert detectable(units, 0.3, 0.05) == pytest.approx(0.02, rel=1e-3)


@settings(deadline=None)  # a busy machine is not a fault
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_an_exact_interval_holds_the_difference_seen_and_mirrors(h: int, m: int, base_h: int, base_m: int) -> None:
    """The difference seen is inside; swapping the sides turns the interval round; misses instead of hits do too."""
    base, candidate = (base_h, base_h + base_m), (h, h + m)
    found = difference_of_shares(base, candidate)
    turned = difference_of_shares(candidate, base)
    missed = difference_of_shares((base_m, base_h + base_m), (m, h + m))
    assert -1 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-6)
    assert (missed.low, missed.high) == pytest.approx((-found.high, -found.low), abs=1e-6)


@settings(deadline=None)  # a busy machine is not a fault
@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_moments_add_up(one: list[float], other: list[float]) -> None:
    """Moments of two parts are those of the whole."""
    added, whole = Moments.of(one) + Moments.of(other), Moments.of(one + other)
    assert added.n == whole.n
    assert added.mean == pytest.approx(whole.mean, abs=1e-6)
    assert added.m2 == pytest.approx(whole.m2, rel=1e-6, abs=1e-2)


def test_too_little_says_nothing() -> None:
    """Fewer than 50 units a side, or one constant on both, leave a mean unbounded; shares are bounded by -1 and 1."""
    few, many = Moments.of(np.arange(LEAST - 1.0)), Moments.of(np.arange(100.0))
    assert difference_of_means(few, many).low == -math.inf
    assert difference_of_means(Moments(n=100, mean=2.0), Moments(n=100, mean=2.0)).high == math.inf
    assert (difference_of_shares((0, 0), (3, 3)).low, difference_of_shares((0, 0), (3, 3)).high) == (-1.0, 1.0)
    assert LEAST_HITS > 0
    with pytest.raises(ValueError, match="4 hits of 3"):
        difference_of_shares((4, 3), (0, 3))


def test_a_wrong_split_is_seen_and_a_right_one_is_not() -> None:
    """L5: of 500 right splits, looked at after every 100 units, at most 5 % are called wrong; 3 % missing is seen."""
    rng = np.random.default_rng(19)
    shares = (0.5, 0.3, 0.2)
    wrong = 0
    for _ in range(STREAMS):
        arms = rng.choice(3, 20_000, p=shares)
        counts = np.cumsum(np.eye(3, dtype=np.int64)[arms], axis=0)[99::100]
        wrong += any(sample_ratio_p(tuple(map(int, row)), shares) < 0.05 for row in counts)
    assert wrong <= 0.05 * STREAMS
    assert sample_ratio_p((48_500, 50_000), (1, 1)) < 0.001
    assert sample_ratio_p((50_100, 50_000), (1, 1)) > 0.05
    with pytest.raises(ValueError, match="do not go with shares"):
        sample_ratio_p((1, 2), (0.5, 0.3, 0.2))
