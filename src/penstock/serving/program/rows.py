"""The rows a serve function takes: in which form it wants them, what they must look like, how they are joined.

Rows stay as the protocol read them until the function is called, so that those of several questions become one
array or frame by one conversion.
"""

import types
import typing
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.pipeline.graph import RowsForm, rows_form
from penstock.serving.refusals import RequestError
from penstock.store.lake.dtypes import parse_dtype

Columns = tuple[tuple[str, str], ...]
# A frame, a 2-D array, or what JSON gave: lists of numbers, or Structs with a field per column.
RowsGiven = pl.DataFrame | npt.NDArray[Any] | list[list[float]] | list[msgspec.Struct]

_EXACT_IN_FLOAT = 2**53


def form_of(annotation: object) -> RowsForm | None:
    """Return in which form a parameter with this annotation takes rows; None when it does not."""
    kind = typing.get_origin(annotation) if isinstance(annotation, types.GenericAlias) else annotation
    if not isinstance(kind, type):
        return None
    return rows_form(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")


def join_rows(parts: Sequence[RowsGiven], form: RowsForm, columns: Columns) -> RowsGiven:
    """Return the rows of several questions to one function as one."""
    if len(parts) == 1:
        return parts[0]
    lists: list[Any] = [part for part in parts if isinstance(part, list)]
    if len(lists) == len(parts):
        return [row for part in lists for row in part]
    frames = [part for part in parts if isinstance(part, pl.DataFrame)]
    if frames or form != "numpy":
        return pl.concat([frame_of(part, columns) for part in parts])
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


def given_as(rows: RowsGiven, form: RowsForm, columns: Columns) -> Any:
    """Return rows in the form that the function wants."""
    if form == "numpy":
        if not len(rows):
            return np.empty((0, len(columns)))  # an empty list would become an array without columns
        return np.asarray(rows, dtype=np.float64) if isinstance(rows, list) else rows
    frame = frame_of(rows, columns)
    match form:
        case "polars":
            return frame
        case "pandas":
            return frame.to_pandas()
        case "arrow":
            return frame.to_arrow()


def checked_rows(rows: pl.DataFrame | npt.NDArray[Any], form: RowsForm, columns: Columns, limit: int) -> RowsGiven:
    """Return rows that another protocol than JSON read, checked against the released columns.

    Frames may have further columns, which are left out, and any order. Numbers of another type are converted where
    no digit is lost.

    Raises:
        RequestError: 422 naming the column that is missing or of another type; 413 for too many rows.
    """
    if len(rows) > limit:
        raise RequestError(
            f"{len(rows)} rows are more than {limit}.", status=413, reason="too_many_rows", hint="send fewer rows"
        )
    if form == "numpy":
        return _checked_array(rows, columns)
    frame = _named(rows, columns) if isinstance(rows, np.ndarray) else rows
    if not columns:
        return frame
    return pl.DataFrame([_checked_column(frame, name, parse_dtype(dtype)) for name, dtype in columns])


def row_type(name: str, columns: Columns, module: str) -> type[msgspec.Struct] | None:
    """Return a Struct with a field per column, for rows as JSON objects; None where JSON has no word for a column."""
    fields = []
    for place, (column, dtype) in enumerate(columns):
        kind = _JSON_KINDS.get(parse_dtype(dtype).base_type())
        if kind is None:
            return None
        fields.append((f"c{place}", kind | None, msgspec.field(name=column)))
    if not fields:
        return None
    return msgspec.defstruct(
        f"{name}_row", fields, frozen=True, kw_only=True, forbid_unknown_fields=True, module=module
    )


_JSON_KINDS: dict[Any, Any] = {
    **dict.fromkeys((pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32), int),
    **dict.fromkeys((pl.Float32, pl.Float64), float),
    pl.Boolean: bool,
    pl.String: str,
}


def frame_of(rows: RowsGiven, columns: Columns) -> pl.DataFrame:
    """Return rows as a frame with the released columns."""
    if isinstance(rows, pl.DataFrame):
        return rows
    if isinstance(rows, np.ndarray):
        return _named(rows, columns)
    names = [name for name, _ in columns]
    by_column = zip(*(msgspec.structs.astuple(row) for row in rows), strict=True)  # type: ignore[arg-type]  # Structs
    found = list(by_column) or [()] * len(names)
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=parse_dtype(dtype))
            for (name, dtype), values in zip(columns, found, strict=True)
        ]
    )


def _named(rows: npt.NDArray[Any], columns: Columns) -> pl.DataFrame:
    if rows.ndim != 2 or (columns and rows.shape[1] != len(columns)):
        raise _unlike(f"rows of {len(columns)} numbers", f"an array of shape {rows.shape}")
    names = [name for name, _ in columns] or [str(number) for number in range(rows.shape[1])]
    return pl.DataFrame(rows, schema=names)


def _checked_array(rows: pl.DataFrame | npt.NDArray[Any], columns: Columns) -> npt.NDArray[np.float64]:
    if isinstance(rows, pl.DataFrame):
        wrong = [name for name, dtype in rows.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)]
        if wrong:
            raise _unlike("numbers", f"{rows.schema[wrong[0]]} in column {wrong[0][:128]!r}", field=wrong[0])
        rows = rows.to_numpy()
    if rows.ndim != 2 or (columns and rows.shape[1] != len(columns)):
        raise _unlike(f"rows of {len(columns) or 'as many'} numbers", f"an array of shape {rows.shape}")
    if rows.dtype.kind not in "fiub":
        raise _unlike("numbers", f"an array of {rows.dtype}")
    if rows.dtype.kind in "iu" and rows.size and max(int(rows.max()), -int(rows.min())) > _EXACT_IN_FLOAT:
        raise _unlike("numbers within 53 bits", "a larger whole number")
    return rows.astype(np.float64, copy=False)


def _checked_column(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    if name not in frame.columns:
        raise RequestError(
            f"Column {name!r} is missing.",
            status=422,
            reason="invalid_field",
            field=name[:200],
            hint="the released columns stand in /openapi.json",
        )
    column = frame[name]
    if column.dtype == dtype:
        return column
    try:
        cast = column.cast(dtype)
        is_same = column.dtype == pl.Null or cast.cast(column.dtype).eq_missing(column).all()
    except pl.exceptions.PolarsError:
        is_same = False
    if not is_same:
        raise _unlike(str(dtype), f"{column.dtype} in column {name[:128]!r}", field=name)
    return cast


def _unlike(wanted: str, found: str, *, field: str = "") -> RequestError:
    return RequestError(
        f"Expected {wanted}, got {found}.",
        status=422,
        reason="invalid_field",
        field=field[:200],
        hint="the released columns stand in /openapi.json",
    )
