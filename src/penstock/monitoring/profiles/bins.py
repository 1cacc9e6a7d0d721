"""Histograms whose bins need no agreement beforehand: the bin of a number is the upper bits of its IEEE 754 form.

Sign, exponent and `bits` bits of the fraction: every number knows its bin without looking at the others, and a bin is
at most 2^-bits wide relative to its values. The idea is that of DDSketch (Masson, Rim and Lee, 2019, VLDB 12:2195-2205)
with logarithms replaced by the bits that are there anyway, and of its uniform collapse (UDDSketch: Epicoco et al.,
2020, IEEE Access 8:147604-147617): `bits` is the largest that keeps a histogram small. That depends only on which
numbers there are, so histograms of parts add up to that of the whole, in whatever order.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
MOST = 2048
FINEST = 52
# Bits where both signs are there: one table for all numbers then has 2^18 places.
_BITS_OF_BOTH = 6
_WIDEST = 1 << 17
_SAMPLE = 1024
_FEW = 1 << 14
# Rows per step: their keys stay in the processor's cache.
_STEP = 1 << 16
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)


class Histogram(NamedTuple):
    """Bins that are not empty, in the order of their values.

    Attributes:
        bits: Of the fraction; may be compared with or added to histograms of fewer bits, see `coarsened`.
        bins: Numbers of bins, ascending; those of negative numbers are below 0.
        counts: Numbers per bin.
    """

    bits: int
    bins: Integers
    counts: Integers


EMPTY = Histogram(FINEST, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def histogram_of(values: Floats, low: float, high: float) -> Histogram:
    """Count finite numbers in bins as narrow as the number of bins allows.

    Args:
        values: At least one.
        low: Smallest.
        high: Largest.
    """
    # What a part of the numbers allows bounds what all of them do, so no finer bins need to be tried.
    sample = values[:: max(len(values) // _SAMPLE, 1)]
    likely = settled(Histogram(FINEST, *_distinct(_ordered(sample, FINEST))))
    bits = likely.bits
    if len(sample) == len(values):
        return likely
    if len(values) < _FEW:
        return settled(Histogram(bits, *_distinct(_ordered(values, bits))))
    if low < 0 < high or bits <= _BITS_OF_BOTH:
        return settled(_of_both_signs(values, min(bits, _BITS_OF_BOTH)))
    if low >= 0:
        return settled(_of_one_sign(values, bits, low, high))
    found = _of_one_sign(0.0 - values, bits, -high, -low)
    return settled(Histogram(found.bits, np.where(found.bins > 0, ~found.bins, 0)[::-1], found.counts[::-1]))


def added(parts: list[Histogram]) -> Histogram:
    """Return the histogram of the numbers of all parts."""
    filled = [part for part in parts if len(part.bins)]
    if not filled:
        return EMPTY
    bits = min(part.bits for part in filled)
    same = [coarsened(part, bits) for part in filled]
    bins, places = np.unique(np.concatenate([part.bins for part in same]), return_inverse=True)
    counts = np.zeros(len(bins), dtype=np.int64)
    np.add.at(counts, places, np.concatenate([part.counts for part in same]))
    return settled(Histogram(bits, bins, counts))


def coarsened(found: Histogram, bits: int) -> Histogram:
    """Return the histogram with bins of so many bits, or as it is where it has no more."""
    if bits >= found.bits or not len(found.bins):
        return found._replace(bits=min(bits, found.bits))
    # An arithmetic shift rounds towards minus infinity, which is what the numbering of negative bins needs.
    bins = found.bins >> (found.bits - bits)
    first = np.flatnonzero(np.concatenate([[True], bins[1:] != bins[:-1]]))
    return Histogram(bits, bins[first], np.add.reduceat(found.counts, first))


def settled(found: Histogram) -> Histogram:
    """Return the histogram with the most bits for which it is small: few bins that are filled, over a short range."""
    bins, bits = found.bins, found.bits
    if not len(bins):
        return found
    if bins[0] < -1 and bins[-1] > 0 and bits > _BITS_OF_BOTH:
        bins, bits = bins >> (bits - _BITS_OF_BOTH), _BITS_OF_BOTH
    wide = max(_width(bins[bins > 0]), _width(bins[bins < -1]))
    step = min(max((wide - 1).bit_length() - _WIDEST.bit_length() + 1, 0), bits)
    bins, bits = bins >> step, bits - step
    while bits > 0 and 1 + np.count_nonzero(bins[1:] != bins[:-1]) > MOST:
        bins, bits = bins >> 1, bits - 1
    return _with_one_zero(coarsened(found, bits))


def middles_of(found: Histogram) -> Floats:
    """Return the middle of each bin; 0 for the two around zero."""
    bins, shift = found.bins, FINEST - found.bits
    is_negative = bins < 0
    lower = np.where(is_negative, ~bins, bins) << shift
    upper = lower | np.int64((1 << shift) - 1)
    low, high = lower.view(np.float64), np.minimum(upper, np.float64(np.finfo(np.float64).max).view(np.int64))
    middles = low + (high.view(np.float64) - low) / 2
    middles = np.where(lower == 0, 0.0, middles)
    return np.where(is_negative, -middles, middles)


def _ordered(values: Floats, bits: int) -> Integers:
    """Return bin numbers, which are in the order of the values: bits of negative numbers grow with their size."""
    raw = values.view(np.int64)
    keys = raw >> (FINEST - bits)
    if raw.min() < 0:
        signs = raw >> 63
        keys = (raw ^ (signs & _MAGNITUDE)) >> (FINEST - bits)
    return keys


def _distinct(keys: Integers) -> tuple[Integers, Integers]:
    bins, counts = np.unique(keys, return_counts=True)
    return bins, counts.astype(np.int64)


def _of_both_signs(values: Floats, bits: int) -> Histogram:
    size = 1 << (12 + bits)
    keys = values.view(np.uint64) >> np.uint64(FINEST - bits)
    table = np.bincount(keys.view(np.int64), minlength=size)
    half = size >> 1
    above, below = np.flatnonzero(table[:half]), np.flatnonzero(table[half:])[::-1]
    return Histogram(bits, np.concatenate([~below, above]), np.concatenate([table[half + below], table[above]]))


def _of_one_sign(values: Floats, bits: int, low: float, high: float) -> Histogram:
    """Count numbers that are not negative: in one table that begins at the smallest, zeros in a place of their own."""
    if high <= 0:
        return Histogram(bits, np.zeros(1, dtype=np.int64), np.array([len(values)]))
    smallest = np.array([low]) if low > 0 else _smallest_above_zero(values)
    ends = np.array([smallest[0], high]).view(np.int64) >> (FINEST - bits)
    drop = min(max(int(ends[1] - ends[0]).bit_length() - _WIDEST.bit_length() + 1, 0), bits)
    bits, spare = bits - drop, _spare_bits(values, bits - drop)
    first = int(ends[0]) >> (drop + spare)
    size = (int(ends[1]) >> (drop + spare)) - first + 2
    step = max(_STEP, 4 * size)
    table, work = np.zeros(size, dtype=np.int64), np.empty(step, dtype=np.int64)
    for start in range(0, len(values), step):
        raw = values[start : start + step].view(np.int64)
        keys = np.right_shift(raw, FINEST - bits + spare, out=work[: len(raw)])
        keys -= first - 1
        if low <= 0:
            np.maximum(keys, 0, out=keys)
        table += np.bincount(keys, minlength=size)
    at = np.flatnonzero(table)
    return Histogram(bits, np.where(at > 0, (at + (first - 1)) << spare, 0), table[at])


def _spare_bits(values: Floats, bits: int) -> int:
    """Return how many of the last bits of all bin numbers are zero, as those of whole numbers are.

    Without them the table is small, and its places do not share a line of the processor's cache.
    """
    used = 0
    for some in (values[:_SAMPLE], values):
        used = int(np.bitwise_or.reduce(some.view(np.int64))) >> (FINEST - bits)
        if used & 1:
            return 0
    return max((used & -used).bit_length() - 1, 0)


def _smallest_above_zero(values: Floats) -> Floats:
    # As integers, zero less one is the largest of all.
    steps = (values[at : at + _STEP].view(np.uint64) << np.uint64(1) for at in range(0, len(values), _STEP))
    return ((np.array([min((step - np.uint64(1)).min() for step in steps)]) + np.uint64(1)) >> np.uint64(1)).view(
        np.float64
    )


def _with_one_zero(found: Histogram) -> Histogram:
    """Return the histogram with minus zero, and what its bin holds, among the zeros."""
    at = int(np.searchsorted(found.bins, -1))
    if at == len(found.bins) or found.bins[at] != -1:
        return found
    bins, counts = found.bins.copy(), found.counts.copy()
    bins[at] = 0
    if at + 1 < len(bins) and bins[at + 1] == 0:
        counts[at] += counts[at + 1]
        bins, counts = np.delete(bins, at + 1), np.delete(counts, at + 1)
    return Histogram(found.bits, bins, counts)


def _width(bins: Integers) -> int:
    return int(bins[-1]) - int(bins[0]) + 1 if len(bins) else 1
