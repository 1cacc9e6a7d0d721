"""Which slices each evaluation row belongs to: labels for declared columns, the same for every model.

A row with a list (several genres) belongs to each of its entries; a missing value is a slice of its own.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.checks.statistics import Integers

MISSING = "(missing)"
OTHER = "(other)"
MOST_SLICES = 50
_BINS = 5
_FEW_FLOATS = 10


@dataclass(frozen=True, slots=True)
class Slices:
    """Membership of rows in the slices of one column.

    Attributes:
        labels: Slices, sorted; at most 50 and `(other)`.
        rows: Row numbers, one entry per membership.
        groups: Number of the slice in `labels`, aligned with `rows`.
    """

    labels: list[str]
    rows: Integers
    groups: Integers


@dataclass(frozen=True, slots=True)
class Labels:
    """How values of one column become slices, agreed over all models.

    Attributes:
        edges: Upper edges of the bins if the column is numeric with many values, else None.
        kept: Labels that stay; all others become `(other)`.
    """

    edges: tuple[float, ...] | None
    kept: frozenset[str]


def learn_labels(column: pl.Series) -> Labels:
    """Return how to label a column: five bins of equal size for many numbers, else the 50 most frequent values."""
    flat = _memberships(column)["value"]
    edges = _edges(flat)
    counts = _label(flat, edges).value_counts(name="count").sort(["count", "value"], descending=[True, False])
    return Labels(edges, frozenset(counts["value"].head(MOST_SLICES).to_list()))


def assign(column: pl.Series, labels: Labels) -> Slices:
    """Return the slices each row belongs to; a row counts once per slice even if its list repeats a value."""
    table = _memberships(column)
    text = _label(table["value"], labels.edges)
    kept = text.is_in(list(labels.kept))
    table = table.with_columns(label=pl.when(kept).then(text).otherwise(pl.lit(OTHER))).unique(["row", "label"])
    names = sorted(table["label"].unique().to_list())
    numbers = {name: number for number, name in enumerate(names)}
    groups = table["label"].replace_strict(numbers, return_dtype=pl.Int64)
    return Slices(names, table["row"].to_numpy().astype(np.int64), groups.to_numpy())


def label_of(value: object) -> str:
    """Return the label under which a value appears (`None` is `(missing)`, `True` is `true`)."""
    return str(_label(pl.Series("value", [value]), None)[0])


def _memberships(column: pl.Series) -> pl.DataFrame:
    """Return row numbers and values, one entry per member of a list; an empty list counts as a missing value."""
    rows = pl.int_range(len(column), eager=True)
    table = pl.DataFrame({"row": rows, "value": column})
    if not isinstance(column.dtype, pl.List):
        return table
    # explode treats empty lists and nulls differently from one Polars to the next, so they do not go through it.
    filled = pl.col("value").list.len().fill_null(0) > 0
    members = table.filter(filled).explode("value")
    return pl.concat([members, table.filter(~filled).select("row", value=pl.lit(None, dtype=column.dtype.inner))])


def _edges(flat: pl.Series) -> tuple[float, ...] | None:
    if not flat.dtype.is_numeric():
        return None
    finite = flat.drop_nulls().cast(pl.Float64)
    finite = finite.filter(finite.is_finite())
    most = _FEW_FLOATS if flat.dtype.is_float() else MOST_SLICES
    if finite.n_unique() <= most:
        return None
    cuts = np.quantile(finite.to_numpy(), np.linspace(0, 1, _BINS + 1)[1:-1])
    return tuple(sorted({float(f"{cut:.6g}") for cut in cuts}))


def _label(flat: pl.Series, edges: tuple[float, ...] | None) -> pl.Series:
    if edges is None:
        text = flat.cast(pl.String)
    else:
        names = [f"< {edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges))]
        names.append(f">= {edges[-1]:g}")
        numbers = flat.cast(pl.Float64)
        bins = np.digitize(numbers.fill_null(0.0).to_numpy(), edges)
        text = pl.Series(flat.name, np.array(names)[bins])
        text = text.set(numbers.is_nan().fill_null(value=False), "NaN").set(numbers.is_null(), None)
    return text.fill_null(MISSING).alias(flat.name)
