"""Counts the values of a column of text by their hashes, without building a table of all that are different.

Rows are thrown into 65,536 buckets by 16 bits of their hash. The last row of a bucket stands for it; rows with another
hash go to the next round, with the next 16 bits. Where there are very many values, buckets with few rows are left out:
none of their values can be common.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.monitoring.profiles.distinct import Hashes, fewest

Integers = npt.NDArray[np.int64]
_BUCKETS = 1 << 16
_CROWDED = 1 << 14
_RARE = 4096
# Sorting few rows is quicker than clearing and walking all buckets.
_FEW = 4096
# Rows per step: what is made of them stays in the processor's cache, and needs no new memory from the system.
_STEP = 1 << 16


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
    filled, last = _thrown(hashes, 0)
    used = int(np.count_nonzero(filled))
    if used <= _CROWDED:
        rows, counts = _rounds(hashes, filled, last)
        return Counted(rows, counts, 0, np.sort(hashes[rows]))
    floor = max(len(hashes) // _RARE, 2)
    left = _rows(hashes, 0, lambda buckets, _: (filled >= floor)[buckets])
    few = hashes[left]
    rows, counts = _rounds(few, *_thrown(few, 0))
    often = counts >= floor
    likely = -_BUCKETS * np.log1p(-used / _BUCKETS) if used < _BUCKETS else float(len(hashes))
    return Counted(left[rows[often]], counts[often], floor - 1, fewest(hashes, float(likely)))


def _rounds(hashes: Hashes, filled: Integers, last: Integers) -> tuple[Integers, Integers]:
    """Return a row for each value, and how often it occurs; `filled` and `last` are of the first round."""
    found: list[tuple[Integers, Integers]] = []
    left: Integers | None = None
    for turn in range(4):
        if turn:
            filled, last = _thrown(hashes, turn)
        stand_ins = hashes[last] if len(hashes) else np.zeros(_BUCKETS, dtype=np.uint64)
        others = _rows(hashes, turn, partial(_is_another, stand_ins))
        rest = hashes[others]
        counts = filled - np.bincount(_buckets(rest, turn), minlength=_BUCKETS) if len(rest) else filled
        at = np.flatnonzero(counts)
        found.append((last[at] if left is None else left[last[at]], counts[at]))
        if not len(rest):
            break
        left, hashes = others if left is None else left[others], rest
    else:
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        found.append((first if left is None else left[first], counts.astype(np.int64)))
    rows, numbers = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, numbers


def _thrown(hashes: Hashes, turn: int) -> tuple[Integers, Integers]:
    """Return how many rows each bucket has, and the last of them."""
    filled, last = np.zeros(_BUCKETS, dtype=np.int64), np.zeros(_BUCKETS, dtype=np.int64)
    for start in range(0, len(hashes), _STEP):
        buckets = _buckets(hashes[start : start + _STEP], turn)
        filled += np.bincount(buckets, minlength=_BUCKETS)
        last[buckets] = np.arange(start, start + len(buckets))
    return filled, last


def _rows(hashes: Hashes, turn: int, is_wanted: Callable[[Integers, Hashes], npt.NDArray[np.bool_]]) -> Integers:
    """Return the rows of which a question about their bucket and hash is true."""
    found = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(hashes), _STEP):
        part = hashes[start : start + _STEP]
        found.append(np.flatnonzero(is_wanted(_buckets(part, turn), part)) + start)
    return np.concatenate(found)


def _is_another(stand_ins: Hashes, buckets: Integers, hashes: Hashes) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = stand_ins[buckets] != hashes
    return found


def _buckets(hashes: Hashes, turn: int) -> Integers:
    shifted = hashes >> np.uint64(48 - 16 * turn)
    return (shifted & np.uint64(_BUCKETS - 1) if turn else shifted).view(np.int64)
