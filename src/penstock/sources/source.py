"""The one seam of all sources: batches from a cursor on; and the plain values a dataset function may return."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import polars as pl
import pyarrow as pa

from penstock.core.errors import DataError

Batch: TypeAlias = pl.DataFrame | pa.Table | pa.RecordBatch
# Rows per batch of a streamed frame: large enough to be fast, small enough that a few of them fit anywhere.
BATCH_ROWS = 131_072


@runtime_checkable
class Source(Protocol):
    """Something that gives rows from a cursor on.

    A cursor is plain JSON. It never speaks for rows not yet yielded; the one with the last batch speaks for all of
    them, and reading again from it gives exactly the rows that came since. No other is ever stored, as an intake is
    kept whole or not at all.
    """

    def batches(self, cursor: Any) -> Iterator[tuple[Batch, Any]]:
        """Yield batches after `cursor` (None: all there is), each with the cursor that follows it.

        Raises:
            DataError: The source cannot be read, or does not understand the cursor.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """A value that keeps no cursor: what is new in it is the dataset function's own business.

    Attributes:
        value: A frame, table, record batch, or an iterator of them.
    """

    value: object

    def batches(self, cursor: Any) -> Iterator[tuple[Batch, Any]]:
        """Yield the rows of the value; the cursor stays as it was."""
        for batch in _frames(self.value):
            yield batch, cursor


def open_source(value: object) -> Source:
    """Return the source that a dataset function's answer stands for.

    Raises:
        DataError: The value is nothing rows can be read from.
    """
    return value if isinstance(value, Source) else Plain(value)


def to_batches(value: object, since: Any) -> tuple[Iterator[Batch], Callable[[], Any] | None]:
    """Return the batches of a dataset function's answer, and where its source stands once they are read.

    Args:
        value: What the dataset function returned.
        since: The stored cursor; used by sources that keep one.

    Returns:
        The batches, and a function that gives the cursor after the last one; None when the value keeps no cursor.

    Raises:
        DataError: The value is nothing rows can be read from.
    """
    source = open_source(value)
    if isinstance(source, Plain):
        return _frames(value), None
    reader = _Reader(source, since)
    return iter(reader), lambda: reader.cursor


class _Reader:
    """Reads a source and remembers its last cursor."""

    def __init__(self, source: Source, cursor: Any) -> None:
        self._source = source
        self.cursor = cursor

    def __iter__(self) -> Iterator[Batch]:
        for batch, cursor in self._source.batches(self.cursor):
            yield batch
            # Moved on only when the next batch is asked for: then this one was taken.
            self.cursor = cursor


def _frames(value: object) -> Iterator[Batch]:
    match value:
        case pl.DataFrame() | pa.Table() | pa.RecordBatch():
            return iter((value,))
        case pl.LazyFrame():
            return stream(value)
        case pa.RecordBatchReader():
            return iter(value)
        case str() | bytes() | Mapping() | None:
            raise _refusal(value)
        case Iterator() | list() | tuple():
            return (batch for item in value for batch in _frames(item))
        case _:
            return iter((_from_pandas(value),))


def stream(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows of a lazy frame in order, without holding all of them.

    Raises:
        DataError: A file the frame reads is missing or damaged.
    """
    try:
        yield from frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"The lazy frame of a dataset cannot be read: {_first_line(error)}.",
            hint="collect it by itself to see where it fails; a half-written file is a common cause",
        ) from error


def _from_pandas(value: object) -> pa.Table:
    # Recognised by name, so that pandas is never imported for those who do not use it.
    if type(value).__module__.partition(".")[0] != "pandas" or not hasattr(value, "columns"):
        raise _refusal(value)
    frame: Any = value
    named = any(name is not None for name in frame.index.names)
    try:
        return pa.Table.from_pandas(frame.reset_index() if named else frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise DataError(
            f"The pandas frame cannot be read as a table: {_first_line(error)}.",
            hint="give each column one type, and its own name",
        ) from error


def _refusal(value: object) -> DataError:
    kind = type(value)
    return DataError(
        f"A dataset function returned {kind.__module__}.{kind.__qualname__}, which holds no rows Penstock can read.",
        hint="return a Polars, pandas or Arrow frame, an iterator of them, or one of penstock.sources",
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
