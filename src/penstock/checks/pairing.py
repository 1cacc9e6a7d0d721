"""Brings the rows of two models on the same examples side by side, or says why that cannot be done."""

from collections.abc import Sequence

import polars as pl

from penstock.core.errors import DataError


def pair(
    left: pl.DataFrame, right: pl.DataFrame, *, names: tuple[str, str], key: Sequence[str], describing: Sequence[str]
) -> pl.DataFrame:
    """Return the rows of `right` in the order of `left`.

    Args:
        left: Rows of the first model.
        right: Rows of the second.
        names: Names of the two models, for messages.
        key: Columns that name an example; empty to pair by position.
        describing: Columns that describe the example and so must agree when pairing by position.

    Raises:
        DataError: The two models were not evaluated on the same examples, or a key is not unique.
    """
    if key:
        return _by_key(left, right, names, list(key))
    if left.height != right.height:
        raise DataError(
            f"Rows of {names[0]!r} and {names[1]!r} cannot be paired: {left.height} rows against {right.height}.",
            hint="let the evaluation return one row per test example for every model, or declare its key columns",
        )
    differing = [name for name in describing if not _equal(left[name], right[name])]
    if differing:
        raise DataError(
            f"Rows of {names[0]!r} and {names[1]!r} cannot be paired by position: they differ in {differing!r}.",
            hint="return the rows in the order of the test examples, or declare the evaluation's key columns",
        )
    return right


def _by_key(left: pl.DataFrame, right: pl.DataFrame, names: tuple[str, str], key: list[str]) -> pl.DataFrame:
    for name, rows in zip(names, (left, right), strict=True):
        repeated = rows.height - rows.select(pl.struct(key).n_unique()).item() if rows.height else 0
        if repeated:
            raise DataError(
                f"Rows of {name!r} cannot be paired: {repeated} of {rows.height} repeat a key {key!r}.",
                hint="declare all the columns that make an example unique",
            )
    missing = left.join(right, on=key, how="anti", nulls_equal=True).height
    extra = right.join(left, on=key, how="anti", nulls_equal=True).height
    if missing or extra:
        raise DataError(
            f"Rows of {names[0]!r} and {names[1]!r} cannot be paired on {key!r}: "
            f"{missing} examples only in the first, {extra} only in the second.",
            hint="evaluate every model on the same examples",
        )
    return left.select(key).join(right, on=key, how="left", nulls_equal=True, maintain_order="left")


def _equal(left: pl.Series, right: pl.Series) -> bool:
    return left.dtype == right.dtype and left.equals(right, null_equal=True)
