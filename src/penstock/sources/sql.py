"""Databases as a source: a table or query, streamed in batches, from the largest value taken in so far on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from penstock.core.errors import DataError, InputError
from penstock.sources import postgres, sqlite
from penstock.sources.cursors import decode_value, encode_value, own_cursor
from penstock.sources.source import Batch

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")


def sql(url: str, query: str, *, column: str | None = None, batch_rows: int = 100_000) -> "Sql":
    """Read a table or the rows of a query, and only what is new when a growing column is named.

    Args:
        url: "sqlite:///path/to.db" or "postgresql://user:password@host/database".
        query: Name of a table, or a SELECT.
        column: A column that only grows (an id, a time of arrival). Rows with a larger value than the largest taken
            in are new. Rows that appear later with an equal or smaller value are not seen.
        batch_rows: Rows fetched at a time.

    Raises:
        InputError: The URL names a database Penstock cannot read, or the column is not a plain name.

    Example:
        >>> sql("sqlite:///shop.db", "orders", column="order_id").column
        'order_id'
    """
    scheme = urlsplit(url).scheme.partition("+")[0]
    if scheme not in {"sqlite", "postgresql", "postgres"}:
        raise InputError(f"Databases of kind {scheme!r} cannot be read.", hint="use sqlite:/// or postgresql://")
    if batch_rows < 1:
        raise InputError(f"batch_rows is {batch_rows!r}.", hint="use a positive number")
    return Sql(url, query, column, batch_rows)


@dataclass(frozen=True, slots=True, repr=False)
class Sql:
    """Rows of a database; made by `sql`. Its `repr` leaves out the URL, which may hold a password."""

    url: str
    query: str
    column: str | None
    batch_rows: int

    def __repr__(self) -> str:
        return f"Sql(query={self.query!r}, column={self.column!r})"

    def batches(self, cursor: Any) -> Iterator[tuple[Batch, Any]]:
        """Yield new rows in order of the column; see `Source.batches`."""
        last = own_cursor(cursor, "sql").get("value")
        read = sqlite.read if urlsplit(self.url).scheme.startswith("sqlite") else postgres.read
        statement = self._statement(has_last=last is not None)
        values = () if last is None else (decode_value(last),)
        for frame in read(self.url, statement, values, batch_rows=self.batch_rows):
            yield frame, self._after(frame, last)

    def _statement(self, *, has_last: bool) -> str:
        inner = _quoted(self.query) if _TABLE.fullmatch(self.query) else f"({self.query.strip().rstrip(';')})"
        if self.column is None:
            return f"SELECT * FROM {inner} AS source_rows"  # noqa: S608 - the query is the pipeline author's own code
        column = _quoted(self.column)
        where = f"WHERE {column} > ? " if has_last else ""
        return f"SELECT * FROM {inner} AS source_rows {where}ORDER BY {column}"  # noqa: S608 - as above; quoted

    def _after(self, frame: pl.DataFrame, last: Any) -> dict[str, Any]:
        if self.column is None:
            return {"source": "sql"}
        grown = frame[self.column]
        if grown.null_count():
            raise DataError(
                f"Column {self.column!r} is null in {grown.null_count()} rows, so it cannot say what is new.",
                hint="leave such rows out in the query, or name another column",
            )
        return {"source": "sql", "value": encode_value(grown[-1]) if frame.height else last}


def _quoted(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
