"""Reading one file in batches, by format; whatever is wrong with it is an error that names the file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import polars as pl
import pyarrow as pa
from pyarrow import csv

from penstock.core.errors import DataError, InputError
from penstock.sources.source import BATCH_ROWS, Batch

Format: TypeAlias = Literal["parquet", "csv", "jsonl", "json"]
_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}


_QUOTES_VALUES = tuple(map(re.compile, (r": Row #", r": invalid value", r" got '", r"value '", r"(?<=got \d): ")))


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read.

    Attributes:
        format: The format; None: by the file's ending.
        types: Types by column, where what a CSV or JSON file suggests is not right.
        nulls: Unquoted words that mean "no value" in CSV.
    """

    format: Format | None = None
    types: Mapping[str, pl.DataType] = field(default_factory=dict)
    nulls: Sequence[str] = ("",)

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in get_args(Format):
            raise InputError(f"{self.format!r} is not a format.", hint=f"use one of {', '.join(get_args(Format))}")


def ending_format(name: str) -> Format | None:
    """Return the format a file's ending stands for, if it is one we know."""
    return _ENDINGS.get(Path(name).suffix.lower())


def format_of(name: str, reading: Reading) -> Format:
    """Return the format of a file.

    Raises:
        InputError: Its ending says nothing and no format is given.
    """
    found = reading.format or ending_format(name)
    if found is None:
        raise InputError(
            f"The ending of {name!r} names no format.",
            hint="pass format='parquet', format='csv', format='jsonl' or format='json'",
        )
    return found


def read_file(path: Path, name: str, reading: Reading) -> Iterator[Batch]:
    """Yield the rows of a file in batches.

    Args:
        path: Where the bytes lie.
        name: What people call it.
        reading: How it is read.

    Raises:
        DataError: The file is missing, half-written, damaged or not UTF-8.
    """
    kind = format_of(name, reading)
    readers = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl, "json": _json}
    try:
        yield from readers[kind](path, reading)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        words = str(error).partition("\n")[0].rstrip(".")
        raise DataError(
            f"{name} cannot be read as {kind}: {_without_values(words)}.", hint=_hint(words, kind)
        ) from error


def _without_values(words: str) -> str:
    # Arrow quotes the offending row; rows may hold what must not stand in a log.
    for mark in _QUOTES_VALUES:
        words = mark.split(words, maxsplit=1)[0]
    return words[:300]


def _hint(words: str, kind: Format) -> str:
    if "utf" in words.lower():
        return "the file is not UTF-8; convert it, for instance with iconv -f latin1 -t utf-8"
    if kind == "parquet":
        return "it may be half-written or damaged; write to another name and rename when done"
    return "it may be half-written, or a later row has another type than the first ones: name it in types="


def _parquet(path: Path, reading: Reading) -> Iterator[Batch]:
    frame = pl.scan_parquet(path, glob=False)
    casts = [pl.col(name).cast(dtype) for name, dtype in reading.types.items()]
    yield from _stream(frame.with_columns(casts) if casts else frame)


def _jsonl(path: Path, reading: Reading) -> Iterator[Batch]:
    if path.stat().st_size:
        # The whole file is looked at for its types: JSON has no header, and a field may come late.
        yield from _stream(pl.scan_ndjson(path, schema_overrides=dict(reading.types), infer_schema_length=None))


def _json(path: Path, reading: Reading) -> Iterator[Batch]:
    # One JSON array cannot be read in pieces; JSON lines can.
    frame = pl.read_json(path, schema_overrides=dict(reading.types), infer_schema_length=None)
    yield from frame.iter_slices(BATCH_ROWS)


def _stream(frame: pl.LazyFrame) -> Iterator[Batch]:
    return iter(frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming"))


def _csv(path: Path, reading: Reading) -> Iterator[Batch]:
    # Arrow's reader is used because it refuses rows with too few fields, which a half-written file ends in.
    empty = pl.DataFrame(schema=dict(reading.types)).to_arrow(compat_level=pl.CompatLevel.oldest())
    convert = csv.ConvertOptions(
        column_types={column.name: column.type for column in empty.schema},
        null_values=list(reading.nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = csv.ParseOptions(newlines_in_values=True)
    if path.stat().st_size == 0:
        return
    with csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
        names = reader.schema.names
        if len(set(names)) < len(names):
            twice = next(column for column in names if names.count(column) > 1)
            raise pa.ArrowInvalid(f"column {twice!r} stands {names.count(twice)} times in the header")
        for column in reader.schema:
            if pa.types.is_binary(column.type) and column.name not in reading.types:
                # Arrow falls back to bytes where text is expected and is not UTF-8.
                raise pa.ArrowInvalid(f"column {column.name!r} is not UTF-8")
        yield from reader
