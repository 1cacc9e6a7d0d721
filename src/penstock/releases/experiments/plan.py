"""The plan of an experiment: who gets what, what decides, how small an effect it is to find and how long that takes."""

import math
from collections.abc import Sequence

from penstock.checks.sequential import Moments, detectable, units_needed
from penstock.core.errors import InputError
from penstock.core.records import Record

FALLBACK = "fallback"
ALPHA = 0.05
RATIO_ALPHA = 0.001
POWER = 0.8
MARGIN = 0.1
DAY_S = 86_400.0
MONTH_DAYS = 30.0
_MOST_ARMS = 8
_USUAL_DAYS = 14.0
_MOST_DAYS = 3650.0


class Arm(Record, frozen=True, kw_only=True):
    """What a part of the keys gets.

    Attributes:
        name: A release, "movies@3", or "fallback".
        share: Of all keys; the shares of all arms add up to 1.
    """

    name: str
    share: float


class Metric(Record, frozen=True, kw_only=True):
    """Something that is counted per key.

    Attributes:
        name: An outcome function of the release, or "errors" or "answer_ms" of the prediction log.
        higher_is_better: Whether more of it is good.
        waits: Only truth that is final counts (`within` of the outcome); otherwise all that is known.
        margin: Of a guard: the loss, as a share of what is usual, that is put up with; None for what is no guard.
    """

    name: str
    higher_is_better: bool = True
    waits: bool = False
    margin: float | None = None


class Usual(Record, frozen=True, kw_only=True):
    """What an outcome came to per key before the experiment, and how many keys there are.

    Attributes:
        per_key: The outcome summed per key over the plan's span.
        guards: Each guard per key.
        new_keys: Keys first seen by the end of each day of the history, from its beginning on, cumulated.
        keys_per_month: Keys times spans in a month: what a difference per key is multiplied by.
        answers_per_day: Predictions per day.
    """

    per_key: Moments
    guards: dict[str, Moments] = {}
    new_keys: tuple[int, ...]
    keys_per_month: float
    answers_per_day: float = 0.0


class Wanted(Record, frozen=True, kw_only=True):
    """The least true difference that is to be found.

    Attributes:
        amount: Above 0.
        is_relative: It is a share of what is usual, not an amount of the outcome.
    """

    amount: float
    is_relative: bool = False

    def of(self, usual: float) -> float:
        """Return it as an amount."""
        return self.amount * abs(usual) if self.is_relative else self.amount


class Wishes(Record, frozen=True, kw_only=True):
    """What a person wants of an experiment.

    Attributes:
        arms: What is compared; the first is the control.
        effect: The least true difference per key that is to be found; None takes what `days` can find.
        days: How long it may take; with `effect`, the longest it may.
    """

    name: str
    arms: tuple[Arm, ...]
    outcome: Metric
    metrics: tuple[Metric, ...] = ()
    guards: tuple[Metric, ...] = ()
    effect: Wanted | None = None
    days: float | None = None
    alpha: float = ALPHA
    span_s: float = DAY_S
    within_s: float = 0.0
    value: float | None = None
    cost: float = 0.0


class Plan(Record, frozen=True, kw_only=True):
    """What an experiment is held to; made before it begins and never changed.

    Attributes:
        salt: Deals keys to arms.
        arms: The first is the control.
        outcome: What decides.
        metrics: What is only reported.
        guards: What must not get worse.
        alpha: Chance of a wrong decision over all looks, all comparisons together.
        power: Chance of finding the effect at the last look.
        span_s: A key is measured from when it is first seen until so long after, then counted once.
        within_s: How long after a prediction its truth may come.
        usual: Mean of the outcome per key before the experiment.
        deviation: Its standard deviation.
        guards_usual: Mean of each guard per key before.
        guards_finest: The smallest loss of each guard that these keys rule out with this power, as a share of its mean.
        effect: The least true difference per key that is found with this power.
        units: Keys that the smallest arm needs.
        days: Days until they are there and measured, at today's traffic.
        longest_days: The experiment ends after so many days at the latest.
        keys_per_day: New keys per day that the days are reckoned with.
        keys_per_month: Keys times spans in a month: what a difference per key is multiplied by.
        value: What one unit of the outcome is worth, in money; None where nobody said.
        answers_cost_per_month: What all answers of a month cost.
    """

    name: str
    salt: str
    arms: tuple[Arm, ...]
    outcome: Metric
    metrics: tuple[Metric, ...]
    guards: tuple[Metric, ...]
    alpha: float
    power: float
    span_s: float
    within_s: float
    usual: float
    deviation: float
    guards_usual: dict[str, float]
    guards_finest: dict[str, float]
    effect: float
    units: int
    days: float
    longest_days: float
    keys_per_day: float
    keys_per_month: float
    value: float | None = None
    answers_cost_per_month: float = 0.0

    @property
    def control(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def measured(self) -> tuple[Metric, ...]:
        """All that is counted, each once."""
        return tuple({one.name: one for one in (*self.metrics, *self.guards, self.outcome)}.values())

    @property
    def level(self) -> float:
        """The alpha of one comparison: all pairs of arms on the outcome, each arm with the control on each guard."""
        return level_of(len(self.arms), len(self.guards), self.alpha)

    @property
    def tightest(self) -> int:
        """The effective number of keys at which intervals are best: where the plan ends."""
        return max(self.units // 2, 1)


def level_of(arms: int, guards: int, alpha: float) -> float:
    """Return the alpha of one of the comparisons of so many arms and guards, after what the sample ratio may spend."""
    return (alpha - RATIO_ALPHA) / (math.comb(arms, 2) + (arms - 1) * guards)


def make_plan(wishes: Wishes, usual: Usual, *, salt: str) -> Plan:
    """Return the plan for what a person wants, given what is usual.

    Args:
        wishes: What is wanted.
        usual: What the outcome came to before.
        salt: Deals keys to arms.

    Raises:
        InputError: The arms or the level are not usable, or the history says nothing about the outcome.
    """
    arms = _arms(wishes.arms)
    _refuse_odd(wishes)
    deviation = math.sqrt(usual.per_key.variance)
    if deviation <= 0:
        raise InputError(
            f"Outcome {wishes.outcome.name!r} was the same for all of {usual.per_key.n:,} keys before.",
            hint="serve for some days and join the truth (penstock outcomes), then plan again",
        )
    level = level_of(len(arms), len(wishes.guards), wishes.alpha)
    smallest = min(arm.share for arm in arms)
    effect = _effect(wishes, usual, deviation, level)
    needed = units_needed(effect, deviation, level, power=POWER)
    days = days_until(usual.new_keys, needed / smallest) + _waits(wishes)
    if _slope(usual.new_keys) <= 0 and math.isinf(days):
        raise InputError(
            f"No new key came in the last days, and {needed:,} are needed in the smallest arm.",
            hint="an experiment takes traffic: serve first, or give a shorter --history",
        )
    if days > _MOST_DAYS:
        raise InputError(
            f"An effect of {effect:.4g} needs {needed:,} keys in the smallest arm, more than come in ten years.",
            hint="look for a larger --effect, or give more keys to the smallest arm",
        )
    return Plan(
        name=wishes.name,
        salt=salt,
        arms=arms,
        outcome=wishes.outcome,
        metrics=wishes.metrics,
        guards=wishes.guards,
        alpha=wishes.alpha,
        power=POWER,
        span_s=wishes.span_s,
        within_s=wishes.within_s,
        usual=usual.per_key.mean,
        deviation=deviation,
        guards_usual={name: found.mean for name, found in usual.guards.items()},
        guards_finest={name: _finest(found, needed, level) for name, found in usual.guards.items()},
        effect=effect,
        units=needed,
        days=days,
        longest_days=max(wishes.days or 0.0, days) if wishes.effect is None else wishes.days or 2 * days,
        keys_per_day=_slope(usual.new_keys),
        keys_per_month=usual.keys_per_month,
        value=wishes.value,
        answers_cost_per_month=usual.answers_per_day * MONTH_DAYS * wishes.cost,
    )


def _effect(wishes: Wishes, usual: Usual, deviation: float, level: float) -> float:
    """Return the difference that is to be found: the one wanted, or what the days given can find."""
    if wishes.effect is not None:
        return wishes.effect.of(usual.per_key.mean)
    days = wishes.days or _USUAL_DAYS
    units = keys_after(usual.new_keys, days - _waits(wishes)) * min(arm.share for arm in wishes.arms)
    if units < 1:
        raise InputError(
            f"In {days:g} d no key is measured to the end: that takes {_waits(wishes):g} d each.",
            hint="give more --days, or a shorter --span",
        )
    return detectable(max(units, 2.0), deviation, level, power=POWER)


def _finest(usual: Moments, units: int, level: float) -> float:
    """Return the smallest loss that so many keys a side rule out where there is none, as a share of the mean."""
    if not usual.mean:
        return math.inf
    return detectable(units, math.sqrt(usual.variance), level, power=POWER) / abs(usual.mean)


def _waits(wishes: Wishes) -> float:
    """Return the days from a key's first answer until its truth is known."""
    return (wishes.span_s + wishes.within_s) / DAY_S


def keys_after(new_keys: Sequence[int], days: float) -> float:
    """Return how many keys are seen for the first time within so many days; beyond the history as in its last week."""
    if not new_keys or days <= 0:
        return 0.0
    whole = min(int(days), len(new_keys))
    before = float(new_keys[whole - 1]) if whole else 0.0
    if days > len(new_keys):
        return before + (days - whole) * _slope(new_keys)
    after = float(new_keys[whole]) if whole < len(new_keys) else before
    return before + (days - whole) * (after - before)


def days_until(new_keys: Sequence[int], keys: float) -> float:
    """Return after how many days so many keys were seen; infinite when they never come."""
    for day, seen in enumerate(new_keys):
        if seen >= keys:
            before = new_keys[day - 1] if day else 0
            return day + (keys - before) / (seen - before) if seen > before else float(day)
    rate = _slope(new_keys)
    return len(new_keys) + (keys - new_keys[-1]) / rate if rate > 0 else math.inf


def _slope(new_keys: Sequence[int]) -> float:
    """Return new keys per day over the last week of the history."""
    if not new_keys:
        return 0.0
    days = min(7, len(new_keys))
    before = new_keys[-days - 1] if len(new_keys) > days else 0
    return (new_keys[-1] - before) / days


def _arms(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    names = [arm.name for arm in arms]
    if not 2 <= len(arms) <= _MOST_ARMS or len(set(names)) < len(names):
        raise InputError(
            f"Arms {', '.join(names)!r} cannot be compared.",
            hint=f"give 2 to {_MOST_ARMS} different ones, the control first: --arms movies@3,movies@4",
        )
    whole = math.fsum(arm.share for arm in arms)
    if min(arm.share for arm in arms) <= 0 or not math.isclose(whole, 1.0, abs_tol=1e-6):
        shares = ", ".join(f"{arm.share:.4g}" for arm in arms)
        raise InputError(f"The shares {shares} do not add up to 1.", hint="write them as --share 50%,50%")
    return arms


def _refuse_odd(wishes: Wishes) -> None:
    if not RATIO_ALPHA < wishes.alpha <= 0.5:
        raise InputError(f"--alpha {wishes.alpha!r} is not between {RATIO_ALPHA} and 0.5.", hint="0.05 is usual")
    if wishes.effect is not None and not 0 < wishes.effect.amount < math.inf:
        raise InputError(
            f"--effect {wishes.effect.amount!r} is not above zero.", hint="give the least difference worth finding"
        )
    if wishes.days is not None and not 0 < wishes.days <= _MOST_DAYS:
        raise InputError(f"--days {wishes.days!r} is not between 0 and {_MOST_DAYS:g}.", hint="two weeks are usual")
    if wishes.span_s <= 0:
        raise InputError("--span must be longer than nothing.", hint="1d is usual")
    if wishes.outcome.name in {guard.name for guard in wishes.guards}:
        raise InputError(
            f"{wishes.outcome.name!r} cannot decide and be a guard.",
            hint="the outcome that decides is a guard by itself",
        )
