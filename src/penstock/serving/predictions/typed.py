"""Predictions as an outcome function and a monitor want them: a column per field, and the answer in its own type.

In the log both are JSON text, since each release may have other fields. Here they get the types that the annotations
of a serve function say, or those that the values show where the annotations say nothing.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

# What stands beside the fields; a field of such a name gets "_field" at its end.
COLUMNS = ("prediction_id", "at", "release", "serve", "key", "consumer", "variant", "fallback")
ANSWER = "answer"
_DECODE_ERRORS = (pl.exceptions.PolarsError, ValueError)


class Shape(msgspec.Struct, frozen=True):
    """The types of the fields and of the answer of a serve function.

    Attributes:
        fields: By name, the type or None where only the values can show it.
        answer: Likewise, of one answer.
    """

    fields: Mapping[str, pl.DataType | None]
    answer: pl.DataType | None


def dtype_of(annotation: Any) -> pl.DataType | None:
    """Return the type of a column whose values a JSON encoder made from values of an annotated type.

    Args:
        annotation: A type as it stands in the user's code, resolved.

    Returns:
        None for a type of no fixed form: Any, dict, a union of unlike types.

    Example:
        >>> dtype_of(list[int])
        List(Int64)
    """
    try:
        return _dtype(msgspec.inspect.type_info(annotation))
    except TypeError:
        return None


def typed_frame(raw: pl.DataFrame, shapes: Mapping[str, Shape]) -> pl.DataFrame:
    """Return predictions with a column per field and their answer in its type.

    Args:
        raw: Rows with the columns of the table of predictions.
        shapes: By serve function. Where several have answers of different types, answers stay JSON text.

    Returns:
        `prediction_id`, `at`, `release`, `serve`, `key`, `consumer`, `variant`, `fallback`, the fields, `answer`.
    """
    parts = [_typed(group, shapes.get(str(serve))) for (serve,), group in raw.group_by("serve", maintain_order=True)]
    if not parts:
        shape = Shape({n: t for s in shapes.values() for n, t in s.fields.items()}, _common_answer(shapes))
        return _typed(raw, shape)
    if len({part.schema[ANSWER] for part in parts} - {pl.Null()}) > 1:
        texts = raw.select("prediction_id", pl.col(ANSWER))
        parts = [part.drop(ANSWER).join(texts, on="prediction_id", how="left", maintain_order="left") for part in parts]
    joined = pl.concat(parts, how="diagonal_relaxed")
    return joined.select(pl.exclude(ANSWER), ANSWER).sort("at", "prediction_id")


def _common_answer(shapes: Mapping[str, Shape]) -> pl.DataType | None:
    kinds = {str(shape.answer): shape.answer for shape in shapes.values()}
    return next(iter(kinds.values())) if len(kinds) == 1 else None


def _typed(raw: pl.DataFrame, shape: Shape | None) -> pl.DataFrame:
    known = {} if shape is None else {name: kind for name, kind in shape.fields.items() if kind is not None}
    open_names = [] if shape is None else [name for name, kind in shape.fields.items() if kind is None]
    found = raw.select(COLUMNS)
    fields = _fields(raw["fields"], known, open_names if shape is not None else None)
    columns = [
        column.rename(f"{column.name}_field") if column.name in {*COLUMNS, ANSWER} else column for column in fields
    ]
    answer = _decoded(raw[ANSWER], None if shape is None else shape.answer).alias(ANSWER)
    return found.with_columns(*columns, answer)


def _fields(texts: pl.Series, known: Mapping[str, pl.DataType], others: list[str] | None) -> list[pl.Series]:
    if not known and others == []:
        return []
    wanted = pl.Struct(known) if known and not others and others is not None else None
    decoded = _decoded(texts, wanted)
    if not isinstance(decoded.dtype, pl.Struct):
        return [pl.Series(name, [None] * texts.len(), dtype=kind) for name, kind in known.items()]
    columns = {column.name: column for column in decoded.struct.unnest()}
    names = list(columns) if others is None else [*known, *others]
    return [_field(columns.get(name), name, known.get(name), texts.len()) for name in names]


def _field(column: pl.Series | None, name: str, kind: pl.DataType | None, count: int) -> pl.Series:
    if column is None:
        return pl.Series(name, [None] * count, dtype=kind or pl.Null())
    return column if kind is None or column.dtype == kind else column.cast(kind, strict=False)


def _decoded(texts: pl.Series, kind: pl.DataType | None) -> pl.Series:
    """Return JSON texts as values of a type; of the type they show where they are not all of that one."""
    if kind is not None:
        try:
            return texts.str.json_decode(kind)
        except _DECODE_ERRORS:
            pass  # answers of another release, say
    try:
        return texts.str.json_decode(infer_schema_length=None)
    except _DECODE_ERRORS:
        return texts


def _dtype(info: msgspec.inspect.Type) -> pl.DataType | None:  # noqa: PLR0911 - one line per type
    kinds = msgspec.inspect
    match info:
        case kinds.BoolType():
            return pl.Boolean()
        case kinds.IntType():
            return pl.Int64()
        case kinds.FloatType():
            return pl.Float64()
        case kinds.StrType() | kinds.DateTimeType() | kinds.DateType() | kinds.TimeType() | kinds.UUIDType():
            return pl.String()
        case kinds.LiteralType() | kinds.EnumType():
            return _dtype_of_values(info)
        case kinds.ListType() | kinds.SetType() | kinds.FrozenSetType() | kinds.VarTupleType():
            inner = _dtype(info.item_type)
            return None if inner is None else pl.List(inner)
        case kinds.StructType() | kinds.DataclassType() | kinds.TypedDictType():
            return _struct(info)
        case kinds.UnionType():
            return _union(info)
        case kinds.Metadata():
            return _dtype(info.type)
        case _:
            return None


def _struct(
    info: msgspec.inspect.StructType | msgspec.inspect.DataclassType | msgspec.inspect.TypedDictType,
) -> pl.DataType | None:
    fields = {field.encode_name: _dtype(field.type) for field in info.fields}
    known = {name: kind for name, kind in fields.items() if kind is not None}
    return pl.Struct(known) if len(known) == len(fields) and known else None


def _union(info: msgspec.inspect.UnionType) -> pl.DataType | None:
    kinds = [_dtype(kind) for kind in info.types if not isinstance(kind, msgspec.inspect.NoneType)]
    if len(kinds) == 1:
        return kinds[0]
    return pl.Float64() if {str(kind) for kind in kinds} == {"Int64", "Float64"} else None


def _dtype_of_values(info: msgspec.inspect.LiteralType | msgspec.inspect.EnumType) -> pl.DataType | None:
    values = info.values if isinstance(info, msgspec.inspect.LiteralType) else [member.value for member in info.cls]
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return pl.String()
    return pl.Int64() if kinds == {int} else None


def as_time(moment: dt.datetime | dt.date) -> dt.datetime:
    """Return a value of a time column as a moment in UTC; one without a zone is taken as UTC."""
    if not isinstance(moment, dt.datetime):
        return dt.datetime(moment.year, moment.month, moment.day, tzinfo=dt.UTC)
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
