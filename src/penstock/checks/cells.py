"""Every slice of rows by one column or by a pair of columns, with its sums: one pass of counting per pair."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.checks import slicing
from penstock.checks.slicing import MOST_SLICES
from penstock.checks.statistics import Floats, Integers

_WORDS = (pl.String, pl.Categorical, pl.Enum, pl.Boolean)
_SINGLE = -1
_NONE = (np.zeros(0, dtype=np.int64),) * 5


@dataclass(frozen=True, slots=True)
class CodedColumn:
    """A column as slices: which of its labels each row has.

    Attributes:
        labels: Of its slices.
        groups: Number of the label; one entry per row, or per membership where `rows` is given.
        rows: Row of each membership, where a row may have several labels (lists) or is listed in another order.
    """

    name: str
    labels: tuple[str, ...]
    groups: Integers
    rows: Integers | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """Slices that are large enough, one entry each in all arrays.

    Attributes:
        first: Place of the column among the coded ones.
        second: Place of the second column of a pair; -1 for a slice by one column.
        first_label: Number of the label of the first column.
        second_label: Of the second; 0 for a slice by one column.
        n: Rows.
        sums: Sums of the given weights, shape (slices, weights).
        too_small: How many slices have rows, but too few.
    """

    columns: tuple[CodedColumn, ...]
    first: Integers
    second: Integers
    first_label: Integers
    second_label: Integers
    n: Integers
    sums: Floats
    too_small: int

    def parts(self, at: int) -> tuple[tuple[str, str], ...]:
        """Return column and label of a slice, of both columns where it is one by a pair."""
        one, other = self.columns[self.first[at]], self.columns[self.second[at]]
        found = (one.name, one.labels[self.first_label[at]])
        return (found,) if self.second[at] == _SINGLE else (found, (other.name, other.labels[self.second_label[at]]))

    def mask(self, at: int, rows: int) -> npt.NDArray[np.bool_]:
        """Return which of all rows belong to a slice."""
        found = _mask(self.columns[self.first[at]], int(self.first_label[at]), rows)
        if self.second[at] == _SINGLE:
            return found
        return found & _mask(self.columns[self.second[at]], int(self.second_label[at]), rows)

    def is_pair(self, at: int) -> bool:
        """Return whether a slice is one by two columns."""
        return bool(self.second[at] != _SINGLE)


def searchable(frame: pl.DataFrame, *, declared: Sequence[str] = (), but: Sequence[str] = ()) -> list[str]:
    """Return the columns that can be sliced by: words of few different values, numbers, times of few, lists of these.

    Args:
        frame: Rows.
        declared: Columns that are meant to be sliced by, however many values they have.
        but: Columns that are left out: keys, and what is measured.
    """
    names = [name for name in frame.columns if name not in but]
    return [name for name in names if name in declared or _is_searchable(frame[name])]


def coded(frame: pl.DataFrame, names: Sequence[str]) -> tuple[CodedColumn, ...]:
    """Return columns as slices, as `slicing` labels them; columns with one slice only tell nothing and are left out."""
    found = (_coded(frame[name]) for name in names)
    return tuple(column for column in found if len(column.labels) > 1)


def cells_of(columns: Sequence[CodedColumn], weights: Sequence[Floats], *, min_n: int) -> Cells:
    """Return the slices by every column and pair of columns that have at least `min_n` of the rows, but not all.

    A pair that has just the rows of one of its columns' slices is that slice, and not listed again.

    Args:
        columns: As slices.
        weights: Per row, what is summed in each slice; at least one.
        min_n: Fewest rows.
    """
    total = len(weights[0])
    found: list[list[Integers]] = []
    sums: list[Floats] = []
    alone = [_counted(column.groups, len(column.labels)) for column in columns]
    too_small = 0
    for place in _pairs(len(columns)):
        rows, groups, width = _crossed(columns, *place)
        n = _counted(groups, len(columns[place[0]].labels) * width)
        kept = np.flatnonzero((n >= min_n) & (n < total))
        too_small += int(((n > 0) & (n < min_n)).sum())
        if place[1] != _SINGLE:
            twice = (n[kept] == alone[place[0]][kept // width]) | (n[kept] == alone[place[1]][kept % width])
            kept = kept[~twice]
        places = [np.full(len(kept), at, dtype=np.int64) for at in place]
        found.append([*places, kept // width, kept % width, n[kept]])
        sums.append(_summed(rows, groups, len(n), weights)[kept])
    table = np.concatenate(sums) if sums else np.zeros((0, len(weights)))
    first, second, one, other, n = (np.concatenate([part[at] for part in found]) for at in range(5)) if found else _NONE
    return Cells(tuple(columns), first, second, one, other, n=n, sums=table, too_small=too_small)


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    yield from ((place, _SINGLE) for place in range(count))
    yield from itertools.combinations(range(count), 2)


def _is_searchable(column: pl.Series) -> bool:
    dtype = column.dtype
    if isinstance(dtype, pl.List):
        members = column.filter(column.list.len().fill_null(0) > 0).explode()
        return not members.dtype.is_nested() and _is_searchable(members)
    if dtype.is_numeric():
        return True
    return (dtype in _WORDS or dtype.is_temporal()) and column.n_unique() <= MOST_SLICES


def _coded(column: pl.Series) -> CodedColumn:
    found = slicing.assign(column, slicing.learn_labels(column))
    order = np.argsort(found.rows, kind="stable")
    rows, groups = found.rows[order], found.groups[order]
    if isinstance(column.dtype, pl.List):
        return CodedColumn(column.name, tuple(found.labels), groups, rows)
    return CodedColumn(column.name, tuple(found.labels), groups)


def _crossed(columns: Sequence[CodedColumn], one: int, other: int) -> tuple[Integers | None, Integers, int]:
    """Return rows and codes of memberships in both columns, and by how much the first label counts in a code."""
    left = columns[one]
    if other == _SINGLE:
        return left.rows, left.groups, 1
    right = columns[other]
    width = len(right.labels)
    if right.rows is None:
        second = right.groups if left.rows is None else right.groups[left.rows]
        return left.rows, left.groups * width + second, width
    if left.rows is None:
        return right.rows, left.groups[right.rows] * width + right.groups, width
    tables = [pl.DataFrame({"row": column.rows, "group": column.groups}) for column in (left, right)]
    both = tables[0].join(tables[1], on="row", maintain_order="left_right")
    codes = both["group"].to_numpy() * width + both["group_right"].to_numpy()
    return both["row"].to_numpy(), codes, width


def _counted(groups: Integers, size: int) -> Integers:
    return np.bincount(groups, minlength=size).astype(np.int64)


def _summed(rows: Integers | None, groups: Integers, size: int, weights: Sequence[Floats]) -> Floats:
    taken = [weight if rows is None else weight[rows] for weight in weights]
    # bincount adds one by one in the order of rows: callers sort them where no digit may depend on that order.
    return np.column_stack([np.bincount(groups, weights=weight, minlength=size) for weight in taken])


def _mask(column: CodedColumn, label: int, rows: int) -> npt.NDArray[np.bool_]:
    if column.rows is None:
        return np.equal(column.groups, label)
    found = np.zeros(rows, dtype=np.bool_)
    found[column.rows[column.groups == label]] = True
    return found
