"""Differences between two streams that may be looked at as often as one likes: intervals valid at every look at once.

Belongs here: the statistics, on tallies that add up. What is compared, and what follows from it, is for callers.
An interval at `alpha` misses the truth at any look of an endless stream with probability `alpha`, both sides together.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from penstock.checks.statistics import Floats
from penstock.core.records import Record

LEAST = 50
LEAST_HITS = 5
TIGHTEST = 2_000

# Of an alpha for shares, the part that the exact interval may spend before the asymptotic one takes over.
_EXACT_PART = 0.3
# Beta(1/2, b) and their mirror images: about even over orders of magnitude of a share, down to 1 in 10,000.
_SCALES = (0.5, 5.0, 50.0, 500.0, 5_000.0)
_PRIORS = tuple((0.5, b) for b in _SCALES) + tuple((b, 0.5) for b in _SCALES[1:])
_HALVINGS = 50
_RATIO_STRENGTH = 1_000.0


class Moments(Record, frozen=True, kw_only=True):
    """What numbers come to: how many, their mean, and the sum of squared deviations from it; such sums add up.

    Attributes:
        m2: Sum of squared deviations from the mean.
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: Floats | Sequence[float]) -> "Moments":
        """Return the moments of finite values."""
        found = np.asarray(values, dtype=np.float64)
        if not len(found):
            return cls()
        mean = float(found.mean())
        return cls(n=len(found), mean=mean, m2=float(((found - mean) ** 2).sum()))

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of values: Chan, Golub and LeVeque (1983), American Statistician 37:242."""
        n = self.n + other.n
        if not n:
            return self
        apart = other.mean - self.mean
        return Moments(
            n=n,
            mean=self.mean + apart * other.n / n,
            m2=self.m2 + other.m2 + apart * apart * self.n * other.n / n,
        )

    @property
    def total(self) -> float:
        """The sum of the values."""
        return self.n * self.mean

    @property
    def variance(self) -> float:
        """The variance of one value; 0 where there are fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else 0.0


class Difference(Record, frozen=True, kw_only=True):
    """Candidate minus base, with an interval valid at every look; infinite where too little is known.

    Attributes:
        mean: The difference seen; 0 where one side has nothing.
        n_base: Units of the base.
        n_candidate: Units of the candidate.
    """

    mean: float
    low: float
    high: float
    n_base: int
    n_candidate: int

    @property
    def is_above(self) -> bool:
        """Whether the candidate is above the base for sure."""
        return self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the candidate is below the base for sure."""
        return self.high < 0


def difference_of_means(
    base: Moments, candidate: Moments, alpha: float = 0.05, *, tightest: int = TIGHTEST
) -> Difference:
    """Return the difference of two means with its asymptotic confidence sequence.

    The mixture boundary of Robbins (1970) on the score of the difference, which is a Brownian motion in the information
    `1 / variance` whatever the order in which units of either side come; asymptotic as in Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (2021, Annals of
    Statistics 2024). Neither side's variance is taken as less than that of both together: the variance of a small side
    whose rare, large values have yet to come would be far too low (docs/adr/0023).

    Args:
        base: One value per independent unit.
        candidate: The same of the other side.
        alpha: Error rate over all looks, both sides together.
        tightest: Effective number of units (`1 / (1 / n_base + 1 / n_candidate)`) at which the interval is best; a
            tenth or a hundred times as many make it about a quarter wider. Fixed before the first look.
    """
    _refuse_level(alpha)
    mean = candidate.mean - base.mean if base.n and candidate.n else 0.0
    if min(base.n, candidate.n) < LEAST:
        return _difference(base.n, candidate.n, mean, math.inf)
    both = (base + candidate).variance
    variance = max(base.variance, both) / base.n + max(candidate.variance, both) / candidate.n
    if variance <= 0:  # one constant on both sides: nothing is known of how it varies
        return _difference(base.n, candidate.n, mean, math.inf)
    effective = base.n * candidate.n / (base.n + candidate.n)
    return _difference(base.n, candidate.n, mean, float(radius(variance, effective, alpha, tightest=tightest)))


def difference_of_shares(
    base: tuple[int, int], candidate: tuple[int, int], alpha: float = 0.05, *, tightest: int = TIGHTEST
) -> Difference:
    """Return the difference of two shares, each given as (hits, of how many).

    While, at the share of both sides together, fewer than `LEAST_HITS` hits or misses are to be expected of the smaller
    side, the interval is exact for any counts, any order of units and any split between the sides, also one that
    changes on the way. After that it is that of `difference_of_means`. They spend 30 % and 70 % of `alpha`.

    Raises:
        ValueError: Hits are not between 0 and the number they are of.
    """
    _refuse_level(alpha)
    for hits, n in (base, candidate):
        if not 0 <= hits <= n:
            raise ValueError(f"{hits!r} hits of {n!r} are no share")
    if _expected(base, candidate) >= LEAST_HITS and min(base[1], candidate[1]) >= LEAST:
        level = alpha * (1 - _EXACT_PART)
        found = difference_of_means(_of_share(*base), _of_share(*candidate), level, tightest=tightest)
        return msgspec.structs.replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))
    return _exact(base, candidate, alpha * _EXACT_PART)


def radius(
    variance: float | Floats, effective: float | Floats, alpha: float, *, tightest: int = TIGHTEST
) -> float | Floats:
    """Return half the width of the interval of a mean whose estimate has this variance now.

    Args:
        variance: Of the estimate.
        effective: Effective number of units behind it.
        alpha: Error rate over all looks, both sides together.
        tightest: Effective number at which the interval is best.
    """
    # Narrowest where x = effective / prior solves x = log(1 + x) + log(1 / alpha^2); two steps come near enough.
    wide = math.log(1 / alpha**2)
    prior = tightest / (wide + math.log1p(wide + math.log1p(wide)))
    scale = np.log((effective + prior) / (prior * alpha**2))
    found: float | Floats = np.sqrt(variance * (1 + prior / effective) * scale)
    return found


def sample_ratio_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return a p-value, valid at every look, for "units fall on arms by these shares".

    A Dirichlet mixture over the shares against those intended: Lindon and Malek, "Anytime-valid inference for
    multinomial count data" (NeurIPS 2022). Exact for any counts. It is of the counts seen now: the smallest one over
    all looks so far is valid too.

    Args:
        counts: Units per arm.
        shares: The shares intended, above 0, of any sum.

    Raises:
        ValueError: There is not one count per share, or one is below zero.
    """
    if len(counts) != len(shares) or min(counts) < 0 or min(shares) <= 0:
        raise ValueError(f"counts {counts!r} do not go with shares {shares!r}")
    whole = math.fsum(shares)
    log_e = math.lgamma(_RATIO_STRENGTH) - math.lgamma(_RATIO_STRENGTH + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        intended = share / whole
        strength = _RATIO_STRENGTH * intended
        log_e += math.lgamma(strength + count) - math.lgamma(strength) - count * math.log(intended)
    return min(1.0, math.exp(-log_e)) if log_e > -700 else 1.0


def units_needed(effect: float, deviation: float, alpha: float, *, power: float = 0.8) -> int:
    """Return how many units each of two equal sides needs so that one look there finds an effect with this power.

    Looks on the way find it earlier, half of the time with fewer than 60 % of these units.

    Args:
        effect: True difference of the means, above 0.
        deviation: Standard deviation of one unit.
        alpha: Error rate of the interval.
        power: Chance of finding the effect.

    Raises:
        ValueError: The effect or the deviation is not above zero.
    """
    if effect <= 0 or deviation <= 0:
        raise ValueError(f"no number of units shows an effect of {effect!r} at a deviation of {deviation!r}")
    low, high = float(LEAST), 2.0 * LEAST
    while detectable(high, deviation, alpha, power=power) > effect:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if detectable(middle, deviation, alpha, power=power) > effect else (low, middle)
    return math.ceil(high)


def detectable(units: float, deviation: float, alpha: float, *, power: float = 0.8) -> float:
    """Return the smallest true difference that one look at so many units on each of two sides finds with this power.

    The interval is taken as best at this number, as the plan of an experiment has it.
    """
    effective, variance = units / 2, 2 * deviation**2 / units
    half = float(radius(variance, effective, alpha, tightest=max(int(effective), 1)))
    return half + NormalDist().inv_cdf(power) * math.sqrt(variance)


def _exact(base: tuple[int, int], candidate: tuple[int, int], alpha: float) -> Difference:
    """Return the interval of a difference of shares from the region of pairs that a mixture does not refute.

    Under shares (p, q) the ratio of the mixture's likelihood to theirs is a martingale that starts at 1, so by Ville's
    inequality it ever exceeds `1 / alpha` with probability `alpha`. The pairs for which it has not are a convex region
    (each term `-hits log p - misses log(1 - p)` is convex); its extreme differences lie where the slopes of both terms
    are opposite, each a root of a quadratic, found by halving the slope.
    """
    (base_hits, base_n), (hits, n) = base, candidate
    if not base_n or not n:
        return Difference(mean=0.0, low=-1.0, high=1.0, n_base=base_n, n_candidate=n)
    room = -_log_mixture(base, candidate) - math.log(alpha)
    most = _furthest(base, candidate, room)
    least = -_furthest(candidate, base, room)
    return Difference(mean=hits / n - base_hits / base_n, low=least, high=most, n_base=base_n, n_candidate=n)


def _furthest(lower: tuple[int, int], upper: tuple[int, int], room: float) -> float:
    """Return the largest `q - p` of pairs (share of `lower`, share of `upper`) whose cost is at most `room`."""
    steep, flat = 0.0, 1.0
    while _cost(lower, _at_slope(lower, -flat)) + _cost(upper, _at_slope(upper, flat)) < room and flat < 1e30:
        steep, flat = flat, 4 * flat
    for _ in range(_HALVINGS):
        middle = (steep + flat) / 2
        inside = _cost(lower, _at_slope(lower, -middle)) + _cost(upper, _at_slope(upper, middle)) < room
        steep, flat = (middle, flat) if inside else (steep, middle)
    return _at_slope(upper, flat) - _at_slope(lower, -flat)


def _at_slope(share: tuple[int, int], slope: float) -> float:
    """Return the p where `-hits log p - misses log(1 - p)` has this slope: the root of `s p^2 + (n - s) p - hits`."""
    hits, n = share
    if slope == 0:
        return hits / n
    half = (n - slope) / 2
    root = math.sqrt(half * half + slope * hits)
    # Of the two ways to write the root, the one that does not subtract two near numbers.
    found = hits / (half + root) if half > 0 else (root - half) / slope
    return min(max(found, 0.0), 1.0)


def _cost(share: tuple[int, int], p: float) -> float:
    hits, n = share
    misses = n - hits
    if (hits and p <= 0) or (misses and p >= 1):
        return math.inf
    return (-hits * math.log(p) if hits else 0.0) - (misses * math.log1p(-p) if misses else 0.0)


def _log_mixture(base: tuple[int, int], candidate: tuple[int, int]) -> float:
    terms = [_log_beta_binomial(base, prior) + _log_beta_binomial(candidate, prior) for prior in _PRIORS]
    most = max(terms)
    return most + math.log(math.fsum(math.exp(term - most) for term in terms) / len(terms))


def _log_beta_binomial(share: tuple[int, int], prior: tuple[float, float]) -> float:
    (hits, n), (a, b) = share, prior
    return _log_beta(hits + a, n - hits + b) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _of_share(hits: int, n: int) -> Moments:
    share = hits / n
    return Moments(n=n, mean=share, m2=hits * (1 - share))


def _expected(base: tuple[int, int], candidate: tuple[int, int]) -> float:
    """Return how many hits, or misses if they are fewer, the smaller side would have at the share of both."""
    hits, n = base[0] + candidate[0], base[1] + candidate[1]
    return min(hits, n - hits) * min(base[1], candidate[1]) / n if n else 0.0


def _difference(n_base: int, n_candidate: int, mean: float, half: float) -> Difference:
    return Difference(mean=mean, low=mean - half, high=mean + half, n_base=n_base, n_candidate=n_candidate)


def _refuse_level(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha!r} is not between 0 and 1")
