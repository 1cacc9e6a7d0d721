"""Rows of PostgreSQL through a cursor that stays in the server, so only one batch is ever in memory."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from penstock.core.errors import DataError, InputError

_TYPES: dict[str, pl.DataType] = {
    "bool": pl.Boolean(),
    "int2": pl.Int16(),
    "int4": pl.Int32(),
    "int8": pl.Int64(),
    "float4": pl.Float32(),
    "float8": pl.Float64(),
    "text": pl.String(),
    "varchar": pl.String(),
    "bpchar": pl.String(),
    "name": pl.String(),
    "uuid": pl.String(),
    "json": pl.String(),
    "jsonb": pl.String(),
    "bytea": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
    "timestamp": pl.Datetime("us"),
    "timestamptz": pl.Datetime("us", "UTC"),
    "interval": pl.Duration("us"),
}
_AS_TEXT = ("uuid", "json", "jsonb")


def read(url: str, statement: str, values: Sequence[Any], *, batch_rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of `statement` from one moment of the database.

    Raises:
        InputError: The extra `postgres` is not installed.
        DataError: The server cannot be reached, or the statement fails.
    """
    try:
        import psycopg  # noqa: PLC0415 - optional: extra "postgres"
    except ImportError as error:
        raise InputError("Reading PostgreSQL needs psycopg.", hint="pip install 'penstock[postgres]'") from error
    parts = urlsplit(url)
    place = f"{parts.hostname or 'the local server'}{parts.path}"
    try:
        with psycopg.connect(parts._replace(scheme="postgresql").geturl()) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield from _rows(connection, statement, values, batch_rows)
    except psycopg.Error as error:
        words = str(error).partition("\n")[0]
        raise DataError(f"Reading {place} failed: {words}.", hint="try the query by itself with psql") from error


def _rows(connection: Any, statement: str, values: Sequence[Any], batch_rows: int) -> Iterator[pl.DataFrame]:
    with connection.cursor(name="penstock_rows") as cursor:
        cursor.itersize = batch_rows
        text = statement.replace("%", "%%").replace("?", "%s") if values else statement
        cursor.execute(text, list(values) if values else None)
        columns = [(column.name, *_type(connection, column)) for column in cursor.description]
        names = [name for name, *_ in columns]
        if len(set(names)) < len(names):
            raise DataError(f"The query gives two columns of one name: {names!r}.", hint="name them apart with AS")
        while rows := cursor.fetchmany(batch_rows):
            cells = zip(*rows, strict=True)
            yield pl.DataFrame([_series(column, given) for column, given in zip(columns, cells, strict=True)])


def _type(connection: Any, column: Any) -> tuple[pl.DataType, bool]:
    """Return the column's type, and whether its values are turned to text first."""
    info = connection.adapters.types.get(column.type_code)
    name = info.name if info is not None else "?"
    if name == "numeric":
        if column.precision is None:
            raise DataError(
                f"Column {column.name!r} is numeric of no declared precision.",
                hint=f"cast it in the query, as {column.name}::float8 or {column.name}::numeric(18, 4)",
            )
        return pl.Decimal(column.precision, column.scale), False
    if name not in _TYPES:
        raise DataError(f"Column {column.name!r} is of type {name}.", hint="cast it in the query, as ::text")
    dtype = _TYPES[name]
    return (pl.List(dtype) if column.type_code == info.array_oid else dtype), name in _AS_TEXT


def _series(column: tuple[str, pl.DataType, bool], values: Sequence[Any]) -> pl.Series:
    name, dtype, as_text = column
    if as_text:
        values = [None if value is None else _text(value) for value in values]
    return pl.Series(name, values, dtype=dtype, strict=True)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value)
