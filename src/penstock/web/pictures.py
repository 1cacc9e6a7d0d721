"""Pictures of pages as SVG, drawn on the server: no script, and they print. Colours are those of the stylesheet."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from penstock.project.quality import ModelQuality, Quality
from penstock.web.render import figure

_WIDTH, _ROW, _TOP, _BOTTOM = 640, 26, 8, 28
_LEFT, _RIGHT = 220, 90
_LONGEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A line of a forest plot.

    Attributes:
        kind: What the stylesheet colours it by: "candidate", "baseline", "champion" or "slice".
    """

    name: str
    mean: float
    low: float
    high: float
    n: int
    kind: str = "slice"


def forest_of(quality: Quality) -> Markup:
    """Return models and worst slices by the deciding metric, each mean with its 95 % interval."""
    known = [one for one in quality.models if one.metric == quality.metric and one.mean is not None]
    models = [_model(one) for one in sorted(known, key=lambda one: one.role != "candidate")]
    slices = [
        Interval(name=f"{one.column} = {one.value}", mean=one.mean, low=one.low, high=one.high, n=one.n)
        for one in quality.worst
    ]
    return forest(f"{quality.metric}, mean and 95 % interval", [*models, *slices])


def forest(title: str, rows: Sequence[Interval]) -> Markup:
    """Return intervals below each other on one scale; what the first says is drawn down as a line to compare with."""
    if not rows:
        return Markup("")
    low, high = min(one.low for one in rows), max(one.high for one in rows)
    margin = (high - low or abs(high) or 1.0) * 0.05
    low, high = low - margin, high + margin
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    parts = [_line("guide", (x(rows[0].mean), _TOP), (x(rows[0].mean), height - _BOTTOM))]
    for place, one in enumerate(rows):
        y = _TOP + _ROW * place + _ROW / 2
        name = one.name if len(one.name) <= _LONGEST else one.name[: _LONGEST - 1] + "…"
        parts += [
            _text("name", _LEFT - 12, y + 4, name, anchor="end"),
            _line(f"reach {one.kind}", (x(one.low), y), (x(one.high), y)),
            Markup('<circle class="mean {}" cx="{}" cy="{}" r="4.5"/>').format(one.kind, x(one.mean), y),
            _text("count", _WIDTH - _RIGHT + 12, y + 4, f"n = {one.n:,}"),
        ]
    for value in (low + margin, (low + high) / 2, high - margin):
        parts.append(_text("tick", x(value), height - 8, figure(value), anchor="middle"))
    said = "; ".join(f"{one.name} {figure(one.mean)} ({figure(one.low)} to {figure(one.high)})" for one in rows)
    body = Markup("").join(parts)
    return Markup('<svg class="forest" viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}</svg>').format(
        _WIDTH, height, title, said, body
    )


def _model(one: ModelQuality) -> Interval:
    mean = one.mean or 0.0
    low, high = (mean if side is None else side for side in (one.low, one.high))
    return Interval(name=one.model, mean=mean, low=low, high=high, n=one.n, kind=one.role)


def _line(kind: str, begin: tuple[float, float], end: tuple[float, float]) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *begin, *end)


def _text(kind: str, x: float, y: float, said: str, *, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, escape(said))
