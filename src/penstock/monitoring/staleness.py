"""How much worse a model is than a fresh one, by its age: a curve with its uncertainty, fitted to paired comparisons.

Belongs here: the curve. Where the comparisons come from: `project.ageing`; what follows from it: `worker.economics`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.checks.statistics import student_quantile
from penstock.core.records import Interval, Record

Floats = NDArray[np.float64]
LEAST_PAIRS = 3
# Newer comparisons say more about today: after so many newer ones a comparison counts half.
_HALVED_AFTER = 20
_SCALES = 24
_POWERS = (0.5, 1.0, 2.0)
_NORMAL = 1.959964
_POINTS = 8


class Pair(Record, frozen=True, kw_only=True):
    """Two models of a pipeline on the same labelled rows.

    Attributes:
        age_s: By how much the older was older, in seconds.
        loss: By how much it was worse, as a share of the newer one's mean metric; below zero where it was better.
        low: Lower end of the 95 % interval of `loss`.
        high: Upper end.
    """

    age_s: float
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Loss by age: through zero at age 0 and never falling.

    It is a weighted family of curves, so that its bounds widen where nothing was measured.

    Attributes:
        scales_s: float64 (G), the time scale of each member, in seconds.
        powers: float64 (G), how steeply each begins.
        weights: float64 (G), how probable each is; they add up to 1.
        levels: float64 (G), loss of each at age `longest_s`.
        errors: float64 (G), standard error of that.
        longest_s: The greatest age that was measured, in seconds.
        pairs: Comparisons it rests on.
    """

    scales_s: Floats
    powers: Floats
    weights: Floats
    levels: Floats
    errors: Floats
    longest_s: float
    pairs: int

    def loss(self, age_s: float) -> Interval:
        """Return the loss at an age with its 95 % interval, as a share of the metric."""
        return self._interval(self._shapes(np.array([age_s]))[:, 0])

    def gain(self, age_s: float, span_s: float) -> Interval:
        """Return what a fresh model gains over one of age `age_s` while `span_s` pass, on average over that time."""
        times = span_s * (np.arange(_POINTS) + 0.5) / _POINTS
        shapes = self._shapes(age_s + times) - self._shapes(times)
        return self._interval(shapes.mean(axis=1))

    def means(self, ages_s: Floats) -> Floats:
        """Return the expected loss at each of (N) ages in seconds."""
        means: Floats = np.maximum(0.0, (self.weights * self.levels) @ self._shapes(ages_s))
        return means

    def _shapes(self, ages_s: Floats) -> Floats:
        """Return (G, N): what share of the loss at `longest_s` each member has at each age."""
        whole = _shapes(self.scales_s, self.powers, np.array([self.longest_s]))
        return _shapes(self.scales_s, self.powers, ages_s) / whole

    def _interval(self, shapes: Floats) -> Interval:
        means = self.levels * shapes
        mean = float(self.weights @ means)
        # Law of total variance over the members of the family.
        variance = float(self.weights @ ((self.errors * shapes) ** 2 + means**2)) - mean**2
        half = student_quantile(0.975, max(self.pairs - 1, 1)) * math.sqrt(max(variance, 0.0))
        return Interval(mean=max(0.0, mean), low=max(0.0, mean - half), high=max(0.0, mean + half), n=self.pairs)


def fit(pairs: Sequence[Pair]) -> Curve | None:
    """Fit the curve to comparisons, the oldest first; None where there are too few.

    A member of the family is `level * (1 - exp(-(age / scale) ** power))`, scaled to its value at the greatest age:
    linear where the scale is long, a step where it is short, and slow to begin where the power is 2. For a given scale
    and power the level is a weighted mean with a closed form, and the members are averaged by their marginal likelihood
    with flat priors (Bayesian model averaging, Hoeting et al. 1999, Statistical Science 14, 382-417). Where
    comparisons differ by more than their own intervals say, all errors grow by the Birge ratio (Birge 1932, Physical
    Review 40, 207-227).

    Args:
        pairs: Comparisons at ages above 0.
    """
    known = [p for p in pairs if p.age_s > 0 and all(math.isfinite(x) for x in (p.loss, p.low, p.high))]
    if len(known) < LEAST_PAIRS:
        return None
    ages, losses = np.array([p.age_s for p in known]), np.array([p.loss for p in known])
    precision = 0.5 ** (np.arange(len(known))[::-1] / _HALVED_AFTER) / _errors(known) ** 2
    longest = float(ages.max())
    scales, powers = _family(float(ages.min()), longest)
    shapes = _shapes(scales, powers, ages) / _shapes(scales, powers, np.array([longest]))
    information = (precision * shapes**2).sum(axis=1)
    levels = (precision * shapes * losses).sum(axis=1) / information
    misfit = (precision * (losses - levels[:, None] * shapes) ** 2).sum(axis=1)
    birge = max(1.0, float(misfit.min()) / (len(known) - 1))
    likelihood = np.exp(-(misfit - misfit.min()) / (2 * birge)) / np.sqrt(information)
    return Curve(
        scales_s=scales,
        powers=powers,
        weights=likelihood / likelihood.sum(),
        levels=levels,
        errors=np.sqrt(birge / information),
        longest_s=longest,
        pairs=len(known),
    )


def _errors(pairs: Sequence[Pair]) -> Floats:
    """Return the standard error of each loss; models that answered the same are as sure as the others are."""
    found = np.array([(p.high - p.low) / (2 * _NORMAL) for p in pairs])
    usual = float(np.median(found[found > 0])) if (found > 0).any() else 1e-6
    errors: Floats = np.maximum(found, usual / 2)
    return errors


def _family(youngest_s: float, longest_s: float) -> tuple[Floats, Floats]:
    scales = np.geomspace(youngest_s / 4, longest_s * 16, _SCALES)
    return np.repeat(scales, len(_POWERS)), np.tile(np.array(_POWERS), len(scales))


def _shapes(scales_s: Floats, powers: Floats, ages_s: Floats) -> Floats:
    ratio = np.maximum(ages_s[None, :], 0.0) / scales_s[:, None]
    shapes: Floats = -np.expm1(-(ratio ** powers[:, None]))
    return shapes
