"""What an experiment has come to: wait, or a verdict. Pure, and asked as often as one likes.

An arm wins that is surely better than every other arm by the outcome, with every guard shown to be no worse than its
margin: Schultzberg, Ankargren and Frånberg, "Risk-aware product decisions in A/B tests with multiple metrics" (2024).
"""

from datetime import datetime
from typing import Literal

from penstock.checks.sequential import (
    Difference,
    Moments,
    difference_of_means,
    difference_of_shares,
    sample_ratio_p,
)
from penstock.core.records import Record
from penstock.releases.experiments.plan import DAY_S, RATIO_ALPHA, Metric, Plan

Kind = Literal["wins", "no_difference", "undecided", "invalid", "stopped"]


class Tally(Record, frozen=True, kw_only=True):
    """What a metric came to over the keys of an arm that are measured to the end.

    Attributes:
        is_share: Every key has 0 or 1.
    """

    moments: Moments = Moments()
    is_share: bool = False

    @property
    def hits(self) -> int:
        """Of a share: the keys that have 1."""
        return round(self.moments.total)


class Seen(Record, frozen=True, kw_only=True):
    """What was seen so far.

    Attributes:
        assigned: Keys by arm, by what they got first.
        tallies: By metric and arm.
        crossed: Keys that got answers of more than one arm.
        without_key: Answers of the arms whose request had no key; they count nowhere.
        keys_per_month: Keys times spans in a month at today's traffic; None takes the plan's.
    """

    started_at: datetime
    assigned: dict[str, int]
    tallies: dict[str, dict[str, Tally]]
    crossed: int = 0
    without_key: int = 0
    keys_per_month: float | None = None

    def tally(self, metric: str, arm: str) -> Tally:
        """Return a tally; an empty one where nothing was seen."""
        return self.tallies.get(metric, {}).get(arm, Tally())

    def units(self, plan: Plan) -> dict[str, int]:
        """Return the keys that are measured to the end, by arm."""
        return {arm.name: self.tally(plan.outcome.name, arm.name).moments.n for arm in plan.arms}


class Effect(Record, frozen=True, kw_only=True):
    """A metric of one arm against that of another, per key.

    Attributes:
        found: "better" or "worse" where that is sure; "no_worse" for a guard within its margin.
    """

    metric: str
    arm: str
    over: str
    mean: float
    low: float
    high: float
    usual: float
    found: Literal["better", "worse", "no_worse", "unclear"]


class Look(Record, frozen=True, kw_only=True):
    """What every look tells, decided or not.

    Attributes:
        effects: The outcome of each arm against those before it, then guards and metrics against the control.
        ratio_p: Chance of a split like this if keys fell as planned; valid at every look.
        units: Keys measured to the end, by arm.
    """

    effects: tuple[Effect, ...]
    ratio_p: float
    assigned: dict[str, int]
    units: dict[str, int]
    crossed: int
    days: float


class Wait(Record, frozen=True, kw_only=True, tag="wait"):
    """Nothing is decided yet; `because` says what it waits for."""

    look: Look
    because: str
    days_left: float


class Verdict(Record, frozen=True, kw_only=True, tag="verdict"):
    """What was decided.

    Attributes:
        winner: The arm to go on with; None where the experiment says nothing about that.
        said: In words and money.
        per_month: What the winner brings in a month at today's traffic, over the control (or, if that won, over the
            best other arm), in money; None where the outcome has no value.
        per_month_low: The least that may be.
        per_month_high: The most that may be.
    """

    kind: Kind
    winner: str | None
    said: str
    look: Look
    at: datetime
    per_month: float | None = None
    per_month_low: float | None = None
    per_month_high: float | None = None


class Decision(Record, frozen=True, kw_only=True):
    """What follows from a look, before it is put into words; `winner` over `over`."""

    kind: Kind
    winner: str | None
    because: str
    over: str | None = None


def decide(plan: Plan, seen: Seen, now: datetime) -> Wait | Decision:
    """Return what follows from what was seen: `Wait`, or a decision that `words.verdict_of` tells.

    Asked again and again, by whoever and whenever, it is wrong about any difference with probability `plan.alpha` at
    most over the life of the experiment.
    """
    look = look_at(plan, seen, now)
    if look.ratio_p < RATIO_ALPHA:
        return Decision(kind="invalid", winner=None, because=_ratio_words(plan, look))
    harmed = [e.arm for e in look.effects if _is_guard(plan, e) and e.found == "worse"]
    left = [arm.name for arm in plan.arms if arm.name not in harmed]
    best = _best(plan, look, left)
    is_over = now_days(seen, now) >= plan.longest_days or min(look.units.values()) >= plan.units
    if best is not None:
        shown = _guards_left(plan, look, best)
        if not shown:
            because = _harm_words(plan, look)
            return Decision(kind="wins", winner=best, because=because, over=_rival(plan, seen, best))
        if is_over:
            because = f"{best} is better, but that it is no worse on {', '.join(shown)} could not be shown"
            return Decision(kind="undecided", winner=None, because=because, over=plan.control.name)
        return _wait(plan, look, f"{best} is better; that it is no worse on {', '.join(shown)} is not shown yet")
    if is_over or _is_nothing(plan, look, left):
        return _at_the_end(plan, seen, look, left)
    return _wait(plan, look, "no arm is surely better yet")


def look_at(plan: Plan, seen: Seen, now: datetime) -> Look:
    """Return every effect with its interval, and whether keys fell on arms as planned."""
    names = [arm.name for arm in plan.arms]
    effects = [
        effect_of(plan, seen, plan.outcome, arm=arm, over=over)
        for place, arm in enumerate(names)
        for over in names[:place]
    ]
    others = [*plan.guards, *(one for one in plan.metrics if one.name != plan.outcome.name)]
    effects += [effect_of(plan, seen, one, arm=arm, over=names[0]) for one in others for arm in names[1:]]
    counts = [seen.assigned.get(name, 0) for name in names]
    return Look(
        effects=tuple(effects),
        ratio_p=sample_ratio_p(counts, [arm.share for arm in plan.arms]),
        assigned=dict(zip(names, counts, strict=True)),
        units=seen.units(plan),
        crossed=seen.crossed,
        days=now_days(seen, now),
    )


def effect_of(plan: Plan, seen: Seen, metric: Metric, *, arm: str, over: str) -> Effect:
    """Return a metric of one arm against another."""
    base, candidate = seen.tally(metric.name, over), seen.tally(metric.name, arm)
    found = _difference(plan, base, candidate)
    sign = 1.0 if metric.higher_is_better else -1.0
    low, high = sorted((sign * found.low, sign * found.high))
    usual = base.moments.mean
    word: Literal["better", "worse", "no_worse", "unclear"] = "unclear"
    if low > 0:
        word = "better"
    elif high < 0:
        word = "worse"
    elif metric.margin is not None and low > -metric.margin * abs(plan.guards_usual.get(metric.name, usual)):
        word = "no_worse"
    return Effect(
        metric=metric.name,
        arm=arm,
        over=over,
        mean=found.mean,
        low=found.low,
        high=found.high,
        usual=usual,
        found=word,
    )


def now_days(seen: Seen, now: datetime) -> float:
    """Return the days since the experiment began."""
    return max((now - seen.started_at).total_seconds() / DAY_S, 0.0)


def _difference(plan: Plan, base: Tally, candidate: Tally) -> Difference:
    if base.is_share and candidate.is_share:
        return difference_of_shares(
            (base.hits, base.moments.n), (candidate.hits, candidate.moments.n), plan.level, tightest=plan.tightest
        )
    return difference_of_means(base.moments, candidate.moments, plan.level, tightest=plan.tightest)


def _is_guard(plan: Plan, effect: Effect) -> bool:
    return any(effect.metric == guard.name for guard in plan.guards)


def _against(plan: Plan, look: Look, arm: str, other: str) -> str:
    """Return how the outcome of one arm compares with that of another: "better", "worse" or "unclear"."""
    turned = {"better": "worse", "worse": "better"}
    for one in look.effects:
        if one.metric == plan.outcome.name and {one.arm, one.over} == {arm, other}:
            return one.found if one.arm == arm else turned.get(one.found, one.found)
    return "unclear"


def _best(plan: Plan, look: Look, left: list[str]) -> str | None:
    """Return the arm that is surely better than all that are left; the only one left is."""
    for arm in left:
        if all(_against(plan, look, arm, other) == "better" for other in left if other != arm):
            return arm
    return None


def _guards_left(plan: Plan, look: Look, arm: str) -> list[str]:
    """Return the guards that are not shown to be within their margins yet; the control has none."""
    mine = [one for one in look.effects if one.arm == arm and _is_guard(plan, one)]
    return [one.metric for one in mine if one.found not in {"better", "no_worse"}]


def _is_nothing(plan: Plan, look: Look, left: list[str]) -> bool:
    """Return whether no arm that is left can be better than the control by the effect that was to be found."""
    mine = [one for one in look.effects if one.metric == plan.outcome.name and one.over == plan.control.name]
    sign = 1.0 if plan.outcome.higher_is_better else -1.0
    return all(max(sign * one.low, sign * one.high) < plan.effect for one in mine if one.arm in left)


def _at_the_end(plan: Plan, seen: Seen, look: Look, left: list[str]) -> Decision:
    """Return the decision where no arm beats all others: the best of those that beat the control, if any does."""
    control = plan.control.name
    better = [arm for arm in left if arm != control and _against(plan, look, arm, control) == "better"]
    ready = [arm for arm in better if not _guards_left(plan, look, arm)]
    sign = 1.0 if plan.outcome.higher_is_better else -1.0
    if ready:
        best = max(ready, key=lambda arm: sign * seen.tally(plan.outcome.name, arm).moments.mean)
        others = [arm for arm in left if arm not in {best, control} and _against(plan, look, best, arm) != "better"]
        return Decision(kind="wins", winner=best, because=_beside(others), over=control)
    if better:
        because = f"{', '.join(better)} did better, but the guards could not be shown to hold"
        return Decision(kind="undecided", winner=None, because=because, over=control)
    return Decision(kind="no_difference", winner=control, because=_harm_words(plan, look))


def _beside(others: list[str]) -> str:
    return f"not told apart from {', '.join(others)}" if others else ""


def _rival(plan: Plan, seen: Seen, best: str) -> str:
    """Return whom a winner is compared with in words: the control, or, if that won, the best other arm."""
    if best != plan.control.name:
        return plan.control.name
    sign = 1.0 if plan.outcome.higher_is_better else -1.0
    others = [arm.name for arm in plan.arms if arm.name != best]
    return max(others, key=lambda arm: sign * seen.tally(plan.outcome.name, arm).moments.mean)


def _wait(plan: Plan, look: Look, because: str) -> Wait:
    return Wait(look=look, because=because, days_left=max(plan.longest_days - look.days, 0.0))


def _ratio_words(plan: Plan, look: Look) -> str:
    whole = sum(look.assigned.values())
    parts = [f"{arm.name} {look.assigned[arm.name] / whole:.2%} instead of {arm.share:.2%}" for arm in plan.arms]
    return f"keys did not fall on arms as planned ({', '.join(parts)}; p = {look.ratio_p:.1g})"


def _harm_words(plan: Plan, look: Look) -> str:
    worse = [one for one in look.effects if _is_guard(plan, one) and one.found == "worse"]
    return "; ".join(f"{one.arm} is worse on {one.metric}" for one in worse)
