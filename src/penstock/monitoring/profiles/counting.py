"""Counts the values of a column of text by their hashes, without building a table of all that are different.

Rows are thrown into 65,536 buckets by 16 bits of their hash. The last row of a bucket stands for it; rows with another
hash go to the next round, with the next 16 bits. Where there are very many values, buckets with few rows are left out:
none of their values can be common.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.monitoring.profiles.distinct import Hashes, fewest

Integers = npt.NDArray[np.int64]
_BUCKETS = 1 << 16
_CROWDED = 1 << 14
_RARE = 4096
# Sorting few rows is quicker than clearing and walking all buckets.
_FEW = 4096


class Counted(NamedTuple):
    """Different values of a column.

    Attributes:
        rows: A row for each.
        counts: Of each.
        missed: No value that is not among them occurs more often.
        hashes: The fewest of all values, also of those that are not among them.
    """

    rows: Integers
    counts: Integers
    missed: int
    hashes: Hashes


def counted(hashes: Hashes) -> Counted:
    """Count values by their hashes; two values of one hash would be taken for one (chance 2^-64 each)."""
    if len(hashes) < _FEW:
        different, rows, counts = np.unique(hashes, return_index=True, return_counts=True)
        return Counted(rows, counts.astype(np.int64), 0, different)
    buckets = _buckets(hashes, 0)
    filled = np.bincount(buckets, minlength=_BUCKETS)
    used = int(np.count_nonzero(filled))
    if used <= _CROWDED:
        rows, counts = _rounds(hashes, buckets)
        return Counted(rows, counts, 0, np.sort(hashes[rows]))
    floor = max(len(hashes) // _RARE, 2)
    left = np.flatnonzero((filled >= floor)[buckets])
    rows, counts = _rounds(hashes[left], buckets[left])
    often = counts >= floor
    likely = -_BUCKETS * np.log1p(-used / _BUCKETS) if used < _BUCKETS else float(len(hashes))
    return Counted(left[rows[often]], counts[often], floor - 1, fewest(hashes, float(likely)))


def values_at(text: pl.Series, rows: Integers) -> list[str]:
    """Return the values of some rows."""
    found: list[str] = text.gather(rows).to_list()
    return found


def _rounds(hashes: Hashes, buckets: Integers) -> tuple[Integers, Integers]:
    """Return a row for each value, and how often it occurs."""
    found: list[tuple[Integers, Integers]] = []
    left: Integers | None = None
    for turn in range(1, 5):
        last = np.zeros(_BUCKETS, dtype=np.int64)
        last[buckets] = np.arange(len(buckets))
        is_same = hashes == hashes[last][buckets] if len(hashes) else np.ones(0, dtype=bool)
        is_all = bool(is_same.all())
        counts = np.bincount(buckets, weights=None if is_all else is_same, minlength=_BUCKETS)
        at = np.flatnonzero(counts)
        found.append((last[at] if left is None else left[last[at]], counts[at].astype(np.int64)))
        if is_all:
            break
        others = np.flatnonzero(~is_same)
        left = others if left is None else left[others]
        hashes = hashes[others]
        buckets = _buckets(hashes, turn % 4)
    else:
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        found.append((first if left is None else left[first], counts.astype(np.int64)))
    rows, numbers = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, numbers


def _buckets(hashes: Hashes, turn: int) -> Integers:
    shifted = hashes >> np.uint64(48 - 16 * turn)
    return (shifted & np.uint64(_BUCKETS - 1) if turn else shifted).view(np.int64)
