"""A pipeline drawn from left to right as SVG: a node stands after all that it needs, beside those of equal depth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _EDGE = 168, 46, 56, 18, 8
_SWEEPS = 6
_MOST = 150
_LONGEST = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A node of the picture.

    Attributes:
        needs: Names of the nodes whose outputs it takes.
        state: What the stylesheet colours it by.
        said: A few words under its name.
    """

    name: str
    needs: tuple[str, ...]
    state: str
    said: str


def draw(boxes: Sequence[Box]) -> Markup:
    """Return the picture; nothing where there are more nodes than anybody can see at once."""
    if not 1 < len(boxes) <= _MOST:
        return Markup("")
    columns = _ordered(boxes)
    tallest = max(len(column) for column in columns)
    height = 2 * _EDGE + tallest * (_BOX_H + _GAP_Y) - _GAP_Y
    width = 2 * _EDGE + len(columns) * (_BOX_W + _GAP_X) - _GAP_X
    places: dict[str, tuple[float, float]] = {}
    for number, column in enumerate(columns):
        top = _EDGE + (tallest - len(column)) * (_BOX_H + _GAP_Y) / 2
        for row, box in enumerate(column):
            places[box.name] = (_EDGE + number * (_BOX_W + _GAP_X), top + row * (_BOX_H + _GAP_Y))
    edges = [_edge(places[need], places[box.name]) for box in boxes for need in box.needs if need in places]
    nodes = [_node(box, *places[box.name]) for box in boxes]
    said = "; ".join(f"{box.name} needs {', '.join(box.needs) or 'nothing'}" for box in boxes)
    body = Markup("").join([*edges, *nodes])
    return Markup(
        '<svg class="graph" viewBox="0 0 {} {}" width="{}" height="{}" role="group"><title>The graph</title>'
        "<desc>{}</desc>{}</svg>"
    ).format(width, height, width, height, said, body)


def _ordered(boxes: Sequence[Box]) -> list[list[Box]]:
    """Return columns of nodes, each ordered so that few lines cross: by the mean place of what a node is joined to.

    Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981).
    """
    depth: dict[str, int] = {}
    by_name = {box.name: box for box in boxes}

    def deep(name: str, seen: frozenset[str]) -> int:
        if name not in depth:
            needs = [need for need in by_name[name].needs if need in by_name and need not in seen]
            depth[name] = max((deep(need, seen | {name}) + 1 for need in needs), default=0)
        return depth[name]

    columns: list[list[Box]] = [[] for _ in range(1 + max(deep(box.name, frozenset()) for box in boxes))]
    for box in boxes:
        columns[depth[box.name]].append(box)
    users: dict[str, list[str]] = {box.name: [] for box in boxes}
    for box in boxes:
        for need in box.needs:
            if need in users:
                users[need].append(box.name)
    for sweep in range(_SWEEPS):
        is_forward = sweep % 2 == 0
        place = {box.name: row - len(column) / 2 for column in columns for row, box in enumerate(column)}
        for column in columns if is_forward else reversed(columns):
            joined = {box.name: box.needs if is_forward else users[box.name] for box in column}
            wanted = {
                name: _mean([place[other] for other in others if other in place], place[name])
                for name, others in joined.items()
            }
            column.sort(key=_by(wanted))
            place |= {box.name: row - len(column) / 2 for row, box in enumerate(column)}
    return columns


def _by(wanted: Mapping[str, float]) -> Callable[[Box], float]:
    return lambda box: wanted[box.name]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _edge(begin: tuple[float, float], end: tuple[float, float]) -> Markup:
    x1, y1, x2, y2 = begin[0] + _BOX_W, begin[1] + _BOX_H / 2, end[0], end[1] + _BOX_H / 2
    bend = max((x2 - x1) / 2, 20)
    return Markup('<path class="edge" d="M{} {} C{} {} {} {} {} {}"/>').format(
        x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2
    )


def _node(box: Box, x: float, y: float) -> Markup:
    name = box.name if len(box.name) <= _LONGEST else f"{box.name[: _LONGEST - 1]}…"
    return Markup(
        '<a href="#node-{}"><title>{}: {}</title><rect class="node {}" x="{}" y="{}" width="{}" height="{}" rx="8"/>'
        '<text class="name" x="{}" y="{}">{}</text><text class="said" x="{}" y="{}">{}</text></a>'
    ).format(
        *(box.name, box.name, box.said, box.state, x, y, _BOX_W, _BOX_H),
        *(x + 10, y + 19, escape(name), x + 10, y + 36, escape(box.said)),
    )
