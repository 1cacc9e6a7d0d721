"""Puts a plan and a decision into words and money."""

import math
from datetime import datetime

from penstock.releases.experiments.decide import Decision, Effect, Look, Seen, Verdict, effect_of, look_at
from penstock.releases.experiments.plan import DAY_S, Metric, Plan


def verdict_of(plan: Plan, decision: Decision, seen: Seen, now: datetime) -> Verdict:
    """Return the verdict that says what was decided.

    Args:
        plan: The plan.
        decision: From `decide`.
        seen: What it was made from.
        now: The time of the look.
    """
    look = look_at(plan, seen, now)
    money: tuple[float | None, float | None, float | None] = (None, None, None)
    said = _without_winner(plan, decision, look)
    if decision.kind == "wins" and decision.winner is not None and decision.over is not None:
        effect = effect_of(plan, seen, plan.outcome, arm=decision.winner, over=decision.over)
        money = _money(plan, effect, seen.keys_per_month or plan.keys_per_month)
        said = f"{_effect_words(plan, effect)}{_money_words(money)}; stop: {decision.winner} wins"
        said += f" ({decision.because})" if decision.because else ""
    per_month, low, high = money
    return Verdict(
        kind=decision.kind,
        winner=decision.winner,
        said=said,
        look=look,
        at=now,
        per_month=per_month,
        per_month_low=low,
        per_month_high=high,
    )


def plan_words(plan: Plan) -> list[str]:
    """Return the plan as sentences, before anything begins."""
    outcome = plan.outcome.name
    span = days_words(plan.span_s / DAY_S)
    arms = ", ".join(f"{arm.name} {arm.share:.4g}" for arm in plan.arms)
    relative = f" ({plan.effect / abs(plan.usual):.1%} of it)" if plan.usual else ""
    new = f"{plan.keys_per_day:,.0f} new keys a day"
    told = [
        f"Arms: {arms}; {plan.control.name} is the control.",
        f"Decides: {outcome}, summed per key over {span} from when the key is first seen; usual: {figure(plan.usual)}.",
        f"Finds a difference of {figure(plan.effect)}{relative} with a chance of {plan.power:.0%}.",
        f"Needs {plan.units:,} keys in the smallest arm: {days_words(plan.days)} at today's traffic, {new}.",
        f"Wrong in at most {plan.alpha:.0%} of such experiments, however often one looks.",
    ]
    if plan.longest_days < plan.days:
        told.append(f"It ends after {days_words(plan.longest_days)}, so the chance of finding that difference is less.")
    told += [_guard_words(plan, guard) for guard in plan.guards]
    if plan.value is not None:
        worth = abs(plan.effect * plan.value) * plan.keys_per_month
        told.append(f"Such a difference is worth about {worth:,.0f} a month at today's traffic.")
    if plan.answers_cost_per_month:
        told.append(f"All answers cost about {plan.answers_cost_per_month:,.0f} a month, whichever arm gives them.")
    return told


def _guard_words(plan: Plan, guard: Metric) -> str:
    margin, usual = guard.margin or 0.0, plan.guards_usual.get(guard.name, 0.0)
    finest = plan.guards_finest.get(guard.name, math.inf)
    said = f"Guard: {guard.name} may lose at most {margin:.0%} of {figure(usual)}"
    if finest <= margin:
        return f"{said}."
    least = f"a loss of less than {finest:.0%}" if math.isfinite(finest) else "any loss"
    return f"{said}; these keys cannot rule out {least}, so it may end undecided."


def figure(value: float) -> str:
    """Return four digits that matter: "0.03451", "12.5", "1,204"."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def days_words(days: float) -> str:
    """Return "12 d", "1.5 d", "6 h", "never"."""
    if math.isinf(days):
        return "never"
    if days < 2:
        return f"{days:.2g} d" if days >= 1 else f"{days * 24:.2g} h"
    return f"{math.ceil(days)} d"


def interval(effect: Effect) -> str:
    """Return "0.012 (0.004 to 0.020)"."""
    return f"{figure(effect.mean)} ({figure(effect.low)} to {figure(effect.high)})"


def _effect_words(plan: Plan, effect: Effect) -> str:
    low, high = sorted((abs(effect.low), abs(effect.high)))
    way = "more" if effect.mean >= 0 else "less"
    bounds = f"({figure(low)} to {figure(high)})"
    return (
        f"{effect.arm} brings {figure(abs(effect.mean))} {way} {plan.outcome.name} per key {bounds} than {effect.over}"
    )


def _money(plan: Plan, effect: Effect, keys: float) -> tuple[float | None, float | None, float | None]:
    if plan.value is None:
        return None, None, None
    low, high = sorted((effect.low * plan.value * keys, effect.high * plan.value * keys))
    return effect.mean * plan.value * keys, low, high


def _money_words(money: tuple[float | None, float | None, float | None]) -> str:
    mean, low, high = money
    if mean is None or low is None or high is None:
        return ""
    return f", about {mean:,.0f} a month at today's traffic ({low:,.0f} to {high:,.0f})"


def _without_winner(plan: Plan, decision: Decision, look: Look) -> str:
    match decision.kind:
        case "invalid":
            return f"stop: nothing can be learned from it, {decision.because}; look for what loses or moves keys"
        case "undecided":
            return f"stop: undecided, {decision.because}; {plan.control.name} stays"
        case "stopped":
            return f"stopped: {decision.because or 'before it decided'}"
        case "no_difference" | "wins":
            mine = [e for e in look.effects if e.metric == plan.outcome.name and e.over == plan.control.name]
            bounds = "; ".join(f"{e.arm} {interval(e)}" for e in mine)
            because = f" ({decision.because})" if decision.because else ""
            return f"stop: no arm is shown to be better than {plan.control.name}, which stays{because}; {bounds}"
