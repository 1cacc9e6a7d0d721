"""Writing the files of one intake: rows in blocks, each block one Parquet file, all synced before they count."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
from blake3 import blake3

from penstock.core import faults
from penstock.core.errors import SchemaError
from penstock.store.lake.digest import RowDigest
from penstock.store.lake.disk import sync_file
from penstock.store.lake.dtypes import Schema, to_stored
from penstock.store.lake.log import Part
from penstock.store.lake.rules import encode_time

# A block is held in memory once as it came and once as it is stored; it becomes a file of 50 to 130 MB.
BLOCK_ROWS = 1_000_000
BLOCK_BYTES = 256 * 2**20
_ROW_GROUP_ROWS = 131_072
_TEXT_STATISTICS = 64

Batch: TypeAlias = pa.Table | pa.RecordBatch | pl.DataFrame


def blocks(batches: Iterator[Batch]) -> Iterator[pl.DataFrame]:
    """Yield the rows of all batches in blocks of bounded size; batches of different columns or types never mix."""
    pending: list[pl.DataFrame] = []
    rows = size_bytes = 0
    for batch in batches:
        for frame in _pieces(_frame(batch)):
            full = rows + frame.height > BLOCK_ROWS or size_bytes >= BLOCK_BYTES
            if pending and (full or frame.schema != pending[0].schema):
                yield pl.concat(pending, rechunk=True)
                pending, rows, size_bytes = [], 0, 0
            pending.append(frame)
            rows += frame.height
            size_bytes += int(frame.estimated_size())
    if pending:
        yield pl.concat(pending, rechunk=True)


def _frame(batch: Batch) -> pl.DataFrame:
    if isinstance(batch, pl.DataFrame):
        return batch
    names = batch.schema.names
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise SchemaError(
            f"Column {twice[0]!r} comes {names.count(twice[0])} times.", hint="give each column its own name"
        )
    frame = pl.from_arrow(batch, rechunk=False)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"{type(batch).__name__} is not a table")
    return frame


def _pieces(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if not frame.height:
        return
    size_bytes = max(1, int(frame.estimated_size()))
    count = max(-(-frame.height // BLOCK_ROWS), -(-size_bytes // BLOCK_BYTES))
    yield from frame.iter_slices(max(1, -(-frame.height // count)))


class PartWriter:
    """Writes the blocks of one intake, and knows what they hold together.

    Args:
        directory: The table.
        stem: Start of each file name; names sort in order of arrival.
        schema: Recorded schema.
        described: Columns whose smallest and largest values are kept with each file.
    """

    def __init__(self, directory: Path, stem: str, schema: Schema, described: tuple[str, ...]) -> None:
        self._directory = directory
        self._stem = stem
        self._described = described
        self.digest = RowDigest(schema)
        self.parts: list[Part] = []

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return sum(part.rows for part in self.parts)

    def write(self, frame: pl.DataFrame) -> None:
        """Write `frame`, in recorded types, as the next file."""
        if not frame.height:
            return
        stored = to_stored(frame)
        self.digest.feed(stored)
        name = f"{self._stem}-{len(self.parts):05d}.parquet"
        path = self._directory / name
        stored.write_parquet(path, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP_ROWS)
        faults.point("intake_mid_write")
        self.parts.append(finish_part(self._directory, name, stored.height, _statistics(stored, self._described)))

    def discard(self) -> None:
        """Remove what was written, after an error; what a dead process leaves is found by `vacuum`."""
        for path in self._directory.glob(f"{self._stem}-*.parquet"):
            path.unlink(missing_ok=True)


def finish_part(directory: Path, name: str, rows: int, stats: dict[str, Any] | None = None) -> Part:
    """Sync a written file and return what the log says about it."""
    path = directory / name
    sync_file(path)
    digest = blake3().update_mmap(path).hexdigest()
    return Part(name=name, rows=rows, size_bytes=path.stat().st_size, digest=digest, stats=stats or {})


def _statistics(stored: pl.DataFrame, names: tuple[str, ...]) -> dict[str, Any]:
    known = [name for name in names if _has_statistics(stored[name])]
    low = stored.select(pl.col(name).min() for name in known).row(0) if known else ()
    high = stored.select(pl.col(name).max() for name in known).row(0) if known else ()
    return {
        "minValues": {name: encode_time(value) for name, value in zip(known, low, strict=True)},
        "maxValues": {name: encode_time(value) for name, value in zip(known, high, strict=True)},
        "nullCount": {name: stored[name].null_count() for name in known},
    }


def _has_statistics(column: pl.Series) -> bool:
    if isinstance(column.dtype, pl.String):
        # Long texts would have to be cut, and a cut maximum is no longer one.
        return not (column.str.len_bytes() > _TEXT_STATISTICS).any()
    return column.dtype.is_integer() or isinstance(column.dtype, pl.Date | pl.Datetime)
