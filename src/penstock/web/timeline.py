"""What happened to a pipeline lately, on a line of time per kind: intakes, runs, releases. SVG, made on the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

_WIDTH, _ROW, _TOP, _BOTTOM, _LEFT, _RIGHT = 960, 30, 6, 24, 170, 24
_LONGEST = 24
_TICKS = 5
_NO_TIME = timedelta(minutes=1)  # so that one moment alone has a line to stand on


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened.

    Attributes:
        kind: What the stylesheet colours it by: "intake", a state of a run, "release" or "live".
        said: What it was; shown where one points, and to who cannot see it.
        href: Where it leads to; "" for nowhere.
    """

    at: datetime
    kind: str
    said: str
    href: str = ""


def timeline(rows: Sequence[tuple[str, Sequence[Mark]]], now: datetime) -> Markup:
    """Return rows of marks on one scale of time that ends now; nothing where nothing happened."""
    filled = [(name, marks) for name, marks in rows if marks]
    if not filled:
        return Markup("")
    start = min(mark.at for _, marks in filled for mark in marks)
    span = max(now - start, _NO_TIME)
    height = _TOP + _ROW * len(filled) + _BOTTOM

    def x(at: datetime) -> float:
        return round(_LEFT + (at - start) / span * (_WIDTH - _LEFT - _RIGHT), 1)

    parts = [_row(place, name) for place, (name, _) in enumerate(filled)]
    for tick in range(_TICKS):
        at = start + span * tick / (_TICKS - 1)
        anchor = "start" if tick == 0 else "end" if tick == _TICKS - 1 else "middle"
        parts.append(_text("tick", x(at), height - 6, _moment(at, span), anchor=anchor))
    for place, (_, marks) in enumerate(filled):
        parts += [_mark(mark, x(mark.at), _middle(place)) for mark in marks]
    said = "; ".join(f"{name}: {', '.join(mark.said for mark in marks)}" for name, marks in filled)
    return Markup(
        '<svg class="timeline" viewBox="0 0 {} {}" role="group"><title>What happened lately</title><desc>{}</desc>'
        "{}</svg>"
    ).format(_WIDTH, height, said, Markup("").join(parts))


def _middle(place: int) -> float:
    return _TOP + _ROW * place + _ROW / 2


def _row(place: int, name: str) -> Markup:
    shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    y = _middle(place)
    line = Markup('<line class="guide" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, y, _WIDTH - _RIGHT, y)
    return line + _text("name", _LEFT - 12, y + 4, shown, anchor="end")


def _mark(mark: Mark, x: float, y: float) -> Markup:
    drawn = Markup('<circle class="mark {}" cx="{}" cy="{}" r="6"><title>{}</title></circle>').format(
        mark.kind, x, y, mark.said
    )
    return Markup('<a href="{}">{}</a>').format(mark.href, drawn) if mark.href else drawn


def _moment(at: datetime, span: timedelta) -> str:
    form = "%Y-%m-%d" if span > timedelta(days=4) else "%m-%d %H:%M" if span > timedelta(minutes=10) else "%H:%M:%S"
    return at.astimezone(UTC).strftime(form)


def _text(kind: str, x: float, y: float, said: str, *, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, escape(said))
