"""Rows of a table into questions: one question with all rows for a function of rows, one per row for one of fields.

Shared by protocols whose callers send tables. Does not: read bytes of any form.
"""

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from penstock.serving.limits import Limits
from penstock.serving.program.fields import Fields
from penstock.serving.refusals import RequestError


class AskedRows(msgspec.Struct, frozen=True):
    """What a table asks of a function: its fields, and how many answers are due."""

    fields: tuple[msgspec.Struct, ...]
    count: int


def ask_frame(fields: Fields, frame: pl.DataFrame, others: Mapping[str, Any], limits: Limits) -> AskedRows:
    """Return what the rows of a frame ask.

    Args:
        fields: Of the function.
        frame: Its columns are the released ones, or named like the fields; further ones are left out.
        others: Fields that are the same for all rows.
        limits: Bounds on rows.

    Raises:
        RequestError: 422 naming the column or field that is missing or of another type, 413 for too many rows.
    """
    if fields.rows is not None:
        return AskedRows((fields.of_rows(frame, others or None),), refuse_count(frame.height, limits.rows))
    refuse_count(frame.height, min(limits.rows, limits.batch_rows))
    there = [spec.name for spec in fields.specs if spec.name in frame.columns]
    return ask_objects(fields, frame.select(there).iter_rows(named=True) if there else [{}] * frame.height, others)


def ask_objects(fields: Fields, rows: Iterable[dict[str, Any]], others: Mapping[str, Any]) -> AskedRows:
    """Return what rows ask of a function of fields, each row for itself.

    A null where the field takes none stands for "not given": tables have no other word for that.

    Raises:
        RequestError: 422 naming the field and the row.
    """
    known = {spec.name for spec in fields.specs}
    not_null = {spec.name for spec in fields.specs if not takes_null(spec.type)}
    found = []
    for place, row in enumerate(rows):
        given = {n: v for n, v in row.items() if n in known and (v is not None or n not in not_null)}
        try:
            found.append(fields.parse_object({**given, **others}))
        except RequestError as error:
            raise RequestError(
                f"Row {place}: {error.message}",
                status=error.status,
                reason=error.reason,
                field=error.field,
                hint=error.hint,
            ) from error
    return AskedRows(tuple(found), len(found))


def takes_null(kind: object) -> bool:
    """Return whether a field of this type may be null."""
    return kind is Any or type(None) in typing.get_args(kind)


def bare_type(kind: Any) -> Any:
    """Return T for `T | None`."""
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        rest = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind


def refuse_count(count: int, most: int) -> int:
    """Return a number of rows that may be asked about at once.

    Raises:
        RequestError: 413 for too many, 422 for none.
    """
    if count > most:
        raise RequestError(
            f"{count} rows are more than {most}.", status=413, reason="too_many_rows", hint="send fewer rows"
        )
    if not count:
        raise RequestError("There are no rows.", status=422, reason="invalid_field", hint="send at least one row")
    return count


def names_of(fields: Fields, width: int) -> Sequence[str]:
    """Return the names of columns that came without: the released ones, or the fields in the order of the function.

    Raises:
        RequestError: 422 when there are more or fewer.
    """
    if fields.rows is None:
        wanted = [spec.name for spec in fields.specs]
        if width > len(wanted) or any(spec.required for spec in fields.specs[width:]):
            raise RequestError(
                f"Expected the fields {', '.join(wanted)}, got rows of {width} values without names.",
                status=422,
                reason="invalid_field",
                hint="send the names of the columns",
            )
        return wanted[:width]
    released = [name for name, _ in fields.columns]
    if released and width != len(released):
        raise RequestError(
            f"Expected rows of {len(released)} values, got {width}.",
            status=422,
            reason="invalid_field",
            hint="send the columns that the release was made with",
        )
    return released or [str(place) for place in range(width)]
