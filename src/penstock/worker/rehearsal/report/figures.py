"""The pictures of a report: what each shows, and its data."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from penstock.worker.rehearsal.records import Compared, Quality
from penstock.worker.rehearsal.report import pictures
from penstock.worker.rehearsal.report.pictures import Frame, Point, Series, Span, Stack
from penstock.worker.rehearsal.report.records import AlertTold, LiveQuality, Report, Week
from penstock.worker.rehearsal.report.words import LOOP, counted, differed, lasted, measured

_COLOURS: dict[str, int] = {LOOP: 0, "never": 1, "daily": 2}
_DAY_H = 24.0
_MOST_ROWS = 12
# Retrains by what became of them, from the bottom up, with their colours.
_STACK = (("released", 0), ("refused", 4), ("other", 2), ("skipped", 1))


class Figure(NamedTuple):
    """A picture with its name, its title and what it shows."""

    name: str
    title: str
    said: str
    svg: str


def figures(report: Report) -> list[Figure]:
    """Return the pictures that a report's data allow."""
    makers: Sequence[Callable[[Report], Figure | None]] = (
        _quality,
        _difference,
        _freshness,
        _retrains,
        _offline,
        _cost,
        _alerts,
    )
    return [found for maker in makers if (found := maker(report)) is not None]


def _quality(report: Report) -> Figure | None:
    outcome = main_outcome(report)
    if outcome is None:
        return None
    series = [
        Series(
            name=name,
            colour=_COLOURS.get(name, 3),
            points=tuple(_point(week, _of(week.arms[name].quality, outcome)) for week in report.weeks),
        )
        for name in report.whole
    ]
    said = "; ".join(
        f"{name} {measured(_of(arm.quality, outcome))} over the whole time" for name, arm in report.whole.items()
    )
    frame = _frame(report, "quality", f"Live quality, week by week: {outcome}", said, unit="per answer")
    return _figure(frame, pictures.lines(frame, series, is_from_zero=False))


def _difference(report: Report) -> Figure | None:
    outcome = main_outcome(report)
    found = [d for d in report.differences if d.outcome == outcome]
    if not found:
        return None
    series = [
        Series(
            name=f"vs {one.other}",
            colour=_COLOURS.get(one.other, 3),
            points=tuple(_differed(week, one) for week in report.weeks),
        )
        for one in found
    ]
    said = "; ".join(f"{LOOP} {differed(one)} over {one.other}, over the whole time" for one in found)
    frame = _frame(
        report, "difference", "The policy against the others, on the same questions", said, unit="difference"
    )
    return _figure(frame, pictures.lines(frame, series, is_dotted=True))


def _freshness(report: Report) -> Figure | None:
    def series(name: str, colour: int, ages: Sequence[float | None]) -> Series:
        days = [None if age is None else age / _DAY_H for age in ages]
        points = zip(report.weeks, days, strict=True)
        return Series(name=name, colour=colour, points=tuple(Point(at=_middle(w), value=v) for w, v in points))

    fresh = [week.arms[LOOP].fresh for week in report.weeks]
    found = [
        series("model", 0, [one.model_age_most_h for one in fresh]),
        series("data", 3, [one.data_age_most_h for one in fresh]),
    ]
    whole = report.whole[LOOP].fresh
    said = (
        f"At the median look the data were {lasted(whole.data_age_h)} old and the model {lasted(whole.model_age_h)}; "
        f"at the worst {lasted(whole.data_age_most_h)} and {lasted(whole.model_age_most_h)}"
    )
    frame = _frame(report, "freshness", "Age of data and model, the oldest of each week", said, unit="days")
    return _figure(frame, pictures.lines(frame, found))


def _retrains(report: Report) -> Figure | None:
    stacks = []
    for week in report.weeks:
        arm = week.arms[LOOP]
        released, refused = arm.count("released"), arm.count("refused")
        other = len(arm.retrains) - released - refused
        stacks.append(Stack(at=week.start, parts=(released, refused, other, len(arm.skipped))))
    whole = report.whole[LOOP]
    said = (
        f"{counted(len(whole.retrains), 'retrain')}, of which {whole.count('released')} were released and "
        f"{whole.count('refused')} refused by the gate; {len(whole.skipped)} skipped"
    )
    frame = _frame(report, "retrains", "Retrains of the policy, week by week", said, unit="")
    return _figure(frame, pictures.bars(frame, _STACK, stacks))


def _offline(report: Report) -> Figure | None:
    if not report.offline:
        return None
    name = report.offline[0].evaluation
    points = [
        Point(at=one.at, value=one.measure.mean, low=one.measure.low, high=one.measure.high)
        for one in report.offline
        if one.evaluation == name
    ]
    first, last = report.offline[0], report.offline[-1]
    said = f"{first.release} {measured(first.measure)}, {last.release} {measured(last.measure)}"
    frame = _frame(report, "offline", f"{first.metric} of each release when it was made", said, unit=first.metric)
    series = Series(name="release", points=tuple(points))
    return _figure(frame, pictures.lines(frame, [series], is_dotted=True, is_from_zero=False))


def _cost(report: Report) -> Figure | None:
    series = []
    for name in report.whole:
        total, points = 0.0, []
        for week in report.weeks:
            total += week.arms[name].cpu_s
            points.append(Point(at=week.end, value=total))
        series.append(Series(name=name, colour=_COLOURS.get(name, 3), points=tuple(points)))
    said = "; ".join(f"{name} {arm.cpu_s:,.0f} CPU seconds" for name, arm in report.whole.items())
    frame = _frame(report, "cost", "CPU seconds used, added up", said, unit="CPU s")
    return _figure(frame, pictures.lines(frame, series))


def _alerts(report: Report) -> Figure | None:
    if not report.alerts:
        return None
    by_cause: dict[str, list[AlertTold]] = {}
    for alert in report.alerts:
        by_cause.setdefault(f"{alert.kind.replace('_', ' ')}: {alert.subject}", []).append(alert)
    most = sorted(by_cause.items(), key=lambda item: (-len(item[1]), item[1][0].raised_at))[:_MOST_ROWS]
    most.sort(key=lambda item: item[1][0].raised_at)
    rows = [
        (name, [Span(name=alert.alert, start=alert.raised_at, end=alert.resolved_at, colour=4) for alert in found])
        for name, found in most
    ]
    still = sum(alert.resolved_at is None for alert in report.alerts)
    left = f"; {len(by_cause) - len(most)} more causes are in the list" if len(by_cause) > len(most) else ""
    said = f"{counted(len(report.alerts), 'alert')} of {counted(len(by_cause), 'cause')}, {still} still open{left}"
    frame = _frame(report, "alerts", "Alerts: from when they were raised until they were resolved", said)
    return _figure(frame, pictures.spans(frame, rows))


def main_outcome(report: Report) -> str | None:
    """Return the outcome function that the pictures show: the one with most truths."""
    known = [one for one in report.whole[LOOP].quality if one.measure.mean is not None]
    return max(known, key=lambda one: one.measure.n).outcome if known else None


def _frame(report: Report, name: str, title: str, said: str, *, unit: str = "") -> Frame:
    shaded = tuple(Span(name=one.fault, start=one.since, end=one.until) for one in report.planted)
    return Frame(name=name, title=title, said=said, start=report.start, end=report.end, unit=unit, shaded=shaded)


def _figure(frame: Frame, svg: str) -> Figure:
    return Figure(frame.name, frame.title, frame.said, svg)


def _middle(week: Week) -> datetime:
    return week.start + (week.end - week.start) / 2


def _of(found: Sequence[LiveQuality], outcome: str) -> Quality | None:
    return next((one.measure for one in found if one.outcome == outcome), None)


def _point(week: Week, measure: Quality | None) -> Point:
    if measure is None:
        return Point(at=_middle(week), value=None)
    return Point(at=_middle(week), value=measure.mean, low=measure.low, high=measure.high)


def _differed(week: Week, like: Compared) -> Point:
    for one in week.differences:
        if (one.outcome, one.other) == (like.outcome, like.other):
            found = one.difference
            return Point(at=_middle(week), value=found.mean, low=found.low, high=found.high)
    return Point(at=_middle(week), value=None)
