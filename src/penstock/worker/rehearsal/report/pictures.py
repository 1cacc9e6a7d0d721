"""Pictures of a report as SVG: lines with their intervals over time, stacked bars, spans of time.

Each is one element that carries its title and what it shows as text; `standalone` makes a file of it. Two shades of
colour follow the reader's light or dark, and lines differ in their strokes too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 70, 30, 26
_LINE, _LABEL = 26, 14
_MOST_TICKS = 6
_NS = 'xmlns="http://www.w3.org/2000/svg"'

# Okabe and Ito's colours, told apart by the colour-blind; brighter ones on a dark ground.
CSS = """
.pk { --k-ink: #1c2430; --k-quiet: #5b6675; --k-card: #fff; --k-line: #d6dce4; --k-fault: #b3261e;
  --k-0: #0069ad; --k-1: #6b7280; --k-2: #b45309; --k-3: #00755a; --k-4: #9b4f86;
  display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif }
@media (prefers-color-scheme: dark) {
  .pk { --k-ink: #e6eaf0; --k-quiet: #9aa6b4; --k-card: #1a2028; --k-line: #333c48; --k-fault: #f2938c;
    --k-0: #6cb6f5; --k-1: #a3acb8; --k-2: #efa34a; --k-3: #4fc9a4; --k-4: #d99bc6 }
}
.pk text { fill: var(--k-quiet) }
.pk .ground { fill: var(--k-card) }
.pk .name { font-weight: 600 }
.pk .grid { stroke: var(--k-line); stroke-width: 1 }
.pk .zero { stroke: var(--k-quiet); stroke-width: 1.5 }
.pk .fault { fill: var(--k-fault); opacity: .13 }
.pk .faulty { fill: var(--k-fault) }
.pk .line { fill: none; stroke-width: 2.2; stroke-linejoin: round }
.pk .band { opacity: .16 }
.pk .reach { stroke-width: 1.6 }
.pk .s1 { stroke-dasharray: 2 4 } .pk .s2 { stroke-dasharray: 8 4 }
""" + "".join(
    f".pk .c{n} {{ stroke: var(--k-{n}) }} .pk .f{n} {{ fill: var(--k-{n}) }} .pk text.f{n} {{ fill: var(--k-{n}) }}\n"
    for n in range(5)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A figure at a moment, with its interval where it has one; None is a gap."""

    at: datetime
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: its name, its place in the list of colours and strokes, and its points in the order of time."""

    name: str
    points: tuple[Point, ...]
    colour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that lasted; `end` is None where it lasts to the picture's end."""

    name: str
    start: datetime
    end: datetime | None = None
    colour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A bar: parts by name, from the bottom up."""

    at: datetime
    parts: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What every picture has.

    Attributes:
        name: Unique among the pictures of a page; letters and dashes.
        title: What is shown, in few words.
        said: What it shows, in a sentence with the figures, for whoever cannot see it.
        unit: What the vertical axis counts.
        start: Left end.
        end: Right end.
        shaded: Spans behind it.
    """

    name: str
    title: str
    said: str
    start: datetime
    end: datetime
    unit: str = ""
    shaded: tuple[Span, ...] = ()


def lines(frame: Frame, series: Sequence[Series], *, is_from_zero: bool = True, is_dotted: bool = False) -> str:
    """Return lines with their intervals as bands; dotted, points with their intervals as bars."""
    points = [p for one in series for p in one.points if p.value is not None]
    found = [y for p in points for y in (p.value, p.low, p.high) if y is not None]
    scale = _Scale.of(found, is_from_zero=is_from_zero)
    inside = [_grid(frame, scale)]
    for place, one in enumerate(series):
        inside.append((_dots if is_dotted else _line)(frame, scale, one, (place - (len(series) - 1) / 2) * 5))
    inside.append(_names(scale, series))
    return _svg(frame, "".join(inside))


def bars(frame: Frame, names: Sequence[tuple[str, int]], stacks: Sequence[Stack]) -> str:
    """Return stacked bars; `names` are the parts with their colours, from the bottom up."""
    scale = _Scale.of([sum(stack.parts) for stack in stacks], is_from_zero=True, is_whole=True)
    inside = [_grid(frame, scale)]
    step = (WIDTH - _LEFT - _RIGHT) / max(len(stacks), 1)
    wide = max(1.5, step * 0.72)
    for stack in stacks:
        low = 0.0
        for (name, colour), part in zip(names, stack.parts, strict=True):
            top, bottom = scale.y(low + part), scale.y(low)
            if part:
                said = f"<title>{escape(f'{_day(stack.at)}: {name} {_number(part)}')}</title>"
                place = f'x="{_x(frame, stack.at) + (step - wide) / 2:.1f}" y="{top:.1f}" width="{wide:.1f}"'
                inside.append(f'<rect class="f{colour}" {place} height="{bottom - top:.1f}">{said}</rect>')
            low += part
    inside.append(_legend(names))
    return _svg(frame, "".join(inside))


def spans(frame: Frame, rows: Sequence[tuple[str, Sequence[Span]]]) -> str:
    """Return a row per name, with a bar for each of its spans below the name."""
    height = _TOP + max(len(rows), 1) * _LINE + _BOTTOM
    inside = [_months(frame, height)]
    for number, (name, found) in enumerate(rows):
        y = _TOP + number * _LINE
        inside.append(f'<text x="{_LEFT}" y="{y + 11}">{escape(_short(name))}</text>')
        inside.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y + 18}" y2="{y + 18}"/>')
        for span in found:
            left, right = _x(frame, span.start), _x(frame, span.end or frame.end)
            last = f"to {_day(span.end)}" if span.end is not None else "still open"
            said = f"<title>{escape(f'{span.name}: {_day(span.start)} {last}')}</title>"
            place = f'x="{left:.1f}" y="{y + 15}" width="{max(right - left, 4):.1f}" height="6" rx="3"'
            inside.append(f'<rect class="f{span.colour}" {place}>{said}</rect>')
    return _svg(frame, "".join(inside), height)


def standalone(svg: str) -> str:
    """Return a picture as a file of its own: with its style, and on its own ground."""
    head, _, rest = svg.partition(">")
    return f"{head} {_NS}><style>{CSS}</style>{rest}\n"


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where values lie: round numbers at both ends, so that the grid is read easily."""

    low: float
    high: float
    step: float

    @classmethod
    def of(cls, values: Sequence[float], *, is_from_zero: bool, is_whole: bool = False) -> "_Scale":
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if is_from_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low < 1e-12:
            low, high = (low, low + 1.0) if is_from_zero else (low - 0.5, low + 0.5)
        step = _round_step((high - low) / 4)
        step = max(1.0, step) if is_whole else step
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)

    def y(self, value: float, height: float = HEIGHT) -> float:
        bottom = height - _BOTTOM
        return bottom - (value - self.low) / (self.high - self.low) * (bottom - _TOP)

    @property
    def ticks(self) -> list[float]:
        return [self.low + n * self.step for n in range(round((self.high - self.low) / self.step) + 1)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def _x(frame: Frame, at: datetime) -> float:
    whole = max((frame.end - frame.start).total_seconds(), 1.0)
    share = (at - frame.start).total_seconds() / whole
    return _LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT)


def _grid(frame: Frame, scale: _Scale) -> str:
    right = WIDTH - _RIGHT
    rows = [
        f'<line class="{"zero" if abs(tick) < scale.step / 100 else "grid"}" x1="{_LEFT}" x2="{right}" '
        f'y1="{scale.y(tick):.1f}" y2="{scale.y(tick):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{scale.y(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        for tick in scale.ticks
    ]
    unit = f'<text x="{_LEFT - 38}" y="14">{escape(frame.unit)}</text>' if frame.unit else ""
    return _months(frame, HEIGHT) + "".join(rows) + unit


def _months(frame: Frame, height: float) -> str:
    top, bottom = _TOP - 4, height - _BOTTOM
    parts = []
    for span in frame.shaded:
        left, right = _x(frame, span.start), _x(frame, span.end or frame.end)
        place = f'x="{left:.1f}" y="{top}" width="{max(right - left, 3):.1f}" height="{bottom - top:.0f}"'
        parts.append(f'<rect class="fault" {place}><title>{escape(span.name)}</title></rect>')
    for tick, name in _ticks(frame.start, frame.end):
        x = _x(frame, tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{name}</text>')
    return "".join(parts)


def _ticks(start: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """Return the first days of months; where there are hardly any, days at even distances."""
    months = []
    at = start.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while at <= end:
        months.append(at)
        at = (at + timedelta(days=32)).replace(day=1)
    months = [month for month in months if month >= start]
    if len(months) > 2:
        step = -(-len(months) // _MOST_TICKS)
        return [(month, f"{month:%b}" + (f" {month:%Y}" if month.month == 1 else "")) for month in months[::step]]
    step_days = max(1, -(-(end - start).days // 4))
    days = [start + timedelta(days=n) for n in range(0, (end - start).days + 1, step_days)]
    return [(day, _day(day)) for day in days]


def _line(frame: Frame, scale: _Scale, series: Series, _: float) -> str:
    parts = []
    for run in _runs(series.points):
        places = [(_x(frame, p.at), p) for p in run]
        if any(p.low is not None and p.high is not None for p in run):
            above = [f"{x:.1f},{scale.y(_or(p.high, p)):.1f}" for x, p in places]
            below = [f"{x:.1f},{scale.y(_or(p.low, p)):.1f}" for x, p in reversed(places)]
            parts.append(f'<polygon class="band f{series.colour}" points="{" ".join(above + below)}"/>')
        path = " ".join(f"{x:.1f},{scale.y(_or(p.value, p)):.1f}" for x, p in places)
        parts.append(f'<polyline class="line c{series.colour} s{series.colour}" points="{path}"/>')
    return "".join(parts)


def _dots(frame: Frame, scale: _Scale, series: Series, aside: float) -> str:
    parts = []
    for p in series.points:
        if p.value is None:
            continue
        x, y = _x(frame, p.at) + aside, scale.y(p.value)
        if p.low is not None and p.high is not None:
            ends = f'y1="{scale.y(p.low):.1f}" y2="{scale.y(p.high):.1f}"'
            parts.append(f'<line class="reach c{series.colour}" x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
        reach = f" ({_number(p.low)} to {_number(p.high)})" if p.low is not None and p.high is not None else ""
        said = f"<title>{escape(f'{_day(p.at)} {series.name}: {_number(p.value)}{reach}')}</title>"
        parts.append(f'<circle class="f{series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.2">{said}</circle>')
    return "".join(parts)


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if point.value is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _or(value: float | None, point: Point) -> float:
    return value if value is not None else point.value or 0.0


def _names(scale: _Scale, series: Sequence[Series]) -> str:
    """Name each line at its right end, apart from the others."""
    ends = [(scale.y(last), one) for one in series if (last := _last(one)) is not None]
    ends.sort(key=lambda end: end[0])
    ys = [y for y, _ in ends]
    for before, after in pairwise(range(len(ys))):
        ys[after] = max(ys[after], ys[before] + _LABEL)
    over = max(ys[-1] - (HEIGHT - _BOTTOM), 0) if ys else 0
    right = WIDTH - _RIGHT + 6
    return "".join(
        f'<text class="name f{one.colour}" x="{right}" y="{y - over + 4:.1f}">{escape(one.name)}</text>'
        for y, (_, one) in zip(ys, ends, strict=True)
    )


def _last(series: Series) -> float | None:
    return next((p.value for p in reversed(series.points) if p.value is not None), None)


def _legend(names: Sequence[tuple[str, int]]) -> str:
    parts, x = [], float(_LEFT + 40)
    for name, colour in names:
        parts.append(f'<rect class="f{colour}" x="{x:.0f}" y="5" width="10" height="10" rx="2"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="14">{escape(name)}</text>')
        x += 26 + 7.2 * len(name)
    return "".join(parts)


def _svg(frame: Frame, inside: str, height: float = HEIGHT) -> str:
    title, said = f"{frame.name}-title", f"{frame.name}-said"
    return (
        f'<svg class="pk" role="img" viewBox="0 0 {WIDTH} {height:.0f}" aria-labelledby="{title} {said}">'
        f'<title id="{title}">{escape(frame.title)}</title><desc id="{said}">{escape(frame.said)}</desc>'
        f'<rect class="ground" width="{WIDTH}" height="{height:.0f}"/>{inside}</svg>'
    )


def _number(value: float) -> str:
    if abs(value) < 1e-12:
        return "0"
    return f"{value / 1000:.3g}k" if abs(value) >= 1000 else f"{value:.3g}"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b}"


def _short(name: str) -> str:
    return name if len(name) <= 44 else f"{name[:43]}…"
