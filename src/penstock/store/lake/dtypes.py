"""Types of columns: which a dataset may have, how Delta stores each, and how to read their names back.

Delta knows fewer types than Polars. Every lawful type is stored in one that holds all its values, and is
cast back on reading.
"""

import ast
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from penstock.core.errors import SchemaError

Schema = tuple[tuple[str, str], ...]

_SIMPLE: dict[str, pl.DataType] = {
    str(kind): kind
    for kind in (
        pl.Boolean(),
        pl.Int8(),
        pl.Int16(),
        pl.Int32(),
        pl.Int64(),
        pl.UInt8(),
        pl.UInt16(),
        pl.UInt32(),
        pl.UInt64(),
        pl.Float32(),
        pl.Float64(),
        pl.String(),
        pl.Binary(),
        pl.Date(),
        pl.Time(),
        pl.Categorical(),
    )
}
_WIDER: dict[str, pl.DataType] = {
    "UInt8": pl.Int16(),
    "UInt16": pl.Int32(),
    "UInt32": pl.Int64(),
    "UInt64": pl.Decimal(20, 0),
    "Categorical": pl.String(),
    "Time": pl.Int64(),
}
_MICROSECONDS: Literal["us"] = "us"


def parse_dtype(text: str) -> pl.DataType:
    """Return the Polars type that `text` names, as `str(dtype)` writes it.

    Example:
        >>> parse_dtype("List(Int8)")
        List(Int8)

    Raises:
        SchemaError: The text names no type a dataset may have.
    """
    try:
        return _build(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, KeyError) as error:
        raise SchemaError(f"{text!r} names no column type.", hint="write it as polars does, as Int64") from error


def _build(node: ast.expr) -> pl.DataType:
    if isinstance(node, ast.Name):
        return _SIMPLE[node.id]
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise TypeError(ast.dump(node))
    named: dict[str, Any] = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg is not None}
    kinds: dict[str, type[pl.DataType]] = {
        "Datetime": pl.Datetime,
        "Duration": pl.Duration,
        "Decimal": pl.Decimal,
        "Enum": pl.Enum,
    }
    if node.func.id in kinds and not node.args:
        return kinds[node.func.id](**named)
    match node.func.id:
        case "List":
            return pl.List(_build(node.args[0]))
        case "Array":
            return pl.Array(_build(node.args[0]), shape=named["shape"])
        case "Struct":
            return _build_struct(node.args[0])
        case other:
            raise ValueError(other)


def _build_struct(node: ast.expr) -> pl.DataType:
    if not isinstance(node, ast.Dict):
        raise TypeError(ast.dump(node))
    names = [ast.literal_eval(key) for key in node.keys if key is not None]
    return pl.Struct(dict(zip(names, map(_build, node.values), strict=True)))


def polars_schema(schema: Schema) -> dict[str, pl.DataType]:
    """Return the Polars types of a recorded schema."""
    return {name: parse_dtype(text) for name, text in schema}


def stored_dtype(dtype: pl.DataType) -> pl.DataType:
    """Return the type in which Delta keeps `dtype` without losing a value.

    Raises:
        SchemaError: No Delta type holds all of its values.
    """
    match dtype:
        case pl.List():
            return pl.List(stored_dtype(_inner(dtype)))
        case pl.Array():
            return pl.List(stored_dtype(_inner(dtype)))
        case pl.Struct():
            return pl.Struct({field.name: stored_dtype(_instance(field.dtype)) for field in dtype.fields})
        case pl.Datetime():
            return pl.Datetime(_MICROSECONDS, "UTC" if dtype.time_zone else None)
        case pl.Duration():
            return pl.Int64()
        case pl.Enum():
            return pl.String()
        case _:
            text = str(dtype)
    if text in _WIDER:
        return _WIDER[text]
    if text in _SIMPLE or text.startswith("Decimal("):
        return dtype
    raise SchemaError(f"Columns of type {text} cannot be kept.", hint=_hint(text))


def _hint(text: str) -> str:
    if text == "Null":
        return "no value was seen, so no type is known; cast the column to the type it will have"
    if text == "Object":
        return "the column holds Python objects; make it text, numbers, lists or structs"
    return "cast the column to another type in the dataset function, as Float64 or String"


def _inner(dtype: pl.List | pl.Array) -> pl.DataType:
    return _instance(dtype.inner)


def _instance(dtype: object) -> pl.DataType:
    if isinstance(dtype, pl.DataType):
        return dtype
    if isinstance(dtype, type) and issubclass(dtype, pl.DataType):
        return dtype()
    raise TypeError(f"{dtype!r} is not a Polars type")


def check_schema(frame_schema: pl.Schema) -> Schema:
    """Return the schema to record for a first batch.

    Raises:
        SchemaError: A column has a type that cannot be kept; the message names each.
    """
    refused = []
    for name, dtype in frame_schema.items():
        try:
            stored_dtype(dtype)
        except SchemaError as error:
            refused.append((name, error))
    if refused:
        lines = "".join(f"\n  {name!r}: {error.message}" for name, error in refused[:20])
        raise SchemaError(
            f"{len(refused)} of {len(frame_schema)} columns cannot be kept:{lines}", hint=refused[0][1].hint
        )
    return tuple((name, str(dtype)) for name, dtype in frame_schema.items())


def to_stored(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` in the types Delta keeps.

    Raises:
        SchemaError: A value of nanosecond precision would lose digits.
    """
    _refuse_lost_digits(frame)
    changes = [_store_expression(name, dtype) for name, dtype in frame.schema.items() if stored_dtype(dtype) != dtype]
    return frame.with_columns(changes) if changes else frame


def _refuse_lost_digits(frame: pl.DataFrame) -> None:
    fine = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns"]
    if not fine:
        return
    lost = frame.select(((pl.col(name).to_physical() % 1000) != 0).any() for name in fine).row(0)
    names = [name for name, any_lost in zip(fine, lost, strict=True) if any_lost]
    if names:
        raise SchemaError(
            f"Column {names[0]!r} has times of nanosecond precision, which Delta cannot keep.",
            hint="round to microseconds with .dt.cast_time_unit('us'), or keep the nanoseconds as Int64",
        )


def _store_expression(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        column = column.dt.cast_time_unit(_MICROSECONDS)
        return column.dt.convert_time_zone("UTC") if dtype.time_zone else column
    return column.cast(stored_dtype(dtype))


def from_stored(frame: pl.LazyFrame, schema: Schema) -> pl.LazyFrame:
    """Return a stored frame in its recorded types and column order."""
    changes = []
    for name, dtype in polars_schema(schema).items():
        if stored_dtype(dtype) != dtype:
            changes.append(_restore_expression(name, dtype))
    names = [name for name, _ in schema]
    frame = frame.with_columns(changes) if changes else frame
    return frame.select(names)


def _restore_expression(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        column = column.dt.cast_time_unit(dtype.time_unit)
        return column.dt.convert_time_zone(dtype.time_zone) if dtype.time_zone else column
    return column.cast(dtype)


def stored_schema(schema: Schema) -> pl.Schema:
    """Return a recorded schema in the types Delta keeps."""
    return pl.Schema({name: stored_dtype(dtype) for name, dtype in polars_schema(schema).items()})


def empty_frame(schema: Schema) -> pl.DataFrame:
    """Return a frame of no rows with the recorded schema."""
    return pl.DataFrame(schema=polars_schema(schema))


def describe_difference(missing: Sequence[str], extra: Sequence[str], changed: Sequence[str]) -> str:
    """Return the difference between two schemas, one line per column, as `diff` would write it."""
    lines = (
        [f"  - {line}" for line in missing] + [f"  + {line}" for line in extra] + [f"  ! {line}" for line in changed]
    )
    shown = lines[:20]
    more = [] if len(lines) <= len(shown) else [f"  ... and {len(lines) - len(shown)} more"]
    return "\n".join(shown + more)
