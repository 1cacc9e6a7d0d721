"""Does it pay? What became of answers, per release, in money; what that cost; how many retrains there were."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penstock.pipeline.graph import Node
from penstock.project.status.facts import MONTH, Facts
from penstock.project.status.records import Answer, Line, Verdict, answer, unknown
from penstock.project.status.words import counted, found, money, span, within
from penstock.store.ledger.windows import KeptWindow

_MOST = 3


@dataclass(frozen=True, slots=True)
class Sum:
    """Windows of one release put together: the mean, its interval, how many truths, over what time."""

    release: str
    mean: float
    half: float
    count: int


def pays(facts: Facts) -> Answer:
    """Return the answer."""
    value_per_day, lines = _value(facts)
    cost_per_day, costs = _cost(facts)
    lines += costs
    if value_per_day is not None and cost_per_day is not None:
        lines.append(_balance(value_per_day, cost_per_day))
    return answer("pays", lines)


def _value(facts: Facts) -> tuple[float | None, list[Line]]:
    outcomes = [] if facts.manifest is None else [n for n in facts.manifest.graph.nodes if n.role == "outcome"]
    if not outcomes:
        step = "declare @pipeline.outcome(within=..., value=...), which says what an answer is worth"
        return None, [unknown("what becomes of answers", step)]
    lines: list[Line] = []
    total: float | None = None
    for node in outcomes:
        seen = facts.windows.get(f"quality:{node.name}", [])
        sums = list(per_release(seen))
        if not sums:
            lines.append(unknown(f"what {node.name!r} comes to", "its truth has to come", "penstock outcomes"))
            continue
        lines += [_outcome(node, one, facts) for one in sums[:_MOST]]
        per_day = _per_day(node, seen)
        if per_day is not None:
            total = per_day + (total or 0.0)
    return total, lines


def per_release(seen: Sequence[KeptWindow]) -> Iterator[Sum]:
    """Yield what windows came to per release, the release of the newest window first."""
    by_release: dict[str, list[tuple[float, float, int]]] = {}
    for window in seen:
        for release, mean, half, count in _levels(window):
            by_release.setdefault(release, []).append((mean, half, count))
    for release, parts in by_release.items():
        count = sum(n for _, _, n in parts)
        mean = sum(m * n for m, _, n in parts) / count
        # Windows hold different answers, so their variances add up.
        half = math.sqrt(sum((h * n) ** 2 for _, h, n in parts)) / count
        yield Sum(release, mean, half, count)


def _levels(window: KeptWindow) -> Iterator[tuple[str, float, float, int]]:
    """Yield release, mean, half of its interval and number of truths, as the monitor of quality recorded them."""
    evidence = next((f.get("evidence") or {} for f in window.findings if f.get("kind") == "quality"), {})
    shown = [row for row in evidence.get("by") or [] if row.get("column") == "release"]
    overall = evidence.get("level")
    if not shown and isinstance(overall, dict):
        shown = [{"value": window.release or "", **overall}]
    for row in shown:
        mean, low, high, count = (found(row, name) for name in ("mean", "low", "high", "n"))
        if mean is not None and count:
            half = 0.0 if low is None or high is None else (high - low) / 2
            yield str(row.get("value", "")), mean, half, int(count)


def _outcome(node: Node, one: Sum, facts: Facts) -> Line:
    said = (
        f"{node.name} of {one.release or 'all releases'}: {within(one.mean, one.mean - one.half, one.mean + one.half)}"
    )
    said += f" per answer over {counted(one.count, 'truth')}"
    value = node.options.get("value")
    figures = {"outcome": node.name, "release": one.release, "mean": one.mean, "half": one.half, "n": one.count}
    if isinstance(value, int | float):
        said += f", worth {money(one.mean * value)} each"
        figures["value"] = one.mean * value
    return Line(verdict="fine", said=said, leads_to=f"penstock outcomes {facts.pipeline}", figures=figures)


def _per_day(node: Node, seen: Sequence[KeptWindow]) -> float | None:
    value = node.options.get("value")
    if not isinstance(value, int | float):
        return None
    sums = [
        (sum(mean * count for _, mean, _, count in _levels(window)), (window.end_at - window.start_at).total_seconds())
        for window in seen
    ]
    seconds = sum(length for _, length in sums)
    return None if not seconds else value * sum(amount for amount, _ in sums) / seconds * 86_400


def _cost(facts: Facts) -> tuple[float | None, list[Line]]:
    days = MONTH.days
    cpu_s = sum(used.cpu_s for used in facts.used)
    ends = {state: sum(t.count for t in facts.tally if t.state == state) for state in ("done", "skipped", "failed")}
    said = f"{counted(ends['done'], 'retrain')} in {days} d, {ends['skipped']:,} skipped, {ends['failed']:,} failed"
    said += f"; all runs used {span(cpu_s)} of CPU" if cpu_s >= 1 else ""
    price = facts.policy.cost.cpu_hour
    figures = {"days": days, "cpu_s": cpu_s, "money": cpu_s / 3600 * price, **ends}
    lines = [Line(verdict="said", said=said, leads_to=f"penstock runs {facts.pipeline}", figures=figures)]
    if not price:
        lines.append(unknown("what that costs", "set cost = { cpu_hour = ..., prediction = ... } in penstock.toml"))
        return None, lines
    answers = _answers_per_day(facts) * facts.policy.cost.prediction
    per_day = cpu_s / 3600 * price / days + answers
    said = f"cost: {money(cpu_s / 3600 * price / days)} a day for runs, {money(answers)} for answers"
    lines.append(Line(verdict="said", said=said, figures={"per_day": per_day}))
    return per_day, lines


def _answers_per_day(facts: Facts) -> float:
    seen = [window for windows in facts.of("service:").values() for window in windows]
    seconds = sum((w.end_at - w.start_at).total_seconds() for w in seen)
    per_monitor = max(len(facts.of("service:")), 1)
    return 0.0 if not seconds else sum(w.rows for w in seen) / seconds * 86_400 * per_monitor


def _balance(value: float, cost: float) -> Line:
    verdict: Verdict = "fine" if value >= cost else "look"
    said = f"value {money(value)} a day, cost {money(cost)} a day: {'it pays' if value >= cost else 'it does NOT pay'}"
    return Line(verdict=verdict, said=said, figures={"value_per_day": value, "cost_per_day": cost})
