"""Bringing a batch to the recorded schema: same columns, same order, types changed only where no value changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from penstock.core.errors import SchemaError
from penstock.store.lake.dtypes import describe_difference


@dataclass(slots=True)
class Aligned:
    """A batch in recorded types.

    Attributes:
        frame: The rows, with null where a value could not be brought to the type.
        original: The same rows and columns as they came.
        failed: By column: which rows failed, and why in words.
        notes: What was changed without loss.
    """

    frame: pl.DataFrame
    original: pl.DataFrame
    failed: dict[str, tuple[pl.Series, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def align(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> Aligned:
    """Return `frame` with the columns and types of `schema`.

    Raises:
        SchemaError: A column is missing, unknown, or of a type whose values would change; the message lists each.
    """
    if list(frame.schema.items()) == list(schema.items()):
        return Aligned(frame, frame)
    _refuse_other_columns(frame, schema)
    ordered = frame.select(list(schema))
    result = Aligned(ordered, ordered)
    if frame.columns != ordered.columns:
        result.notes.append("columns were put in the recorded order")
    changed, columns = [], []
    for came, want in zip(ordered.get_columns(), schema.values(), strict=True):
        column = _cast(came, want, result)
        if column is None:
            changed.append(f"{came.name}: {came.dtype} -> expected {want}")
        else:
            columns.append(column)
    if changed:
        raise _difference(missing=[], extra=[], changed=changed)
    result.frame = pl.DataFrame(columns)
    return result


def _refuse_other_columns(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> None:
    came = frame.schema
    missing = [f"{name}: {dtype}" for name, dtype in schema.items() if name not in came]
    extra = [f"{name}: {dtype}" for name, dtype in came.items() if name not in schema]
    if missing or extra:
        raise _difference(missing=missing, extra=extra, changed=[])


def _difference(*, missing: list[str], extra: list[str], changed: list[str]) -> SchemaError:
    hints = []
    if missing:
        hints.append("bring back the columns marked -")
    if extra:
        hints.append("drop the columns marked +, or rename the dataset: a new name is taken in anew, with all columns")
    if changed:
        hints.append("cast the columns marked ! in the dataset function")
    found = ", ".join(
        f"{len(names)} {word}" for names, word in ((missing, "missing"), (extra, "new"), (changed, "changed")) if names
    )
    lines = describe_difference(missing, extra, changed)
    return SchemaError(
        f"The columns differ from those agreed at the first intake ({found}):\n{lines}\n", hint="; ".join(hints)
    )


def _cast(column: pl.Series, want: pl.DataType, result: Aligned) -> pl.Series | None:
    """Return the column in type `want`, or None when that type is not lawful for it."""
    have = column.dtype
    if have == want:
        return column
    if have == pl.Null():
        return column.cast(want)
    if _fails_by_row(have, want):
        cast = _parse(column, want)
        failed = cast.is_null() & column.is_not_null()
        if failed.any():
            what = "text that is not a" if have == pl.String() else "does not fit"
            result.failed[column.name] = (failed, f"{column.name}: {what} {want}")
    elif _may_be_exact(have, want):
        exact = _exact(column, want)
        if exact is None:
            return None
        cast = exact
    else:
        return None
    result.notes.append(f"column {column.name!r} came as {have} and was kept as {want}")
    return cast


def _fails_by_row(have: pl.DataType, want: pl.DataType) -> bool:
    if have == pl.String():
        return want.is_numeric() or want.is_temporal() or isinstance(want, pl.Boolean | pl.Categorical | pl.Enum)
    if isinstance(have, pl.Categorical | pl.Enum):
        return isinstance(want, pl.Categorical | pl.Enum)
    return have.is_integer() and (want.is_integer() or want.is_decimal())


def _parse(column: pl.Series, want: pl.DataType) -> pl.Series:
    if isinstance(want, pl.Boolean):
        words = {"true": True, "false": False}
        return column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean())
    return column.cast(want, strict=False)


def _may_be_exact(have: pl.DataType, want: pl.DataType) -> bool:
    match have, want:
        case (pl.Datetime(), pl.Datetime()):
            return (have.time_zone is None) == (want.time_zone is None)
        case (pl.Date(), pl.Datetime()):
            return want.time_zone is None
        case (pl.Duration(), pl.Duration()):
            return True
        case (pl.Categorical() | pl.Enum(), pl.String()):
            return True
        case (pl.List() | pl.Array() | pl.Struct(), _):
            return have.is_nested() and want.is_nested()
        case _:
            return have.is_numeric() and want.is_numeric() and not have.is_decimal()


def _exact(column: pl.Series, want: pl.DataType) -> pl.Series | None:
    """Return the column in type `want` when casting back gives the same values, else None."""
    try:
        cast = column.cast(want)
        same = cast.cast(column.dtype).eq_missing(column).all()
    except pl.exceptions.PolarsError:
        return None
    return cast if same else None
