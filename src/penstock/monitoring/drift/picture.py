"""A small picture of what a finding is about: the column as it usually is, and as it was in the window."""

from html import escape
from typing import Any

from penstock.monitoring.findings import Finding

WIDTH, HEIGHT = 420, 190
_TOP, _BOTTOM, _SIDE = 34, 30, 8
_BEFORE, _AFTER = "#9aa5b1", "#c2410c"


def picture(finding: Finding) -> str:
    """Return an SVG with the shares before and after side by side; empty where the finding has none.

    Text and colours stand in the picture itself, so it may be put into a page, a report or an e-mail as it is.
    """
    shape = finding.evidence.get("shape") or {}
    if not shape.get("labels"):
        return ""
    bars = len(shape["before"])
    tallest = max(*shape["before"], *shape["after"], 1e-9)
    step = (WIDTH - 2 * _SIDE) / bars
    parts = [_legend(finding), *_bars(shape["before"], 0.1, _BEFORE, (step, tallest))]
    parts += [*_bars(shape["after"], 0.5, _AFTER, (step, tallest)), *_labels(shape, step)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="10"><title>{escape(finding.subject)}</title>'
        f"<desc>{escape(finding.said)}</desc>{''.join(parts)}</svg>"
    )


def _legend(finding: Finding) -> str:
    return (
        f'<text x="{_SIDE}" y="12" font-size="12" fill="#111827">{escape(_cut(finding.subject, 56))}</text>'
        f'<rect x="{_SIDE}" y="18" width="8" height="8" fill="{_BEFORE}"/>'
        f'<text x="{_SIDE + 12}" y="26" fill="#374151">usually</text>'
        f'<rect x="{_SIDE + 62}" y="18" width="8" height="8" fill="{_AFTER}"/>'
        f'<text x="{_SIDE + 74}" y="26" fill="#374151">in this window</text>'
    )


def _bars(shares: list[float], offset: float, colour: str, scale: tuple[float, float]) -> list[str]:
    step, tallest = scale
    room = HEIGHT - _TOP - _BOTTOM
    found = []
    for place, share in enumerate(shares):
        height = room * share / tallest
        x, y = _SIDE + (place + offset) * step, HEIGHT - _BOTTOM - height
        found.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.4 * step:.1f}" height="{height:.1f}" fill="{colour}">'
            f"<title>{share:.2%}</title></rect>"
        )
    return found


def _labels(shape: dict[str, Any], step: float) -> list[str]:
    y = HEIGHT - _BOTTOM + 14
    labels = shape["labels"]
    if shape["kind"] == "numbers":
        middle = len(labels) // 2
        places = ((0, "start"), (middle, "middle"), (len(labels) - 1, "end"))
        return [_text(_SIDE + place * step, y, labels[place], anchor) for place, anchor in places]
    room = max(int(step / 5.5), 3)
    return [_text(_SIDE + (place + 0.5) * step, y, _cut(one, room), "middle") for place, one in enumerate(labels)]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="#374151">{escape(words)}</text>'


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
