"""Figures as people read them, and the few lines that say how a rehearsal went."""

from collections.abc import Sequence
from datetime import datetime

from penstock.worker.rehearsal.records import ArmName, Compared, Newcomer, Quality
from penstock.worker.rehearsal.report.records import Became, LiveQuality, PlantedTold, Report

LOOP: ArmName = "policy"
Line = tuple[str, str]
_DAY_H, _HOUR_MIN = 24.0, 60.0
_LONG_H = 72.0
BECAME: dict[Became, str] = {
    "released": "released",
    "as before": "came to the same",
    "refused": "refused by the gate",
    "failed": "failed",
    "ended early": "ended early",
}


def heading(report: Report) -> str:
    """Return what was rehearsed, and how long that took."""
    days = (report.end - report.start).days
    span = f"{days // 7} weeks" if days % 7 == 0 else f"{days} days"
    return (
        f"Rehearsed {report.pipeline} from {day(report.start)} to {day(report.end)}: {span} in {took(report.wall_s)}."
    )


def summary(report: Report) -> list[Line]:
    """Return the report in a few lines, each with what it is about."""
    whole = report.whole[LOOP]
    lines = [("fresh", _fresh(report))]
    lines += [("quality", said) for said in _quality(whole.quality, report.differences)]
    lines += [("retrains", _retrains(report)), ("alerts", _alerts(report)), ("cost", _cost(report))]
    if report.planted:
        lines.append(("planted", _planted(report.planted)))
    return [*lines, *((_mark(promise.is_kept), promise.said) for promise in report.promises)]


def number(value: float) -> str:
    """Return a number with three digits, or all digits of a large one."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"+{number(value)}" if value > 0 else number(value).replace("-", "\N{MINUS SIGN}")


def measured(measure: Quality | None) -> str:
    """Return a mean with its interval."""
    if measure is None or measure.mean is None:
        return "not known yet"
    if measure.low is None or measure.high is None:
        return number(measure.mean)
    return f"{number(measure.mean)} ({number(measure.low)} to {number(measure.high)})"


def differed(found: Compared) -> str:
    """Return a difference with its interval."""
    one = found.difference
    if one.mean is None:
        return "not known"
    if one.low is None or one.high is None:
        return signed(one.mean)
    return f"{signed(one.mean)} ({signed(one.low)} to {signed(one.high)})"


def lasted(hours: float | None) -> str:
    """Return hours, or days where there are many."""
    if hours is None:
        return "not known"
    if hours < 1:
        return f"{number(hours * _HOUR_MIN)} min"
    return f"{number(hours)} h" if hours < _LONG_H else f"{number(hours / _DAY_H)} d"


def newcomers(found: Newcomer) -> str:
    """Return how soon what is new could be answered."""
    share = "all" if found.known == found.new else f"{found.known:,} ({found.known / max(found.new, 1):.1%})"
    cycles = ", ".join(f"{count:,} after {counted(int(n), 'release')}" for n, count in sorted(found.waited.items()))
    days = "" if found.days is None else f", {number(found.days)} days on average"
    return f"{found.new:,} new {found.column}, {share} known to a release" + (f" ({cycles}{days})" if cycles else "")


def took(seconds: float) -> str:
    """Return real time."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def day(moment: datetime) -> str:
    """Return a day."""
    return f"{moment:%Y-%m-%d}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _mark(is_kept: bool | None) -> str:  # noqa: FBT001  # of a record
    return {True: "kept", False: "BROKEN", None: "unknown"}[is_kept]


def _fresh(report: Report) -> str:
    fresh = report.whole[LOOP].fresh
    said = [
        f"data {lasted(fresh.data_age_h)} old (at worst {lasted(fresh.data_age_most_h)})",
        f"model {lasted(fresh.model_age_h)} (at worst {lasted(fresh.model_age_most_h)})",
    ]
    said += [newcomers(one) for one in report.newcomers]
    return "; ".join(said)


def _quality(quality: Sequence[LiveQuality], differences: Sequence[Compared]) -> list[str]:
    found = []
    for one in quality:
        over = [f"{differed(d)} over {d.other}" for d in differences if d.outcome == one.outcome]
        found.append("; ".join([f"{one.outcome} {measured(one.measure)}", *over]))
    return found or ["no truth has come"]


def _retrains(report: Report) -> str:
    whole = report.whole[LOOP]
    kinds = [f"{whole.count(kind)} {said}" for kind, said in BECAME.items() if whole.count(kind)]
    others = [f"{name} {len(arm.retrains)}" for name, arm in report.whole.items() if name != LOOP]
    said = f"{len(whole.retrains)} ({', '.join(kinds)})" if kinds else "none"
    return f"{said}, {len(whole.skipped)} skipped" + (f"; {', '.join(others)}" if others else "")


def _alerts(report: Report) -> str:
    still = sum(alert.resolved_at is None for alert in report.alerts)
    return f"{counted(len(report.alerts), 'alert')}, {still} still open" if report.alerts else "none"


def _cost(report: Report) -> str:
    def said(name: str) -> str:
        arm = report.whole[name]
        money = f" ({arm.money:,.2f} in money)" if arm.money else ""
        return f"{arm.cpu_s:,.0f} CPU s{money}"

    others = [f"{name} {said(name)}" for name in report.whole if name != LOOP]
    return said(LOOP) + (f"; {', '.join(others)}" if others else "")


def _planted(planted: Sequence[PlantedTold]) -> str:
    count = len(planted)
    parts = [
        f"{sum(bool(one.detected) for one in planted)} of {count} faults detected",
        f"{sum(bool(one.contained) for one in planted)} contained",
        f"{sum(bool(one.explained) for one in planted)} explained",
    ]
    return ", ".join(parts)
