"""The picture of a pipeline: what needs what stands to its right, and lines cross as little as they can."""

import re

from penstock.web.drawing import Box, draw


def box(name: str, *needs: str, state: str = "succeeded") -> Box:
    return Box(name=name, needs=needs, state=state, said=state)


def places(svg: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'href="#node-([a-z_0-9]+)".*?<rect class="node [a-z ]*" x="([0-9.]+)" y="([0-9.]+)"', svg)
    return {name: (float(x), float(y)) for name, x, y in found}


def test_a_node_stands_to_the_right_of_all_it_needs() -> None:
    """Also of what it needs through others."""
    boxes = [box("train", "split"), box("split", "rows"), box("rows"), box("judge", "train", "rows")]
    at = places(draw(boxes))
    for one in boxes:
        assert all(at[need][0] < at[one.name][0] for need in one.needs), one.name


def test_two_chains_side_by_side_do_not_cross() -> None:
    """However they are mixed in the file, each chain stays at its height."""
    boxes = [box("a1"), box("b1"), box("b2", "b1"), box("a2", "a1"), box("a3", "a2"), box("b3", "b2")]
    at = places(draw(boxes))
    above = at["a1"][1] < at["b1"][1]
    assert all((at[f"a{n}"][1] < at[f"b{n}"][1]) is above for n in (2, 3))


def test_names_are_text_and_what_is_missing_is_left_out() -> None:
    """A need outside the picture draws no line; one node alone, or too many to see, draws nothing."""
    svg = draw([box("a", "gone"), Box(name="b", needs=("a",), state="failed", said="<b>")])
    assert svg.count('class="edge"') == 1
    assert "<b>" not in svg
    assert draw([box("a")]) == ""
    assert draw([box(f"n{n}") for n in range(500)]) == ""
