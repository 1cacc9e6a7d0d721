"""Whether a retrain now gains more than it costs: pure, from the staleness curve and what is at stake.

Belongs here: the decision and its words. Where the figures come from: `economics`.
"""

import math

import numpy as np

from penstock.core.records import Interval, Record
from penstock.monitoring.staleness import LEAST_PAIRS, Curve
from penstock.worker.state import Worth

DAY_S = 86_400.0
# A curve is believed up to so many times the greatest age that was measured; an older model is retrained to learn.
BELIEVED = 2.0
_MOST_STEPS = 400


class Stakes(Record, frozen=True, kw_only=True):
    """What is at stake.

    Attributes:
        metric: What the loss is a share of.
        age_s: Age of the live model.
        step_s: Time until the next chance to retrain.
        least_gain: Share of the metric that a retrain must gain where nothing has a price.
        cost: Price of a retrain; 0 where nobody said one.
        income_per_s: What answers earn in a second, in the same money; 0 where it is not known.
    """

    metric: str
    age_s: float
    step_s: float
    least_gain: float = 0.01
    cost: float = 0.0
    income_per_s: float = 0.0

    @property
    def is_priced(self) -> bool:
        """Whether gain and cost are both known in money."""
        return self.cost > 0 and self.income_per_s > 0


def weigh(curve: Curve | None, stakes: Stakes, *, pairs: int) -> Worth:
    """Return whether to retrain now.

    Without prices: when the expected gain reaches `least_gain`. With prices: when waiting for the next chance is
    expected to lose more than the best cycle loses and costs on average (the marginal rule of age replacement;
    Barlow and Proschan 1965, Mathematical Theory of Reliability, chapter 4). Where too little is known, to learn.

    Args:
        curve: The staleness curve; None while it cannot be fitted.
        stakes: What is at stake.
        pairs: Comparisons that there are.
    """
    if curve is None:
        said = (
            f"exploring: a forecast needs {LEAST_PAIRS} comparisons of models of different age; so far it has {pairs}"
        )
        return Worth(is_worth=True, said=said, figures={"exploring": True, "pairs": pairs})
    gain = curve.gain(stakes.age_s, stakes.step_s)
    needed = needed_gain(curve, stakes)
    figures = {
        "exploring": False,
        "gain": _rounded(gain.mean),
        "gain_low": _rounded(gain.low),
        "gain_high": _rounded(gain.high),
        "needed": _rounded(needed),
        "metric": stakes.metric,
        "age_days": round(stakes.age_s / DAY_S, 2),
        "pairs": pairs,
    }
    if stakes.is_priced:
        figures["gain_money"] = _rounded(gain.mean * stakes.income_per_s * stakes.step_s)
        figures["cost_money"] = _rounded(stakes.cost)
    if stakes.age_s > BELIEVED * curve.longest_s and gain.mean < needed:
        longest = _days(curve.longest_s)
        said = (
            f"exploring: the model is {_days(stakes.age_s)} old, and models of more than {longest} were never compared"
        )
        return Worth(is_worth=True, said=said, figures=figures | {"exploring": True})
    return Worth(is_worth=gain.mean >= needed, said=_said(gain, needed, stakes), figures=figures)


def needed_gain(curve: Curve, stakes: Stakes) -> float:
    """Return the gain, as a share of the metric, from which on a retrain pays."""
    if not stakes.is_priced:
        return stakes.least_gain
    steps = int(min(max(BELIEVED * curve.longest_s / stakes.step_s, 8), _MOST_STEPS))
    middles = stakes.step_s * (np.arange(steps, dtype=np.float64) + 0.5)
    losses = curve.means(np.asarray(middles, np.float64))
    ends_s = np.arange(1, steps + 1) * stakes.step_s
    # In "seconds of losing everything", so that price and loss add up.
    averages = (stakes.cost / stakes.income_per_s + np.cumsum(losses) * stakes.step_s) / ends_s
    return max(0.0, float(averages.min() - losses[0]))


def _said(gain: Interval, needed: float, stakes: Stakes) -> str:
    half = (gain.high - gain.low) / 2
    expected = f"expected gain {_percent(gain.mean)} +- {_percent(half)} of {stakes.metric}"
    at = f"at an age of {_days(stakes.age_s)}"
    word = "reaches" if gain.mean >= needed else "is less than"
    if not stakes.is_priced:
        return f"{expected} {at} {word} the {_percent(needed)} that policy asks for"
    money = gain.mean * stakes.income_per_s * stakes.step_s
    price = f"a retrain for {stakes.cost:.3g} pays"
    return f"{expected} {at}, worth {money:.3g} until the next chance, {word} the {_percent(needed)} from which {price}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if 0.00005 <= abs(share) < 1 else f"{100 * share:.0f} %"


def _days(seconds: float) -> str:
    return f"{seconds / DAY_S:.1f} days"


def _rounded(number: float) -> float:
    return float(f"{number:.4g}") if math.isfinite(number) else number
