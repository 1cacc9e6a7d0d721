"""A column before and after as a few shares that a person can look at: bars of a picture, rows of a table."""

from typing import Any

import numpy as np

from penstock.monitoring.drift.moved import told
from penstock.monitoring.profiles.bins import coarsened, middles_of
from penstock.monitoring.profiles.numbers import Numbers, quantiles
from penstock.monitoring.profiles.profile import Column
from penstock.monitoring.profiles.words import Words

_BARS = 16
_SHARES = np.array([0.01, 0.99])


def shape_of(column: Column, usual: Column) -> dict[str, Any]:
    """Return `labels` with the shares `before` and `after`; nothing for a column without values.

    Args:
        column: Of the window.
        usual: Of the reference.
    """
    if column.numbers is not None and usual.numbers is not None and column.numbers.count and usual.numbers.count:
        return _of_numbers(column.numbers, usual.numbers, column.dtype)
    if column.words is not None and usual.words is not None and column.words.count and usual.words.count:
        return _of_words(column.words, usual.words)
    return {}


def _of_numbers(numbers: Numbers, usual: Numbers, dtype: str) -> dict[str, Any]:
    ends = np.concatenate([quantiles(one, _SHARES) for one in (numbers, usual)])
    low, high = float(ends.min()), float(ends.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BARS + 1)
    bits = min(numbers.bits, usual.bits)
    shares = []
    for one in (usual, numbers):
        histogram = coarsened(one.histogram, bits)
        # What lies beyond the ends is in the first and last bar.
        at = np.clip(np.searchsorted(edges, middles_of(histogram), side="right") - 1, 0, _BARS - 1)
        filled = np.bincount(at, weights=histogram.counts, minlength=_BARS) / one.count
        shares.append([round(float(share), 6) for share in filled])
    labels = [told(float(edge), dtype) for edge in edges]
    return {"kind": "numbers", "labels": labels, "before": shares[0], "after": shares[1]}


def _of_words(words: Words, usual: Words) -> dict[str, Any]:
    before = {value: number / usual.count for value, number in usual.common.items()}
    after = {value: number / words.count for value, number in words.common.items()}
    largest = sorted(before.keys() | after.keys(), key=lambda one: (-max(before.get(one, 0), after.get(one, 0)), one))
    shown = largest[: _BARS - 1]
    shares = [[round(part.get(value, 0.0), 6) for value in shown] for part in (before, after)]
    if len(largest) > len(shown) or words.rest or usual.rest:
        shown.append("others")
        shares = [[*part, round(max(1 - sum(part), 0.0), 6)] for part in shares]
    return {"kind": "words", "labels": shown, "before": shares[0], "after": shares[1]}
