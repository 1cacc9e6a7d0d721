"""The profile of a frame: one entry per column, in one pass over its batches, with both cores."""

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import polars as pl

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.monitoring.profiles.numbers import Numbers, joined_numbers, numbers_of
from penstock.monitoring.profiles.words import MOST, MOST_IN_PASSING, Words, joined_words, words_of

FORMAT = 2
_MARK = b"penstock profile "
_BATCH_ROWS = 500_000
_FEW_ROWS = 20_000
# Parts joined at once: each join looks at every value that is listed, so few joins are quicker than one per part.
_AT_ONCE = 8


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
    if isinstance(frame, pl.DataFrame) and frame.height < _FEW_ROWS:
        # Handing a small column to another thread costs more than looking at it.
        return _profiled(frame, MOST)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="profile") as threads:
        if isinstance(frame, pl.DataFrame):
            return _profiled(frame, MOST, threads)
        parts: list[Profile] = []
        for batch in _batches(frame):
            parts.append(_profiled(batch, MOST_IN_PASSING, threads))
            if len(parts) == _AT_ONCE:
                parts = [_joined(parts, MOST_IN_PASSING)]
        return _joined(parts or [_profiled(pl.DataFrame(schema=frame.collect_schema()), MOST)], MOST)


def merge(one: Profile, other: Profile) -> Profile:
    """Return the profile of the rows of both.

    Raises:
        InputError: They are not of the same columns and types.
    """
    return merge_all([one, other])


def merge_all(parts: Sequence[Profile]) -> Profile:
    """Return the profile of the rows of all parts; their order does not matter, nor which are merged first.

    Counts, extremes, bins and distinct values are exactly those of the whole, means but for rounding; counts of
    common values too, as long as there are no more than 512, and else `missed` says by how much they may be short.

    Raises:
        InputError: There are none, or they are not of the same columns and types.
    """
    if not parts:
        raise InputError("There is no profile to merge.", hint="merge one or more")
    kinds = [{name: column.dtype for name, column in part.columns.items()} for part in parts]
    for kind in kinds[1:]:
        if kind != kinds[0]:
            differing = sorted(set(kinds[0].items()) ^ set(kind.items()))
            raise InputError(
                f"Two profiles differ in column {differing[0][0]!r}.", hint="profiles of one schema can be merged"
            )
    return _joined(parts, MOST)


def encode_profile(found: Profile) -> bytes:
    """Return a profile as bytes; the same profile gives the same bytes.

    A line with the format, then MessagePack, deflated: bins are many small steps, of which little is left.
    """
    return _MARK + b"%d\n" % FORMAT + zlib.compress(msgspec.msgpack.encode(found, order="deterministic"), 1)


def decode_profile(data: bytes) -> Profile:
    """Read what `encode_profile` wrote.

    Raises:
        InputError: It is no profile, or was written by another version.
    """
    head, _, body = data.partition(b"\n")
    written = head.removeprefix(_MARK)
    if not head.startswith(_MARK) or not written.isdigit():
        raise InputError("These bytes are no profile.", hint="read what `encode_profile` wrote")
    if int(written) != FORMAT:
        raise InputError(
            f"A profile has format {int(written)}; this version reads {FORMAT}.",
            hint="install the penstock that wrote it",
        )
    return msgspec.msgpack.decode(zlib.decompress(body), type=Profile)


def _batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    return frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=False, engine="streaming")


def _profiled(frame: pl.DataFrame, most: int, threads: ThreadPoolExecutor | None = None) -> Profile:
    run = map if threads is None or frame.height < _FEW_ROWS else threads.map
    columns = run(lambda series: _column(series, most), frame.get_columns())
    return Profile(rows=frame.height, columns=dict(zip(frame.columns, columns, strict=True)))


def _column(series: pl.Series, most: int) -> Column:
    dtype, nulls = series.dtype, series.null_count()
    there = series.drop_nulls() if nulls else series
    is_number = dtype.is_numeric() or dtype.is_temporal()
    is_word = dtype in {pl.String, pl.Boolean, pl.Categorical, pl.Enum}
    return Column(
        dtype=str(dtype),
        rows=len(series),
        nulls=nulls,
        numbers=numbers_of(there) if is_number else None,
        words=words_of(there, most) if is_word else None,
    )


def _joined(parts: Sequence[Profile], most: int) -> Profile:
    columns = {name: _joined_columns([part.columns[name] for part in parts], most) for name in parts[0].columns}
    return Profile(rows=sum(part.rows for part in parts), columns=columns)


def _joined_columns(parts: Sequence[Column], most: int) -> Column:
    numbers = [part.numbers for part in parts if part.numbers is not None]
    words = [part.words for part in parts if part.words is not None]
    return Column(
        dtype=parts[0].dtype,
        rows=sum(part.rows for part in parts),
        nulls=sum(part.nulls for part in parts),
        numbers=joined_numbers(numbers) if numbers else None,
        words=joined_words(words, most) if words else None,
    )
