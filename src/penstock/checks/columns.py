"""What the columns of evaluation rows are, and how statistics become plain records and frames again."""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from penstock.checks import show
from penstock.checks.statistics import Floats, Intervals
from penstock.core.errors import DataError
from penstock.core.records import Interval
from penstock.pipeline.params import near_miss

_NUMBERS: dict[str, type[pl.DataType]] = {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}
_SLICE: dict[str, type[pl.DataType]] = {"column": pl.String, "value": pl.String, **_NUMBERS}
SLICE_MEANS: dict[str, type[pl.DataType]] = {"model": pl.String, "metric": pl.String, **_SLICE}
SLICE_LIFTS: dict[str, type[pl.DataType]] = {**_SLICE, "p_worse": pl.Float64}


def require_columns(rows: Mapping[str, pl.DataFrame], models: tuple[str, ...], columns: tuple[str, ...]) -> None:
    """Raise DataError if a model or a declared column is missing."""
    absent = [model for model in models if model not in rows]
    if absent:
        raise DataError(f"No evaluation rows of {absent!r}.", hint=f"there are rows of {', '.join(map(repr, rows))}")
    for model, frame in rows.items():
        require_declared(columns, frame.columns, whose=f"Evaluation rows of {model!r}")


def require_declared(columns: Sequence[str], known: Sequence[str], *, whose: str) -> None:
    """Raise DataError, with the nearest names there are, if one of `columns` is not among the `known` ones.

    Args:
        columns: What the evaluation declares as metric, slices and key.
        known: The columns of its rows.
        whose: What has those columns, for the message.
    """
    missing = [name for name in columns if name not in known]
    if missing:
        near = {name: near_miss(name, list(known)) for name in missing}
        meant = "".join(f"did you mean {word!r} for {name!r}? " for name, word in near.items() if word)
        hint = (
            f"{meant}They have {', '.join(map(repr, known))}" if meant else f"they have {', '.join(map(repr, known))}"
        )
        raise DataError(f"{whose} have no column {', '.join(map(repr, missing))}.", hint=hint)


def metric_columns(rows: Mapping[str, pl.DataFrame], metric: str, other: set[str]) -> tuple[str, ...]:
    """Return the metric columns that all models share; DataError if there are none."""
    shared = [
        name for name in next(iter(rows.values())).columns if all(name in frame.columns for frame in rows.values())
    ]
    found = tuple(
        name for name in shared if name not in other and (name == metric or _is_metric(name, list(rows.values())))
    )
    if not found:
        raise DataError(
            f"Evaluation rows have no metric among {shared!r}.",
            hint="return at least one column of floats beside keys and slices",
        )
    return found


def _is_metric(name: str, frames: Sequence[pl.DataFrame]) -> bool:
    types = [frame[name].dtype for frame in frames]
    if all(dtype.is_float() for dtype in types):
        return True
    if not all(dtype.is_float() or dtype.is_integer() or dtype == pl.Boolean for dtype in types):
        return False
    return all(bool(frame[name].cast(pl.Float64).is_in([0.0, 1.0]).all()) and frame.height for frame in frames)


def floats(column: pl.Series) -> Floats:
    """Return a column as floats, missing values as NaN."""
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def only(found: Intervals) -> Interval:
    """Return the interval of the only group."""
    return Interval(mean=float(found.mean[0]), low=float(found.low[0]), high=float(found.high[0]), n=int(found.n[0]))


def records(found: Intervals, labels: Sequence[str]) -> list[dict[str, object]]:
    """Return one plain record per labelled group."""
    columns = zip(labels, found.mean.tolist(), found.low.tolist(), found.high.tolist(), found.n.tolist(), strict=True)
    return [{"value": label, "mean": mean, "low": low, "high": high, "n": n} for label, mean, low, high, n in columns]


def frame(rows: list[dict[str, object]], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """Return records as a frame of the given columns, also when there are none."""
    return pl.DataFrame(rows, schema=dict(schema), orient="row")


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """Return a record as JSON can hold it: None for bounds that are not known."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def lifts_of(row: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the lifts within a record of `Evaluation.table`."""
    lifts = row["lifts"]
    return lifts if isinstance(lifts, list) else []


def show_plain(row: Mapping[str, object]) -> str:
    """Return `0.1604 [0.1501, 0.1707], n=840` of a plain record."""
    if row["mean"] is None:
        return f"not finite, n={row['n']}" if row["n"] else "no rows"
    mean, low, high = (_show_float(row[name]) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}], n={row['n']}"


def _show_float(value: object) -> str:
    """Return four significant digits, `?` for a bound that is not known."""
    return show.show_float(value) if isinstance(value, float) else "?"
