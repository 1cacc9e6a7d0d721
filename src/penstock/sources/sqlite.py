"""Rows of a SQLite file, read only, in one statement and so from one moment."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from penstock.core.errors import DataError


def read(url: str, statement: str, values: Sequence[Any], *, batch_rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of `statement`, typed by the declared types of the columns.

    Raises:
        DataError: The file is missing or no database, or the statement fails.
    """
    path = Path(url.partition(":///")[2])
    if not path.is_file():
        raise DataError(
            f"There is no SQLite file {path}.", hint="write sqlite:///relative.db or sqlite:////absolute.db"
        )
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            yield from _rows(connection, statement, values, batch_rows)
    except sqlite3.Error as error:
        raise DataError(
            f"Reading {path} failed: {error}.", hint="try the query by itself with the sqlite3 shell"
        ) from error


def _rows(
    connection: sqlite3.Connection, statement: str, values: Sequence[Any], batch_rows: int
) -> Iterator[pl.DataFrame]:
    declared = _declared(connection, statement.partition(" WHERE ")[0] if values else statement)
    cursor = connection.execute(statement, [_sent(value) for value in values])
    names = [column[0] for column in cursor.description]
    if len(set(names)) < len(names):
        raise DataError(f"The query gives two columns of one name: {names!r}.", hint="name them apart with AS")
    while rows := cursor.fetchmany(batch_rows):
        columns = list(zip(*rows, strict=True))
        yield pl.DataFrame([_series(n, v, declared.get(n)) for n, v in zip(names, columns, strict=True)])


def _declared(connection: sqlite3.Connection, statement: str) -> dict[str, pl.DataType]:
    # A view tells the declared types of its columns without running the query.
    connection.execute(f"CREATE TEMP VIEW penstock_rows AS {statement}")
    columns = connection.execute("PRAGMA table_info(penstock_rows)").fetchall()
    types = {name: _dtype(text.upper()) for _, name, text, *_ in columns}
    return {name: dtype for name, dtype in types.items() if dtype is not None}


def _dtype(declared: str) -> pl.DataType | None:
    words: tuple[tuple[tuple[str, ...], pl.DataType], ...] = (
        (("BOOL",), pl.Boolean()),
        (("TIMESTAMP", "DATETIME"), pl.Datetime("us")),
        (("DATE",), pl.Date()),
        (("INT",), pl.Int64()),
        (("CHAR", "CLOB", "TEXT"), pl.String()),
        (("BLOB",), pl.Binary()),
        (("REAL", "FLOA", "DOUB", "NUM", "DEC"), pl.Float64()),
    )
    return next((dtype for marks, dtype in words if any(mark in declared for mark in marks)), None)


def _series(name: str, values: Sequence[Any], dtype: pl.DataType | None) -> pl.Series:
    """Return a column; where a value is not of the declared type, all come as text and the lake judges each row."""
    try:
        if dtype is None:
            return pl.Series(name, values, strict=True)
        if isinstance(dtype, pl.Datetime | pl.Date) and any(isinstance(value, str) for value in values):
            times = [None if value is None else _parse(value) for value in values]
            return pl.Series(name, times, dtype=pl.Datetime("us")).cast(dtype)
        if isinstance(dtype, pl.Boolean):
            return pl.Series(
                name, [None if value is None else {0: False, 1: True}[value] for value in values], dtype=dtype
            )
        if isinstance(dtype, pl.Datetime | pl.Date):
            return pl.Series(name, values, dtype=pl.Int64(), strict=True)
        return pl.Series(name, values, dtype=dtype, strict=True)
    except (TypeError, ValueError, KeyError, pl.exceptions.PolarsError):
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String())


def _parse(value: Any) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=None) if isinstance(value, str) else value


def _sent(value: Any) -> Any:
    return (
        value.isoformat(sep=" ")
        if isinstance(value, datetime)
        else str(value)
        if hasattr(value, "isoformat")
        else value
    )
