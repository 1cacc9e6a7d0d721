"""The profile of a frame: one entry per column, in one pass over its batches, with both cores."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import msgspec
import polars as pl

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.monitoring.profiles.numbers import Numbers, merged_numbers, numbers_of
from penstock.monitoring.profiles.words import Words, merged_words, words_of

FORMAT = 1
_BATCH_ROWS = 500_000
_FEW_ROWS = 20_000


class Column(Record, frozen=True, kw_only=True):
    """The profile of one column: of numbers and times, of words, or of neither (lists, structs, bytes).

    Attributes:
        dtype: Its polars type as text.
        rows: Rows, nulls among them.
    """

    dtype: str
    rows: int
    nulls: int
    numbers: Numbers | None = None
    words: Words | None = None


class Profile(Record, frozen=True, kw_only=True):
    """What some rows look like.

    Attributes:
        columns: By name, in the order of the frame.
    """

    rows: int
    columns: dict[str, Column]
    format: int = FORMAT


def profile(frame: pl.DataFrame | pl.LazyFrame) -> Profile:
    """Profile a frame in one pass; a lazy one is read in batches, so that memory stays flat."""
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="profile") as threads:
        parts = (_profiled(batch, threads) for batch in _batches(frame))
        return reduce(merge, parts)


def merge(one: Profile, other: Profile) -> Profile:
    """Return the profile of the rows of both.

    Raises:
        InputError: They are not of the same columns and types.
    """
    kinds = [{name: column.dtype for name, column in part.columns.items()} for part in (one, other)]
    if kinds[0] != kinds[1]:
        differing = sorted(set(kinds[0].items()) ^ set(kinds[1].items()))
        raise InputError(
            f"Two profiles differ in column {differing[0][0]!r}.", hint="profiles of one schema can be merged"
        )
    columns = {name: _merged(column, other.columns[name]) for name, column in one.columns.items()}
    return Profile(rows=one.rows + other.rows, columns=columns)


def encode_profile(found: Profile) -> bytes:
    """Return a profile as bytes; the same profile gives the same bytes."""
    return msgspec.json.encode(found, order="deterministic")


def decode_profile(data: bytes) -> Profile:
    """Read what `encode_profile` wrote.

    Raises:
        InputError: It was written by a newer version.
    """
    found = msgspec.json.decode(data, type=Profile)
    if found.format > FORMAT:
        raise InputError(
            f"A profile has format {found.format}; this version reads {FORMAT}.", hint="install a newer penstock"
        )
    return found


def _batches(frame: pl.DataFrame | pl.LazyFrame) -> Iterator[pl.DataFrame]:
    if isinstance(frame, pl.DataFrame):
        yield frame
        return
    there = False
    for batch in frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=False, engine="streaming"):
        there = True
        yield batch
    if not there:
        yield pl.DataFrame(schema=frame.collect_schema())


def _profiled(frame: pl.DataFrame, threads: ThreadPoolExecutor) -> Profile:
    # Handing a small column to another thread costs more than looking at it.
    run = map if frame.height < _FEW_ROWS else threads.map
    columns = run(_column, frame.get_columns())
    return Profile(rows=frame.height, columns=dict(zip(frame.columns, columns, strict=True)))


def _column(series: pl.Series) -> Column:
    dtype, nulls = series.dtype, series.null_count()
    there = series.drop_nulls() if nulls else series
    is_number = dtype.is_numeric() or dtype.is_temporal()
    is_word = dtype in {pl.String, pl.Boolean, pl.Categorical, pl.Enum}
    return Column(
        dtype=str(dtype),
        rows=len(series),
        nulls=nulls,
        numbers=numbers_of(there) if is_number else None,
        words=words_of(there) if is_word else None,
    )


def _merged(one: Column, other: Column) -> Column:
    numbers = words = None
    if one.numbers is not None and other.numbers is not None:
        numbers = merged_numbers(one.numbers, other.numbers)
    if one.words is not None and other.words is not None:
        words = merged_words(one.words, other.words)
    return Column(
        dtype=one.dtype, rows=one.rows + other.rows, nulls=one.nulls + other.nulls, numbers=numbers, words=words
    )
