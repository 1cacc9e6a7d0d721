"""Which rows are hidden by newer rows of the same key.

An intake only adds files; it also lists the places (file, row) its rows hide. Readers leave those rows out,
which costs nothing for files without any. Rewriting is left to compaction.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl

from penstock.store.lake.disk import sync_file

FOLDER = "_hidden"
# More lists than this are merged into one, so that a version never names many.
MERGE_AFTER = 16
# Keys of this many new rows are held in memory at once (about 25 bytes each); for more of them the key columns are
# read in several passes. Old rows only stream past, so a large table costs no memory.
ROWS_PER_PASS = 20_000_000

_ROW = "__row"
_FILE = "file"
_PLACES = {_FILE: pl.String(), "row": pl.UInt32()}

File = tuple[str, int]


def read_hidden(directory: Path, names: Sequence[str]) -> pl.DataFrame:
    """Return the places (`file`, `row`) that the lists named hide."""
    frames = [pl.read_parquet(directory / name) for name in names]
    return pl.concat(frames) if frames else pl.DataFrame(schema=_PLACES)


def scan_visible(directory: Path, files: Sequence[File], hidden: pl.DataFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Return the rows of `files` (name, rows) that are not hidden, in order of arrival.

    Args:
        directory: The table.
        files: Files of the version.
        hidden: Places (`file`, `row`) to leave out.
        schema: Columns in stored types; those an older file lacks are null.
    """
    places = {str(name): group["row"] for (name,), group in hidden.partition_by(_FILE, as_dict=True).items()}
    scans: list[pl.LazyFrame] = []
    for touched, group in groupby(files, key=lambda file: file[0] in places):
        names = [name for name, _ in group]
        if touched:
            scans += [_scan_touched(directory / name, places[name], schema) for name in names]
        else:
            paths = [directory / name for name in names]
            scans.append(pl.scan_parquet(paths, glob=False, schema=schema, missing_columns="insert"))
    return scans[0] if len(scans) == 1 else pl.concat(scans, how="vertical")


def _scan_touched(path: Path, rows: pl.Series, schema: pl.Schema) -> pl.LazyFrame:
    gone = pl.LazyFrame({_ROW: rows.cast(pl.get_index_type())})
    rows_of_file = pl.scan_parquet(path, glob=False, row_index_name=_ROW, schema=schema, missing_columns="insert")
    return rows_of_file.join(gone, on=_ROW, how="anti", maintain_order="left").drop(_ROW)


def find_hidden(
    directory: Path, key: Sequence[str], *, old: Sequence[File], new: Sequence[File], hidden: pl.DataFrame
) -> pl.DataFrame:
    """Return the places that rows of the `new` files hide: in the `old` files, and earlier in the new ones.

    Args:
        directory: The table.
        key: Columns that name a row.
        old: Files (name, rows) of the version before.
        new: Files of this intake.
        hidden: Places hidden already; they are not returned again.
    """
    passes = max(1, -(-sum(rows for _, rows in new) // ROWS_PER_PASS))
    found = []
    for number in range(passes):
        fresh = _keys(directory, key, new, share=(number, passes))
        if fresh is None:
            continue
        newest = fresh.group_by(key).agg(pl.col(_ROW).max()).collect(engine="streaming")
        found.append(_earlier_in_intake(fresh, newest, new))
        found.append(_hidden_in_old(_keys(directory, key, old, share=(number, passes)), newest.select(key), old))
    places = pl.concat([pl.DataFrame(schema=_PLACES), *found])
    return places.join(hidden, on=list(_PLACES), how="anti") if hidden.height and places.height else places


def _keys(directory: Path, key: Sequence[str], files: Sequence[File], *, share: tuple[int, int]) -> pl.LazyFrame | None:
    if not files:
        return None
    rows = pl.scan_parquet([directory / name for name, _ in files], glob=False, row_index_name=_ROW).select(*key, _ROW)
    number, passes = share
    return rows if passes == 1 else rows.filter(pl.struct(key).hash(seed=0) % passes == number)


def _earlier_in_intake(fresh: pl.LazyFrame, newest: pl.DataFrame, new: Sequence[File]) -> pl.DataFrame:
    count = fresh.select(pl.len()).collect(engine="streaming").item()
    if count == newest.height:
        return pl.DataFrame(schema=_PLACES)
    earlier = fresh.select(_ROW).join(newest.lazy().select(_ROW), on=_ROW, how="anti")
    return _places(earlier.collect(engine="streaming")[_ROW], new)


def _hidden_in_old(old_keys: pl.LazyFrame | None, keys: pl.DataFrame, old: Sequence[File]) -> pl.DataFrame:
    if old_keys is None:
        return pl.DataFrame(schema=_PLACES)
    met = old_keys.join(keys.lazy(), on=keys.columns, how="semi").select(_ROW)
    return _places(met.collect(engine="streaming")[_ROW], old)


def _places(rows: pl.Series, files: Sequence[File]) -> pl.DataFrame:
    """Return rows counted over all files as places within each file."""
    starts = np.cumsum([0, *(count for _, count in files)])
    counted = np.sort(rows.to_numpy())
    index = np.searchsorted(starts, counted, side="right") - 1
    names = pl.Series(_FILE, [name for name, _ in files], dtype=pl.String())
    return pl.DataFrame([names.gather(index), pl.Series("row", counted - starts[index], dtype=pl.UInt32())])


def write_hidden(directory: Path, lists: Sequence[str], fresh: pl.DataFrame, stem: str) -> tuple[str, ...]:
    """Write the places hidden anew, and return the names of all lists of the next version."""
    if not fresh.height:
        return tuple(lists)
    merged = len(lists) >= MERGE_AFTER
    places = pl.concat([read_hidden(directory, lists), fresh]) if merged else fresh
    name = _list_name(stem)
    (directory / FOLDER).mkdir(exist_ok=True)
    places.sort(_FILE, "row").write_parquet(directory / name, compression="zstd")
    sync_file(directory / name)
    return (name,) if merged else (*lists, name)


def discard(directory: Path, stem: str) -> None:
    """Remove the list of an intake that failed."""
    (directory / _list_name(stem)).unlink(missing_ok=True)


def _list_name(stem: str) -> str:
    return f"{FOLDER}/{stem}.parquet"
