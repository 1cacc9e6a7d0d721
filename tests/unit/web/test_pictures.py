"""Intervals below each other: what is drawn where, and what a reader of the screen hears."""

import re

from penstock.web.pictures import Interval, forest


def rows(*found: tuple[str, float, float, float]) -> list[Interval]:
    return [Interval(name=name, mean=mean, low=low, high=high, n=100) for name, mean, low, high in found]


def test_intervals_share_one_scale() -> None:
    """What is larger stands further right, and each mean within its own interval."""
    svg = forest("hits", rows(("new", 0.5, 0.4, 0.6), ("old", 0.3, 0.2, 0.4)))
    reaches = [
        (float(a), float(b)) for a, b in re.findall(r'<line class="reach slice" x1="([0-9.]+)".*?x2="([0-9.]+)"', svg)
    ]
    means = [float(x) for x in re.findall(r'<circle class="mean slice" cx="([0-9.]+)"', svg)]
    assert means[0] > means[1]
    assert all(low < mean < high for (low, high), mean in zip(reaches, means, strict=True))
    assert "<desc>new 0.5 (0.4 to 0.6); old 0.3 (0.2 to 0.4)</desc>" in svg


def test_names_are_text_and_long_ones_are_cut() -> None:
    """A slice is named by a value of the data: it may be anything."""
    svg = forest("hits", rows(("<script>", 0.5, 0.5, 0.5), ("x" * 200, 0.5, 0.5, 0.5)))
    assert "<script>" not in svg
    assert ">" + "x" * 31 + "…<" in svg
    assert forest("hits", []) == ""
