"""The tables of a report, as rows of text: the same in the terminal, in Markdown and on the page."""

from collections.abc import Sequence
from typing import NamedTuple

from penstock.worker.rehearsal.records import Compared
from penstock.worker.rehearsal.report.figures import main_outcome
from penstock.worker.rehearsal.report.records import ArmSpan, Report
from penstock.worker.rehearsal.report.words import (
    BECAME,
    LOOP,
    counted,
    day,
    differed,
    lasted,
    measured,
    number,
)

_MOST_SAID = 160
_MOST_SLICES = 12
_NONE = "-"


class Table(NamedTuple):
    """A table: what it is about, its heads, its rows."""

    name: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def arms(report: Report) -> Table:
    """Return one row per arm: what it did in the whole time."""
    outcome = main_outcome(report)
    heads = ("", f"live quality ({outcome})" if outcome else "live quality", f"{LOOP}'s lead on the same questions")
    rows = [
        (
            name,
            _live(arm, outcome),
            next((differed(d) for d in report.differences if (d.outcome, d.other) == (outcome, name)), _NONE),
            f"{arm.predictions:,}",
            f"{len(arm.retrains)}",
            f"{len(arm.releases)}",
            f"{arm.cpu_s:,.0f}",
            f"{arm.money:,.2f}",
        )
        for name, arm in report.whole.items()
    ]
    return Table("The arms", (*heads, "answers", "retrains", "releases", "CPU s", "money"), rows)


def weeks(report: Report) -> Table:
    """Return one row per week of the loop."""
    outcome = main_outcome(report)
    others = [name for name in report.whole if name != LOOP]
    rows = []
    for week in report.weeks:
        arm = week.arms[LOOP]
        leads = [_lead(week.differences, outcome, other) for other in others]
        fresh = arm.fresh
        done = ", ".join(f"{arm.count(kind)} {said}" for kind, said in BECAME.items() if arm.count(kind)) or _NONE
        ages = (lasted(fresh.data_age_most_h), lasted(fresh.model_age_most_h))
        told = ", ".join(week.raised) or _NONE
        figures = (arm.live or _NONE, *ages, _live(arm, outcome), *leads, done, f"{len(arm.skipped)}", told)
        rows.append((f"{week.number}", day(week.start), *figures, f"{arm.cpu_s:,.0f}"))
    heads = ("week", "from", "live at its end", "data at worst", "model at worst", "live quality")
    over = tuple(f"lead over {other}" for other in others)
    return Table("Week by week", (*heads, *over, "retrains", "skipped", "alerts raised", "CPU s"), rows)


def alerts(report: Report) -> Table:
    """Return one row per alert."""
    rows = [
        (
            alert.alert,
            day(alert.raised_at),
            "still open" if alert.resolved_at is None else day(alert.resolved_at),
            alert.kind.replace("_", " "),
            _short(alert.said or alert.subject),
            _short("; ".join(alert.done)) or _NONE,
        )
        for alert in report.alerts
    ]
    return Table("Alerts", ("alert", "raised", "resolved", "what", "found", "what was done"), rows)


def planted(report: Report) -> Table:
    """Return one row per planted fault."""
    rows = [
        (
            one.fault.replace("_", " "),
            f"{one.what} ({day(one.since)} to {day(one.until)})",
            f"{one.detected[0]} after {lasted(one.delay_h)}" if one.detected else "not detected",
            "; ".join(one.contained) or "not contained",
            "; ".join(one.explained) or "not explained",
        )
        for one in report.planted
    ]
    return Table("Planted faults", ("fault", "what was done", "detected", "contained", "explained"), rows)


def reasons(report: Report) -> Table:
    """Return why retrains were done and why they were skipped, the most frequent first."""
    arm = report.whole[LOOP]
    counts: dict[tuple[str, str], int] = {}
    for one in arm.retrains:
        key = (BECAME[one.became], _kind(one.cause) + (f": {', '.join(one.refused_by)}" if one.refused_by else ""))
        counts[key] = counts.get(key, 0) + 1
    for skipped in arm.skipped:
        key = ("skipped", f"{_kind(skipped.cause)}: {_plainly(skipped.reason)}")
        counts[key] = counts.get(key, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Table("Why", ("times", "retrain", "for"), [(f"{n}", became, why) for (became, why), n in ranked])


def slices(report: Report) -> Table:
    """Return the worst slices: those that monitors found live, then those of the newest evaluation."""
    seen: dict[str, tuple[int, str]] = {}
    for one in report.slices:
        count = seen.get(one.subject, (0, ""))[0]
        seen[one.subject] = (count + 1, one.said)
    ranked = sorted(seen.items(), key=lambda item: -item[1][0])[:_MOST_SLICES]
    rows = [("live", subject, counted(count, "window"), _short(said)) for subject, (count, said) in ranked]
    for newest in report.offline[-1:]:
        for part in newest.worst:
            said = f"{newest.metric} {number(part.mean)} ({number(part.low)} to {number(part.high)})"
            rows.append((f"offline, {newest.release}", f"{part.column} = {part.value}", f"{part.n:,} rows", said))
    return Table("Worst slices", ("found", "slice", "how often", "how bad"), rows)


def _live(arm: ArmSpan, outcome: str | None) -> str:
    return measured(next((one.measure for one in arm.quality if one.outcome == outcome), None))


def _lead(found: Sequence[Compared], outcome: str | None, other: str) -> str:
    return next((differed(d) for d in found if (d.outcome, d.other) == (outcome, other)), _NONE)


def _kind(cause: str) -> str:
    return cause.partition(":")[0].replace("_", " ")


def _plainly(reason: str) -> str:
    """Leave out the figures of a reason, so that the same reason counts as one."""
    return " ".join("…" if any(c.isdigit() for c in word) else word for word in reason.split())


def _short(text: str) -> str:
    return text if len(text) <= _MOST_SAID else f"{text[: _MOST_SAID - 1]}…"
