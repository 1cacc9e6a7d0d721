"""Which rows of a window moved its column: values and ranges that are more common than they ordinarily are.

For numbers it is the range with the largest excess of rows over what was expected in it (the maximum of a scan over all
ranges of bins: Kadane's algorithm, in Bentley, 1984, Communications of the ACM 27:865-871), then the next one.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.monitoring.profiles.bins import FINEST, coarsened
from penstock.monitoring.profiles.numbers import Numbers
from penstock.monitoring.profiles.profile import Column
from penstock.monitoring.profiles.words import Words

Floats = npt.NDArray[np.float64]
_MOST = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Part(Record, frozen=True, kw_only=True):
    """Some values of a column, of which a window has more than is ordinary.

    Attributes:
        kind: What `low` to `high` (both included), `value`, missing values, or NaN and infinities are.
        rows: In the window.
        excess: More than its ordinary share of the window's rows.
        said: The same in words, "amount from 12 to 40".
    """

    kind: Literal["range", "value", "missing", "not_finite"]
    rows: int
    excess: float
    said: str
    low: float | None = None
    high: float | None = None
    value: str | None = None


def parts_that_moved(name: str, column: Column, usual: Column, most: int = _MOST) -> list[Part]:
    """Return the values that explain most of a change, the largest excess first.

    Args:
        name: Of the column.
        column: Of the window.
        usual: Of the reference.
        most: Parts to return.
    """
    found = list(_counted(name, "missing", (column.nulls, column.rows), (usual.nulls, usual.rows)))
    if column.numbers is not None and usual.numbers is not None:
        numbers, before = column.numbers, usual.numbers
        totals = numbers.count + numbers.not_finite, before.count + before.not_finite
        found += _counted(name, "not_finite", (numbers.not_finite, totals[0]), (before.not_finite, totals[1]))
        found += _ranges(name, column.dtype, numbers, before, most=most)
    if column.words is not None and usual.words is not None:
        found += _values(name, column.words, usual.words)
    return sorted(found, key=lambda part: -part.excess)[:most]


def rows_of(frame: pl.DataFrame | pl.LazyFrame, column: str, parts: Sequence[Part]) -> pl.LazyFrame:
    """Return the rows of a frame that are in any of the parts.

    Raises:
        InputError: There are no parts, or the frame has no such column.
    """
    lazy = frame.lazy()
    dtype = lazy.collect_schema().get(column)
    if not parts or dtype is None:
        raise InputError(f"No rows of {column!r} are named.", hint="take the parts of a finding about that column")
    named = pl.col(column)
    if dtype.is_temporal():
        number = named.cast(pl.Datetime("us") if dtype == pl.Date else dtype).to_physical().cast(pl.Float64)
    else:
        number = named.cast(pl.Float64) if dtype.is_numeric() else named
    return lazy.filter(pl.any_horizontal([_in_part(part, named, number) for part in parts]))


def read_parts(evidence: dict[str, Any]) -> list[Part]:
    """Return the parts that the evidence of a finding names."""
    return [Part(**part) for part in evidence.get("moved", [])]


def told(number: float, dtype: str) -> str:
    """Return a number of a column as a person reads it: times as times."""
    if dtype.startswith(("Date", "Datetime")):
        return f"{_EPOCH + timedelta(microseconds=number):%Y-%m-%d %H:%M}"
    return f"{number:.4g}"


def _in_part(part: Part, named: pl.Expr, number: pl.Expr) -> pl.Expr:
    match part.kind:
        case "missing":
            return named.is_null()
        case "not_finite":
            return ~number.is_finite()
        case "value":
            return named.cast(pl.String).str.slice(0, 128) == part.value
        case "range":
            return number.is_between(part.low, part.high)


def _counted(
    name: str, kind: Literal["missing", "not_finite"], now: tuple[int, int], before: tuple[int, int]
) -> Iterator[Part]:
    excess = now[0] - before[0] / max(before[1], 1) * now[1]
    if excess > 0:
        words = "is missing" if kind == "missing" else "is NaN or infinite"
        yield Part(kind=kind, rows=now[0], excess=excess, said=f"{name} {words}")


def _values(name: str, words: Words, usual: Words) -> Iterator[Part]:
    for value, rows in words.common.items():
        excess = rows - usual.common.get(value, 0) / max(usual.count, 1) * words.count
        if excess > 0:
            yield Part(kind="value", rows=rows, excess=excess, said=f"{name} is {value!r}", value=value)


def _ranges(name: str, dtype: str, numbers: Numbers, before: Numbers, *, most: int) -> Iterator[Part]:
    if not numbers.count or not before.count:
        return
    bits = min(numbers.bits, before.bits)
    here, there = coarsened(numbers.histogram, bits), coarsened(before.histogram, bits)
    bins = np.union1d(here.bins, there.bins)
    counts = np.zeros(len(bins))
    counts[np.searchsorted(bins, here.bins)] = here.counts
    expected = np.zeros(len(bins))
    expected[np.searchsorted(bins, there.bins)] = there.counts / before.count * numbers.count
    excess = counts - expected
    for _ in range(most):
        first, last = _largest(excess)
        total = float(excess[first : last + 1].sum())
        if total <= 0:
            return
        low, high = _ends(int(bins[first]), int(bins[last]), bits, numbers)
        shown = f"is {told(low, dtype)}" if low == high else f"from {told(low, dtype)} to {told(high, dtype)}"
        rows = int(counts[first : last + 1].sum())
        yield Part(kind="range", rows=rows, excess=total, said=f"{name} {shown}", low=low, high=high)
        excess[first : last + 1] = -np.inf


def _largest(excess: Floats) -> tuple[int, int]:
    """Return the first and last place of the stretch with the largest sum."""
    best, ends, total, start = -np.inf, (0, 0), 0.0, 0
    for at, one in enumerate(excess.tolist()):
        if total <= 0:
            total, start = 0.0, at
        total += one
        if total > best:
            best, ends = total, (start, at)
    return ends


def _ends(first: int, last: int, bits: int, numbers: Numbers) -> tuple[float, float]:
    """Return the smallest and largest number that bins hold, within those that the window has."""
    shift = FINEST - bits
    below = np.array([(~first << shift) | ((1 << shift) - 1) if first < 0 else first << shift]).view(np.float64)[0]
    above = np.array([~last << shift if last < 0 else (last << shift) | ((1 << shift) - 1)]).view(np.float64)[0]
    low = max(-float(below) if first < 0 else float(below), numbers.low if numbers.low is not None else -np.inf)
    high = min(-float(above) if last < 0 else float(above), numbers.high if numbers.high is not None else np.inf)
    return low, high
